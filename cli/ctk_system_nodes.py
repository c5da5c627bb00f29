# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk system create-device-nodes`: the nodes that all GPUs have in common."""

from __future__ import annotations

import os

from libnvc._system.devchar import control_nodes
from libnvc._system.host import Host
from libnvc._system.load import MODULES
from libnvc._system.modules import is_loaded, load_module
from libnvc._system.nodes import Devices

from ._flags import Flag
from .ctk_system import DRY_RUN, failed, need_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .ctk import Log

_TIMEOUT = 60.0  # seconds for one module

FLAGS = (
    Flag(
        name="root",
        aliases=("driver-root",),
        doc="The root whose modprobe loads modules, and whose nodes are made",
        default="/",
        variable="NVIDIA_DRIVER_ROOT",
    ),
    Flag(
        name="dev-root",
        doc="The root whose nodes are made, if that is another",
        variable="NVIDIA_DEV_ROOT",
    ),
    Flag(name="control-devices", kind=bool, doc="Make nvidiactl and the nodes of modeset and UVM"),
    Flag(name="load-kernel-modules", kind=bool, doc="Load the driver's kernel modules first"),
    DRY_RUN,
)


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command."""
    is_dry = bool(values["dry-run"])
    if not is_dry and (values["load-kernel-modules"] or values["control-devices"]):
        need_root("load kernel modules and make device nodes")
    if values["load-kernel-modules"]:
        load_modules(values["root"], log, is_dry=is_dry)
    if values["control-devices"]:
        dev_root = values["dev-root"] or values["root"]
        make_control_nodes(Host(values["root"]), dev_root, log, is_dry=is_dry)


def load_modules(root: str, log: Log, *, is_dry: bool) -> None:
    """Load the driver's modules that are not loaded.

    Raises:
        NvcError: one cannot be loaded; what comes after it is not tried.
    """
    host = Host(root)
    for module in MODULES:
        if is_loaded(host, module):
            log.debug(f"kernel module {module.replace('-', '_')} is loaded already")
        elif is_dry:
            log.info(f"Would load kernel module {module.replace('-', '_')}")
        else:
            log.info(f"Loading kernel module {module.replace('-', '_')}")
            load_module(host, module, _TIMEOUT)


def make_control_nodes(host: Host, dev_root: str, log: Log, *, is_dry: bool) -> None:
    """Make the nodes that are missing; those that exist stay as they are.

    Raises:
        NvcError: one cannot be made.
    """
    root = os.path.abspath(dev_root).rstrip("/")
    try:
        devices = Devices(root)
    except OSError as error:
        raise failed("open failed", f"{root}/dev", error) from None
    with devices:
        for node in control_nodes(host):
            place = f"{root}/dev/{node.name}"
            number = f"{node.major}:{node.minor}"
            if os.path.lexists(place):
                log.debug(f"{place} exists")
            elif is_dry:
                log.info(f"Would make {place} ({number})")
            else:
                log.info(f"Making {place} ({number})")
                try:
                    devices.make(node)
                except OSError as error:
                    raise failed("could not make the device node", place, error) from None
