# SPDX-License-Identifier: Apache-2.0
"""Read TOML, write it in the reference's layout, and change files without touching the rest."""

from __future__ import annotations

import re
import tomllib

from ..errors import ConfigError, shown
from .files import decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping
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
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    wanted = parse(path, data)
    change(wanted)
    try:
        document = tomlkit.parse(data.decode())
        change(document)
        new = tomlkit.dumps(document).encode()
        if says(new, wanted):
            return new
    # What tomlkit raises for documents it does not understand is not only its own errors.
    except (TOMLKitError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        pass
    message = f"{shown(path)}: cannot be changed without losing comments or order"
    raise ConfigError(message, path=path, step="edit", hint="edit this file by hand")


def says(data: bytes, document: Mapping[str, Any]) -> bool:
    """Return whether bytes are TOML that means this document."""
    try:
        return write(tomllib.loads(data.decode())) == write(document)
    except ValueError:
        return False


def comments(data: bytes) -> list[bytes]:
    """Return the lines that may have a comment, sorted."""
    return sorted(line.strip() for line in data.splitlines() if b"#" in line)
