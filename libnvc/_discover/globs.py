# SPDX-License-Identifier: Apache-2.0
"""Paths with wildcards, in any component, as Go's `filepath.Match` and `Glob` take them."""

from __future__ import annotations

from fnmatch import fnmatchcase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Lists a directory; nothing for one that is not there.
    Names = Callable[[str], Iterable[str]]

_MOST = 4096  # paths that one pattern may mean


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
            fitting = _in_go(part)
            found = [
                f"{directory}/{name}"
                for directory in found
                for name in sorted(names(directory or "/"))
                if fnmatchcase(name, fitting)
            ][:_MOST]
        else:
            found = [f"{directory}/{part}" for directory in found]
    return found


def is_ignored(path: str, patterns: Iterable[str]) -> bool:
    """Tell whether a path fits one of several patterns: "**/NAME" wherever it is, else in full."""
    return any(_fits(path, pattern) for pattern in patterns)


def _fits(path: str, pattern: str) -> bool:
    if pattern.startswith("**/"):
        path, pattern = path.rpartition("/")[2], pattern.removeprefix("**/")
    parts, patterns = path.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(
        fnmatchcase(part, _in_go(wanted)) for part, wanted in zip(parts, patterns, strict=True)
    )


def _in_go(pattern: str) -> str:
    """Return a pattern of Go, where "[^" begins what does not fit, as `fnmatch` reads it."""
    return pattern.replace("[^", "[!")
