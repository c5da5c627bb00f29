# SPDX-License-Identifier: Apache-2.0
"""Plan for devices that are no GPUs: storage, networks, switches, IMEX channels."""

from __future__ import annotations

from ..plan import BindMount, DeviceAccess, DeviceNode, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..model import DeviceFile, DriverFile
    from ..plan import Operation


def plan_nodes(
    origin: str,
    devices: Sequence[DeviceFile],
    files: Sequence[DriverFile] = (),
    *,
    root: str,
    dev_root: str,
) -> Plan:
    """Return what gives a container devices, and files where it has none of its own.

    Args:
        origin: the rule behind it.
        devices: present on the host.
        files: to be mounted.
        root: prefix of files on the host.
        dev_root: prefix of devices on the host.
    """
    return Plan(operations=tuple(_operations(origin, devices, files, root, dev_root)))


def _operations(
    origin: str,
    devices: Sequence[DeviceFile],
    files: Sequence[DriverFile],
    root: str,
    dev_root: str,
) -> Iterator[Operation]:
    for device in devices:
        yield DeviceNode(
            origin=origin,
            path=device.path,
            major=device.major,
            minor=device.minor,
            source=dev_root + device.path,
        )
        yield DeviceAccess(origin=origin, path="", major=device.major, minor=device.minor)
    for file in files:
        yield BindMount(
            origin=origin,
            path=file.target,
            source=root + file.path,
            file_type=file.file_type,
        )
