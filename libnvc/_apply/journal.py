# SPDX-License-Identifier: Apache-2.0
"""Where journals are kept, so that another process can detach what this one applied.

One file an apply, named ``<pid>.<start time>.<number>``, in a directory that only root may enter.
The content is the C core's (csrc/nvc_journal.h).
"""

from __future__ import annotations

import os
import stat

from .._native.apply import JournalFile, start_time
from ..errors import ContainerError, MalformedFileError, NvcError

DIRECTORY = "/run/libnvc"


def create(pid: int) -> JournalFile:
    """Open an empty journal for a container's process.

    Whoever may not write to /run gets a memory file: such a journal ends with the process.
    Journals of processes that are gone are removed on the way.

    Raises:
        ContainerError: no such process.
        NvcError: the directory is not one that only we may enter.
    """
    started = start_time(pid)
    directory = _open_directory()
    if directory < 0:
        return JournalFile(os.memfd_create("libnvc-journal"))
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        names = _prune(directory)
        number = max((n for p, s, n in map(_parse, names) if (p, s) == (pid, started)), default=0)
        while True:  # another thread or process may apply to the same container
            number += 1
            name = f"{pid}.{started}.{number}"
            try:
                return JournalFile(os.open(name, flags, 0o600, dir_fd=directory), directory, name)
            except FileExistsError:
                continue
    except BaseException:
        os.close(directory)
        raise


def open_path(path: str) -> JournalFile:
    """Open a journal that exists.

    Raises:
        ContainerError: it is gone.
        MalformedFileError: it cannot be opened.
    """
    directory, _, name = path.rpartition("/")
    dir_fd = -1
    try:
        dir_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return JournalFile(
            os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd), dir_fd, name
        )
    except OSError as error:
        if dir_fd >= 0:
            os.close(dir_fd)
        if isinstance(error, FileNotFoundError):
            raise ContainerError(f"{path}: no such journal: detached already", path=path) from error
        raise MalformedFileError(f"open failed: {path}: {error.strerror}", path=path) from error


def path(file: JournalFile) -> str:
    """Return where a journal is, "" for a memory file."""
    return f"{DIRECTORY}/{file.name}" if file.name else ""


def find(pid: int) -> list[str]:
    """Return the paths of the journals of a container's process, newest first.

    Raises:
        ContainerError: no such process.
    """
    started = start_time(pid)
    directory = _open_directory()
    if directory < 0:
        return []
    try:
        numbers = [n for p, s, n in map(_parse, os.listdir(directory)) if (p, s) == (pid, started)]
    finally:
        os.close(directory)
    return [f"{DIRECTORY}/{pid}.{started}.{number}" for number in sorted(numbers, reverse=True)]


def remove(file: JournalFile) -> None:
    """Remove a journal; that it is gone already is fine."""
    if file.name:
        _unlink(file.name, file.dir_fd)


def _unlink(name: str, directory: int) -> None:
    try:  # noqa: SIM105 - contextlib costs more than all of this module
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _open_directory() -> int:
    """Return an fd of the directory, made if missing; -1 where we may not have one."""
    try:
        os.mkdir(DIRECTORY, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return -1
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        directory = os.open(DIRECTORY, flags)
    except PermissionError:
        return -1
    except OSError as error:
        raise NvcError(f"open failed: {DIRECTORY}: {error.strerror}", path=DIRECTORY) from error
    found = os.fstat(directory)
    if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & 0o077 == 0:
        return directory
    os.close(directory)
    if os.geteuid() != 0:
        return -1
    raise NvcError(
        f"{DIRECTORY}: others than root may enter it: remove it, or make it root's and 0700",
        path=DIRECTORY,
    )


def _prune(directory: int) -> list[str]:
    """Remove the journals whose process is gone; return the names of the others."""
    kept = []
    alive: dict[int, int] = {}
    for name in os.listdir(directory):
        pid, started, _ = _parse(name)
        if pid not in alive:
            alive[pid] = _start_time_or_zero(pid)
        if alive[pid] == started or not pid:
            kept.append(name)
            continue
        _unlink(name, directory)
    return kept


def _start_time_or_zero(pid: int) -> int:
    try:
        return start_time(pid)
    except ContainerError:
        return 0


def _parse(name: str) -> tuple[int, int, int]:
    """Return pid, start time and number of a journal's name; zeros for a foreign file."""
    parts = name.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return 0, -1, 0
    return int(parts[0]), int(parts[1]), int(parts[2])
