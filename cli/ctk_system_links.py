# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk system create-dev-char-symlinks`: links in /dev/char to the driver's nodes."""

from __future__ import annotations

import os

from libnvc._system.devchar import existing_nodes, is_linked, link_path, possible_nodes

from ._flags import Flag
from .ctk_system import DRY_RUN, failed, need_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libnvc._system.nodes import Node

    from .ctk import Log

_ONLY_ALL = ("load-kernel-modules", "create-device-nodes")

FLAGS = (
    Flag(
        name="dev-char-path",
        doc="Where the links are made",
        default="/dev/char",
        variable="DEV_CHAR_PATH",
    ),
    Flag(
        name="driver-root",
        doc="The root whose modprobe loads modules; nodes are those of /dev",
        default="/",
        variable="NVIDIA_DRIVER_ROOT",
    ),
    Flag(
        name="create-all",
        kind=bool,
        doc="Links for all devices that there may be, not only for nodes that are there",
        variable="CREATE_ALL",
    ),
    Flag(
        name="load-kernel-modules",
        kind=bool,
        doc="With --create-all, load the driver's kernel modules first",
        variable="LOAD_KERNEL_MODULES",
    ),
    Flag(
        name="create-device-nodes",
        kind=bool,
        doc="With --create-all, make the nodes that all GPUs have in common first",
        variable="CREATE_DEVICE_NODES",
    ),
    DRY_RUN,
)


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command."""
    is_dry = bool(values["dry-run"])
    if not is_dry:
        need_root("make links in /dev/char")
    if values["create-all"]:
        nodes = _all(values, log)
    else:
        for name in _ONLY_ALL:
            if values[name]:
                log.warning(f"--{name} does nothing without --create-all")
        nodes = existing_nodes()
    directory = os.path.abspath(values["dev-char-path"])
    if not is_dry:
        try:
            os.makedirs(directory, 0o755, exist_ok=True)
        except OSError as error:
            raise failed("could not make the directory", directory, error) from None
    for node in nodes:
        _link(directory, node, log, is_dry=is_dry)


def _all(values: dict[str, Any], log: Log) -> tuple[Node, ...]:
    from libnvc._system.host import Host

    from .ctk_system_nodes import load_modules, make_control_nodes

    root, is_dry = values["driver-root"], bool(values["dry-run"])
    if values["load-kernel-modules"]:
        load_modules(root, log, is_dry=is_dry)
    host = Host("/")
    if values["create-device-nodes"]:
        make_control_nodes(host, "/", log, is_dry=is_dry)
    return possible_nodes(host)


def _link(directory: str, node: Node, log: Log, *, is_dry: bool) -> None:
    target, place = f"/dev/{node.name}", link_path(directory, node)
    found = is_linked(directory, node, target)
    if found:
        log.debug(f"{place} leads to {target} already")
    elif found is None:
        log.warning(f"{place} exists and does not lead to {target}: left as it is")
    elif is_dry:
        log.info(f"Would link {place} to {target}")
    else:
        log.info(f"Linking {place} to {target}")
        try:
            os.symlink(target, place)
        except FileExistsError:
            log.warning(f"{place} has been made meanwhile: left as it is")
        except OSError as error:
            raise failed("could not make the link", place, error) from None
