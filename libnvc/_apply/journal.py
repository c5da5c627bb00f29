# SPDX-License-Identifier: Apache-2.0
"""Where journals are kept, so that another process can detach what this one applied.

One file an apply, named ``<pid>.<start time>.<number>``, in a directory that only root may enter.
The content is the C core's (csrc/nvc_journal.h).
"""

from __future__ import annotations

import os

from .._native.apply import (
    JournalFile,
    release_lock,
    remove_unheld_lock,
    root_lock_name,
    start_time,
    take_lock,
)
from .._rundir import DIRECTORY, open_directory
from ..errors import ContainerError, MalformedFileError, NvcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ..model import Target

_ROOT_LOCK = "root."
_INIT_PID_NAMESPACE = 0xEFFFFFFC  # its inode: include/linux/proc_ns.h of the kernel


class Journals:
    """The journals of one container, locked: who applies or detaches is alone.

    Alone also with its root file system, which other containers may have as well: all of them make
    mount points there, and write its loader cache. The worker inherits the locks, so that they
    outlive its caller. A context manager.

    Attributes:
        warnings: one line each.
    """

    def __init__(self, target: Target, timeout: float) -> None:
        """Lock the journals of the container that a process is in.

        Whoever may not write to /run has none: journals are memory files then. So are those of a
        caller that is in the container itself (pid 0), whose process says nothing of how long
        the container lives; where it sees /run of the host, it locks the root file system.

        Raises:
            ContainerError: no such process; others hold the lock all the time.
            NvcError: the directory is not one that only we may enter.
        """
        pid = target.pid
        started = start_time(pid)
        self.warnings: tuple[str, ...] = ()
        self._prefix = f"{pid}.{started}."
        self._locks = open_directory(DIRECTORY)
        self._directory = self._locks if pid else -1
        self._lock_name = f"lock.{pid}.{started}"
        self._lock = self._root_lock = -1
        self._root_name = ""
        if self._locks < 0:
            return
        try:
            if pid:
                self._lock_container(pid, timeout)
            self._lock_root(target, timeout)
        except BaseException:
            self._unlock()
            raise

    def _lock_container(self, pid: int, timeout: float) -> None:
        shown = path(self._lock_name)
        self._lock = take_lock(self._lock_name, self._locks, shown, timeout)
        if self._lock < 0:
            raise ContainerError(
                f"process {pid}: something else is being applied to its container, or "
                f"detached from it, for more than {timeout:g} seconds"
            )

    def _lock_root(self, target: Target, timeout: float) -> None:
        self._root_name = root_lock_name(target.pid, target.rootfs)
        if not self._root_name:
            return
        shown = path(self._root_name)
        self._root_lock = take_lock(self._root_name, self._locks, shown, timeout)
        if self._root_lock < 0:
            self.warnings = (
                f"{shown}: another container with this root file system is being changed for more "
                f"than {timeout:g} seconds: going on without waiting for it",
            )

    def _unlock(self) -> None:
        if self._root_lock >= 0:
            release_lock(self._root_lock, self._root_name, self._locks)
        if self._lock >= 0:
            release_lock(self._lock, "" if self._numbers() else self._lock_name, self._locks)
        os.close(self._locks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._locks >= 0:
            self._unlock()

    def create(self) -> JournalFile:
        """Make an empty journal; those of processes that are gone are removed on the way."""
        if self._directory < 0:
            return JournalFile(os.memfd_create("libnvc-journal"))
        there = os.listdir(self._directory)
        _prune(self._directory, [name for name in there if not self._is_own(name)])
        name = f"{self._prefix}{max(self._numbers(there), default=0) + 1}"
        fd = _create(name, self._directory)
        return JournalFile(fd, self._directory, name)

    def _is_own(self, name: str) -> bool:
        return name in (self._lock_name, self._root_name) or name.startswith(self._prefix)

    def names(self) -> list[str]:
        """Return the names of the journals, newest first."""
        return [f"{self._prefix}{number}" for number in sorted(self._numbers(), reverse=True)]

    def open(self, name: str) -> JournalFile:
        """Open a journal.

        Raises:
            ContainerError: it is gone.
            MalformedFileError: it cannot be opened.
        """
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        at = path(name)
        try:
            return JournalFile(os.open(name, flags, dir_fd=self._directory), self._directory, name)
        except FileNotFoundError as error:
            raise ContainerError(f"{at}: no such journal: detached already", path=at) from error
        except OSError as error:
            raise MalformedFileError(f"open failed: {at}: {error.strerror}", path=at) from error

    def remove(self, name: str) -> None:
        """Remove a journal; that it is gone already is fine."""
        if name:
            _unlink(name, self._directory)

    def _numbers(self, there: list[str] | None = None) -> list[int]:
        if self._directory < 0:
            return []
        names = os.listdir(self._directory) if there is None else there
        numbers = (_parse(name)[2] for name in names if name.startswith(self._prefix))
        return [number for number in numbers if number]


def processes(pid: int) -> list[int]:
    """Return the processes by which something was applied to the container that `pid` is in."""
    directory = open_directory(DIRECTORY)
    if directory < 0:
        return []
    try:
        pids = {_parse(name)[0] for name in os.listdir(directory)} - {0}
    finally:
        os.close(directory)
    own = _namespace(pid)
    return sorted(other for other in pids if own and _namespace(other) == own)


def _namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


def path(name: str) -> str:
    """Return where a journal is, "" for a memory file."""
    return f"{DIRECTORY}/{name}" if name else ""


def _create(name: str, directory: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o600, dir_fd=directory)
    except OSError as error:
        shown = path(name)
        raise NvcError(
            f"file creation failed: {shown}: {str(error.strerror).lower()}",
            errno=error.errno or 0,
            path=shown,
            step="file creation",
        ) from error


def _unlink(name: str, directory: int) -> None:
    """Remove a file, which may be missing."""
    try:  # noqa: SIM105 - contextlib costs more than all of this module
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass


def _prune(directory: int, names: list[str]) -> None:
    """Remove what belongs to processes that are gone for certain.

    Who is in another pid namespace than the host's does not see those of the journals.
    """
    sees_all = _sees_all()
    gone: dict[tuple[int, int], bool] = {}
    for name in names:
        pid, started, _ = _parse(name)
        if name.startswith(_ROOT_LOCK):
            remove_unheld_lock(name, directory)
        elif pid and sees_all and gone.setdefault((pid, started), _is_gone(pid, started)):
            _unlink(name, directory)


def _sees_all() -> bool:
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _INIT_PID_NAMESPACE
    except OSError:
        return False


def _is_gone(pid: int, started: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # Field 22; the name in field 2 may hold spaces and parentheses.
            return int(file.read().rpartition(b")")[2].split()[19]) != started
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False


def _parse(name: str) -> tuple[int, int, int]:
    """Return pid, start time and number of a journal's name; zeros for a foreign file."""
    parts = name.split(".")
    if parts[0] == "lock":
        parts = [*parts[1:], "0"]
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return 0, -1, 0
    return int(parts[0]), int(parts[1]), int(parts[2])
