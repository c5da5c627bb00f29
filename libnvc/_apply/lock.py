# SPDX-License-Identifier: Apache-2.0
"""Locks between processes of the host: files in a directory that only root may enter."""

from __future__ import annotations

import os

from ..errors import NvcError

_NAP = 0.005  # seconds


def create(name: str, more: int, directory: int, shown: str) -> int:
    """Open a file, made if missing, and return its descriptor.

    Args:
        name: in the directory.
        more: flags of open(2).
        directory: its descriptor.
        shown: the path, for messages.

    Raises:
        NvcError: it cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | more
    try:
        return os.open(name, flags, 0o600, dir_fd=directory)
    except OSError as error:
        raise NvcError(
            f"file creation failed: {shown}: {str(error.strerror).lower()}",
            errno=error.errno or 0,
            path=shown,
            step="file creation",
        ) from error


def acquire(name: str, directory: int, shown: str, timeout: float) -> int:
    """Return the descriptor that holds a lock, -1 if others hold it for longer than `timeout`.

    Processes that inherit the descriptor hold the lock, too.

    Raises:
        NvcError: its file cannot be made.
    """
    import fcntl
    import time

    deadline = time.monotonic() + timeout
    while True:
        lock = create(name, 0, directory, shown)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(lock, name, directory):
                return lock
        except BlockingIOError:
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        if time.monotonic() > deadline:
            return -1
        time.sleep(_NAP)


def release(lock: int, name: str, directory: int) -> None:
    """Give a lock back; its file goes if it is named.

    Args:
        lock: what `acquire` returned.
        name: of its file, or "" where that stays.
        directory: where the file is.
    """
    import fcntl

    if name:
        unlink(name, directory)
    # By hand: a process that another thread forked meanwhile has the descriptor, too.
    fcntl.flock(lock, fcntl.LOCK_UN)
    os.close(lock)


def remove_unheld(name: str, directory: int) -> None:
    """Remove the file of a lock that nobody holds: its owner was killed."""
    import fcntl

    try:
        lock = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever opened it just now sees that it has no name any more, and makes another.
        if _is_at(lock, name, directory):
            unlink(name, directory)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)


def unlink(name: str, directory: int) -> None:
    """Remove a file, which may be missing."""
    try:  # noqa: SIM105 - contextlib costs more than all of this module
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _is_at(fd: int, name: str, directory: int) -> bool:
    """Tell whether a file still has its name: whoever held the lock may have removed it."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(name, dir_fd=directory))
    except FileNotFoundError:
        return False
