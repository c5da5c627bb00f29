# SPDX-License-Identifier: Apache-2.0
"""Paths with wildcards, in any component, as Go's `filepath.Match` and `Glob` take them.

The standard library's `fnmatch` reads other classes of characters, and brings in `re`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Lists a directory; nothing for one that is not there.
    Names = Callable[[str], Iterable[str]]

_MOST = 4096  # paths that one pattern may mean
_STAR = "*"


def has_wildcards(path: str) -> bool:
    """Tell whether a path is a pattern."""
    return any(c in path for c in "*?[")


def expand(pattern: str, names: Names) -> list[str]:
    """Return the paths that fit a pattern, sorted: those whose names are listed.

    Args:
        pattern: absolute.
        names: lists a directory.
    """
    found = [""]
    for part in pattern.strip("/").split("/"):
        if has_wildcards(part):
            found = [
                f"{directory}/{name}"
                for directory in found
                for name in sorted(names(directory or "/"))
                if fits(name, part)
            ][:_MOST]
        else:
            found = [f"{directory}/{part}" for directory in found]
    return found


def is_ignored(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether a path fits one of several patterns: "**/NAME" wherever it is, else in full."""
    return any(_is_path(path, pattern) for pattern in patterns)


def _is_path(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        path, pattern = path.rpartition("/")[2], pattern.removeprefix("**/")
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fits, parts, patterns))


def fits(name: str, pattern: str) -> bool:
    """Tell whether a name fits a pattern: "*", "?", "[a-c]", "[^a]", a backslash before these.

    A pattern that is none fits nothing.
    """
    pieces = _pieces(pattern)
    if pieces is None:
        return False
    at, place, star, after = 0, 0, -1, 0
    while at < len(name):
        piece = pieces[place] if place < len(pieces) else None
        if piece == _STAR:
            star, after, place = place, at, place + 1
        elif isinstance(piece, _Class) and piece.has(name[at]):
            at, place = at + 1, place + 1
        elif star >= 0:  # the last star takes one more
            after += 1
            at, place = after, star + 1
        else:
            return False
    return all(piece == _STAR for piece in pieces[place:])


class _Class:
    """What one character may be: in one of several ranges, or in none of them."""

    __slots__ = ("_is_negated", "_ranges")

    def __init__(self, ranges: list[tuple[str, str]], *, is_negated: bool = False) -> None:
        self._ranges = ranges
        self._is_negated = is_negated

    def has(self, character: str) -> bool:
        found = any(first <= character <= last for first, last in self._ranges)
        return found != self._is_negated


def _pieces(pattern: str) -> list[_Class | str] | None:
    """Return the stars of a pattern, and what stands for one character each; None if it is none."""
    pieces: list[_Class | str] = []
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == _STAR:
            pieces.append(_STAR)
        elif letter == "?":
            pieces.append(_Class([], is_negated=True))
        elif letter == "[":
            found = _class(pattern, at)
            if found is None:
                return None
            piece, at = found
            pieces.append(piece)
        else:
            if letter == "\\":
                if at == len(pattern):
                    return None
                letter, at = pattern[at], at + 1
            pieces.append(_Class([(letter, letter)]))
    return pieces


def _class(pattern: str, at: int) -> tuple[_Class, int] | None:
    """Return what "[…]" means and where it ends; None if it does not."""
    is_negated = pattern[at : at + 1] == "^"
    at += is_negated
    ranges: list[tuple[str, str]] = []
    while pattern[at : at + 1] != "]" or not ranges:
        first = _member(pattern, at)
        if first is None:
            return None
        last, at = first, first[1]
        if pattern[at : at + 1] == "-":
            end = _member(pattern, at + 1)
            if end is None:
                return None
            last, at = end, end[1]
        ranges.append((first[0], last[0]))
    return _Class(ranges, is_negated=is_negated), at + 1


def _member(pattern: str, at: int) -> tuple[str, int] | None:
    """Return a character of a class and where the next one is; None if there is none."""
    letter = pattern[at : at + 1]
    if letter == "\\":
        at += 1
        letter = pattern[at : at + 1]
    elif letter in ("-", "]"):
        return None
    return (letter, at + 1) if letter else None
