# SPDX-License-Identifier: Apache-2.0
"""Configuration files: read whole, replaced in one step, never half written."""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from .._record import Record
from ..errors import ConfigError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_NEW_SUFFIX = ".nvidia-new"
_MAX_SIZE = 16 << 20  # bytes
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Change(Record):
    """One file as it is and as it shall be.

    Attributes:
        path: the file, links resolved.
        before: its bytes, None if there is no such file.
        after: its bytes then, None to remove it.
        original: of a backup, the file whose owner and mode it gets; else "".
    """

    path: str
    before: bytes | None
    after: bytes | None
    original: str = ""


def resolved(path: str) -> str:
    """Return where a configuration file really is: a link to it stays a link."""
    return os.path.realpath(path)


def read_file(path: str) -> bytes | None:
    """Return a file's bytes, None if there is none.

    Raises:
        ConfigError: it cannot be read, is no regular file or is larger than 16 MiB.
    """
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        _fail(path, "open", error)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigError(f"{shown(path)}: not a regular file", path=path, step="open")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(_MAX_SIZE + 1)
    finally:
        os.close(fd)
    if len(data) > _MAX_SIZE:
        raise ConfigError(f"{shown(path)}: larger than {_MAX_SIZE} bytes", path=path, step="read")
    return data


def decoded(path: str, data: bytes) -> str:
    """Return a file's text.

    Raises:
        ConfigError: it is not UTF-8; line and column (in bytes) are named.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"{shown(path)}: not UTF-8 (at line {line}, column {column})"
        raise ConfigError(message, path=path, step="parse") from None


def commit(changes: Sequence[Change]) -> list[Change]:
    """Make changes, in their order, and return those that were needed.

    Each file is replaced in one step: whoever reads it, or whatever kills this process, finds the
    old file or the new one. Owner, mode and extended attributes stay; missing directories are made.

    Raises:
        ConfigError: a file cannot be written, or is no longer what was read; the files before it
            are changed.
    """
    needed = [change for change in changes if change.before != change.after]
    for change in needed:
        try:
            if change.after is not None:
                os.makedirs(os.path.dirname(change.path), 0o755, exist_ok=True)
            directory = _locked(os.path.dirname(change.path))
            try:
                _apply(change, directory)
            finally:
                os.close(directory)
        except OSError as error:
            _fail(change.path, "write", error)
    return needed


def _locked(path: str) -> int:
    """Open a directory and keep out others who change files there, until it is closed."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _apply(change: Change, directory: int) -> None:
    path = change.path
    if read_file(path) != change.before:
        why = "somebody else has changed it meanwhile: nothing was written"
        raise ConfigError(f"{shown(path)}: {why}", path=path, step="write")
    name = os.path.basename(path)
    if change.after is None:
        os.unlink(name, dir_fd=directory)
    else:
        # Where it is a leftover of somebody who was killed: the lock says that he is gone.
        new = f".{name}{_NEW_SUFFIX}"
        _remove(new, directory)
        try:
            _write(new, directory, change.after, change.original or path)
            os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            _remove(new, directory)
            raise
    os.fsync(directory)


def _remove(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def _write(name: str, directory: int, data: bytes, model: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]
        _look_like(fd, model)
        os.fsync(fd)
    finally:
        os.close(fd)


def _look_like(fd: int, model: str) -> None:
    try:
        facts = os.stat(model)
    except FileNotFoundError:
        os.fchmod(fd, 0o644)
        return
    mine = os.fstat(fd)
    if (facts.st_uid, facts.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(fd, facts.st_uid, facts.st_gid)
    os.fchmod(fd, stat.S_IMODE(facts.st_mode))
    for name in _attributes(model):
        value = os.getxattr(model, name)
        if name not in _attributes(fd) or os.getxattr(fd, name) != value:
            os.setxattr(fd, name, value)


def _attributes(file: int | str) -> list[str]:
    try:
        return os.listxattr(file)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return []
        raise


def _fail(path: str, step: str, error: OSError) -> NoReturn:
    why = os.strerror(error.errno or 0).lower()
    message = f"{shown(path)}: cannot {step}: {why}"
    raise ConfigError(message, errno=error.errno or 0, path=path, step=step) from error
