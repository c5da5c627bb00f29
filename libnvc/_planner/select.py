# SPDX-License-Identifier: Apache-2.0
"""Decide which GPUs and MIG devices a device selector means."""

from __future__ import annotations

from .._record import Record
from ..errors import MigConfigError, MigMonitorError, UnknownDeviceError
from ..model import Gpu, MigDevice
from .checks import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..model import Inventory

_NAMED = 16  # MIG devices in a hint
_HEX = "0123456789abcdefABCDEF"


class Selection(Record):
    """What selectors name, in order of first appearance, without duplicates.

    Attributes:
        gpus: GPUs, those of the MIG devices included.
        mig: MIG devices, each with its GPU.
        everything: whether "all" was among the selectors.
    """

    gpus: tuple[Gpu, ...] = ()
    mig: tuple[tuple[Gpu, MigDevice], ...] = ()
    everything: bool = False


def select(inventory: Inventory, selectors: Iterable[str]) -> Selection:
    """Return the devices that selectors name.

    A selector is an index, a GPU UUID, a PCI address, "GPU:MIG" (two indices), the UUID of a MIG
    device, or "all", which means all GPUs with all their MIG devices and ends the list; several
    may be joined by commas. A MIG device brings its GPU along; a GPU does not bring its MIG
    devices. On a host without GPUs every selector means none, as in the reference.

    Raises:
        UnknownDeviceError: "SELECTOR: unknown device".
    """
    gpus: dict[int, Gpu] = {}
    migs: dict[tuple[int, int], tuple[Gpu, MigDevice]] = {}
    everything = False
    tokens = (token for text in selectors for token in text.split(",") if token)
    for token in tokens if inventory.gpus else ():
        if token.lower() == "all":
            gpus.update((gpu.index, gpu) for gpu in inventory.gpus)
            migs.update(
                ((gpu.index, mig.index), (gpu, mig))
                for gpu in inventory.gpus
                for mig in gpu.mig_devices
            )
            everything = True
            break
        gpu, mig = _find(inventory.gpus, token)
        gpus[gpu.index] = gpu
        if mig is not None:
            migs[gpu.index, mig.index] = gpu, mig
    return Selection(gpus=tuple(gpus.values()), mig=tuple(migs.values()), everything=everything)


def check_mig_control(selection: Selection, *, config: bool, monitor: bool) -> None:
    """Refuse the rights to configure or watch MIG beside rights to single MIG devices.

    Raises:
        MigConfigError, MigMonitorError: MIG devices were selected one by one.
    """
    if selection.everything or not selection.mig:
        return
    text = "all: cannot enable {} with specific MIG devices selected"
    if config:
        raise MigConfigError(text.format("mig-config"))
    if monitor:
        raise MigMonitorError(text.format("mig-monitor"))


def _find(gpus: tuple[Gpu, ...], token: str) -> tuple[Gpu, MigDevice | None]:
    # The token is read once: with it anew for each GPU, time would grow with their square.
    wanted = _read_gpu(token)
    for gpu in gpus:
        if wanted in (gpu.index, gpu.pci, gpu.uuid.lower()):
            return gpu, None
    asked = _read_mig(token)
    for gpu in gpus:
        for mig in gpu.mig_devices:
            if asked in _mig_names(gpu, mig):
                return gpu, mig
    raise UnknownDeviceError(
        f"{printable(token)}: unknown device", code="unknown-device", hint=_known(gpus)
    )


def _known(gpus: tuple[Gpu, ...]) -> str:
    migs = [f"{gpu.index}:{mig.index}" for gpu in gpus for mig in gpu.mig_devices]
    parts = [f"GPUs are numbered 0 to {len(gpus) - 1} here" if gpus[1:] else "the only GPU is 0"]
    if migs:
        more = ", ..." if migs[_NAMED:] else ""
        parts.append(f"MIG devices are {', '.join(migs[:_NAMED])}{more}")
    parts.append("nvidia-smi -L on the host shows their UUIDs")
    return "; ".join(parts)


def _read_gpu(token: str) -> str | int | None:
    """Return the UUID, PCI address or index that a token means, as a GPU has it."""
    if token[:4].upper() == "GPU-" and len(token) > 4:
        return token.lower()
    return parse_pci(token) or parse_index(token)


def _read_mig(token: str) -> str | tuple[int | None, int | None]:
    """Return the UUID or the two indices that a token means."""
    if token[:4].upper() == "MIG-" and len(token) > 4:
        return token.lower()
    first, _, second = token.partition(":")
    return parse_index(first), parse_index(second)


def _mig_names(gpu: Gpu, mig: MigDevice) -> tuple[str | tuple[int, int], ...]:
    old = f"MIG-{gpu.uuid}/{mig.gpu_instance}/{mig.compute_instance}" if gpu.uuid else ""
    return mig.uuid.lower(), old.lower(), (gpu.index, mig.index)


def parse_pci(token: str) -> str | None:
    """Read a PCI address leniently; None if the text is none.

    Leading zeros may be missing and whatever follows the device is ignored: "1:0:0.1" is
    "00000001:00:00.0".
    """
    numbers = []
    rest = token
    for width, end in ((8, ":"), (2, ":"), (2, "")):
        digits = _leading_hex(rest, width)
        rest = rest[len(digits) :]
        if not digits or not rest.startswith(end):
            return None
        rest = rest[len(end) :]
        numbers.append(int(digits, 16))
    domain, bus, device = numbers
    return f"{domain:08x}:{bus:02x}:{device:02x}.0"


def parse_index(token: str) -> int | None:
    """Read a decimal index; leading blanks and one "+" pass. None if the text is none."""
    digits = token.lstrip(" \t\n\v\f\r").removeprefix("+")
    if not digits.isascii() or not digits.isdigit():
        return None
    significant = digits.lstrip("0") or "0"
    # Longer numbers name no GPU, and int() refuses very long ones.
    return int(significant) if len(significant) < 10 else None


def _leading_hex(text: str, width: int) -> str:
    head = text[:width]
    return head[: len(head) - len(head.lstrip(_HEX))]
