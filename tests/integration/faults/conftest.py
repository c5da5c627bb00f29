# SPDX-License-Identifier: Apache-2.0
"""A container and a plan of every kind of operation, to be applied with a fault at any call."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
from libnvc.testing import Mount, NamespaceContainer, make_rootfs, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.integration.conftest import Injector, Orphans

    Fault = tuple[str, int]

# Without the newer mount calls nothing is mounted below what has peers.
collect_ignore = ["test_faults_peers.py"] if "NVC_DENIED" in os.environ else []

LIBS = "/usr/lib/x86_64-linux-gnu"
JOURNALS = Path("/run/libnvc")

#: Each test that goes through many points stops after so many that went wrong.
PROBLEMS_MAX = 10


class Stage:
    """A container that has not pivoted, what shall be applied, and how all looked at first."""

    def __init__(
        self,
        directory: Path,
        template: Path,
        group: Path,
        rules: Callable[[], object],
        orphans: Orphans,
    ) -> None:
        self.rootfs = directory / "rootfs"
        self.group = group
        self._rules = rules
        self.plan = nvc.Plan(operations=())
        self.ldconfig: str | None = None
        self._template = template
        self._orphans = orphans
        self._container: NamespaceContainer | None = None
        self.after_renewal: Callable[[], object] = lambda: None

    def renew(self) -> None:
        """Make a container, in place of one that may be spoilt."""
        self.close()
        shutil.rmtree(self.rootfs, ignore_errors=True)
        subprocess.run(["cp", "-a", self._template, self.rootfs], check=True)
        self._container = NamespaceContainer(self.rootfs)
        self._container.create()
        self.pid = self._container.pid
        self.target = nvc.Target(pid=self.pid, rootfs=str(self.rootfs))
        (self.group / "cgroup.procs").write_text(str(self.pid))
        self.after_renewal()

    def watch(self) -> None:
        """Remember how everything looks now."""
        self._orphans.reset()
        self._first = self._state()

    def close(self) -> None:
        if self._container is not None:
            self._container.delete()
            self._orphans.wait()  # its first process is not a child of ours

    def _state(self) -> dict[str, object]:
        return {
            "mounts": self._mounts(self.pid),
            "mounts of the host": self._mounts("self"),
            "files": tree(self.rootfs),
            "files in /dev": tree(Path(f"/proc/{self.pid}/root{self.rootfs}/dev")),
            "rules": self._rules(),
            "journals": list(JOURNALS.glob(f"{self.pid}.*")),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }

    def _mounts(self, pid: int | str) -> tuple[Mount, ...]:
        """Return what of ours is mounted, or where we mount: others use this machine, too."""
        own = str(self.rootfs.parent.parent)
        return tuple(m for m in mounts(pid) if own in m.path + m.root or m.path == "/proc")

    def apply(self) -> nvc.Applied:
        return nvc.apply(self.plan, self.target, ldconfig=self.ldconfig)

    def failure(self) -> nvc.NvcError | None:
        """Apply; return the error, or None (and take it back) if there was none."""
        try:
            nvc.detach(self.apply())
        except nvc.NvcError as error:
            return error
        return None

    def detach_failure(self) -> nvc.NvcError | None:
        """Detach; return the error, or None if there was none."""
        try:
            nvc.detach(self.target)
        except nvc.NvcError as error:
            return error
        return None

    def journals(self) -> list[Path]:
        return list(JOURNALS.glob(f"{self.pid}.*"))

    def assert_untouched(self, *, killed: bool = False) -> None:
        """Fail if anything is not as it was when `watch` was called."""
        ends = self._orphans.wait()
        assert killed or not ends, f"processes were left behind: {ends}"
        now = self._state()
        for what, first in self._first.items():
            assert now[what] == first, f"{what}: {difference(first, now[what])}"


def difference(before: object, after: object) -> str:
    """Tell what two states differ in."""
    if isinstance(before, dict) and isinstance(after, dict):
        old, new = set(before.items()), set(after.items())
    elif isinstance(before, tuple) and isinstance(after, tuple):
        old, new = set(before), set(after)
    else:
        return f"{before!r} became {after!r}"
    return f"gone {sorted(map(str, old - new))}, new {sorted(map(str, new - old))}"


class Sweep:
    """Goes through the points at which something can fail."""

    def __init__(self, stage: Stage, injector: Injector) -> None:
        self._stage = stage
        self._injector = injector
        self._step = int(os.environ.get("LIBNVC_FAULT_STEP", "1"))

    def points(self, count: int, step: int = 1) -> range:
        """Return the numbers of calls to go through: each `step`th, rarer where all is slow."""
        return range(1, count + 1, step * self._step)

    def count(self) -> list[str]:
        """Return the calls of an apply without faults."""
        self._injector.arm()
        applied = self._stage.apply()
        calls = self._injector.calls()
        self._injector.arm()
        nvc.detach(applied)
        self._stage.assert_untouched()
        return calls

    def run(
        self,
        points: Iterable[tuple[Fault, ...]],
        check: Callable[[], None],
        *,
        prepare: Callable[[], object] = lambda: None,
    ) -> None:
        """Check, for each set of faults, what happens with it; `prepare` is not met by it.

        Those that go wrong are told together, each after a fresh start.
        """
        problems: list[str] = []
        for faults in points:
            try:
                prepare()
                self._injector.arm(*faults)
                check()
            except Exception as problem:
                problems.append(f"{faults}: {self._injector.fired()}: {problem}")
                if len(problems) == PROBLEMS_MAX:
                    break
                self._stage.renew()
                self._stage.watch()
        assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a root file system that has what the variants of the operations are about."""
    root = make_rootfs(tmp_path_factory.mktemp("faults") / "rootfs")
    (root / f"usr/lib/{LIBS[9:]}/libold.so.1").symlink_to("libold.so.1.0")
    (root / f"usr/lib/{LIBS[9:]}/libfile.so.1").write_text("in the place of a link")
    (root / "srv/there").mkdir(parents=True)
    (root / "var/cache").mkdir()
    return root


@pytest.fixture
def group(orphans: Orphans) -> Iterator[Path]:
    """Make a devices cgroup that allows next to nothing."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    place = next(line for line in lines if "devices" in line.split(":")[1].split(","))
    parent = Path(f"/sys/fs/cgroup/devices{place.split(':')[2].rstrip('/')}")
    group = parent / f"libnvc-faults-{os.getpid()}"
    group.mkdir()
    (group / "devices.deny").write_text("a")
    for rule in ("c 1:3 rwm", "c 240:1 m"):
        (group / "devices.allow").write_text(rule)
    yield group
    for pid in (group / "cgroup.procs").read_text().split():
        (parent / "cgroup.procs").write_text(pid)
    group.rmdir()


@pytest.fixture
def rules(group: Path) -> Callable[[], object]:
    """Return what tells the device rules of the cgroup."""
    return (group / "devices.list").read_text


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of the host with a file, a directory and a socket."""
    directory = tmp_path_factory.mktemp("sources")
    (directory / "dir").mkdir()
    (directory / "file").write_text("from the host\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
    return directory


@pytest.fixture
def every_variant(sources: Path) -> tuple[nvc.Operation, ...]:
    """Return what the plan of a DGX A100 lacks of all kinds of operations and their variants."""
    return (
        nvc.Tmpfs(origin="over", path="/srv/there"),
        nvc.WriteFile(origin="over", path="/srv/there/file", content=b"x" * 5000),
        nvc.Tmpfs(origin="made", path="/srv/new/deep"),
        nvc.Directory(origin="made", path="/srv/new/deep/a/b"),
        nvc.Directory(origin="dir", path="/var/lib/nvidia/empty", mode=0o700),
        nvc.BindMount(
            origin="tree", path="/opt/a/b", source=f"{sources}/dir", file_type="directory"
        ),
        nvc.BindMount(
            origin="ipc", path="/var/run/x/socket", source=f"{sources}/socket", file_type="socket"
        ),
        nvc.BindMount(origin="file", path="/usr/bin/env", source=f"{sources}/file"),
        nvc.Symlink(origin="link", path=f"{LIBS}/libold.so.1", target="lib.2", overwrite=True),
        nvc.BindMount(origin="file", path=f"{LIBS}/libfile.so.1.2", source=f"{sources}/file"),
        nvc.Symlink(
            origin="cover", path=f"{LIBS}/libfile.so.1", target="libfile.so.1.2", overwrite=True
        ),
        nvc.DeviceNode(origin="made", path="/dev/new/node", major=240, minor=1, mode=0o640),
        nvc.DeviceAccess(origin="made", path="", major=240, minor=1, access="rw"),
        nvc.DeviceAccess(origin="all", path="", major=240, minor=2, access="rwm"),
    )


@pytest.fixture
def stage(
    tmp_path: Path,
    template: Path,
    group: Path,
    rules: Callable[[], object],
    orphans: Orphans,
    dgx_a100: Path,
    every_variant: tuple[nvc.Operation, ...],
) -> Iterator[Stage]:
    """Return a container and the plan of a DGX A100 with all its GPUs, and more, for it."""
    stage = Stage(tmp_path, template, group, rules, orphans)
    try:
        stage.renew()
        request = nvc.Request(
            devices=("all",),
            capabilities=("utility", "compute"),
            layout=nvc.inspect_container(stage.target),
        )
        *most, cache = nvc.make_plan(nvc.discover(str(dgx_a100)), request).operations
        stage.plan = nvc.Plan(operations=(*most, *every_variant, cache))
        yield stage
    finally:
        stage.close()


@pytest.fixture
def short_stage(stage: Stage, every_variant: tuple[nvc.Operation, ...]) -> Stage:
    """Return a container and a plan of all variants, once each."""
    kinds = (nvc.Tmpfs, nvc.WriteFile, nvc.DeviceNode, nvc.LoaderCache)
    firsts = [next(op for op in stage.plan.operations if isinstance(op, kind)) for kind in kinds]
    stage.plan = nvc.Plan(operations=(*firsts[:-1], *every_variant, firsts[-1]))
    return stage


@pytest.fixture
def sweep(stage: Stage, injector: Injector) -> Sweep:
    stage.watch()
    return Sweep(stage, injector)
