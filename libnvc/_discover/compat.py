# SPDX-License-Identifier: Apache-2.0
"""Find the CUDA compatibility libraries that an image carries.

Names only: nothing of them is opened. Everything here is the image's word.
"""

from __future__ import annotations

import os

from .._native.path import Finder
from ..errors import NvcError

_DIRECTORY = "/usr/local/cuda/compat"
_LIMIT = 256  # names that are looked at; real images have about twenty


def find_cuda_compat(rootfs: str) -> tuple[str, ...]:
    """Return the real paths, inside the container, of its compatibility libraries, sorted.

    Links that leave the root, or lead nowhere, are left out; links to one file count once.

    Args:
        rootfs: the container's root as the caller sees it.
    """
    found = set()
    try:
        finder = Finder(rootfs)
        directory = finder.find(_DIRECTORY)
        names = _list(rootfs + directory.path) if directory is not None else []
    except (NvcError, OSError):
        return ()
    for name in names:
        if not name.startswith("lib") or ".so." not in name:
            continue
        try:
            file = finder.find(f"{_DIRECTORY}/{name}")
        except NvcError:
            continue
        if file is not None:
            found.add(file.path)
    return tuple(sorted(found))


def _list(directory: str) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry, _ in zip(entries, range(_LIMIT), strict=False)]
