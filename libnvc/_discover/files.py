# SPDX-License-Identifier: Apache-2.0
"""Find the driver's files that are no libraries: programs, firmware, sockets and pipes."""

from __future__ import annotations

import os
from stat import S_ISDIR, S_ISREG, S_ISSOCK

from ..model import DriverFile
from .root import DriverRoot
from .tables import BINARIES, FIRMWARE_DIRECTORY, NVML, SOCKETS

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


def find_firmware(root: DriverRoot, version: str) -> tuple[DriverFile, ...]:
    """Return the gsp*.bin files of one driver version, sorted by name.

    In the container they are at the standard place, even where /lib is a link on the host.
    """
    directory = f"{FIRMWARE_DIRECTORY}/{version}"
    place = root.find(directory)
    if place is None:
        return ()
    files = []
    for name in root.names(root.host(place.path)):
        if name.startswith("gsp") and name.endswith(".bin"):
            file = root.find(f"{place.path}/{name}")
            if file is not None:
                target = f"{directory}/{name}"
                files.append(DriverFile(path=file.path, kind="firmware", target=target))
    return tuple(files)


def find_ipcs(root: DriverRoot, mps: str, skip: frozenset[str]) -> tuple[DriverFile, ...]:
    """Return the daemons' sockets and the MPS pipe directory, those that exist.

    Args:
        root: the driver root.
        mps: the MPS pipe directory, under the root; what is not absolute, or the root itself,
            is ignored.
        skip: of "persistenced", "fabricmanager".
    """
    wanted = [(path, "socket") for word, path in SOCKETS if word not in skip]
    if mps.startswith("/"):
        wanted.append((mps, "directory"))
    return tuple(
        found
        for path, file_type in wanted
        if (found := _find_ipc(root, path, file_type)) is not None
    )


def _find_ipc(root: DriverRoot, path: str, file_type: str) -> DriverFile | None:
    found = root.find(path)
    is_type = S_ISSOCK if file_type == "socket" else S_ISDIR
    if found is None or found.path == "/" or not is_type(found.mode):
        return None
    return DriverFile(path=found.path, kind="ipc", file_type=file_type, target=found.path)
