# SPDX-License-Identifier: Apache-2.0
"""Find the nodes in /dev/dri that belong to a GPU, by what the kernel shows of its PCI device."""

from __future__ import annotations

import os

from ..errors import NvcError
from ..model import DeviceFile, Link
from .procfs import is_number
from .root import DriverRoot, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Gpu

_PCI_DEVICES = "/sys/bus/pci/devices"
_DIRECTORY = "/dev/dri"
_PREFIXES = ("card", "renderD", "controlD")


def add_drm(root: DriverRoot, gpu: Gpu) -> Gpu:
    """Return a GPU with its DRM nodes, those that are there, and the links to them."""
    domain, _, rest = gpu.pci.partition(":")
    bus = f"{int(domain, 16):04x}:{rest}"
    sysfs = root if root.resolve(f"{_PCI_DEVICES}/{bus}") else DriverRoot("/")
    directory = sysfs.resolve(f"{_PCI_DEVICES}/{bus}/drm")
    if directory is None:
        return gpu
    devices = []
    for name in root.note_names(sysfs.host(directory)) or ():
        numbers = _numbers(sysfs.host(f"{directory}/{name}/dev"))
        if not name.startswith(_PREFIXES) or numbers is None:
            continue
        path = f"{_DIRECTORY}/{name}"
        if root.note(root.device(path)) is None:
            root.warn(f"missing device {root.device(path)}")
        else:
            devices.append(DeviceFile(path=path, major=numbers[0], minor=numbers[1]))
    return gpu.replace(drm=tuple(devices), drm_links=_links(root, bus, devices))


def _numbers(path: str) -> tuple[int, int] | None:
    try:
        major, _, minor = read_file(path).decode("ascii", "replace").strip().partition(":")
    except NvcError:
        return None
    return (int(major), int(minor)) if is_number(major) and is_number(minor) else None


def _links(root: DriverRoot, bus: str, devices: list[DeviceFile]) -> tuple[Link, ...]:
    names = {os.path.basename(device.path) for device in devices}
    links = []
    for kind in ("card", "render"):
        path = f"{_DIRECTORY}/by-path/pci-{bus}-{kind}"
        try:
            target = os.readlink(root.device(path))
        except OSError:
            continue
        if os.path.basename(target) in names:
            links.append(Link(path=path, target=target))
    return tuple(links)
