# SPDX-License-Identifier: Apache-2.0
"""Read TOML, write it in the reference's layout, and change files without touching the rest."""

from __future__ import annotations

import copy
import re
import tomllib

from ..errors import ConfigError, shown
from .files import decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
    from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def parse(path: str, data: bytes) -> dict[str, Any]:
    """Return the document.

    Raises:
        ConfigError: it is none; file, line and column are named.
    """
    text = decoded(path, data)
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ConfigError(f"{shown(path)}: nested too deeply", path=path, step="parse") from None
    except ValueError as error:
        last = f"line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}"
        why = str(error).replace("end of document", last)
        raise ConfigError(f"{shown(path)}: {shown(why)}", path=path, step="parse") from None


def write(
    document: Mapping[str, Any], *, indent: str = "  ", hidden: frozenset[str] = frozenset()
) -> str:
    """Return a document as text: keys sorted, values before tables, a blank line before each table.

    Args:
        document: tables, and values as `tomllib` returns them.
        indent: put before a table and its keys once for each level below the first.
        hidden: keys with dots between that are written as comments.
    """
    return "".join(f"{line}\n" for line in _lines(document, (), indent, hidden))


def _lines(
    table: Mapping[str, Any], names: tuple[str, ...], indent: str, hidden: frozenset[str]
) -> Iterator[str]:
    margin = indent * len(names)
    tables = {key: value for key, value in table.items() if _is_table(value)}
    for key in sorted(table.keys() - tables.keys()):
        mark = "#" if ".".join((*names, key)) in hidden else ""
        yield f"{mark}{margin}{_key(key)} = {value_text(table[key])}"
    for key in sorted(tables):
        full = ".".join(_key(name) for name in (*names, key))
        is_array = isinstance(tables[key], list)
        for item in tables[key] if is_array else [tables[key]]:
            yield ""
            yield f"{margin}[[{full}]]" if is_array else f"{margin}[{full}]"
            yield from _lines(item, (*names, key), indent, hidden)


def _is_table(value: Any) -> bool:
    is_array = isinstance(value, list) and value and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict) or bool(is_array)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def value_text(value: Any) -> str:
    """Return a value as TOML has it, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(value_text(item) for item in value)}]"
    if isinstance(value, dict):
        inside = ", ".join(f"{_key(key)} = {value_text(value[key])}" for key in sorted(value))
        return f"{{{inside}}}"
    if isinstance(value, int | float):
        return repr(value)
    text: str = value.isoformat()
    return text


def _string(text: str) -> str:
    def escape(character: str) -> str:
        if character in _ESCAPES:
            return _ESCAPES[character]
        is_control = ord(character) < 0x20 or ord(character) == 0x7F
        return f"\\u{ord(character):04x}" if is_control else character

    return f'"{"".join(map(escape, text))}"'


def edit(path: str, data: bytes, change: Callable[[MutableMapping[str, Any]], None]) -> bytes:
    """Change a document and leave comments, order and layout of the rest.

    Args:
        path: the file, for messages.
        data: its bytes.
        change: is called with the document; it may use what dicts have.

    Raises:
        ConfigError: the file cannot be parsed, or not be changed without losing something.
    """
    document = parse(path, data)
    wanted = copy.deepcopy(document)
    change(wanted)
    text = data.decode()
    for keys, _ in _added(wanted, document):
        text = _without(text, keys)
    for keys, value in _added(document, wanted):
        text = inserted(text, keys, value)
    for keys, value in _changed(document, wanted):
        text = _replaced(text, keys, value)
    new = text.encode()
    if says(new, wanted):
        return new
    # There is more to it than keys in tables with headers.
    for start in (new, data):
        edited = _edited(start, change)
        if edited is not None and says(edited, wanted) and edited.count(b"#") >= start.count(b"#"):
            return edited
    message = f"{shown(path)}: cannot be changed without losing comments or order"
    raise ConfigError(message, path=path, step="edit", hint="edit this file by hand")


def _edited(data: bytes, change: Callable[[MutableMapping[str, Any]], None]) -> bytes | None:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(data.decode())
        change(document)
        return tomlkit.dumps(document).encode()
    # What it raises for documents that it does not understand is not only its own errors.
    except (TOMLKitError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _added(
    document: Mapping[str, Any], wanted: Mapping[str, Any], names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what one document has and the other does not: keys and value."""
    for key, value in wanted.items():
        if key not in document:
            yield (*names, key), value
        elif isinstance(value, dict) and isinstance(document[key], dict):
            yield from _added(document[key], value, (*names, key))


def _changed(
    document: Mapping[str, Any], wanted: Mapping[str, Any], names: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what two documents have differently: keys and the second's value."""
    for key in document.keys() & wanted.keys():
        before, value = document[key], wanted[key]
        if isinstance(value, dict) and isinstance(before, dict):
            yield from _changed(before, value, (*names, key))
        elif before != value:
            yield (*names, key), value


def _replaced(text: str, keys: tuple[str, ...], value: Any) -> str:
    """Return a text with another value for a key that has a line of its own."""
    lines = lines_of(text)
    start, end = find_section(lines, keys[:-1]) or (0, 0)
    for index in range(start, end):
        line = lines[index]
        if found := re.match(_key_line(keys[-1]), line):
            lines[index] = found.group() + value_text(value) + line[_value_end(line) :]
    return "".join(lines)


def _value_end(line: str) -> int:
    """Return where the value on a line ends: before the spaces in front of a comment."""
    for mark in re.finditer(r"[ \t]*(#|\r?\n|$)", line):
        try:
            tomllib.loads(line[: mark.start()])
        except ValueError:
            continue  # a "#" in a string
        return mark.start()
    return len(line)


def _key_line(key: str) -> str:
    """Return a pattern for what comes before the value of this key on its line."""
    return rf"[ \t]*[\"']?{re.escape(key)}[\"']?[ \t]*=[ \t]*"


def inserted(text: str, keys: tuple[str, ...], value: Any) -> str:
    """Return a text with a new key after the header of its table, or with a new table at the end.

    Where the table has no header of its own the result may be none, or mean something else.
    """
    lines = lines_of(text)
    if not _is_table(value):
        line = f"{_key(keys[-1])} = {value_text(value)}\n"
        section = find_section(lines, keys[:-1])
        if section is not None:
            return "".join([*lines[: section[0]], line, *lines[section[0] :]])
        keys, value = keys[:-1], {keys[-1]: value}
    end = "" if not text or text.endswith("\n") else "\n"
    header = f"[{'.'.join(map(_key, keys))}]"
    below = "".join(f"{line}\n" for line in _lines(value, keys, "", frozenset()))
    return f"{text}{end}\n{header}\n{below}"


def _without(text: str, keys: tuple[str, ...]) -> str:
    """Return a text without a key on a line of its own, or without the tables of that name."""
    lines = lines_of(text)
    kept: list[str] = []
    is_out = False
    table: tuple[str, ...] = ()
    for line in lines:
        header = _header(line)
        if header is not None:
            was_out, is_out, table = is_out, header[: len(keys)] == keys, header
            if is_out and not was_out and kept and not kept[-1].strip():
                kept.pop()  # the blank line before it
        is_key = table == keys[:-1] and re.match(_key_line(keys[-1]), line)
        if not is_out and not is_key:
            kept.append(line)
    return "".join(kept)


def lines_of(text: str) -> list[str]:
    """Return the lines of a text, their ends included: TOML knows fewer than Python."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def find_section(lines: Sequence[str], table: tuple[str, ...]) -> tuple[int, int] | None:
    """Return the first line of a table after its header, and the line after its last."""
    start = None if table else 0
    for index, line in enumerate(lines):
        header = _header(line)
        if header is None:
            continue
        if start is not None:
            return start, index
        if header == table:
            start = index + 1
    return None if start is None else (start, len(lines))


def _header(line: str) -> tuple[str, ...] | None:
    """Return the keys of a table's header, None for any other line."""
    if not line.lstrip().startswith("["):
        return None
    names = []
    try:
        document: Any = tomllib.loads(line)
    except ValueError:
        return None
    while document:
        if isinstance(document, list):
            document = document[0]
            continue
        (name,) = document
        names.append(name)
        document = document[name]
    return tuple(names)


def says(data: bytes, document: Mapping[str, Any]) -> bool:
    """Return whether bytes are TOML that means this document."""
    try:
        return write(tomllib.loads(data.decode())) == write(document)
    except ValueError:
        return False


def comments(data: bytes) -> list[bytes]:
    """Return the lines that may have a comment, sorted."""
    return sorted(line.strip() for line in data.splitlines() if b"#" in line)
