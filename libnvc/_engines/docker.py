# SPDX-License-Identifier: Apache-2.0
"""Docker's `daemon.json`."""

from __future__ import annotations

from . import json_file
from .runtime import Format, Places, change_file, restore_file, set_runtime, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .backup import Document
    from .files import Change
    from .runtime import Runtime

CONFIG = "/etc/docker/daemon.json"


def _is_same(_one: bytes, _other: bytes) -> bool:
    return True  # JSON has no comments


_FORM = Format(parse=json_file.parse, edit=json_file.edit, is_same=_is_same)


def _places(name: str) -> Places:
    return Places(entry=("runtimes", name), default=("default-runtime",), cdi=("features", "cdi"))


def configure(path: str, runtime: Runtime) -> list[Change]:
    """Return what gives Docker a runtime.

    Args:
        path: `daemon.json`; missing and empty mean `{}`.
        runtime: where it is not the default, whatever is stays it.

    Raises:
        ConfigError: the file cannot be read or is not what Docker takes.
    """
    keys = _places(runtime.name)

    def change(document: Document) -> None:
        for place in (keys.entry, keys.cdi):
            table(path, document, place[:-1])
        set_runtime(document, runtime, keys, {"args": [], "path": runtime.path})

    return change_file(path, _FORM, change, keys.entry)


def unset(path: str, name: str) -> list[Change]:
    """Return what takes a runtime from Docker, and gives back the default that was before.

    Raises:
        ConfigError: the file or its backup cannot be read or parsed.
    """
    return restore_file(path, _FORM, name, _places(name))
