# SPDX-License-Identifier: Apache-2.0
"""Find programs of the host."""

from __future__ import annotations

import os
import stat

from .._discover.tables import DEFAULT_PATH


def search_path(path: str) -> str:
    """Return a PATH with the usual directories after those that it has, if they are absolute."""
    given = [directory for directory in path.split(":") if directory.startswith("/")]
    return ":".join(dict.fromkeys([*given, *DEFAULT_PATH.split(":")]))


def find_program(name: str, path: str) -> str | None:
    """Return where a program is, or None.

    Args:
        name: a name to be searched for, or a path.
        path: directories, separated by colons.
    """
    if "/" in name:
        return name if _is_program(name) else None
    places = (f"{directory}/{name}" for directory in path.split(":"))
    return next((place for place in places if _is_program(place)), None)


def _is_program(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISDIR(mode) and mode & 0o111 != 0
