# SPDX-License-Identifier: Apache-2.0
"""What a file was before it was changed: kept below a directory of its own, under its full path.

It is not kept beside the file: some engines read whatever is in a directory.

A document here is a dict of dicts, as JSON and TOML have them. What was written into one is known
by the paths (tuples of keys) that were set.
"""

from __future__ import annotations

import copy
import os

from .._record import Record
from .files import Change, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence
    from typing import Any

    Keys = tuple[str, ...]
    Document = MutableMapping[str, Any]

#: for root
BACKUPS = "/var/lib/libnvc/backup"

_MISSING = object()


class Original(Record):
    """What is known of a file as it was before.

    Attributes:
        data: its bytes; None where there is no backup, so that it was not there, or nobody knows.
        document: what they say; None where nobody knows.
    """

    data: bytes | None
    document: dict[str, Any] | None


def backup_of(path: str) -> str:
    """Return where the backup of a file, by its absolute path, is: of root, of anybody else.

    `XDG_STATE_HOME` changes it for both.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        if os.geteuid() == 0:
            return BACKUPS + path
        state = os.path.expanduser("~/.local/state")
    return f"{state}/libnvc/backup{path}"


def find(document: Any, keys: Keys) -> Any:
    """Return what stands at a path of keys, None if nothing does."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def put(document: Document, keys: Keys, value: Any) -> None:
    """Set what stands at a path of keys; tables on the way are made."""
    for key in keys[:-1]:
        if key not in document:
            document[key] = {}
        document = document[key]
    document[keys[-1]] = value


def give_back(document: Document, keys: Keys, original: dict[str, Any]) -> None:
    """Make a path what it is in the original; tables that are empty then, and new, go too."""
    if not keys or keys[0] not in document:
        return
    key, rest = keys[0], keys[1:]
    before = original.get(key, _MISSING)
    if rest:
        below = before if isinstance(before, dict) else {}
        if isinstance(document[key], dict):
            give_back(document[key], rest, below)
        if before is _MISSING and not document[key]:
            del document[key]
    elif before is _MISSING:
        del document[key]
    else:
        document[key] = copy.deepcopy(before)


def find_original(
    path: str,
    document: dict[str, Any],
    ours: Sequence[Keys],
    parse: Callable[[str, bytes], dict[str, Any]],
) -> Original:
    """Find out what a file was before it was changed.

    Without a backup it was not there, if it says nothing but what is ours.

    Raises:
        ConfigError: the backup cannot be read or parsed.
    """
    data = read_file(backup_of(path))
    if data is not None:
        return Original(data=data, document=parse(backup_of(path), data))
    rest = copy.deepcopy(document)
    for keys in ours:
        give_back(rest, keys, {})
    return Original(data=None, document=None if rest else {})


def keep(path: str, data: bytes | None, *, is_ours: bool) -> list[Change]:
    """Return the change that keeps a file before it is changed.

    Args:
        path: the file.
        data: its bytes, None if it is not there: then an old backup says nothing any more.
        is_ours: whether it holds what we wrote: then the backup that there is stays.
    """
    backup = backup_of(path)
    kept = read_file(backup)
    if is_ours and kept is not None:
        return []
    return [Change(path=backup, before=kept, after=data, original=path)]


def drop(path: str) -> list[Change]:
    """Return the change that removes the backup of a file."""
    backup = backup_of(path)
    return [Change(path=backup, before=read_file(backup), after=None, original=path)]
