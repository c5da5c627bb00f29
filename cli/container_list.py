# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-cli list`: paths of the driver's files and devices."""

from __future__ import annotations

from ._argp import Option, Parser
from .container_common import SKIP_OPTIONS, Settings, discover, events, start
from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from libnvc.model import DeviceFile, Inventory

PARSER = Parser(
    name="nvidia-container-cli list",
    doc="List the driver's files and devices, one path a line, without the driver root. With "
    "nothing asked for, list everything.",
    options=(
        Option(name="device", short="d", arg="ID", doc="Device nodes of these GPUs"),
        Option(name="libraries", short="l", doc="Libraries"),
        Option(name="binaries", short="b", doc="Programs"),
        Option(name="ipcs", short="i", doc="Sockets and other IPC paths"),
        Option(name="firmwares", short="f", doc="Firmware files"),
        *SKIP_OPTIONS,
    ),
)

#: the sections after the devices, in order of output
_SECTIONS = ("binaries", "libraries", "ipcs", "firmwares")


def list_driver(settings: Settings, argv: Sequence[str]) -> int:
    """Print the paths that were asked for."""
    wanted: set[str] = set()
    skipped: set[str] = set()
    selectors: list[str] | None = None
    for name, value, _ in events(PARSER, argv):
        if name == "device":
            selectors = [*(selectors or ()), str(value)]
        elif name.startswith("no-"):
            skipped.add(name.removeprefix("no-"))
            if name == "no-gsp-firmware":
                wanted.discard("firmwares")  # as the reference: only what came before
        else:
            wanted.add(name)
    if len(argv) == 1:
        wanted = set(_SECTIONS)
        selectors = ["all"]
    found = discover(settings, start(settings), skip=frozenset(skipped))
    put("".join(f"{path}\n" for path in paths(found, selectors, wanted)))
    return 0


def paths(found: Inventory, selectors: Sequence[str] | None, wanted: set[str]) -> list[str]:
    """Return the paths in the reference's order of sections.

    Args:
        found: what discovery found.
        selectors: of the GPUs whose nodes are listed, after the control devices; None for no device
            at all.
        wanted: names of the other sections, as the options have them.
    """
    listed: list[str] = []
    if selectors is not None:
        from libnvc._planner import select

        gpus = select(found, selectors).gpus
        listed += [device.path for device in found.control if _is_listed(device)]
        listed += [gpu.device.path for gpu in gpus]
    files = {
        "binaries": [file.path for file in found.binaries],
        "libraries": [library.path for library in found.libraries],
        "ipcs": [file.path for file in found.ipcs],
        # where drivers and containers look for it, even if /lib is a link here
        "firmwares": [file.target for file in found.firmware],
    }
    for section in _SECTIONS:
        listed += files[section] if section in wanted else []
    return listed


def _is_listed(device: DeviceFile) -> bool:
    # the reference looks whether the uvm nodes are there, and only those
    return device.present or not device.path.startswith("/dev/nvidia-uvm")
