# SPDX-License-Identifier: Apache-2.0
"""The directory of what is kept until the host is started anew; only root may enter it."""

from __future__ import annotations

import os
import stat

from .errors import NvcError

DIRECTORY = "/run/libnvc"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_directory(path: str) -> int:
    """Return an fd of such a directory, made if missing; -1 where we may not have one.

    Raises:
        NvcError: it cannot be opened, or we are root and others may enter it.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return -1
    try:
        directory = os.open(path, _FLAGS)
    except PermissionError:
        return -1
    except OSError as error:
        raise NvcError(f"open failed: {path}: {error.strerror}", path=path) from error
    found = os.fstat(directory)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077 == 0:
        return directory
    os.close(directory)
    if os.geteuid() != 0:
        return -1
    raise NvcError(
        f"{path}: others than root may enter it: remove it, or make it root's and 0700",
        path=path,
    )
