# SPDX-License-Identifier: Apache-2.0
"""Apply a plan to a container, and take it back."""

from __future__ import annotations

import os

from .._native import flat
from .._native.apply import JournalFile, apply_flat, detach_journal
from ..errors import ContainerError, NvcError, RollbackError
from ..model import Applied
from . import journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Target
    from ..plan import Plan


def apply(
    plan: Plan, target: Target, *, ldconfig: str | None = None, timeout: float = 30.0
) -> Applied:
    """Put a plan into a container: all of it, or nothing.

    The caller's process is not changed, and may have other threads. Needs CAP_SYS_ADMIN,
    CAP_SYS_CHROOT and ptrace access to the container's process (root has them). Who owns the
    container's user namespace has them in there: that is enough while the container still shows
    the host's files, without device rules. `detach` from another process needs a writable /run.

    Args:
        plan: what `make_plan` returned.
        target: the container; its `rootfs` is "" once it has pivoted, its `pid` 0 where the caller
            is in its namespaces already.
        ldconfig: None writes the container's loader cache as data. A path on the host, or "" for
            /sbin/ldconfig, has that program write it, confined in the container.
        timeout: seconds, for everything.

    Returns:
        What `detach` takes.

    Raises:
        ContainerError: the process, its namespaces, root or cgroup.
        MountError: a mount, its mount point or a device node.
        LoaderCacheError: the loader cache.
        RequestError: an operation or path that cannot be applied.
        ApplyError: the deadline passed, or the worker was killed.
        RollbackError: a failure after which something is left in the container.
        UnsupportedKernelError: the kernel lacks a call.
    """
    encoded = flat.encode(plan)
    with journal.Journals(target, timeout) as journals:
        file = journals.create()
        left = True
        try:
            warnings = apply_flat(
                encoded,
                pid=target.pid,
                rootfs=target.rootfs,
                ldconfig=ldconfig,
                timeout=timeout,
                journal=file,
            )
        except NvcError as error:
            # What is left needs the journal, for another try at detaching.
            left = isinstance(error, RollbackError)
            if error.operation is not None:
                error.origin = plan.operations[error.operation].origin
            raise
        except BaseException:
            # A signal handler raised, perhaps when everything was done already.
            if os.fstat(file.fd).st_size > 0:
                detach_journal(file, timeout=timeout)
            left = False
            raise
        finally:
            if not left:
                journals.remove(file.name)
            if file.name or not left:
                file.close()
    return Applied(
        target=target,
        warnings=plan.warnings + journals.warnings + warnings,
        journal=journal.path(file.name),
        journal_fd=-1 if file.name else file.fd,
        journal_inode=0 if file.name else os.fstat(file.fd).st_ino,
    )


def detach(what: Applied | Target, *, timeout: float = 30.0) -> None:
    """Take back what was applied to a container, newest first.

    Only what is still as it was left is removed: what the container changed since stays. What was
    applied first may serve what was applied later, so it goes last. Needs what `apply` needs.

    Args:
        what: what `apply` returned; or a container, for everything any process applied to it.
        timeout: seconds, for everything.

    Raises:
        ContainerError: the process that was named when it was applied is gone, nothing was
            applied, or something that was applied later is still there.
        RollbackError: something could not be removed, or the worker died; the journal is kept for
            another try.
    """
    if isinstance(what, Applied) and not what.journal:
        _detach_fd(what, timeout)
        return
    if isinstance(what, Applied):
        name = what.journal.rpartition("/")[2]
        with journal.Journals(what.target, timeout) as journals:
            _refuse_if_older(what.target.pid, name, journals.names())
            _detach_journal(journals, name, timeout)
        return
    found = False
    # Another process of the container may have been named when it was applied.
    for pid in journal.processes(what.pid) or [what.pid]:
        with journal.Journals(what.replace(pid=pid), timeout) as journals:
            for name in journals.names():
                found = True
                _detach_journal(journals, name, timeout)
    if not found:
        raise ContainerError(
            f"process {what.pid}: nothing was applied to its container, or by a process that is "
            "gone by now"
        )


def _detach_journal(journals: journal.Journals, name: str, timeout: float) -> None:
    file = journals.open(name)
    try:
        detach_journal(file, timeout=timeout)
    finally:
        file.close()
    journals.remove(name)


def _refuse_if_older(pid: int, name: str, names: list[str]) -> None:
    if name not in names[1:]:
        return
    raise ContainerError(
        f"process {pid}: something else was applied to its container later: detach that first, or "
        f"detach everything ({journal.path(names[0])} is newer than {journal.path(name)})",
        path=journal.path(name),
    )


def _detach_fd(applied: Applied, timeout: float) -> None:
    fd = applied.journal_fd
    try:
        is_ours = os.fstat(fd).st_ino == applied.journal_inode
    except OSError:
        is_ours = False
    if not is_ours:
        raise ContainerError(f"process {applied.target.pid}: detached already")
    file = JournalFile(fd)
    detach_journal(file, timeout=timeout)
    file.close()
