# SPDX-License-Identifier: Apache-2.0
"""Decide which GPUs a device selector means."""

from __future__ import annotations

from ..errors import UnknownDeviceError
from .checks import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..model import Gpu, Inventory

_HEX = "0123456789abcdefABCDEF"


def select_devices(inventory: Inventory, selectors: Iterable[str]) -> tuple[Gpu, ...]:
    """Return the GPUs that selectors name, in order of first appearance, without duplicates.

    A selector is an index, a GPU UUID, a PCI address, or "all", which ends the list; several may
    be joined by commas. On a host without GPUs every selector means none, as in the reference.

    Raises:
        UnknownDeviceError: "SELECTOR: unknown device".
    """
    chosen: dict[int, Gpu] = {}
    tokens = (token for text in selectors for token in text.split(",") if token)
    for token in tokens if inventory.gpus else ():
        if token.lower() == "all":
            chosen.update((gpu.index, gpu) for gpu in inventory.gpus)
            break
        gpu = _find(inventory.gpus, token)
        if gpu is None:
            raise UnknownDeviceError(f"{printable(token)}: unknown device")
        chosen[gpu.index] = gpu
    return tuple(chosen.values())


def _find(gpus: tuple[Gpu, ...], token: str) -> Gpu | None:
    pci = parse_pci(token)
    if token[:4].upper() == "GPU-" and len(token) > 4:
        matches = [gpu for gpu in gpus if gpu.uuid.lower() == token.lower()]
    elif pci is not None:
        matches = [gpu for gpu in gpus if gpu.pci == pci]
    else:
        number = parse_index(token)
        matches = [gpu for gpu in gpus if gpu.index == number]
    return matches[0] if matches else None


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
