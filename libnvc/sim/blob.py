# SPDX-License-Identifier: Apache-2.0
"""Put a simulated host into a copy of a simulated library (layout: csrc/sim/sim_config.h)."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profiles import Profile, SimulatedGpu

MAGIC = b"NVC-SIM-HOST-1".ljust(16, b"\0")
VERSION = 1
MAX_GPUS = 16
UVM_MAJOR = 510
_GPU = struct.Struct("=3Q16I96s48s32s")
_HEAD = struct.Struct("=16s8I80s80s")
SIZE = _HEAD.size + MAX_GPUS * _GPU.size

#: what `create(fault=…)` takes: name -> (number, NVML return code)
FAULTS = {
    "nvml-hang": (1, 0),
    "nvml-crash": (2, 0),
    "nvml-crash-query": (3, 0),
    "nvml-not-loaded": (4, 9),
}


def embed(library: bytes, profile: Profile, fault: str) -> bytes:
    """Return a library with its record replaced by the profile's.

    Raises:
        ValueError: not a simulated library of this version.
    """
    at = library.find(MAGIC + struct.pack("=2I", VERSION, SIZE))
    if at < 0 or at + SIZE > len(library):
        raise ValueError("not a simulated library of this version")
    return library[:at] + pack(profile, fault) + library[at + SIZE :]


def pack(profile: Profile, fault: str) -> bytes:
    """Return the record of a host."""
    major, minor = profile.cuda
    number, code = FAULTS[fault] if fault else (0, 0)
    head = _HEAD.pack(
        MAGIC,
        VERSION,
        SIZE,
        number,
        code,
        major * 1000 + minor * 10,
        UVM_MAJOR,
        len(profile.gpus),
        0,
        profile.driver.encode(),
        f"{major}.{profile.driver}".encode(),
    )
    gpus = b"".join(_pack_gpu(gpu) for gpu in profile.gpus)
    return (head + gpus).ljust(SIZE, b"\0")


def _pack_gpu(gpu: SimulatedGpu) -> bytes:
    reserved = gpu.memory // 80 if gpu.ecc else gpu.memory // 64
    return _GPU.pack(
        gpu.memory,
        reserved,
        0,
        0,
        gpu.bus,
        0,
        gpu.pci_id,
        gpu.pci_subsystem,
        gpu.minor,
        gpu.brand,
        *gpu.compute,
        gpu.mig_devices,
        1 if gpu.ecc else 0,
        1 if gpu.ecc else 0,
        gpu.temperature,
        gpu.power,
        gpu.power_limit,
        gpu.performance,
        gpu.name.encode(),
        gpu.uuid.encode(),
        gpu.vbios.encode(),
    )
