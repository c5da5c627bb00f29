# SPDX-License-Identifier: Apache-2.0
"""Find the GPU system processor's firmware."""

from __future__ import annotations

from ..model import DriverFile
from .root import DriverRoot
from .tables import FIRMWARE_DIRECTORY


def find_firmware(root: DriverRoot, version: str) -> tuple[DriverFile, ...]:
    """Return the gsp*.bin files of one driver version, sorted by name.

    In the container they are at the standard place, even where /lib is a link on the host.
    """
    directory = f"{FIRMWARE_DIRECTORY}/{version}"
    real = root.find(directory)
    if real is None:
        return ()
    files = []
    for name in root.names(root.host(real)):
        if name.startswith("gsp") and name.endswith(".bin"):
            path = root.find(f"{real}/{name}")
            if path is not None:
                files.append(DriverFile(path=path, kind="firmware", target=f"{directory}/{name}"))
    return tuple(files)
