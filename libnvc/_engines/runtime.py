# SPDX-License-Identifier: Apache-2.0
"""The runtime that an engine is given, and what all engines' files have in common."""

from __future__ import annotations

import copy

from .._record import Record
from ..errors import ConfigError, shown
from .backup import drop, find, find_original, give_back, keep, put
from .files import Change, read_file, resolved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .backup import Document, Keys


class Runtime(Record):
    """A runtime as an engine shall know it.

    Attributes:
        name: key of its entry.
        path: of the program.
        is_default: whether it becomes the default runtime.
        has_cdi: whether the engine shall read CDI specifications.
    """

    name: str
    path: str
    is_default: bool = False
    has_cdi: bool = False


class Format(Record):
    """How documents of one kind of file are read and changed.

    Attributes:
        parse: (path, bytes) to document.
        edit: (path, bytes, change) to bytes; `change` is called with the document.
        is_same: whether two texts have the same comments.
    """

    parse: Callable[[str, bytes], dict[str, Any]]
    edit: Callable[[str, bytes, Callable[[Document], None]], bytes]
    is_same: Callable[[bytes, bytes], bool]


class Places(Record):
    """Where the parts of a runtime are in a document.

    Attributes:
        entry: its table.
        default: the name of the default runtime.
        cdi: whether the engine reads CDI specifications.
        also: what else may have been added; () for nothing.
    """

    entry: Keys
    default: Keys
    cdi: Keys
    also: Keys = ()


def set_runtime(document: Document, runtime: Runtime, keys: Places, entry: dict[str, Any]) -> None:
    """Put a runtime into a document; without being the default it changes none."""
    put(document, keys.entry, entry)
    if runtime.is_default:
        put(document, keys.default, runtime.name)
    if runtime.has_cdi:
        put(document, keys.cdi, True)


def table(path: str, document: Document, keys: Keys) -> dict[str, Any]:
    """Return the table at a path of keys, an empty one if there is none.

    Raises:
        ConfigError: something on the way is no table.
    """
    for depth in range(len(keys) + 1):
        here = find(document, keys[:depth])
        if here is None:
            return {}
        if not isinstance(here, dict):
            where = shown(".".join(keys[:depth]))
            raise ConfigError(f"{shown(path)}: {where}: expected a table", path=path, step="parse")
    found: dict[str, Any] = find(document, keys)
    return found


def copied(runtimes: dict[str, Any], default: Any) -> dict[str, Any] | None:
    """Return a copy of the entry that a new one starts from: the default's, else runc's or crun's.

    What it says of cgroups, annotations and the like holds for the new runtime, too.
    """
    names = [default] if isinstance(default, str) and not default.startswith("nvidia") else []
    for name in (*names, "runc", "crun"):
        if isinstance(runtimes.get(name), dict):
            entry: dict[str, Any] = copy.deepcopy(runtimes[name])
            return entry
    return None


def change_file(
    path: str, form: Format, change: Callable[[Document], None], entry: Keys
) -> list[Change]:
    """Return what changes a file that belongs to somebody else, its backup first.

    Args:
        path: the file.
        form: of the file.
        change: is called with the document.
        entry: what the file has if it was changed before.

    Raises:
        ConfigError: the file cannot be read, parsed or changed.
    """
    path = resolved(path)
    before = read_file(path)
    document = form.parse(path, before or b"")
    wanted = copy.deepcopy(document)
    change(wanted)
    if before is not None and wanted == document:
        return [Change(path=path, before=before, after=before)]
    after = form.edit(path, before or b"", change)
    return [
        *keep(path, before, is_ours=find(document, entry) is not None),
        Change(path=path, before=before, after=after),
    ]


def restore_file(path: str, form: Format, name: str, keys: Places) -> list[Change]:
    """Return what takes our part out of a file.

    Where nothing else has changed since, the file becomes byte for byte what it was. Otherwise our
    part becomes what it was, and the rest stays.

    Args:
        path: the file.
        form: of the file.
        name: of the runtime.
        keys: where its parts are.

    Raises:
        ConfigError: the file or its backup cannot be read, parsed or changed.
    """
    path = resolved(path)
    before = read_file(path)
    document = form.parse(path, before or b"")
    if before is None or find(document, keys.entry) is None:
        return [Change(path=path, before=before, after=before)]
    ours = [keys.entry]
    if find(document, keys.default) == name:
        ours.append(keys.default)
    switch = [keys.cdi] if find(document, keys.cdi) is True else []
    if keys.also:
        switch.append(keys.also)
    original = find_original(path, document, [*ours, *switch], form.parse)
    if original.document is not None:
        ours += switch
    # What the original had of this runtime goes, too.
    base = copy.deepcopy(original.document or {})
    if find(base, keys.entry) is not None:
        del table(path, base, keys.entry[:-1])[name]
    if find(base, keys.default) == name:
        del table(path, base, keys.default[:-1])[keys.default[-1]]

    def change(document: Document) -> None:
        for place in ours:
            give_back(document, place, base)

    wanted = copy.deepcopy(document)
    change(wanted)
    was = original.data
    if not wanted and was is None:
        return [Change(path=path, before=before, after=None)]
    after = form.edit(path, before, change)
    if was is not None and wanted == original.document and form.is_same(after, was):
        return [Change(path=path, before=before, after=was), *drop(path)]
    return [Change(path=path, before=before, after=after)]
