# SPDX-License-Identifier: Apache-2.0
"""Frozen records without the import cost of `dataclasses` (which pulls in `inspect` and `re`).

A subclass lists its fields as annotations, with defaults where it likes; it gets slots, a
keyword-only constructor, equality, hash and repr. Type checkers see a frozen dataclass.
"""

from __future__ import annotations

from _operator import attrgetter  # `operator` itself would have to be read from a file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        """Stand in for `typing.dataclass_transform`, which only type checkers read."""
        return lambda cls: cls


_put = object.__setattr__


class _RecordType(type):
    def __new__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> type:
        own = tuple(namespace.get("__annotations__", ()))
        defaults: dict[str, Any] = {}
        inherited: tuple[str, ...] = ()
        for base in bases:
            inherited += getattr(base, "_fields", ())
            defaults.update(getattr(base, "_defaults", {}))
        # A slot and a class attribute cannot share a name: the defaults move aside.
        defaults.update({field: namespace.pop(field) for field in own if field in namespace})
        namespace["__slots__"] = own
        namespace["_fields"] = inherited + own
        namespace["_names"] = frozenset(inherited + own)
        namespace["_defaults"] = defaults
        namespace["_values"] = attrgetter(*inherited, *own) if inherited + own else None
        return super().__new__(cls, name, bases, namespace)


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Record(metaclass=_RecordType):
    """Base of all plain-data records of libnvc: immutable, compared by value."""

    if TYPE_CHECKING:
        _fields: tuple[str, ...]
        _names: frozenset[str]
        _defaults: dict[str, Any]
        _values: Callable[[Record], Any]

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        if values.keys() != cls._names:
            values = {**cls._defaults, **values}
            for field in cls._fields:
                if field not in values:
                    raise TypeError(f"{cls.__name__}: missing field {field!r}")
            for field in values:
                if field not in cls._names:
                    raise TypeError(f"{cls.__name__}: unknown field {field!r}")
        for field, value in values.items():
            _put(self, field, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bool(self._values(self) == other._values(other))

    def __hash__(self) -> int:
        return hash((type(self), self._values(self)))

    def __repr__(self) -> str:
        inside = ", ".join(f"{field}={getattr(self, field)!r}" for field in self._fields)
        return f"{type(self).__name__}({inside})"

    def __iter_fields__(self) -> Iterator[tuple[str, Any]]:
        for field in self._fields:
            yield field, getattr(self, field)

    def replace(self, **changes: Any) -> Self:
        """Return a copy with the named fields changed."""
        return type(self)(**{**dict(self.__iter_fields__()), **changes})

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.__iter_fields__()))


def _rebuild(cls: type[Record], values: dict[str, Any]) -> Record:
    return cls(**values)
