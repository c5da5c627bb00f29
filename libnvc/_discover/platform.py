# SPDX-License-Identifier: Apache-2.0
"""Tell whether the GPU of a host is that of a Tegra (Jetson): its driver is described by files."""

from __future__ import annotations

import os

from .._native.path import Finder
from ..errors import NvcError
from .tables import PROC_DIRECTORY

RELEASE = "/etc/nv_tegra_release"
FAMILY = "/sys/devices/soc0/family"
_MODULE = "/sys/module/nvgpu"
_GPUS = f"{PROC_DIRECTORY}/gpus"
#: How NVML and the kernel module name GPUs that are part of the processor.
_INTEGRATED = (b"(nvgpu)", b"NVIDIA Thor")
_LONGEST = 4096


def is_tegra(root: str) -> bool:
    """Tell whether what is under a driver root is a Tegra whose own GPU is used.

    A Tegra may have a GPU in a slot instead, with a driver as other hosts have it. NVML is not
    asked: what the kernel shows is enough.
    """
    try:
        finder = Finder(root)
        if finder.find(RELEASE) is None and not _is_tegra_family(root, finder):
            return False
        if finder.find(_MODULE) is not None:
            return True
        gpus = finder.find(_GPUS)
        return gpus is None or _has_integrated(root, finder, gpus.path)
    except NvcError:
        return False


def _is_tegra_family(root: str, finder: Finder) -> bool:
    found = finder.find(FAMILY)
    return found is not None and _start(f"{root}{found.path}").lower().startswith(b"tegra")


def _has_integrated(root: str, finder: Finder, directory: str) -> bool:
    try:
        names = os.listdir(f"{root}{directory}")
    except OSError:
        return True
    texts = []
    for name in names:
        found = finder.find(f"{directory}/{name}/information")
        texts.append(_start(f"{root}{found.path}") if found else b"")
    return not names or any(model in text for text in texts for model in _INTEGRATED)


def _start(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST)
    except OSError:
        return b""
