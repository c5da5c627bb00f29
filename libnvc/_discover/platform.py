# SPDX-License-Identifier: Apache-2.0
"""Tell whether the GPU of a host is that of a Tegra (Jetson): its driver is described by files."""

from __future__ import annotations

from ..errors import NvcError
from .tables import PROC_DIRECTORY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .root import DriverRoot

RELEASE = "/etc/nv_tegra_release"
FAMILY = "/sys/devices/soc0/family"
_MODULE = "/sys/module/nvgpu"
_GPUS = f"{PROC_DIRECTORY}/gpus"
#: How NVML and the kernel module name GPUs that are part of the processor.
_INTEGRATED = (b"(nvgpu)", b"NVIDIA Thor")


def is_tegra(root: DriverRoot) -> bool:
    """Tell whether what is under a driver root is a Tegra whose own GPU is used.

    A Tegra may have a GPU in a slot instead, with a driver as other hosts have it. NVML is not
    asked: what the kernel shows is enough. What the answer rests on is recorded.
    """
    try:
        if root.find(RELEASE) is None and not _is_tegra_family(root):
            return False
        return root.find(_MODULE) is not None or _has_integrated(root)
    except NvcError:
        return False


def _is_tegra_family(root: DriverRoot) -> bool:
    return _content(root, FAMILY).lower().startswith(b"tegra")


def _has_integrated(root: DriverRoot) -> bool:
    found = root.find(_GPUS)
    if found is None:
        return True
    names = root.note_names(root.host(found.path)) or ()
    texts = [_content(root, f"{found.path}/{name}/information") for name in names]
    return not names or any(model in text for text in texts for model in _INTEGRATED)


def _content(root: DriverRoot, path: str) -> bytes:
    """Return what a file of the kernel says, b"" if it is missing or cannot be read."""
    found = root.find(path)
    try:
        noted = root.note_content(root.host(found.path)) if found is not None else None
    except NvcError:
        return b""
    return noted[0] if noted is not None else b""
