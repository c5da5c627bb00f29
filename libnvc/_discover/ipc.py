# SPDX-License-Identifier: Apache-2.0
"""Find the sockets and pipes of the driver's daemons."""

from __future__ import annotations

from stat import S_ISDIR, S_ISSOCK

from ..model import DriverFile
from .root import DriverRoot
from .tables import SOCKETS


def find_ipcs(root: DriverRoot, mps: str, skip: frozenset[str]) -> tuple[DriverFile, ...]:
    """Return the daemons' sockets and the MPS pipe directory, those that exist.

    Args:
        root: the driver root.
        mps: the MPS pipe directory, under the root; what is not absolute, or the root itself,
            is ignored.
        skip: of "persistenced", "fabricmanager".
    """
    wanted = [(path, "socket") for word, path in SOCKETS if word not in skip]
    if mps.startswith("/"):
        wanted.append((mps, "directory"))
    return tuple(
        found for path, file_type in wanted if (found := _find(root, path, file_type)) is not None
    )


def _find(root: DriverRoot, path: str, file_type: str) -> DriverFile | None:
    found = root.find(path)
    is_type = S_ISSOCK if file_type == "socket" else S_ISDIR
    if found is None or found.path == "/" or not is_type(found.mode):
        return None
    return DriverFile(path=found.path, kind="ipc", file_type=file_type, target=found.path)
