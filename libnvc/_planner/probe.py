# SPDX-License-Identifier: Apache-2.0
"""Tell when a request needs what only NVML knows."""

from __future__ import annotations

from .select import parse_pci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Inventory, Request


def needs_probe(request: Request, inventory: Inventory) -> bool:
    """Tell whether NVML must be asked (`libnvc.probe`) before a request can be planned.

    It alone knows brands and compute capabilities, which requirements may name, the indices and
    UUIDs of MIG devices, the UUIDs of GPUs that the driver has not initialised yet, and the CUDA
    version of drivers that are newer than this library. It is not needed for other GPUs, for the
    older form "MIG-GPU-UUID/INSTANCE/INSTANCE", which says everything itself, nor where a
    requirement holds, or does not, whatever it would say.
    """
    if _names_unknown(request, inventory):
        return True
    if not request.requirements:
        return False
    from .requirements import are_undecided

    return are_undecided(inventory, request.requirements)


def _names_unknown(request: Request, inventory: Inventory) -> bool:
    gpus = {gpu.uuid.upper() for gpu in inventory.gpus}
    migs = {mig.uuid for gpu in inventory.gpus for mig in gpu.mig_devices}
    tokens = (token.upper() for text in request.devices for token in text.split(","))
    return any(
        ("" in migs and _is_nvmls(token))
        or ("" in gpus and token.startswith("GPU-") and token not in gpus)
        for token in tokens
    )


def _is_nvmls(token: str) -> bool:
    if token.startswith("MIG-"):
        return not token.startswith("MIG-GPU-")
    return ":" in token and parse_pci(token) is None
