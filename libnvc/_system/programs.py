# SPDX-License-Identifier: Apache-2.0
"""Find programs of the host."""

from __future__ import annotations

import os
import stat
import sys

from .._discover.tables import DEFAULT_PATH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable


def search_path(path: str) -> str:
    """Return a PATH with the usual directories after those that it has, if they are absolute."""
    given = [directory for directory in path.split(":") if directory.startswith("/")]
    return ":".join(dict.fromkeys([*given, *DEFAULT_PATH.split(":")]))


def find_program(name: str, path: str, but: Collection[tuple[int, int]] = ()) -> str | None:
    """Return where a program is, or None.

    Args:
        name: a name to be searched for, or a path.
        path: directories, separated by colons.
        but: device and inode of files that are passed over.
    """
    places = [name] if "/" in name else [f"{place}/{name}" for place in path.split(":")]
    return next((place for place in places if _is_program(place, but)), None)


def identities(directory: str, names: Iterable[str]) -> set[tuple[int, int]]:
    """Return device and inode of those files of a directory that are there."""
    found = set()
    for name in names:
        try:
            file = os.stat(f"{directory}/{name}")
        except OSError:
            continue
        found.add((file.st_dev, file.st_ino))
    return found


def _is_program(path: str, but: Collection[tuple[int, int]]) -> bool:
    try:
        file = os.stat(path)
    except (OSError, ValueError):
        return False
    is_program = not stat.S_ISDIR(file.st_mode) and file.st_mode & 0o111 != 0
    return is_program and (file.st_dev, file.st_ino) not in but


def is_own(path: str) -> bool:
    """Tell whether a program on this host is this installation's of that name, or a copy of it."""
    own = os.path.join(os.path.dirname(sys.executable), os.path.basename(path))
    try:
        if os.stat(path).st_size != os.stat(own).st_size:
            return False
        with open(path, "rb") as one, open(own, "rb") as other:
            return one.read() == other.read()
    except OSError:
        return False
