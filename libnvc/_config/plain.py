# SPDX-License-Identifier: Apache-2.0
"""Read the plain subset of TOML in which configuration files are written.

`tomllib` takes longer to import than everything else that a container start loads. What is read
here means the same to it; whatever is not plain is left to it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_LONGEST_INTEGER = 18  # digits: certain to fit 64 bits

#: follows the text, in which it cannot occur: no scan runs past it
_END = "\0"


class _NotPlainError(Exception):
    pass


def parse(text: str) -> dict[str, Any] | None:
    """Return the document, or None where it is not plain: `tomllib` says what it is then.

    Plain are ASCII, tables, single keys, strings without backslashes, whole numbers, booleans and
    lists of strings.
    """
    if not (text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()):
        return None
    try:
        return _document(f"{text}\n{_END}")
    except _NotPlainError:
        return None


def _document(text: str) -> dict[str, Any]:
    root: dict[str, Any] = {}
    table = root
    headers: set[tuple[str, ...]] = set()
    pos = 0
    while text[pos] != _END:
        pos = _skip(text, pos)
        if text[pos] == "[":
            names, pos = _header(text, pos + 1)
            if names in headers:
                raise _NotPlainError
            headers.add(names)
            table = _enter(root, names)
        elif text[pos] not in "#\n":
            name, pos = _key(text, pos)
            pos = _skip(text, pos)
            if text[pos] != "=" or name in table:
                raise _NotPlainError
            table[name], pos = _value(text, _skip(text, pos + 1))
        pos = _end_of_line(text, pos)
    return root


def _skip(text: str, pos: int) -> int:
    while text[pos] in " \t":
        pos += 1
    return pos


def _end_of_line(text: str, pos: int) -> int:
    """Return where the next line starts; before it only a comment may stand."""
    pos = _skip(text, pos)
    if text[pos] == "#":
        pos = text.index("\n", pos)
    if text[pos] != "\n":
        raise _NotPlainError
    return pos + 1


def _header(text: str, pos: int) -> tuple[tuple[str, ...], int]:
    names = []
    while True:
        name, pos = _key(text, _skip(text, pos))
        names.append(name)
        pos = _skip(text, pos)
        if text[pos] == "]":
            return tuple(names), pos + 1
        if text[pos] != ".":
            raise _NotPlainError
        pos += 1


def _enter(root: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    table = root
    for name in names:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise _NotPlainError
    return table


def _key(text: str, pos: int) -> tuple[str, int]:
    if text[pos] in "\"'":
        return _string(text, pos)
    start = pos
    while text[pos] in _BARE:
        pos += 1
    if pos == start:
        raise _NotPlainError
    return text[start:pos], pos


def _value(text: str, pos: int) -> tuple[Any, int]:
    if text[pos] in "\"'":
        return _string(text, pos)
    if text[pos] == "[":
        return _strings(text, pos + 1)
    word, pos = _key(text, pos)
    if word in ("true", "false"):
        return word == "true", pos
    is_plain_number = word.isdigit() and (word[0] != "0" or word == "0")
    # what follows a number may make it another: 1.5, 1979-05-27 07:32
    if not is_plain_number or len(word) > _LONGEST_INTEGER or text[_skip(text, pos)] not in "#\n":
        raise _NotPlainError
    return int(word), pos


def _string(text: str, pos: int) -> tuple[str, int]:
    quote = text[pos]
    end = text.find(quote, pos + 1)
    value = text[pos + 1 : end]
    is_long = text.startswith(quote * 3, pos)
    if end < 0 or is_long or "\n" in value or (quote == '"' and "\\" in value):
        raise _NotPlainError
    return value, end + 1


def _strings(text: str, pos: int) -> tuple[list[str], int]:
    items: list[str] = []
    while True:
        pos = _skip_lines(text, pos)
        if text[pos] == "]":
            return items, pos + 1
        if text[pos] not in "\"'":
            raise _NotPlainError
        item, pos = _string(text, pos)
        items.append(item)
        pos = _skip_lines(text, pos)
        if text[pos] == ",":
            pos += 1
        elif text[pos] != "]":
            raise _NotPlainError


def _skip_lines(text: str, pos: int) -> int:
    """Skip blanks, line ends and comments, inside of a list."""
    while True:
        pos = _skip(text, pos)
        if text[pos] not in "#\n":
            return pos
        pos = _end_of_line(text, pos)
