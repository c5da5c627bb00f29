# SPDX-License-Identifier: Apache-2.0
"""Put a host into a copy of a simulated library.

The layout is that of `struct sim_config` and `struct sim_gpu` in csrc/sim/sim_config.h.
"""

from __future__ import annotations

import struct

from .profiles import Profile, SimGpu

MAGIC = b"NVC-SIM-HOST-1\0\0"
VERSION = 1
MAX_GPUS = 16
HEAD = struct.Struct("=16s8I80s80s")
GPU = struct.Struct("=3Q16I96s48s32s")
SIZE = HEAD.size + MAX_GPUS * GPU.size

_MIB = 1024 * 1024


def patch(library: bytes, profile: Profile, fault: tuple[int, int], uvm_major: int) -> bytes:
    """Return the library with its record overwritten.

    Raises:
        ValueError: it has no such record, or more than one.
    """
    start = HEAD.pack(MAGIC, VERSION, SIZE, *[0] * 6, b"", b"")
    place = library.find(start)
    if place < 0 or library.count(MAGIC) != 1:
        raise ValueError("not a simulated library, or built from other sources")
    return library[:place] + _pack(profile, fault, uvm_major) + library[place + SIZE :]


def _pack(profile: Profile, fault: tuple[int, int], uvm_major: int) -> bytes:
    cuda_major, cuda_minor = (int(part) for part in profile.cuda_version.split("."))
    head = HEAD.pack(
        MAGIC,
        VERSION,
        SIZE,
        *fault,
        cuda_major * 1000 + cuda_minor * 10,
        uvm_major,
        len(profile.gpus),
        0,
        profile.driver_version.encode("ascii"),
        f"{cuda_major}.{profile.driver_version}".encode("ascii"),
    )
    gpus = b"".join(_pack_gpu(gpu) for gpu in profile.gpus)
    return (head + gpus).ljust(SIZE, b"\0")


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
        gpu.persistence,
        gpu.ecc,
        gpu.temperature,
        gpu.power_mw,
        gpu.power_limit_mw,
        gpu.performance,
        gpu.name.encode("ascii"),
        gpu.uuid.encode("ascii"),
        gpu.vbios.encode("ascii"),
    )
