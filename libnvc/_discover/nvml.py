# SPDX-License-Identifier: Apache-2.0
"""Add what only NVML knows: CUDA version, brands, compute capabilities, UUIDs of MIG devices."""

from __future__ import annotations

from .._native import nvml
from ..errors import ProbeError
from ..model import Inventory
from . import kept
from .root import DriverRoot
from .tables import NVML

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Gpu, MigDevice


def probe(
    inventory: Inventory,
    *,
    uid: int | None = None,
    gid: int | None = None,
    timeout: float = 10.0,
    fresh: bool = False,
) -> Inventory:
    """Return an inventory with what only NVML knows.

    NVML is asked in a child process with a deadline. Root keeps the answer in /run/libnvc; as long
    as boot, driver, GPUs and MIG devices stay the same it is used instead of asking.

    Where it saw less than the kernel module shows, the inventory has no dependencies: the next
    answer may be another.

    GPUs are matched by PCI address, MIG devices by their instances' numbers; what NVML does not
    know stays as it was found, but for MIG devices: those it does not list cannot be used.

    Args:
        inventory: what `discover` returned.
        uid: user that asks NVML; None stays who we are, but for root, which becomes "nobody".
        gid: the same for the group.
        timeout: seconds, for all questions.
        fresh: whether NVML is asked in any case.

    Raises:
        ProbeError: NVML failed, hung past the deadline or crashed. Its `step` is the call of NVML,
            its `path` the device that it was about, if that is known.
    """
    library = next(lib.path for lib in inventory.libraries if lib.name == NVML)
    now = kept.state(inventory, library)
    facts = None if fresh else kept.load(now)
    dependencies = kept.identities(inventory)
    if facts is None:
        facts = _ask(inventory, library, uid, gid, timeout)
        if _is_complete(inventory, facts):
            kept.save(now, facts)
        else:
            dependencies = ()
    known = {gpu.pci: gpu for gpu in facts.gpus}
    gpus = tuple(_merge(gpu, known[gpu.pci]) if gpu.pci in known else gpu for gpu in inventory.gpus)
    return inventory.replace(gpus=gpus, cuda_version=facts.cuda_version, dependencies=dependencies)


def _ask(
    inventory: Inventory, library: str, uid: int | None, gid: int | None, timeout: float
) -> nvml.NvmlFacts:
    root, devices = inventory.root, inventory.dev_root
    if devices == "":  # NVML must see the host's /dev, and so is not kept in the driver root
        root, library = "", inventory.root + library
    nodes = tuple((devices or root) + gpu.device.path for gpu in inventory.gpus)
    try:
        return nvml.probe(root, library, uid=uid, gid=gid, timeout=timeout, devices=nodes)
    except ProbeError as error:
        from .diagnose import explain

        explain(DriverRoot(inventory.root or "/"), "", error)
        raise


def _is_complete(inventory: Inventory, facts: nvml.NvmlFacts) -> bool:
    """Tell whether NVML saw all that the kernel module shows: who asked may see less."""
    shown = {
        (gpu.pci, gpu.minor): {(mig.gpu_instance, mig.compute_instance) for mig in gpu.mig_devices}
        for gpu in inventory.gpus
    }
    seen = {
        (gpu.pci, gpu.minor): {(mig.gpu_instance, mig.compute_instance) for mig in gpu.mig_devices}
        for gpu in facts.gpus
    }
    return shown == seen and facts.driver_version == inventory.driver_version


def _merge(gpu: Gpu, facts: nvml.NvmlGpu) -> Gpu:
    return gpu.replace(
        uuid=gpu.uuid or facts.uuid,
        model=facts.name or gpu.model,
        brand=facts.brand,
        arch=facts.arch,
        mig_capable=facts.mig_capable,
        mig_enabled=facts.mig_enabled,
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
