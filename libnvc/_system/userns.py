# SPDX-License-Identifier: Apache-2.0
"""Whether this process is in a user namespace: there, modules and nodes are out of reach."""

from __future__ import annotations

_EVERYBODY = ["0", "0", "4294967295"]


def in_user_namespace(proc: str = "/proc/self") -> bool:
    """Tell whether a process is in another user namespace than the host's.

    Args:
        proc: its directory in procfs.

    Raises:
        OSError: a file that is there cannot be read.
    """
    try:
        maps = [_first_line(f"{proc}/{name}") for name in ("uid_map", "gid_map")]
        # an empty map is that of a namespace that is not set up yet
        if any(line.split() != _EVERYBODY for line in maps):
            return True
        return _first_line(f"{proc}/setgroups").startswith("deny")
    except FileNotFoundError:
        return False  # a kernel without them


def _first_line(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.readline()
