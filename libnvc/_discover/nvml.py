# SPDX-License-Identifier: Apache-2.0
"""Add what only NVML knows: CUDA version, brands, compute capabilities, UUIDs of MIG devices."""

from __future__ import annotations

from .._native import nvml
from ..model import Inventory
from .tables import NVML

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Gpu, MigDevice


def add_probe(
    inventory: Inventory, *, uid: int | None, gid: int | None, timeout: float
) -> Inventory:
    """Ask NVML, in a child process with a deadline, and return the inventory with its answers.

    GPUs are matched by PCI address, MIG devices by their instances' numbers; what NVML does not
    know stays as it was found, but for MIG devices: those it does not list cannot be used.

    Raises:
        ProbeError: NVML failed, hung past the deadline or crashed.
    """
    library = next(lib.path for lib in inventory.libraries if lib.name == NVML)
    facts = nvml.probe(inventory.root, library, uid=uid, gid=gid, timeout=timeout)
    known = {gpu.pci: gpu for gpu in facts.gpus}
    gpus = tuple(_merge(gpu, known[gpu.pci]) if gpu.pci in known else gpu for gpu in inventory.gpus)
    return inventory.replace(gpus=gpus, cuda_version=facts.cuda_version)


def _merge(gpu: Gpu, facts: nvml.NvmlGpu) -> Gpu:
    return gpu.replace(
        uuid=gpu.uuid or facts.uuid,
        model=facts.name or gpu.model,
        brand=facts.brand,
        arch=facts.arch,
        mig_capable=facts.mig_capable,
        mig_devices=_merge_mig(gpu, facts),
    )


def _merge_mig(gpu: Gpu, facts: nvml.NvmlGpu) -> tuple[MigDevice, ...]:
    found = {(mig.gpu_instance, mig.compute_instance): mig for mig in gpu.mig_devices}
    merged = []
    for mig in facts.mig_devices:
        known = found.get((mig.gpu_instance, mig.compute_instance))
        if known is not None:
            merged.append(known.replace(index=mig.index, uuid=mig.uuid))
    return tuple(merged)
