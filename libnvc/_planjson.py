# SPDX-License-Identifier: Apache-2.0
"""Read the JSON form of a plan. Strict: what is applied as root is exactly what was written."""

from __future__ import annotations

from .errors import MalformedFileError
from .model import Identity
from .plan import KINDS, SCHEMA, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    from ._record import Record
    from .plan import Operation

    R = TypeVar("R", bound=Record)

_PLAN_FIELDS = ("schema", "driver_version", "warnings", "operations", "dependencies")


def plan_from_json(text: str) -> Plan:
    """Return the plan that `Plan.to_json` wrote; the round trip is exact.

    Raises:
        MalformedFileError: not JSON, another schema version, an unknown operation, a field
            missing, unknown, given twice or of the wrong type.
    """
    import json

    try:
        data = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        _fail("plan", f"not JSON: {error}")
    if not isinstance(data, dict):
        _fail("plan", "not an object")
    if type(data.get("schema")) is not int or data["schema"] != SCHEMA:
        _fail("plan", f"schema {_short(data.get('schema'))} is not {SCHEMA}")
    _check_names("plan", data, _PLAN_FIELDS)
    operations = _list("operations", data["operations"])
    dependencies = _list("dependencies", data["dependencies"])
    return Plan(
        operations=tuple(_operation(f"operations[{i}]", x) for i, x in enumerate(operations)),
        warnings=_convert("warnings", "tuple[str, ...]", data["warnings"]),
        dependencies=tuple(
            _record(f"dependencies[{i}]", Identity, x) for i, x in enumerate(dependencies)
        ),
        driver_version=_convert("driver_version", "str", data["driver_version"]),
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name is given twice in one object")
    return result


def _operation(where: str, value: Any) -> Operation:
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        _fail(where, f"unknown operation {_short(kind)}")
    fields = {name: field for name, field in value.items() if name != "kind"}
    return _record(f"{where} ({kind})", KINDS[kind], fields)


def _record(where: str, cls: type[R], value: Any) -> R:
    if not isinstance(value, dict):
        _fail(where, "not an object")
    types: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        types.update(getattr(base, "__annotations__", {}))
    _check_names(where, value, cls._fields)
    return cls(
        **{name: _convert(f"{where}: {name}", types[name], value[name]) for name in cls._fields}
    )


def _check_names(where: str, value: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in value:
        if name not in names:
            _fail(where, f"unknown field {_short(name)}")
    for name in names:
        if name not in value:
            _fail(where, f"missing field {name!r}")


def _convert(where: str, wanted: str, value: Any) -> Any:
    """Return a JSON value as the type that an annotation names; bytes come as Latin-1 text."""
    if wanted == "tuple[str, ...]":
        return tuple(_convert(where, "str", item) for item in _list(where, value))
    if wanted == "tuple[tuple[str, str, int], ...]":
        return tuple(_triple(where, item) for item in _list(where, value))
    if wanted == "bytes":
        return _bytes(where, value)
    if type(value) is not {"str": str, "int": int, "bool": bool}[wanted]:
        _fail(where, f"{_short(value)} is not {wanted}")
    return value


def _triple(where: str, value: Any) -> tuple[str, str, int]:
    if len(_list(where, value)) != 3:
        _fail(where, f"{_short(value)} is not three values")
    kinds = ("str", "str", "int")
    name, path, number = (_convert(where, *pair) for pair in zip(kinds, value, strict=True))
    return name, path, number


def _bytes(where: str, value: Any) -> bytes:
    if not isinstance(value, str) or any(ord(c) > 255 for c in value):
        _fail(where, f"{_short(value)} is not bytes as Latin-1 text")
    return value.encode("latin-1")


def _list(where: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        _fail(where, "not a list")
    return value


def _short(value: Any) -> str:
    return ascii(value)[:40]


def _fail(where: str, why: str) -> NoReturn:
    raise MalformedFileError(f"malformed plan: {where}: {why}", step="parse")
