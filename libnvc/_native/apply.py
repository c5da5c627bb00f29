# SPDX-License-Identifier: Apache-2.0
"""Hand a flat plan, or a journal, to the C core; hold the locks that go with it."""

from __future__ import annotations

import os

from libnvc._core import ffi, lib

from ..errors import NvcError, RequestError, RollbackError
from .check import encode_path, printable, raise_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def start_time(pid: int) -> int:
    """Return when a container's process started, in clock ticks since boot.

    Raises:
        ContainerError: no such process, or one in the caller's own mount namespace.
    """
    out = ffi.new("uint64_t *")
    err = ffi.new("struct nvc_error *")
    if lib.nvc_container_start_time(pid, out, err) < 0:
        raise_error(err)
    return int(out[0])


def take_lock(name: str, directory: int, shown: str, timeout: float) -> int:
    """Return the descriptor that holds a lock, -1 if others hold it for longer than `timeout`.

    Processes that inherit the descriptor hold the lock, too. Signal handlers of Python run
    meanwhile.

    Args:
        name: of its file, made if missing.
        directory: the descriptor of where it is.
        shown: the path, for messages.
        timeout: seconds.

    Raises:
        NvcError: its file cannot be made.
    """
    name_bytes = ffi.new("char[]", encode_path(name))
    left = ffi.new("int *", int(timeout * 1000))
    out = ffi.new("int *", -1)
    err = ffi.new("struct nvc_error *")
    result = lib.NVC_LOCK_BUSY
    try:
        while result == lib.NVC_LOCK_BUSY:  # Python runs its signal handlers here
            result = lib.nvc_lock_take(directory, name_bytes, left, out, err)
    except BaseException:
        if out[0] >= 0:
            release_lock(out[0], "", directory)
        raise
    if result < 0:
        raise_error(err, path=shown)
    return int(out[0])


def release_lock(lock: int, name: str, directory: int) -> None:
    """Give a lock back; its file goes if it is named.

    Args:
        lock: what `take_lock` returned.
        name: of its file, or "" where that stays.
        directory: where the file is.
    """
    lib.nvc_lock_release(lock, directory, encode_path(name))


def remove_unheld_lock(name: str, directory: int) -> None:
    """Remove the file of a lock that nobody holds: its owner was killed."""
    lib.nvc_lock_remove_unheld(directory, os.fsencode(name))


def root_lock_name(pid: int, rootfs: str) -> str:
    """Return the name of the lock for a container's root file system, "" if it is not there.

    Args:
        pid: a process that sees it; 0 is the caller.
        rootfs: its path there; "" for the root of the process.
    """
    out = ffi.new("char[64]")
    try:
        found = lib.nvc_lock_name_root(pid, encode_path(rootfs), out)
    except RequestError:
        return ""  # whoever applies says what is wrong
    return os.fsdecode(ffi.string(out)) if found else ""


class JournalFile:
    """An open journal and where it is: fd, directory fd (-1 for a memory file), name."""

    __slots__ = ("dir_fd", "fd", "name")

    def __init__(self, fd: int, dir_fd: int = -1, name: str = "") -> None:
        """Take ownership of `fd`; the directory stays the caller's."""
        self.fd = fd
        self.dir_fd = dir_fd
        self.name = name

    def close(self) -> None:
        """Close the journal."""
        os.close(self.fd)


def apply_flat(
    flat: bytes,
    *,
    pid: int,
    rootfs: str,
    ldconfig: str | None,
    timeout: float,
    journal: JournalFile,
) -> tuple[str, ...]:
    """Apply a flat plan to a container, all or nothing; return the warnings.

    Signal handlers of Python run meanwhile; if one raises, what was done is undone first.

    Args:
        flat: what `libnvc._native.flat.encode` returns.
        pid: a process of the container.
        rootfs: its root, as in `libnvc.model.Target`.
        ldconfig: path on the host of the ldconfig to run, "" for the default; None runs none.
        timeout: seconds, for everything.
        journal: an empty file that becomes the journal.

    Raises:
        ApplyError: a step failed; everything was undone.
        RollbackError: a step failed and something is left; the cause is chained.
        RequestError: the plan holds a path that is not allowed.
        UnsupportedKernelError: the kernel lacks a call.
    """
    rootfs_bytes = ffi.new("char[]", encode_path(rootfs))
    ldconfig_bytes = ffi.NULL if ldconfig is None else ffi.new("char[]", encode_path(ldconfig))
    target = ffi.new("struct nvc_target *")
    target.pid = pid
    target.rootfs = rootfs_bytes
    target.ldconfig = ldconfig_bytes
    target.timeout_ms = int(timeout * 1000)
    report = ffi.new("struct nvc_report *")
    err = ffi.new("struct nvc_error *")
    buffer = ffi.from_buffer("uint8_t[]", flat)
    at, _name = _journal_at(journal)
    job = lib.nvc_apply_start(buffer, len(flat), target, at, err)
    if not job:
        raise_error(err)
    try:
        while (result := lib.nvc_apply_wait(job, report, err)) == lib.NVC_INTERRUPTED:
            pass  # Python runs its signal handlers here
    except BaseException as interruption:
        if lib.nvc_apply_cancel(job, report) < 0:
            raise _rollback(report, f"; interrupted by {interruption!r}") from interruption
        raise
    finally:
        lib.nvc_job_free(job)
    if result < 0:
        _fail(err, report)
    lines = os.fsdecode(ffi.string(report.warnings)).split("\n")
    return tuple(printable(line) for line in lines if line)


def detach_journal(journal: JournalFile, *, timeout: float) -> None:
    """Undo what a journal holds.

    Raises:
        ContainerError: the process is gone, or its root is another directory now.
        RollbackError: something could not be undone.
        MalformedFileError: not a journal.
    """
    report = ffi.new("struct nvc_report *")
    err = ffi.new("struct nvc_error *")
    at, _name = _journal_at(journal)
    if lib.nvc_detach(at, int(timeout * 1000), report, err) < 0:
        if report.left.code in (lib.NVC_OK, lib.NVC_ENAMESPACE):
            raise_error(err)
        raise _rollback(report)


def _journal_at(journal: JournalFile) -> tuple[Any, Any]:
    """Return the C form, and what must live as long."""
    name = ffi.new("char[]", encode_path(journal.name))
    at = ffi.new("struct nvc_journal_file_at *")
    at.fd = journal.fd
    at.dir_fd = journal.dir_fd
    at.name = name
    return at, name


def _fail(err: Any, report: Any) -> None:
    """Raise the error; as a rollback error if undoing left something."""
    try:
        raise_error(err)
    except NvcError as cause:
        if report.left.code == lib.NVC_OK:
            raise
        raise _rollback(report, f"; what failed first: {cause.message}") from cause


def _rollback(report: Any, first: str = "") -> RollbackError:
    try:
        raise_error(ffi.addressof(report, "left"))
    except NvcError as left:
        return RollbackError(
            f"{left.message}: left in the container{first}",
            errno=left.errno,
            path=left.path,
            step=left.step,
            operation=left.operation,
        )
