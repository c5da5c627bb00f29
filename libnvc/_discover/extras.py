# SPDX-License-Identifier: Apache-2.0
"""Find what of a driver no capability names: all its libraries, links to them, firmware.

Containers that are not known yet get it, by a CDI file. No container start waits for this.
"""

from __future__ import annotations

import os
from stat import S_ISREG

from .._native import elf
from ..errors import NvcError
from ..model import DriverFile, Extras, Library, Link
from .libraries import parent
from .root import DriverRoot
from .tables import FIRMWARE_DIRECTORY, TLS, TLS_ABI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..model import Inventory

#: Libraries with numbers of their own.
_OTHER_LIBRARIES = ("libnvidia-nvvm70",)

_FIRMWARE_PARAMETER = "/sys/module/firmware_class/parameters/path"


def find_extras(root: DriverRoot, inventory: Inventory) -> Extras:
    """Return what a driver has beside what capabilities name.

    Args:
        root: the driver root.
        inventory: of it.
    """
    directories = driver_directories(inventory)
    libraries = tuple(_libraries(root, directories, inventory.driver_version))
    return Extras(
        directories=directories,
        libraries=libraries,
        links=tuple(_short_links(root, libraries)),
        firmware=tuple(_firmware(root, inventory.driver_version)),
    )


def driver_directories(inventory: Inventory) -> tuple[str, ...]:
    """Return the directories of the driver's 64-bit libraries, that of libnvidia-ml first."""
    places = dict.fromkeys(
        parent(library.path) for library in inventory.libraries if library.bits == 64
    )
    return tuple(
        place
        for place in places
        if not (place.endswith("/vdpau") and place.removesuffix("/vdpau") in places)
    )


def _libraries(root: DriverRoot, directories: tuple[str, ...], version: str) -> Iterator[Library]:
    """Yield the libraries of one version, and those that have numbers of their own."""
    seen = set()
    for directory in (*directories, *(f"{place}/vdpau" for place in directories)):
        for name in _names(root, directory):
            if _is_of(name, version) or _has_own_number(name, _OTHER_LIBRARIES):
                library = read_library(root, f"{directory}/{name}")
                if library is not None and library.path not in seen:
                    seen.add(library.path)
                    yield library


def _is_of(name: str, version: str) -> bool:
    return name.startswith("lib") and name.endswith(f".so.{version}")


def _has_own_number(name: str, stems: Iterable[str]) -> bool:
    """Tell whether a file is one of these libraries, with any number."""
    stem, _, number = name.partition(".so.")
    return stem in stems and number.replace(".", "").isdecimal()


def read_library(root: DriverRoot, path: str) -> Library | None:
    """Return a library of this machine, None if it is missing or another one."""
    found = root.find(path)
    if found is None or not S_ISREG(found.mode):
        return None
    try:
        facts = elf.read(root.host(found.path))
    except NvcError as error:
        root.warn(f"{error.message}: left out")
        return None
    name = os.path.basename(found.path).partition(".so")[0] + ".so"
    if facts.machine != root.architecture.elf or (name == TLS and facts.abi != TLS_ABI):
        return None
    return Library(path=found.path, name=name, soname=facts.soname)


def _short_links(root: DriverRoot, libraries: tuple[Library, ...]) -> Iterator[Link]:
    """Yield "libX.so" for libraries beside which the host has a link of this name."""
    for library in libraries:
        path = f"{parent(library.path)}/{library.name}"
        if os.path.islink(root.host(path)):
            name = library.soname
            is_plain = name not in ("", ".", "..", library.name) and "/" not in name
            target = name if is_plain else os.path.basename(library.path)
            yield Link(path=path, target=target)


def _firmware(root: DriverRoot, version: str) -> Iterator[DriverFile]:
    release = os.uname().release
    base = FIRMWARE_DIRECTORY.rpartition("/")[0]
    places = [f"{base}/updates/{release}", f"{base}/updates", f"{base}/{release}", base]
    try:
        with open(_FIRMWARE_PARAMETER, encoding="utf-8") as stream:
            configured = stream.read().strip()
    except (OSError, ValueError):
        configured = ""
    if configured.startswith("/"):
        places.insert(0, configured.rstrip("/"))
    for place in places:
        directory = f"{place}/nvidia/{version}"
        for name in _names(root, directory):
            if name.startswith("gsp") and name.endswith(".bin"):
                file = find_file(root, f"{directory}/{name}", f"{directory}/{name}", "firmware")
                if file is not None:
                    yield file


def find_file(root: DriverRoot, path: str, target: str, kind: str) -> DriverFile | None:
    """Return a regular file that shall be at another path in containers, None if it is missing."""
    found = root.find(path)
    if found is None or not S_ISREG(found.mode):
        return None
    # The name that people know stays, if it leads to the same file on the host: below a driver
    # root, links that are absolute do not.
    named = path == found.path or os.path.realpath(root.host(path)) == root.host(found.path)
    return DriverFile(path=path if named else found.path, kind=kind, target=target)


def _names(root: DriverRoot, directory: str) -> tuple[str, ...]:
    real = root.resolve(directory)
    return (root.note_names(root.host(real)) or ()) if real is not None else ()
