# SPDX-License-Identifier: Apache-2.0
"""A call that changes state fails, or the worker dies at it: nothing is left, and it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
from libnvc._native.path import resolve

if TYPE_CHECKING:
    from tests.integration.conftest import Injector
    from tests.integration.faults.conftest import Stage, Sweep

pytestmark = pytest.mark.root

EIO = 5


@pytest.fixture(params=["everything", "ldconfig"])
def stage(request: pytest.FixtureRequest, stage: Stage) -> Stage:
    """Return a container, and a plan of every kind, or of the cache alone, written by ldconfig."""
    if request.param == "ldconfig":
        stage.plan = nvc.Plan(operations=stage.plan.operations[-1:])
        stage.ldconfig = ""
    return stage


@pytest.mark.parametrize("stage", ["everything"], indirect=True)
def test_every_kind_is_in_the_plan(stage: Stage) -> None:
    kinds = {type(operation) for operation in stage.plan.operations}
    assert kinds == {
        nvc.BindMount,
        nvc.DeviceAccess,
        nvc.DeviceNode,
        nvc.Directory,
        nvc.LoaderCache,
        nvc.Symlink,
        nvc.Tmpfs,
        nvc.WriteFile,
    }


def places(stage: Stage, path: str) -> set[str]:
    """Return what an error may name if something is made at a path: it, or a directory above."""
    root, found, above = str(stage.rootfs), set(), ""
    for name in path.split("/")[1:]:
        found.add(f"{root}{above}/{name}")
        above = resolve(root, f"{above}/{name}") or f"{above}/{name}"
    return found


def objects(stage: Stage, operation: nvc.Operation) -> set[str]:
    """Return what an error of an operation may name."""
    if isinstance(operation, nvc.DeviceAccess):
        return {f"{stage.group}/devices.allow"}
    if isinstance(operation, nvc.LoaderCache):
        files = {f"{stage.rootfs}/etc/{name}" for name in ("ld.so.cache", ".ld.so.cache.libnvc")}
        return files if stage.ldconfig is None else files | CAGE
    names = places(stage, operation.path)
    if isinstance(operation, nvc.Symlink):  # may become a mount of what it would lead to
        target = f"{operation.path.rpartition('/')[0]}/{operation.target}"
        binds = [op for op in stage.plan.operations if isinstance(op, nvc.BindMount)]
        names |= {op.source for op in binds if op.path == target}
    if isinstance(operation, nvc.Tmpfs):
        names |= {"tmpfs"} | (places(stage, operation.fallback) if operation.fallback else set())
    if isinstance(operation, nvc.BindMount | nvc.DeviceNode) and operation.source:
        names |= {operation.source}
    return names


#: what the process that becomes ldconfig names
CAGE = {"/dev/null", "root", "old root", "/", "/proc", "/sys", "/dev", "/var/cache"}

#: Calls that may fail, and why that is no error.
TOLERATED = {
    "mkdir /var/cache/ldconfig": "ldconfig does without its private cache",
}

CLASSES = {
    nvc.DeviceAccess: nvc.ContainerError,
    nvc.LoaderCache: nvc.LoaderCacheError,
}


#: Calls that one kind of operation makes only.
MAKERS: dict[str, type[nvc.Operation] | tuple[type[nvc.Operation], ...]] = {
    "fsmount": nvc.Tmpfs,
    "mknodat": nvc.DeviceNode,
    "renameat": (nvc.Symlink, nvc.LoaderCache),
    "symlinkat": nvc.Symlink,
    "chroot": nvc.LoaderCache,
    "rename": nvc.LoaderCache,
}


def nobodys(calls: list[str]) -> set[int]:
    """Return the numbers of the calls that no operation makes."""
    first = {1, 2} if calls[0] == "unshare" else set()  # and hiding from the host
    return first | {calls.index("setns") + 1}


def assert_is_told(stage: Stage, error: nvc.NvcError, call: str, *, operation: bool) -> None:
    """Fail unless an error says which operation it was that made a call."""
    if not operation:
        assert (error.operation, error.origin) == (None, "")
        return
    assert error.operation is not None
    made = stage.plan.operations[error.operation]
    assert error.origin == made.origin
    assert isinstance(made, MAKERS.get(call, nvc.Operation)), f"{call}: {made}"


def assert_names_its_object(stage: Stage, error: nvc.NvcError) -> None:
    """Fail unless an error says what failed, and why."""
    text = str(error)
    if error.operation is None:
        assert type(error) in {nvc.ContainerError, nvc.MountError}
        assert error.path in {"host", "mount namespace of the container"}
    else:
        operation = stage.plan.operations[error.operation]
        assert type(error) is CLASSES.get(type(operation), nvc.MountError), f"{error!r}"
        assert error.path in objects(stage, operation), f"{operation}: {text}"
    assert "\n" not in text
    if text.startswith("process /sbin/ldconfig failed with error code: 1 ("):
        assert text.endswith(": Input/output error)")  # only its words tell the errno
        return
    assert error.path in text
    assert text.endswith("input/output error")
    assert error.errno == EIO


@pytest.mark.parametrize("mode", ["fail-before", "fail-after"])
def test_a_failing_call_leaves_nothing_and_is_told(
    stage: Stage, sweep: Sweep, injector: Injector, mode: str
) -> None:
    def check() -> None:
        error = stage.failure()
        stage.assert_untouched()
        (fired,) = injector.fired()
        _, number, call, detail = fired.split(" ", 3)
        if error is None and f"{call} {detail}" in TOLERATED:
            return
        assert error is not None, "no error"
        assert_is_told(stage, error, call, operation=int(number) not in alone)
        assert_names_its_object(stage, error)

    alone = nobodys(calls := sweep.count())
    sweep.run((((mode, n),) for n in sweep.points(len(calls))), check)


@pytest.mark.parametrize("mode", ["kill-before", "kill-after"])
def test_a_dying_worker_leaves_nothing(
    stage: Stage, sweep: Sweep, injector: Injector, mode: str
) -> None:
    def check() -> None:
        error = stage.failure()
        stage.assert_untouched(killed=True)
        (fired,) = injector.fired()
        _, number, call, _ = fired.split(" ", 3)
        assert type(error) is nvc.ApplyError, f"{error!r}"
        assert str(error) == "the worker was killed"
        assert_is_told(stage, error, call, operation=int(number) not in alone)

    alone = nobodys(calls := sweep.count())
    sweep.run((((mode, n),) for n in sweep.points(len(calls))), check)
