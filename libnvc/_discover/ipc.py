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
    real = root.find(path)
    if real is None or real == "/":
        return None
    status = root.note(root.host(real))
    is_type = S_ISSOCK if file_type == "socket" else S_ISDIR
    if status is None or not is_type(status.st_mode):
        return None
    return DriverFile(path=real, kind="ipc", file_type=file_type, target=real)
