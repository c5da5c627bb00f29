# SPDX-License-Identifier: Apache-2.0
"""Tell when a request needs what only NVML knows."""

from __future__ import annotations

from .select import parse_pci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Request

_PROBED = ("cuda", "arch", "brand")


def needs_probe(request: Request) -> bool:
    """Tell whether discovery must ask NVML before a request can be planned.

    NVML alone knows CUDA version, brands and compute capabilities, which requirements may name,
    and the indices and UUIDs of MIG devices. It is not needed for GPUs, nor for the older form
    "MIG-GPU-UUID/INSTANCE/INSTANCE", which says everything itself.
    """
    tokens = (token.upper() for text in request.devices for token in text.split(","))
    return any(_is_nvmls(token) for token in tokens) or any(
        name in text.lower() for text in request.requirements for name in _PROBED
    )


def _is_nvmls(token: str) -> bool:
    if token.startswith("MIG-"):
        return not token.startswith("MIG-GPU-")
    return ":" in token and parse_pci(token) is None
