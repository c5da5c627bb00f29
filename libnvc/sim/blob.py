# SPDX-License-Identifier: Apache-2.0
"""Put a host into a copy of a simulated library.

The layout is that of `struct sim_config`, `sim_gpu` and `sim_mig` in csrc/sim/sim_config.h.
"""

from __future__ import annotations

import struct

from .capabilities import compute_minor, instance_minor
from .kernel import CAPS_MAJOR, NVGPU_MAJOR, UVM_MAJOR
from .records import Profile, SimGpu, SimMig

MAGIC = b"NVC-SIM-HOST-2\0\0"
VERSION = 2
MAX_GPUS = 128
#: Of all GPUs together.
MAX_MIGS = 64
HEAD = struct.Struct("=16s10I80s80s")
GPU = struct.Struct("=3Q20I96s48s32s")
MIG = struct.Struct("=Q6I32s64s")
SIZE = HEAD.size + MAX_GPUS * GPU.size + MAX_MIGS * MIG.size

_MIB = 1024 * 1024


def patch(library: bytes, profile: Profile, fault: tuple[int, int]) -> bytes:
    """Return the library with its record overwritten.

    Raises:
        ValueError: it has no such record, or more than one.
    """
    start = HEAD.pack(MAGIC, VERSION, SIZE, *[0] * 8, b"", b"")
    place = library.find(start)
    if place < 0 or library.count(MAGIC) != 1:
        raise ValueError("not a simulated library, or built from other sources")
    return library[:place] + _pack(profile, fault) + library[place + SIZE :]


def _pack(profile: Profile, fault: tuple[int, int]) -> bytes:
    cuda_major, cuda_minor = (int(part) for part in profile.cuda_version.split("."))
    head = HEAD.pack(
        MAGIC,
        VERSION,
        SIZE,
        *fault,
        cuda_major * 1000 + cuda_minor * 10,
        UVM_MAJOR,
        CAPS_MAJOR if profile.capability_devices else 0,
        len(profile.gpus),
        sum(len(gpu.mig) for gpu in profile.gpus),
        NVGPU_MAJOR if profile.jetson else 0,
        profile.driver_version.encode("ascii"),
        f"{cuda_major}.{profile.driver_version}".encode("ascii"),
    )
    gpus = b"".join(_pack_gpu(gpu) for gpu in profile.gpus)
    migs = b"".join(
        _pack_mig(place, gpu, mig) for place, gpu in enumerate(profile.gpus) for mig in gpu.mig
    )
    return head + gpus.ljust(MAX_GPUS * GPU.size, b"\0") + migs.ljust(MAX_MIGS * MIG.size, b"\0")


def _pack_gpu(gpu: SimGpu) -> bytes:
    return GPU.pack(
        gpu.memory_mib * _MIB,
        gpu.reserved_mib * _MIB,
        gpu.used_mib * _MIB,
        *gpu.pci,
        gpu.pci_id,
        gpu.pci_subsystem,
        gpu.minor,
        gpu.brand,
        *gpu.compute,
        gpu.mig_devices,
        gpu.mig_mode,
        sum(1 << index for index in set(gpu.mig_holes)),
        gpu.persistence,
        gpu.ecc,
        gpu.temperature,
        gpu.power_mw,
        gpu.power_limit_mw,
        gpu.performance,
        gpu.display,
        0 if gpu.fan is None else gpu.fan + 1,
        gpu.name.encode("ascii"),
        gpu.uuid.encode("ascii"),
        gpu.vbios.encode("ascii"),
    )


def _pack_mig(place: int, gpu: SimGpu, mig: SimMig) -> bytes:
    return MIG.pack(
        mig.memory_mib * _MIB,
        place,
        mig.gpu_instance,
        mig.compute_instance,
        instance_minor(gpu.minor, mig.gpu_instance),
        compute_minor(gpu.minor, mig.gpu_instance, mig.compute_instance),
        0,
        mig.slice.encode("ascii"),
        mig.uuid.encode("ascii"),
    )
