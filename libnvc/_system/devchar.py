# SPDX-License-Identifier: Apache-2.0
"""Links /dev/char/MAJOR:MINOR to the driver's device nodes.

udev makes them for devices that are registered with the kernel, which NVIDIA's are not; systemd
wants them: without, it takes a container's GPUs away whenever it applies its device rules anew.
"""

from __future__ import annotations

import os
from stat import S_ISCHR

from .._discover.procfs import is_number
from .._discover.tables import (
    CAPS_MODULE,
    MODESET,
    NVIDIA_MAJOR,
    NVIDIACTL,
    UVM,
    UVM_MODULE,
)
from ..errors import DiscoveryError, NvcError
from .nodes import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .host import Host

#: Nodes of other functions than GPUs.
_OTHERS = ("nvidia-fs", "nvidia-nvswitch", "nvidia-nvlink")
#: Rights that are not about one GPU.
_GLOBAL = ("config", "monitor")


def existing_nodes(dev: str = "/dev") -> tuple[Node, ...]:
    """Return the driver's character devices that are there, sorted by name.

    Args:
        dev: the directory that stands for /dev.

    Raises:
        DiscoveryError: it cannot be listed.
    """
    names = [name for name in _names(dev) if name.startswith("nvidia")]
    names = [name for name in names if not name.startswith(_OTHERS)]
    caps = [name for name in _names(f"{dev}/{CAPS_MODULE}") if name.startswith("nvidia-")]
    names += [f"{CAPS_MODULE}/{name}" for name in caps]
    found = []
    for name in sorted(names):
        try:
            status = os.lstat(f"{dev}/{name}")
        except OSError:
            continue  # gone meanwhile
        if S_ISCHR(status.st_mode):
            number = status.st_rdev
            found.append(Node(name=name, major=os.major(number), minor=os.minor(number)))
    return tuple(found)


def possible_nodes(host: Host) -> tuple[Node, ...]:
    """Return the nodes of all GPUs on the PCI bus and of all rights to MIG devices of them.

    Raises:
        NvcError: the kernel does not say a number: the module is not loaded.
    """
    gpus = host.count_gpus()
    own = [Node(name=f"nvidia{gpu}", major=NVIDIA_MAJOR, minor=gpu) for gpu in range(gpus)]
    return (*control_nodes(host), *own, *_rights(host, gpus))


def _rights(host: Host, gpus: int) -> Iterator[Node]:
    try:
        text = host.read(f"{host.proc}/driver/nvidia-caps/mig-minors").decode("ascii", "replace")
    except DiscoveryError:
        return  # a driver without MIG
    major = _major(host, CAPS_MODULE)
    for line in text.splitlines():
        right, _, minor = line.rpartition(" ")
        gpu = right.partition("/")[0].removeprefix("gpu")
        if is_number(minor) and (right in _GLOBAL or (is_number(gpu) and int(gpu) < gpus)):
            yield Node(name=f"{CAPS_MODULE}/nvidia-cap{minor}", major=major, minor=int(minor))


def control_nodes(host: Host) -> tuple[Node, ...]:
    """Return the nodes that all GPUs have in common.

    Raises:
        NvcError: as `possible_nodes`.
    """
    uvm = _major(host, UVM_MODULE)
    fixed = [(*NVIDIACTL, NVIDIA_MAJOR), (*MODESET, NVIDIA_MAJOR)]
    fixed += [(path, minor, uvm) for path, minor in UVM]
    return tuple(
        Node(name=path[len("/dev/") :], major=major, minor=minor) for path, minor, major in fixed
    )


def _major(host: Host, module: str) -> int:
    major = host.major(module)
    if major is None:
        path = f"{host.proc}/devices"
        raise NvcError(
            f"{path}: no device number of {module}: its kernel module is not loaded",
            path=path,
            hint=f"load it: modprobe {module.replace('-', '_')}",
        )
    return major


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise DiscoveryError(f"open failed: {directory}: {why}", path=directory) from None


def is_linked(directory: str, node: Node, target: str) -> bool | None:
    """Tell whether a node has its link, None where something else has the link's place.

    Args:
        directory: of the links.
        node: the device.
        target: where the link should lead: the node's path.
    """
    place = link_path(directory, node)
    try:
        found = os.readlink(place)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return True if os.path.normpath(os.path.join(directory, found)) == target else None


def link_path(directory: str, node: Node) -> str:
    """Return where a node's link is."""
    return f"{directory}/{node.major}:{node.minor}"
