# SPDX-License-Identifier: Apache-2.0
"""Decide which of the driver's files a capability means."""

from __future__ import annotations

from .._discover.tables import BINARIES, LIBRARIES, NVIDIACTL, SOCKETS, UVM
from ..model import CAPABILITIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from ..model import DeviceFile, DriverFile

#: Links beside a mounted library that its SONAME does not give: file prefix, link, target.
EXTRA_LINKS = (("libcuda.so", "libcuda.so", "libcuda.so.1"),)

_SOCKET_ENDS = tuple(path.removeprefix("/var/run") for _, path in SOCKETS)
_UVM_PATHS = tuple(path for path, _ in UVM)


def granting_capability(path: str, capabilities: Collection[str]) -> str:
    """Return the requested capability that a program or library belongs to, or ""."""
    name = path.rpartition("/")[2]
    for capability in CAPABILITIES:
        prefixes = LIBRARIES.get(capability, ()) + BINARIES.get(capability, ())
        if capability in capabilities and name.startswith(prefixes):
            return capability
    return ""


def ipc_capability(file: DriverFile) -> str:
    """Return the capability that needs a socket or pipe directory."""
    return "utility" if file.path.endswith(_SOCKET_ENDS) else "compute"


def needs_control(device: DeviceFile, capabilities: Collection[str]) -> bool:
    """Tell whether a container with these capabilities gets a control device.

    nvidiactl always; nvidia-uvm for compute; nvidia-modeset is for displays only.
    """
    if device.path in _UVM_PATHS:
        return "compute" in capabilities
    return device.path == NVIDIACTL[0]


def missing_parts(
    libraries: Collection[str], control: Collection[str], capabilities: Collection[str]
) -> list[str]:
    """Return a warning for each thing without which a requested capability cannot work.

    Args:
        libraries: table names of the libraries that were found.
        control: paths of the control devices that were found.
        capabilities: what was requested.
    """
    warnings = []
    if "compute" in capabilities:
        if "libcuda.so" not in libraries:
            warnings.append("compute: the driver has no libcuda.so: install its CUDA libraries")
        if _UVM_PATHS[0] not in control:
            warnings.append(
                f"compute: {_UVM_PATHS[0]} is missing, CUDA will fail to start: "
                "run nvidia-modprobe -u -c=0 on the host"
            )
    return warnings
