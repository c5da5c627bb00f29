# SPDX-License-Identifier: Apache-2.0
"""CRI-O's drop-in file; its main file is read only."""

from __future__ import annotations

from . import toml
from .backup import find, give_back, put
from .files import Change, read_file, resolved
from .runtime import copied, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .runtime import Runtime

CONFIG = "/etc/crio/crio.conf"
DROP_IN = "/etc/crio/crio.conf.d/99-nvidia.toml"
#: what prints its configuration: newer versions, and older ones
DUMP = (("crio", "status", "config"), ("crio-status", "config"))

_RUNTIMES = ("crio", "runtime", "runtimes")
_DEFAULT = ("crio", "runtime", "default_runtime")


def configure(
    path: str, drop_in: str, runtime: Runtime, source: dict[str, Any] | None = None
) -> list[Change]:
    """Return what gives CRI-O a runtime.

    Args:
        path: the main file, from which a runtime's options are copied.
        drop_in: the file that gets the runtime; what else it has stays.
        runtime: the new one.
        source: the configuration in effect; the main file's if None.

    Raises:
        ConfigError: a file cannot be read or is not what CRI-O takes.
    """
    drop_in = resolved(drop_in)
    main = toml.parse(path, read_file(path) or b"") if source is None else source
    entry = copied(table(path, main, _RUNTIMES), find(main, _DEFAULT)) or {}
    entry |= {"runtime_path": runtime.path, "runtime_type": "oci"}
    before = read_file(drop_in)
    new = toml.parse(drop_in, before or b"")
    table(drop_in, new, _RUNTIMES)
    if find(new, _DEFAULT) == runtime.name:
        give_back(new, _DEFAULT, {})
    put(new, (*_RUNTIMES, runtime.name), entry)
    if runtime.is_default:
        put(new, _DEFAULT, runtime.name)
    return [_change(drop_in, before, new)]


def unset(drop_in: str, name: str) -> list[Change]:
    """Return what takes a runtime from CRI-O: its drop-in goes if nothing else is in it.

    Raises:
        ConfigError: the file cannot be read or parsed.
    """
    drop_in = resolved(drop_in)
    before = read_file(drop_in)
    new = toml.parse(drop_in, before or b"")
    if find(new, (*_RUNTIMES, name)) is None:
        return [Change(path=drop_in, before=before, after=before)]
    give_back(new, (*_RUNTIMES, name), {})
    if find(new, _DEFAULT) == name:
        give_back(new, _DEFAULT, {})
    return [_change(drop_in, before, new)]


def _change(path: str, before: bytes | None, document: dict[str, Any]) -> Change:
    """Return the change, none where the document says the same as before."""
    if before is not None and toml.says(before, document):
        return Change(path=path, before=before, after=before)
    after = toml.write(document).encode() if document else None
    return Change(path=path, before=before, after=after)
