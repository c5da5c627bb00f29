# SPDX-License-Identifier: Apache-2.0
"""The fault injector does what tests that use it take for granted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
from libnvc.testing import NamespaceContainer, make_rootfs, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import InjectInto, Injector, Orphans

pytestmark = pytest.mark.root

LIBS = "/usr/lib/x86_64-linux-gnu"
DIRECTORY = nvc.Directory(origin="dir", path="/new")
CACHE = nvc.LoaderCache(
    origin="cache", path="/etc/ld.so.cache", libraries=(("liba.so.1", f"{LIBS}/liba.so.1", 64),)
)


class Box:
    """A container, and what it looked like at first."""

    def __init__(self, container: NamespaceContainer) -> None:
        self.pid = container.pid
        self.rootfs = container.rootfs
        self.target = nvc.Target(pid=container.pid, rootfs=str(container.rootfs))
        self.tree = tree(self.rootfs)
        self.mounts = mounts(self.pid)

    def assert_untouched(self) -> None:
        assert mounts(self.pid) == self.mounts
        assert tree(self.rootfs) == self.tree


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("template") / "rootfs")


@pytest.fixture
def box(tmp_path: Path, template: Path) -> Iterator[Box]:
    rootfs = tmp_path / "rootfs"
    subprocess.run(["cp", "-a", template, rootfs], check=True)
    with NamespaceContainer(rootfs) as container:
        yield Box(container)


@pytest.fixture
def bind(tmp_path: Path) -> nvc.Operation:
    source = tmp_path / "tool"
    source.write_text("from the host\n")
    return nvc.BindMount(origin="binary", path="/usr/bin/tool", source=str(source))


def plan(*operations: nvc.Operation) -> nvc.Plan:
    return nvc.Plan(operations=operations)


def count(
    injector: Injector, box: Box, *operations: nvc.Operation, ldconfig: str | None = None
) -> list[str]:
    """Return the calls of an apply without faults, which is then undone."""
    injector.arm()
    applied = nvc.apply(plan(*operations), box.target, ldconfig=ldconfig)
    calls = injector.calls()
    nvc.detach(applied)
    return calls


def attaching(calls: list[str]) -> int:
    """Return the number of the call that mounts at the file made for it."""
    made = calls.index("openat")
    return next(n for n, name in enumerate(calls, 1) if n > made and "mount" in name)


@pytest.mark.parametrize(
    ("ldconfig", "names"),
    [
        (None, ("setns", "mkdirat", "openat", "write", "renameat")),
        # Of the worker, of the caged process before it becomes ldconfig, and of ldconfig.
        ("", ("setns", "mkdirat", "chroot", "write", "rename")),
    ],
)
def test_counting_is_the_same_each_time(
    box: Box, bind: nvc.Operation, injector: Injector, ldconfig: str | None, names: tuple[str, ...]
) -> None:
    assert injector.calls() == []
    first = count(injector, box, DIRECTORY, bind, CACHE, ldconfig=ldconfig)
    assert first == count(injector, box, DIRECTORY, bind, CACHE, ldconfig=ldconfig)
    assert injector.fired() == []
    wanted = iter(first)
    assert all(name in wanted for name in names)
    injector.arm()
    assert injector.calls() == []


@pytest.mark.parametrize("mode", ["fail-before", "fail-after"])
def test_a_failing_call_is_undone(
    box: Box, bind: nvc.Operation, injector: Injector, mode: str
) -> None:
    number = attaching(calls := count(injector, box, DIRECTORY, bind))
    injector.arm((mode, number))
    with pytest.raises(nvc.MountError) as caught:
        nvc.apply(plan(DIRECTORY, bind), box.target)
    assert str(caught.value).startswith("mount operation failed: ")
    assert caught.value.errno == 5
    assert injector.calls()[:number] == calls[:number]
    (fired,) = injector.fired()
    assert fired.startswith(f"{mode} {number} {calls[number - 1]} ")
    assert "unlinkat" in injector.calls()[number:]
    box.assert_untouched()


@pytest.mark.parametrize("mode", ["kill-before", "kill-after"])
def test_a_killed_worker_is_undone(
    box: Box, bind: nvc.Operation, injector: Injector, mode: str
) -> None:
    number = attaching(count(injector, box, DIRECTORY, bind))
    injector.arm((mode, number))
    with pytest.raises(nvc.ApplyError) as caught:
        nvc.apply(plan(DIRECTORY, bind), box.target)
    assert str(caught.value) == "the worker was killed"
    assert len(injector.fired()) == 1
    assert injector.calls()[number] == "setns"
    box.assert_untouched()


@pytest.mark.parametrize("mode", ["fail-before", "fail-after", "kill-before", "kill-after"])
def test_only_after_means_that_the_call_was_executed(
    box: Box, injector: Injector, mode: str
) -> None:
    number = count(injector, box, DIRECTORY).index("mkdirat") + 1
    # The other faults keep the first from being undone.
    injector.arm((mode, number), ("kill-before", 1), ("kill-before", 1))
    with pytest.raises(nvc.ApplyError):
        nvc.apply(plan(DIRECTORY), box.target)
    assert injector.fired()[0] == f"{mode} {number} mkdirat new"
    assert (box.rootfs / "new").exists() == mode.endswith("after")


def test_a_second_worker_is_met_by_the_second_fault(box: Box, injector: Injector) -> None:
    number = count(injector, box, DIRECTORY).index("mkdirat") + 1
    injector.arm(("kill-after", number), ("fail-before", 2), ("kill-before", 99))
    with pytest.raises(nvc.ApplyError):
        nvc.apply(plan(DIRECTORY), box.target)
    names = [line.split()[:3] for line in injector.fired()]
    assert names == [["kill-after", str(number), "mkdirat"], ["fail-before", "2", "unlinkat"]]
    assert (box.rootfs / "new").is_dir()


@pytest.mark.parametrize(
    ("mode", "name"),
    [(mode, name) for mode in ("kill-before", "kill-after") for name in ("chroot", "rename")],
)
def test_a_call_of_the_caged_process_kills_the_worker(
    box: Box, injector: Injector, mode: str, name: str
) -> None:
    number = count(injector, box, CACHE, ldconfig="").index(name) + 1
    injector.arm((mode, number))
    with pytest.raises(nvc.ApplyError, match="the worker was killed"):
        nvc.apply(plan(CACHE), box.target, ldconfig="")
    assert injector.fired()[0].startswith(f"{mode} {number} {name} ")
    assert injector.calls()[number] == "setns"
    box.assert_untouched()


APPLY = """
import sys, libnvc
input()
pid, rootfs = int(sys.argv[1]), sys.argv[2]
plan = libnvc.Plan(operations=(libnvc.Directory(origin="dir", path="/new"),))
libnvc.apply(plan, libnvc.Target(pid=pid, rootfs=rootfs))
"""


@pytest.mark.parametrize("mode", ["kill-parent-before", "kill-parent-after"])
def test_the_caller_can_be_killed(
    box: Box, injector: Injector, inject_into: InjectInto, orphans: Orphans, mode: str
) -> None:
    number = count(injector, box, DIRECTORY).index("mkdirat") + 1
    command = [sys.executable, "-P", "-c", APPLY, str(box.pid), str(box.rootfs)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process,
        inject_into(process.pid) as other,
    ):
        # The second fault keeps the worker, alone now, from undoing the call.
        other.arm((mode, number), ("kill-before", 1))
        orphans.reset()
        process.communicate("go\n", timeout=60)
        assert process.returncode == -signal.SIGKILL
        assert orphans.wait() == [-signal.SIGKILL]
    assert other.fired()[0] == f"{mode} {number} mkdirat new"
    assert other.calls()[:number] == ["setns", "mkdirat"]
    assert (box.rootfs / "new").exists() == mode.endswith("after")
    nvc.detach(box.target)
    box.assert_untouched()


def test_threads_and_forked_processes_are_left_alone(injector: Injector, tmp_path: Path) -> None:
    seen: list[str] = []

    def look() -> None:
        (tmp_path / "thread").mkdir()
        seen.append(Path("/proc/thread-self/status").read_text())

    injector.arm(("kill-parent-before", 1))
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    script = f"mkdir {tmp_path}/process && exec cat /proc/self/status"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    seen.append(done.stdout)
    assert ["TracerPid:\t0" in status.split("\n") for status in seen] == [True, True]
    assert injector.calls() == []


def test_nothing_is_traced_afterwards(box: Box, inject_into: InjectInto) -> None:
    for _ in range(3):
        with inject_into(box.pid) as other:
            status = Path(f"/proc/{box.pid}/status").read_text()
            assert "TracerPid:\t0" not in status.split("\n")
        status = Path(f"/proc/{box.pid}/status").read_text()
        assert "TracerPid:\t0" in status.split("\n")
        assert "State:\tS (sleeping)" in status.split("\n")
    assert other.calls() == []


def test_the_injector_ends_with_its_process(inject_into: InjectInto) -> None:
    with (
        subprocess.Popen(["sleep", "1000"]) as process,
        inject_into(process.pid),
    ):
        process.kill()
        assert process.wait(timeout=10) == -signal.SIGKILL
