# SPDX-License-Identifier: Apache-2.0
"""Find the driver's programs."""

from __future__ import annotations

import os
from stat import S_ISREG

from ..model import DriverFile
from .root import DriverRoot
from .tables import BINARIES, NVML

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Library


def find_binaries(
    root: DriverRoot, path: str, libraries: tuple[Library, ...]
) -> tuple[DriverFile, ...]:
    """Return the driver's programs, in table order; missing ones are left out.

    Args:
        root: the driver root.
        path: directories under the root, separated by colons, first match wins. What is not
            absolute is ignored: the caller's working directory has no say.
        libraries: the driver's. The `bin` beside their `lib` or `lib64` is searched last: a driver
            that is kept apart may be on nobody's path.
    """
    found: dict[str, str] = {}
    names = [name for group in BINARIES.values() for name in group]
    searched = set()
    for entry in (*path.split(":"), *_beside(libraries)):
        directory = root.find(entry) if entry.startswith("/") else None
        if directory is None or directory.path in searched:
            continue
        searched.add(directory.path)
        for name in names:
            real = None if name in found else _find_program(root, directory.path, name)
            if real is not None:
                found[name] = real
    return tuple(DriverFile(path=found[name], kind="binary") for name in names if name in found)


def _beside(libraries: tuple[Library, ...]) -> tuple[str, ...]:
    nvml = next(library.path for library in libraries if library.name == NVML)
    place, _, name = os.path.dirname(nvml).rpartition("/")
    return (f"{place}/bin",) if name in ("lib", "lib64") else ()


def _find_program(root: DriverRoot, directory: str, name: str) -> str | None:
    # That it is missing needs no note of its own: the directory's identity covers it.
    path = f"{directory.rstrip('/')}/{name}"
    if not os.path.lexists(root.host(path)):
        return None
    file = root.find(path)
    return file.path if file is not None and S_ISREG(file.mode) else None
