# SPDX-License-Identifier: Apache-2.0
"""Simulated NVIDIA drivers: develop, test and try libnvc without a GPU.

`create` writes the root file system of a host with a driver: libraries, programs, firmware,
`/proc/driver/nvidia`, device nodes, loader cache. Its NVML, CUDA and nvidia-smi work, and they
count a GPU only if its device node is there and may be opened. docs/simulated-driver.md says what
is real about it and what is not.
"""

from __future__ import annotations

from .faults import FAULTS
from .profiles import profiles
from .records import Profile, SimGpu, SimMig
from .simulation import Simulation, create, cuda_client

__all__ = [
    "FAULTS",
    "Profile",
    "SimGpu",
    "SimMig",
    "Simulation",
    "create",
    "cuda_client",
    "profiles",
]
