# SPDX-License-Identifier: Apache-2.0
"""Operations that give a container its devices: GPUs, MIG devices, IMEX channels, control devices.

Whether a node is put into the container and whether a rule is added are two questions: engines
may take care of one themselves.
"""

from __future__ import annotations

from errno import ENOENT

from .._discover.tables import CAPS_DIRECTORY, IMEX_DIRECTORY, PROC_DIRECTORY
from ..errors import MissingDeviceError
from ..plan import BindMount, DeviceAccess, DeviceNode, Symlink
from .policy import is_left_out, is_made_where_missing, needs_control, shows_pictures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..model import Capability, DeviceFile, Gpu, Inventory, MigDevice, Request
    from ..plan import Operation
    from .select import Selection

_NAMED = 8  # of things that are there, in a hint
_PROC_OPTIONS = ("ro", "nodev", "nosuid", "noexec")
_MAKE_NODES = (
    "the driver's kernel module is loaded, but this device node was not made: run nvidia-modprobe "
    "on the host, or nvidia-container-cli with --load-kmods"
)
_MAKE_CHANNELS = (
    "this IMEX channel does not exist on the host: nvidia-modprobe makes it, "
    "or nvidia-container-cli with --load-kmods; there are "
)


def device_operations(
    inventory: Inventory, request: Request, selection: Selection
) -> Iterator[Operation]:
    """Yield the operations for all devices of a request.

    Raises:
        MissingDeviceError: the host has no node of one of them.
    """
    divided = {gpu.index for gpu, _ in selection.mig}
    for device in inventory.control:
        if needs_control(device, request.capabilities) and not is_left_out(device, request):
            yield from _device("control", inventory, request, device)
    for gpu in selection.gpus:
        yield from _gpu(inventory, request, gpu)
        # A part of a GPU must not bring the whole of it along.
        if shows_pictures(request.capabilities) and gpu.index not in divided:
            yield from _drm(inventory, request, gpu)
    if request.mig_config or request.mig_monitor:
        yield from _mig_control(inventory, request, selection)
    else:
        for gpu, mig in selection.mig:
            yield from _mig_device(inventory, request, gpu, mig)
    for channel in dict.fromkeys(request.imex_channels):
        device = _imex_channel(inventory, channel)
        yield from _device(f"imex:{channel}", inventory, request, device)


def _gpu(inventory: Inventory, request: Request, gpu: Gpu) -> Iterator[Operation]:
    origin = f"gpu:{gpu.index}"
    yield from _node(origin, inventory, request, gpu.device)
    if gpu.proc_dir:
        yield BindMount(
            origin=origin,
            path=f"{PROC_DIRECTORY}/gpus/{gpu.proc_dir}",
            source=f"{inventory.proc}/gpus/{gpu.proc_dir}",
            file_type="directory",
            options=_PROC_OPTIONS,
        )
    yield from _rule(origin, request, gpu.device)


def _drm(inventory: Inventory, request: Request, gpu: Gpu) -> Iterator[Operation]:
    origin = f"gpu:{gpu.index}"
    for device in gpu.drm:
        yield from _device(origin, inventory, request, device)
    for link in gpu.drm_links if request.device_nodes else ():
        yield Symlink(origin=origin, path=link.path, target=link.target)


def _mig_device(
    inventory: Inventory, request: Request, gpu: Gpu, mig: MigDevice
) -> Iterator[Operation]:
    origin = f"mig:{gpu.index}:{mig.index}"
    for capability in (mig.gpu_access, mig.compute_access):
        yield BindMount(
            origin=origin,
            path=f"{PROC_DIRECTORY}/{capability.path}",
            source=f"{inventory.proc}/{capability.path}",
            options=_PROC_OPTIONS,
        )
        if capability.device is not None:
            yield from _device(origin, inventory, request, capability.device)


def _mig_control(
    inventory: Inventory, request: Request, selection: Selection
) -> Iterator[Operation]:
    """Yield what configuring or watching the MIG devices of the selected GPUs takes: all rights."""
    mig = inventory.mig
    capable = {gpu.minor for gpu in selection.gpus if gpu.mig_capable}
    for wanted, name, capability in (
        (request.mig_config, "config", mig.config),
        (request.mig_monitor, "monitor", mig.monitor),
    ):
        if wanted and capable and capability is not None:
            yield from _mig_rights(inventory, request, f"mig-{name}", capability)
            if request.device_rules and mig.major is not None:
                minors = sorted({minor for gpu, minor in mig.minors if gpu in capable})
                yield from _rules(f"mig-{name}", mig.major, minors)


def _mig_rights(
    inventory: Inventory, request: Request, origin: str, capability: Capability
) -> Iterator[Operation]:
    yield BindMount(
        origin=origin,
        path=f"{PROC_DIRECTORY}/capabilities",
        source=f"{inventory.proc}/capabilities",
        file_type="directory",
        options=_PROC_OPTIONS,
    )
    if capability.device is None:
        return
    if request.device_nodes:
        # The directory, so that the devices of instances to come will be there.
        yield BindMount(
            origin=origin,
            path=CAPS_DIRECTORY,
            source=_host(inventory, CAPS_DIRECTORY),
            file_type="directory",
            options=("nosuid", "noexec"),
        )
    yield from _rule(origin, request, capability.device)


def _imex_channel(inventory: Inventory, channel: int) -> DeviceFile:
    for device in inventory.imex_channels:
        if device.minor == channel:
            return device
    path = _host(inventory, f"{IMEX_DIRECTORY}/channel{channel}")
    known = ", ".join(str(device.minor) for device in inventory.imex_channels[:_NAMED])
    raise _missing(path, _MAKE_CHANNELS + (known or "none"))


def _device(
    origin: str, inventory: Inventory, request: Request, device: DeviceFile
) -> Iterator[Operation]:
    yield from _node(origin, inventory, request, device)
    yield from _rule(origin, request, device)


def _node(
    origin: str, inventory: Inventory, request: Request, device: DeviceFile
) -> Iterator[Operation]:
    if request.device_nodes:
        if not device.present and not is_made_where_missing(device):
            raise _missing(_host(inventory, device.path))
        yield DeviceNode(
            origin=origin,
            path=device.path,
            major=device.major,
            minor=device.minor,
            source=_host(inventory, device.path) if device.present else "",
        )


def _host(inventory: Inventory, path: str) -> str:
    """Return the path on the host of a path below /dev."""
    return (inventory.root if inventory.dev_root is None else inventory.dev_root) + path


def _rule(origin: str, request: Request, device: DeviceFile) -> Iterator[Operation]:
    if request.device_rules:
        yield DeviceAccess(origin=origin, path="", major=device.major, minor=device.minor)


def _rules(origin: str, major: int, minors: list[int]) -> Iterator[DeviceAccess]:
    """Yield a rule for each run of minors."""
    start = 0
    for end in range(1, len(minors) + 1):
        if end == len(minors) or minors[end] != minors[end - 1] + 1:
            yield DeviceAccess(
                origin=origin, path="", major=major, minor=minors[start], count=end - start
            )
            start = end


def _missing(path: str, hint: str = _MAKE_NODES) -> MissingDeviceError:
    return MissingDeviceError(
        f"stat failed: {path}: no such file or directory",
        errno=ENOENT,
        path=path,
        step="stat",
        code="nodes-missing",
        hint=hint,
    )
