# SPDX-License-Identifier: Apache-2.0
"""Find device nodes by their names, for devices that no procfs of the driver describes."""

from __future__ import annotations

import os
from stat import S_ISCHR

from ..model import DeviceFile
from .globs import fits
from .root import DriverRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def find_nodes(
    root: DriverRoot, patterns: Sequence[str], *, without: tuple[str, ...] = ()
) -> tuple[DeviceFile, ...]:
    """Return the character devices whose paths fit one of several patterns, each once.

    Args:
        root: whose /dev is looked at.
        patterns: absolute paths; their last component may have "*".
        without: what the names of others begin with.
    """
    found = {
        device.path: device
        for pattern in patterns
        for device in _matches(root, pattern)
        if not os.path.basename(device.path).startswith(without or ("\0",))
    }
    return tuple(found.values())


def _matches(root: DriverRoot, pattern: str) -> Iterator[DeviceFile]:
    directory, _, names = pattern.rpartition("/")
    for name in root.note_names(root.device(directory)) or ():
        path = f"{directory}/{name}"
        status = root.note(root.device(path)) if fits(name, names) else None
        if status is not None and S_ISCHR(status.st_mode):
            number = status.st_rdev
            yield DeviceFile(path=path, major=os.major(number), minor=os.minor(number))
