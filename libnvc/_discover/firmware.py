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
    place = root.find(directory)
    if place is None:
        return ()
    files = []
    for name in root.names(root.host(place.path)):
        if name.startswith("gsp") and name.endswith(".bin"):
            file = root.find(f"{place.path}/{name}")
            if file is not None:
                target = f"{directory}/{name}"
                files.append(DriverFile(path=file.path, kind="firmware", target=target))
    return tuple(files)
