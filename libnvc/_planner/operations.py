# SPDX-License-Identifier: Apache-2.0
"""What plans of every kind of host put together in the same way."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..model import Library
    from ..plan import Operation

LOADER_CACHE = "/etc/ld.so.cache"


def unique(operations: Iterable[Operation]) -> tuple[Operation, ...]:
    """Keep the first operation for each place; rules, groups and the like have no place."""
    taken: dict[str, Operation] = {}
    return tuple(
        operation
        for operation in operations
        if not operation.path or taken.setdefault(operation.path, operation) is operation
    )


def found_as(library: Library) -> str:
    """Return the name that programs ask for, and find the file by: its SONAME, if it is usable."""
    soname = library.soname
    if soname in ("", ".", "..") or "/" in soname:
        return library.path.rpartition("/")[2]
    return soname
