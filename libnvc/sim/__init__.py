# SPDX-License-Identifier: Apache-2.0
"""A simulated NVIDIA driver: a directory that stands for a host with GPUs.

Its NVML and CUDA libraries really run, and believe nothing but what the kernel says of a device
node: a GPU counts if `/dev/nvidiaN` is there with the right number and opening it gives ENXIO
(allowed, but no hardware). See docs/simulated-driver.md.
"""

from __future__ import annotations

from .blob import FAULTS
from .create import Simulation, create, cuda_client
from .profiles import Profile, SimulatedGpu, profiles

__all__ = [
    "FAULTS",
    "Profile",
    "SimulatedGpu",
    "Simulation",
    "create",
    "cuda_client",
    "profiles",
]
