# SPDX-License-Identifier: Apache-2.0
"""Find what programs with displays load or read beside the libraries of the driver's version.

Manifests by which the loaders of EGL, Vulkan and OpenCL find the driver, EGL's platform libraries,
modules of the X server, and DRM nodes.
"""

from __future__ import annotations

import os

from ..model import DriverFile, Graphics, Library, Link
from .drm import add_drm
from .extras import driver_directories, find_file, read_library
from .libraries import parent
from .root import DriverRoot
from .search import library_directories

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..model import Inventory

#: Below which configuration files are, first match first.
CONFIG_DIRECTORIES = ("/etc", "/usr/local/share", "/usr/share")

#: Libraries with numbers of their own, by SONAME.
_PLATFORM_LIBRARIES = (
    *("libnvidia-egl-gbm.so.1", "libnvidia-egl-wayland.so.1", "libnvidia-egl-wayland2.so.1"),
    *("libnvidia-egl-xcb.so.1", "libnvidia-egl-xlib.so.1"),
)

#: Libraries of the driver's version beside which there are links for others.
_LINKED = ("libnvidia-allocator.so", "libnvidia-vulkan-producer.so")

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


def add_graphics(
    root: DriverRoot, inventory: Inventory, path: str, config_directories: Sequence[str]
) -> Inventory:
    """Return an inventory with `graphics`, and with the DRM nodes of its GPUs.

    Args:
        root: the driver root.
        inventory: of it.
        path: directories of programs under the root, separated by colons.
        config_directories: searched for configuration files, `CONFIG_DIRECTORIES` if empty.
    """
    directories = driver_directories(inventory)
    files = _Files(root)
    links = files.add_xorg(directories, inventory.driver_version)
    files.add_programs(path)
    files.add_documents(config_directories or CONFIG_DIRECTORIES)
    return inventory.replace(
        graphics=Graphics(
            libraries=(
                *_platforms(root, directories),
                *_linked(root, directories, inventory.driver_version),
            ),
            files=tuple(files.found),
            links=links,
        ),
        gpus=tuple(add_drm(root, gpu) for gpu in inventory.gpus),
    )


def _platforms(root: DriverRoot, directories: tuple[str, ...]) -> Iterator[Library]:
    places = dict.fromkeys((*directories, *library_directories(root)))
    for soname in _PLATFORM_LIBRARIES:
        for place in places:
            library = read_library(root, f"{place}/{soname}")
            if library is not None:
                yield library
                break


def _linked(root: DriverRoot, directories: tuple[str, ...], version: str) -> Iterator[Library]:
    for directory in directories:
        for name in _LINKED:
            library = read_library(root, f"{directory}/{name}.{version}")
            if library is not None:
                yield library


class _Files:
    """Collects files that are no libraries."""

    def __init__(self, root: DriverRoot) -> None:
        self.found: list[DriverFile] = []
        self._root = root

    def add_xorg(self, directories: tuple[str, ...], version: str) -> tuple[Link, ...]:
        """Add the modules of the X server, and return links to them."""
        places = [f"{place}/{below}" for place in directories for below in _XORG]
        modules = [below.removeprefix("xorg/") for below in _XORG[1:]]
        places += [f"{place}/{below}" for place in _XORG_ROOTS for below in modules]
        server = f"libglxserver_nvidia.so.{version}"
        self._add_first("nvidia_drv.so", places)
        found = self._add_first(server, places)
        if not found:
            return ()
        return (Link(path=f"{parent(found)}/libglxserver_nvidia.so", target=server),)

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
        file = find_file(self._root, path, target, "graphics")
        if file is not None:
            self.found.append(file)
        return file is not None
