# SPDX-License-Identifier: Apache-2.0
"""Decide whether a container uses the CUDA compatibility libraries of its image.

They are newer user-space libraries for an older kernel module. They stay where the image has them;
their directory comes first in the loader cache. All of this is the image's word: whatever it says,
only the image's own loader cache is concerned.
"""

from __future__ import annotations

from .checks import is_plain
from .policy import needs_cuda

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Inventory, Request


def compat_directory(inventory: Inventory, request: Request) -> tuple[str, str]:
    """Return the directory that comes first in the loader cache, or "", and a warning, or "".

    Libraries count whose major version is higher than the driver's: those of the same branch are
    not made to be used together, and there must be a libcuda among them.
    """
    if request.cuda_compat_mode == "disabled" or not needs_cuda(request.capabilities):
        return "", ""
    driver = _major(f".so.{inventory.driver_version}")
    newer = [path for path in request.layout.cuda_compat if _major(path) > driver]
    directories = {path.rpartition("/")[0] for path in newer}
    if not any(path.rpartition("/")[2].startswith("libcuda.so.") for path in newer):
        return "", ""
    directory = min(directories)
    if len(directories) > 1 or not is_plain(directory):
        return "", (
            "compute: the image's CUDA compatibility libraries are not used: they are in several "
            "directories, or in one with an unusual name"
        )
    return directory, ""


def _major(path: str) -> int:
    """Return the number after the first ".so." of a file name, 0 if there is none."""
    version = path.rpartition("/")[2].partition(".so.")[2]
    digits = version.partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else 0
