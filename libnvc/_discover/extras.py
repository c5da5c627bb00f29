# SPDX-License-Identifier: Apache-2.0
"""Find what of a driver no capability names: graphics, all its libraries, firmware, DRM nodes.

Containers that are not known yet get it, by a CDI file. No container start waits for this.
"""

from __future__ import annotations

import os
from stat import S_ISREG

from .._native import elf
from ..errors import NvcError
from ..model import DriverFile, Extras, Library, Link
from .drm import add_drm
from .libraries import parent
from .root import DriverRoot
from .search import library_directories
from .tables import FIRMWARE_DIRECTORY, TLS, TLS_ABI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ..model import Inventory

#: Below which configuration files are, first match first.
CONFIG_DIRECTORIES = ("/etc", "/usr/local/share", "/usr/share")

#: Libraries with a number of their own.
_PLATFORM_LIBRARIES = (
    *("libnvidia-egl-gbm", "libnvidia-egl-wayland", "libnvidia-egl-wayland2"),
    *("libnvidia-egl-xcb", "libnvidia-egl-xlib"),
)
_OTHER_LIBRARIES = ("libnvidia-nvvm70",)

#: Where modules of the X server are below a directory of libraries.
_XORG = (
    "nvidia/xorg",
    *("xorg/modules/drivers", "xorg/modules/extensions"),
    *("xorg/modules/updates/drivers", "xorg/modules/updates/extensions"),
)
_XORG_ROOTS = ("/usr/lib/xorg", "/usr/lib64/xorg", "/usr/X11R6/lib", "/usr/X11R6/lib64")

_PROGRAMS = ("nvidia-xconfig",)

#: Files by the directory that they have in containers, wherever they are on the host.
_SHARED = (
    "glvnd/egl_vendor.d/10_nvidia.json",
    "egl/egl_external_platform.d/15_nvidia_gbm.json",
    "egl/egl_external_platform.d/10_nvidia_wayland.json",
    "egl/egl_external_platform.d/09_nvidia_wayland2.json",
    "egl/egl_external_platform.d/20_nvidia_xcb.json",
    "egl/egl_external_platform.d/20_nvidia_xlib.json",
    "nvidia/nvoptix.bin",
    "X11/xorg.conf.d/10-nvidia.conf",
    "X11/xorg.conf.d/nvidia-drm-outputclass.conf",
)
_CONFIGURED = (
    "OpenCL/vendors/nvidia.icd",
    "vulkan/icd.d/nvidia_icd.json",
    "vulkan/icd.d/nvidia_layers.json",
    "vulkan/implicit_layer.d/nvidia_layers.json",
)

_FIRMWARE_PARAMETER = "/sys/module/firmware_class/parameters/path"


def add_extras(
    root: DriverRoot, inventory: Inventory, path: str, config_directories: Sequence[str]
) -> Inventory:
    """Return an inventory with `extras`, and with the DRM nodes of its GPUs.

    Args:
        root: the driver root.
        inventory: of it.
        path: directories of programs under the root, separated by colons.
        config_directories: searched for configuration files, `CONFIG_DIRECTORIES` if empty.
    """
    directories = _directories(inventory)
    libraries = tuple(_libraries(root, directories, inventory.driver_version))
    extras = Extras(
        directories=directories,
        libraries=libraries,
        links=tuple(_short_links(root, libraries)),
        firmware=tuple(_firmware(root, inventory.driver_version)),
    )
    graphics = _Graphics(root, extras, inventory.driver_version)
    graphics.add_libraries()
    graphics.add_xorg()
    graphics.add_programs(path)
    graphics.add_documents(config_directories or CONFIG_DIRECTORIES)
    return inventory.replace(
        extras=extras.replace(graphics=tuple(graphics.files), graphics_links=graphics.links),
        gpus=tuple(add_drm(root, gpu) for gpu in inventory.gpus),
    )


def _directories(inventory: Inventory) -> tuple[str, ...]:
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
                library = _library(root, f"{directory}/{name}")
                if library is not None and library.path not in seen:
                    seen.add(library.path)
                    yield library


def _is_of(name: str, version: str) -> bool:
    return name.startswith("lib") and name.endswith(f".so.{version}")


def _has_own_number(name: str, stems: Iterable[str]) -> bool:
    """Tell whether a file is one of these libraries, with any number."""
    stem, _, number = name.partition(".so.")
    return stem in stems and number.replace(".", "").isdecimal()


def _library(root: DriverRoot, path: str) -> Library | None:
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
                file = _file(root, f"{directory}/{name}", f"{directory}/{name}", "firmware")
                if file is not None:
                    yield file


class _Graphics:
    """Collects the files of graphics."""

    def __init__(self, root: DriverRoot, extras: Extras, version: str) -> None:
        self.files: list[DriverFile] = []
        self.links: tuple[Link, ...] = ()
        self._root = root
        self._extras = extras
        self._version = version

    def add_libraries(self) -> None:
        """Add EGL's platform libraries, and links to the driver's own."""
        places = dict.fromkeys((*self._extras.directories, *library_directories(self._root)))
        for stem in _PLATFORM_LIBRARIES:
            for place in places:
                found = [
                    library
                    for name in _names(self._root, place)
                    if _has_own_number(name, (stem,))
                    and name.count(".") > 2
                    and (library := _library(self._root, f"{place}/{name}")) is not None
                ]
                for library in found:
                    self._add(library.path, library.path)
                if found:
                    break
        for library in self._extras.libraries:
            directory, _, name = library.path.rpartition("/")
            if library.name == "libnvidia-allocator.so":
                self._link(f"{directory}/gbm/nvidia-drm_gbm.so", f"../{library.name}.1")
            elif library.name == "libnvidia-vulkan-producer.so":
                self._link(f"{directory}/{library.name}", name)

    def add_xorg(self) -> None:
        """Add the modules of the X server."""
        places = [f"{place}/{below}" for place in self._extras.directories for below in _XORG]
        modules = [below.removeprefix("xorg/") for below in _XORG[1:]]
        places += [f"{place}/{below}" for place in _XORG_ROOTS for below in modules]
        server = f"libglxserver_nvidia.so.{self._version}"
        self._add_first("nvidia_drv.so", places)
        found = self._add_first(server, places)
        if found:
            self._link(f"{parent(found)}/libglxserver_nvidia.so", server)

    def _add_first(self, name: str, places: list[str]) -> str:
        for place in places:
            if self._add(f"{place}/{name}", f"{place}/{name}"):
                return f"{place}/{name}"
        return ""

    def add_programs(self, path: str) -> None:
        """Add programs, which are in /usr/bin in all containers."""
        for name in _PROGRAMS:
            for place in path.split(":"):
                if place.startswith("/") and self._add(f"{place}/{name}", f"/usr/bin/{name}"):
                    break

    def add_documents(self, directories: Sequence[str]) -> None:
        """Add configuration files."""
        machine = os.uname().machine
        configured = (*_CONFIGURED, f"vulkan/icd.d/nvidia_icd.{machine}.json")
        for target, names in (("/usr/share", _SHARED), ("/etc", configured)):
            for name in names:
                top = ("",) if name.startswith("vulkan/") else ()
                for place in (*directories, *top):
                    if self._add(f"{place}/{name}", f"{target}/{name}"):
                        break

    def _add(self, path: str, target: str) -> bool:
        file = _file(self._root, path, target, "graphics")
        if file is not None:
            self.files.append(file)
        return file is not None

    def _link(self, path: str, target: str) -> None:
        self.links = (*self.links, Link(path=path, target=target))


def _file(root: DriverRoot, path: str, target: str, kind: str) -> DriverFile | None:
    found = root.find(path)
    if found is None or not S_ISREG(found.mode):
        return None
    # The name that people know stays, if it leads to the same file on the host: below a driver
    # root, links that are absolute do not.
    named = os.path.realpath(root.host(path)) == root.host(found.path)
    return DriverFile(path=path if named else found.path, kind=kind, target=target)


def _names(root: DriverRoot, directory: str) -> tuple[str, ...]:
    real = root.resolve(directory)
    return (root.note_names(root.host(real)) or ()) if real is not None else ()
