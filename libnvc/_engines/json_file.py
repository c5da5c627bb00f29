# SPDX-License-Identifier: Apache-2.0
"""Read and write JSON with the order of members and every number as they stand."""

from __future__ import annotations

import json

from ..errors import ConfigError, shown
from .files import decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from typing import Any

_NOT_JSON = "not JSON (at line {}, column {}): {}"


class _Number(str):
    """A number as it was written: a float would not keep its digits."""

    __slots__ = ()


class _Repeated(Exception):  # noqa: N818  (is turned into an error of ours)
    pass


def parse(path: str, data: bytes) -> dict[str, Any]:
    """Return the object in a file, an empty one for an empty file.

    Raises:
        ConfigError: the file is not JSON (line and column are named), is no object, or names a
            member twice.
    """
    text = decoded(path, data)
    if not text.strip():
        return {}
    try:
        document = json.loads(
            text,
            object_pairs_hook=_members,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_no_constant,
        )
    except json.JSONDecodeError as error:
        why = _NOT_JSON.format(error.lineno, error.colno, error.msg)
    except _Repeated as error:
        why = f"member {shown(str(error))} occurs twice"
    except RecursionError:
        why = "nested too deeply"
    except ValueError as error:
        why = f"not JSON: {shown(str(error))}"
    else:
        if isinstance(document, dict):
            return document
        why = "not a JSON object (at line 1, column 1)"
    raise ConfigError(f"{shown(path)}: {why}", path=path, step="parse")


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(next(json.dumps(name) for name in names if names.count(name) > 1))
    return found


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no number")


def write(document: Any, *, indent: int = 4) -> bytes:
    """Return JSON with one member a line."""
    return f"{_text(document, ' ' * indent, chr(10))}\n".encode()


def _text(value: Any, indent: str, end: str) -> str:
    if isinstance(value, _Number):
        return value[:]
    below = end + indent
    if isinstance(value, dict) and value:
        members = [f"{_string(key)}: {_text(value[key], indent, below)}" for key in value]
        return f"{{{below}{f',{below}'.join(members)}{end}}}"
    if isinstance(value, list) and value:
        items = [_text(item, indent, below) for item in value]
        return f"[{below}{f',{below}'.join(items)}{end}]"
    return _string(value)


def _string(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # Half of a surrogate pair can be escaped only.
    return text if text.isprintable() else json.dumps(value)


def edit(path: str, data: bytes, change: Callable[[MutableMapping[str, Any]], None]) -> bytes:
    """Change an object and return all of it."""
    document = parse(path, data)
    change(document)
    return write(document)
