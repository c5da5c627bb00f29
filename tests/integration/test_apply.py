# SPDX-License-Identifier: Apache-2.0
"""Apply, undo and detach every kind of operation in real namespaces."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

import libnvc as nvc
from libnvc._native import ldcache
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import NamespaceContainer, make_rootfs, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

LIBS = "/usr/lib/x86_64-linux-gnu"
JOURNALS = Path("/run/libnvc")


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


class Box:
    """A container that has not pivoted, and what it looked like at first."""

    def __init__(self, container: NamespaceContainer, rootfs: Path) -> None:
        self.container = container
        self.rootfs = rootfs
        self.target = nvc.Target(pid=container.pid, rootfs=str(rootfs))
        self.tree = tree(rootfs)
        self.mounts = mounts(container.pid)
        self.host_mounts = mounts()

    def added(self) -> list[str]:
        """Return where something is mounted that was not, from the container's root."""
        before = {mount.identity for mount in self.mounts}
        new = [m.path for m in mounts(self.container.pid) if m.identity not in before]
        return [path.removeprefix(str(self.rootfs)) for path in new]

    def assert_untouched(self) -> None:
        assert mounts(self.container.pid) == self.mounts
        assert tree(self.rootfs) == self.tree
        assert mounts() == self.host_mounts
        assert not list(JOURNALS.glob(f"{self.container.pid}.*"))
        assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[1:]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("template") / "rootfs")


@pytest.fixture
def box(tmp_path: Path, template: Path) -> Iterator[Box]:
    rootfs = tmp_path / "rootfs"
    subprocess.run(["cp", "-a", template, rootfs], check=True)
    (rootfs / "usr/lib/x86_64-linux-gnu/libold.so.1").symlink_to("libold.so.1.0")
    with NamespaceContainer(rootfs) as container:
        yield Box(container, rootfs)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a directory of the host with a file, a directory and a socket."""
    directory = tmp_path / "host"
    (directory / "dir").mkdir(parents=True)
    (directory / "file").write_text("from the host\n")
    (directory / "file").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
    return directory


def cache(*names: str) -> nvc.LoaderCache:
    """Return the operation that has the loader find libraries."""
    libraries = tuple((name, f"{LIBS}/{name}", 64) for name in names)
    return nvc.LoaderCache(origin="cache", path="/etc/ld.so.cache", libraries=libraries)


def listed(rootfs: Path) -> list[ldcache.CacheEntry]:
    """Return what the container's loader cache lists."""
    data = (rootfs / "etc/ld.so.cache").read_bytes()
    return ldcache.parse(data, "/etc/ld.so.cache")


def every_kind(source: Path) -> tuple[nvc.Operation, ...]:
    """Return a plan's worth of operations: each kind, new and existing parents."""
    proc = "/proc/driver/nvidia"
    return (
        nvc.Tmpfs(origin="proc", path=proc, fallback="/proc/driver"),
        nvc.WriteFile(origin="proc", path=f"{proc}/params", content=b"ModifyDeviceFiles: 0\n"),
        nvc.Directory(origin="proc", path=f"{proc}/gpus"),
        nvc.BindMount(
            origin="gpu:0",
            path=f"{proc}/gpus/0000:07:00.0",
            source=f"{source}/dir",
            file_type="directory",
            options=("ro", "nodev", "nosuid", "noexec"),
        ),
        nvc.BindMount(origin="binary", path="/usr/bin/tool", source=f"{source}/file"),
        nvc.BindMount(origin="deep", path="/opt/a/b/c/tool", source=f"{source}/file"),
        nvc.BindMount(
            origin="ipc",
            path="/run/nvidia-persistenced/socket",
            source=f"{source}/socket",
            file_type="socket",
            options=("nodev", "nosuid", "noexec"),
        ),
        nvc.Symlink(origin="soname", path=f"{LIBS}/libnew.so.1", target="libnew.so.1.2"),
        nvc.Symlink(
            origin="soname", path=f"{LIBS}/libold.so.1", target="libold.so.1.1", overwrite=True
        ),
        nvc.Directory(origin="dir", path="/var/lib/nvidia/empty", mode=0o700),
        nvc.DeviceNode(origin="control", path="/dev/nvidiactl", major=195, minor=255),
        nvc.DeviceNode(origin="bound", path="/dev/none", major=1, minor=3, source="/dev/null"),
        nvc.DeviceAccess(origin="control", path="", major=195, minor=255),
        cache("libnew.so.1"),
    )


def plan(*operations: nvc.Operation) -> nvc.Plan:
    return nvc.Plan(operations=operations)


@pytest.fixture
def own_cgroup(box: Box) -> Iterator[Path]:
    """Put the container into a devices cgroup of its own that allows next to nothing."""
    line = next(
        line
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if "devices" in line.split(":")[1].split(",")
    )
    group = Path(
        f"/sys/fs/cgroup/devices{line.split(':')[2].rstrip('/')}/libnvc-test-{os.getpid()}"
    )
    group.mkdir()
    (group / "devices.deny").write_text("a")
    (group / "devices.allow").write_text("c 1:3 rwm")
    (group / "cgroup.procs").write_text(str(box.container.pid))
    yield group
    (group.parent / "cgroup.procs").write_text(str(box.container.pid))
    group.rmdir()


def test_every_kind_is_applied_and_taken_back(box: Box, source: Path, own_cgroup: Path) -> None:
    rules = (own_cgroup / "devices.list").read_text()
    applied = nvc.apply(plan(*every_kind(source)), box.target)
    assert applied.warnings == ()
    assert Path(applied.journal).stat().st_mode & 0o777 == 0o600
    assert sorted(box.added()) == [
        "/dev/none",
        "/opt/a/b/c/tool",
        "/proc/driver",
        "/proc/driver/nvidia/gpus/0000:07:00.0",
        "/run/nvidia-persistenced/socket",
        "/usr/bin/tool",
    ]
    assert (own_cgroup / "devices.list").read_text() == f"{rules}c 195:255 rw\n"
    box.container.start()
    assert box.container.exec("cat", "/opt/a/b/c/tool").stdout == "from the host\n"
    assert f"{LIBS}/libnew.so.1" in [entry.path for entry in listed(box.rootfs)]
    params = box.container.exec("cat", "/proc/driver/nvidia/params")
    assert params.stdout == "ModifyDeviceFiles: 0\n"
    links = box.container.exec("readlink", f"{LIBS}/libold.so.1", f"{LIBS}/libnew.so.1")
    assert links.stdout.split() == ["libold.so.1.1", "libnew.so.1.2"]
    nvc.detach(applied)
    assert (own_cgroup / "devices.list").read_text() == rules
    assert tree(box.rootfs) == box.tree
    assert not list(JOURNALS.glob(f"{box.container.pid}.*"))
    with pytest.raises(nvc.ContainerError, match="no such journal: detached already"):
        nvc.detach(applied)


def test_a_rule_far_down_a_long_list_is_the_engine_s(box: Box, own_cgroup: Path) -> None:
    for minor in range(5000):
        (own_cgroup / "devices.allow").write_text(f"c 240:{minor} rw")
    (own_cgroup / "devices.allow").write_text("c 195:0 rw")
    rules = (own_cgroup / "devices.list").read_text()
    assert len(rules) > 65536
    rule = nvc.DeviceAccess(origin="gpu", path="", major=195, minor=0)
    nvc.detach(nvc.apply(plan(rule), box.target))
    assert (own_cgroup / "devices.list").read_text() == rules


def test_mount_flags_and_propagation(box: Box, source: Path) -> None:
    nvc.apply(plan(*every_kind(source)[:12]), box.target)
    flags = {
        mount.path.removeprefix(str(box.rootfs)): (
            {"ro", "nosuid", "nodev", "noexec"} & set(mount.options),
            mount.tags,
        )
        for mount in mounts(box.container.pid)
    }
    assert flags["/usr/bin/tool"] == ({"ro", "nosuid", "nodev"}, ())
    assert flags["/dev/none"] == ({"ro", "nosuid", "noexec"}, ())
    assert flags["/run/nvidia-persistenced/socket"] == ({"nosuid", "nodev", "noexec"}, ())
    assert flags["/proc/driver"] == ({"nosuid", "nodev", "noexec"}, ())
    assert flags["/proc/driver/nvidia/gpus/0000:07:00.0"] == (
        {"ro", "nosuid", "nodev", "noexec"},
        (),
    )
    assert mounts() == box.host_mounts
    nvc.detach(box.target)


@pytest.mark.parametrize("count", range(14))
def test_a_failure_after_any_operation_leaves_nothing(
    box: Box, source: Path, own_cgroup: Path, count: int
) -> None:
    rules = (own_cgroup / "devices.list").read_text()
    done = every_kind(source)[:count]
    # A directory cannot be the mount point of a file: fails at its turn, not before.
    last = nvc.BindMount(origin="broken", path="/usr/bin", source=f"{source}/file")
    with pytest.raises(nvc.MountError) as caught:
        nvc.apply(plan(*done, last), box.target)
    assert str(caught.value) == f"mount operation failed: {box.rootfs}/usr/bin: is a directory"
    assert (caught.value.operation, caught.value.origin) == (count, "broken")
    assert caught.value.errno == 21
    assert (own_cgroup / "devices.list").read_text() == rules
    box.assert_untouched()


def test_a_missing_source_fails_before_the_container_is_entered(box: Box, source: Path) -> None:
    bad = nvc.BindMount(origin="gone", path="/usr/bin/x", source=f"{source}/gone")
    with pytest.raises(nvc.MountError) as caught:
        nvc.apply(plan(*every_kind(source)[:3], bad), box.target)
    assert str(caught.value) == f"stat failed: {source}/gone: no such file or directory"
    box.assert_untouched()


@pytest.mark.parametrize(
    ("file_type", "name"), [("directory", "file"), ("file", "dir"), ("file", "socket")]
)
def test_a_source_of_another_type_is_refused(
    box: Box, source: Path, file_type: str, name: str
) -> None:
    bad = nvc.BindMount(
        origin="odd", path="/usr/bin/x", source=f"{source}/{name}", file_type=file_type
    )
    with pytest.raises(nvc.MountError, match="unexpected source file type"):
        nvc.apply(plan(bad), box.target)
    box.assert_untouched()


def test_a_source_behind_a_link_is_refused(box: Box, source: Path) -> None:
    (source / "link").symlink_to("dir")
    (source / "dir/file").write_text("x")
    bad = nvc.BindMount(origin="swapped", path="/usr/bin/x", source=f"{source}/link/file")
    with pytest.raises(nvc.MountError, match="too many levels of symbolic links"):
        nvc.apply(plan(bad), box.target)
    box.assert_untouched()


def test_a_wrong_device_number_is_refused(box: Box) -> None:
    bad = nvc.DeviceNode(origin="gpu:0", path="/dev/x", major=195, minor=0, source="/dev/null")
    with pytest.raises(nvc.MountError) as caught:
        nvc.apply(plan(bad), box.target)
    assert str(caught.value) == "invalid device node: /dev/null"
    box.assert_untouched()


@pytest.mark.parametrize("kind", ["absent", "empty", "regular", "link", "dangling", "socket"])
def test_our_file_wins_over_what_the_image_has(box: Box, source: Path, kind: str) -> None:
    target = box.rootfs / "usr/bin/tool"
    if kind in ("empty", "regular"):
        target.write_text("" if kind == "empty" else "the image's\n")
    elif kind in ("link", "dangling"):
        target.symlink_to("sh" if kind == "link" else "/nowhere")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(target))
    before = tree(box.rootfs)
    ours = nvc.BindMount(origin="binary", path="/usr/bin/tool", source=f"{source}/file")
    applied = nvc.apply(plan(ours), box.target)
    box.container.start()
    assert box.container.exec("cat", "/usr/bin/tool").stdout == "from the host\n"
    nvc.detach(applied)
    assert tree(box.rootfs) == before


def test_a_link_that_leaves_the_root_is_an_error(box: Box, source: Path) -> None:
    (box.rootfs / "escape").symlink_to("../../../../../../../../tmp")
    box.tree = tree(box.rootfs)
    bad = nvc.BindMount(origin="x", path="/escape/file", source=f"{source}/file")
    with pytest.raises(nvc.MountError) as caught:
        nvc.apply(plan(*every_kind(source)[:3], bad), box.target)
    assert str(caught.value) == f"path error: /escape resolves outside of {box.rootfs}"
    box.assert_untouched()


def test_an_absolute_link_stays_in_the_root(box: Box, source: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (box.rootfs / "jump").symlink_to(outside)
    before = tree(box.rootfs)
    ours = nvc.BindMount(origin="x", path="/jump/file", source=f"{source}/file")
    applied = nvc.apply(plan(ours), box.target)
    assert box.added() == [f"{outside}/file"]
    assert not list(outside.iterdir())
    nvc.detach(applied)
    assert tree(box.rootfs) == before


def test_without_proc_driver_it_warns_and_goes_on(box: Box, source: Path) -> None:
    hide = ["nsenter", f"--target={box.container.pid}", "--mount", "mount", "-t", "tmpfs"]
    subprocess.run([*hide, "tmpfs", box.rootfs / "proc"], check=True)
    applied = nvc.apply(plan(*every_kind(source)[:5]), box.target)
    assert applied.warnings == (
        "/proc/driver/nvidia: not in the container, and it cannot be made there: left out",
    )
    assert box.added() == ["/proc", "/usr/bin/tool"]
    nvc.detach(applied)


FAILING = '#include <unistd.h>\nint main(void) { return write(2, "no\\n", 3) == 3 ? 6 : 7; }\n'
HANGING = "int main(void) { for (;;) ; }\n"


@pytest.fixture
def hanging(tmp_path: Path, compile_c: CompileC) -> Path:
    """Return a program that never ends, to stand in for the host's ldconfig."""
    code = tmp_path / "hang.c"
    code.write_text(HANGING)
    return compile_c(tmp_path / "hang", code, flags=("-static",))


def test_an_endless_ldconfig_is_ended(box: Box, source: Path, hanging: Path) -> None:
    operations = tuple(op for op in every_kind(source) if not isinstance(op, nvc.DeviceAccess))
    with pytest.raises(nvc.LoaderCacheError) as caught:
        nvc.apply(plan(*operations), box.target, ldconfig=str(hanging), timeout=0.5)
    assert str(caught.value) == "process /sbin/ldconfig did not finish in time"
    assert caught.value.origin == "cache"
    box.assert_untouched()


def test_a_deadline_undoes_everything(box: Box, source: Path, hanging: Path) -> None:
    """The worker itself stops, here by a signal, as it would in a file system that hangs."""
    operations = tuple(op for op in every_kind(source) if not isinstance(op, nvc.DeviceAccess))
    stopper = threading.Thread(target=lambda: os.kill(worker_of(os.getpid()), signal.SIGSTOP))
    stopper.start()
    with pytest.raises(nvc.ApplyError) as caught:
        nvc.apply(plan(*operations), box.target, ldconfig=str(hanging), timeout=4)
    stopper.join()
    assert str(caught.value) == "the worker did not finish before its deadline"
    assert caught.value.origin == "cache"
    box.assert_untouched()


def worker_of(pid: int) -> int:
    """Wait for a child of a thread of a process and return its pid."""
    while True:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                below = Path(f"/proc/{child}/task/{child}/children").read_text().split()
                if below and Path(f"/proc/{child}/comm").read_text() != "unshare\n":
                    return int(child)


def test_a_killed_worker_is_cleaned_up_after(box: Box, source: Path, hanging: Path) -> None:
    operations = tuple(op for op in every_kind(source) if not isinstance(op, nvc.DeviceAccess))
    killer = threading.Thread(target=lambda: os.kill(worker_of(os.getpid()), signal.SIGKILL))
    killer.start()
    with pytest.raises(nvc.ApplyError) as caught:
        nvc.apply(plan(*operations), box.target, ldconfig=str(hanging), timeout=30)
    killer.join()
    assert str(caught.value) == "the worker was killed"
    box.assert_untouched()


def test_another_process_can_detach(box: Box, source: Path) -> None:
    nvc.apply(plan(*every_kind(source)[:12]), box.target)
    code = f"import libnvc; libnvc.detach(libnvc.Target(pid={box.container.pid}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    box.assert_untouched()


def test_a_journal_in_memory_is_used_once(
    box: Box, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("libnvc._apply.journal.DIRECTORY", "/proc/no/libnvc")
    applied = nvc.apply(plan(*every_kind(source)[:5]), box.target)
    assert applied.journal == ""
    nvc.detach(applied)
    box.assert_untouched()
    reused = os.open("/dev/null", os.O_RDONLY)
    assert reused == applied.journal_fd
    with pytest.raises(nvc.ContainerError) as caught:
        nvc.detach(applied)
    assert str(caught.value) == f"process {box.container.pid}: detached already"
    os.close(reused)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("nr_inodes=2", "file creation failed: {directory}/lock.{pid}: no space left on device"),
        ("nr_inodes=4", "file creation failed: {directory}/{pid}.1: no space left on device"),
        ("size=4k", "size failed: journal: no space left on device"),
        ("size=12k", "size failed: journal: no space left on device"),
    ],
)
def test_without_room_for_a_journal_nothing_is_done(
    box: Box,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    message: str,
) -> None:
    directory = tmp_path / "journals"
    directory.mkdir()
    monkeypatch.setattr("libnvc._apply.journal.DIRECTORY", str(directory))
    mount = ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", str(directory)]
    subprocess.run(mount, check=True)
    try:
        (directory / "full").write_bytes(bytes(4096))
        box.host_mounts = mounts()
        with pytest.raises(nvc.NvcError) as caught:
            nvc.apply(plan(*every_kind(source)[:5]), box.target)
        assert os.listdir(directory) == ["full"]
        box.assert_untouched()
    finally:
        subprocess.run(["umount", directory], check=True)
    started = Path(f"/proc/{box.container.pid}/stat").read_text().rsplit(") ")[-1].split()[19]
    pid = f"{box.container.pid}.{started}"
    assert str(caught.value) == message.format(directory=directory, pid=pid)


def test_detach_after_the_container_pivoted(box: Box, source: Path) -> None:
    applied = nvc.apply(plan(*every_kind(source)[:12]), box.target)
    box.container.start()  # chroot: its root is the rootfs from here on
    assert os.readlink(f"/proc/{box.container.pid}/root") == str(box.rootfs)
    nvc.detach(applied)
    assert tree(box.rootfs) == box.tree


def test_the_caller_is_not_changed(box: Box, source: Path) -> None:
    def state() -> tuple[object, ...]:
        mask = os.umask(0)
        os.umask(mask)
        namespaces = [os.readlink(f"/proc/self/ns/{n}") for n in ("mnt", "pid", "ipc", "user")]
        status = Path("/proc/self/status").read_text()
        fixed = [
            line
            for line in status.splitlines()
            if line.startswith(("Cap", "SigB", "SigC", "SigI", "Uid"))
        ]
        return os.getcwd(), mask, namespaces, fixed, len(os.listdir("/proc/self/fd"))

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    before = state()
    nvc.detach(nvc.apply(plan(*every_kind(source)[:12]), box.target))
    assert state() == before
    stop.set()
    thread.join()


def test_the_callers_own_namespace_is_no_container(source: Path) -> None:
    with pytest.raises(nvc.ContainerError) as caught:
        nvc.apply(plan(*every_kind(source)[:1]), nvc.Target(pid=os.getpid(), rootfs="/tmp"))
    assert str(caught.value) == (
        "the process shares the caller's mount namespace: it is not a container: "
        f"/proc/{os.getpid()}"
    )


def test_the_hosts_root_is_no_container(source: Path) -> None:
    """A process with a mount namespace of its own, as services have, and the host's files."""
    with subprocess.Popen(["unshare", "--mount", "cat"], stdin=subprocess.PIPE) as process:
        own = os.readlink("/proc/self/ns/mnt")
        while os.readlink(f"/proc/{process.pid}/ns/mnt") == own:
            assert process.poll() is None
        with pytest.raises(nvc.ContainerError) as caught:
            nvc.apply(plan(*every_kind(source)[:1]), nvc.Target(pid=process.pid))
        process.communicate()
    assert str(caught.value) == (
        "the process's root is the host's: it is no container, or one that has not changed its "
        "root yet and whose rootfs must be named"
    )


def test_a_device_in_place_of_the_cache_is_not_opened(box: Box) -> None:
    """1:7 answers a write with ENOSPC; others do worse when they are only opened."""
    file = box.rootfs / "etc/ld.so.cache"
    file.unlink()
    os.mknod(file, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    box.tree = tree(box.rootfs)
    with pytest.raises(nvc.LoaderCacheError) as caught:
        nvc.apply(plan(cache("libnew.so.1")), box.target)
    assert str(caught.value) == f"open failed: {file}: invalid argument"
    box.assert_untouched()


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (nvc.Env(origin="env", path="", name="A", value="b"), "Env (env): cannot be applied"),
        (nvc.Group(origin="group", path="", gid=1), "Group (group): cannot be applied"),
        (nvc.Directory(origin="x", path="relative"), "not an absolute path below the root"),
        (nvc.Directory(origin="x", path="/a/../b"), "'..' in a path"),
        (nvc.Directory(origin="x", path="/a\x01"), "control character in a path"),
        (nvc.Directory(origin="x", path="/a\nb"), "it contains a newline"),
        (nvc.Directory(origin="x", path="/a\0b"), "it contains a NUL"),
        (nvc.Directory(origin="x", path="/a", mode=0o4755), "unknown flag or mode"),
        (
            nvc.WriteFile(origin="x", path="/etc/passwd2", content=b"x"),
            "files are written below a tmpfs of the plan only",
        ),
        (
            nvc.LoaderCache(origin="x", path="/tmp/cache", directories=("/lib",)),
            "the loader cache is always /etc/ld.so.cache",
        ),
        (cache("a/b"), "not the name of a library"),
        (cache(""), "not the name of a library"),
        (cache("a\x01"), "not the name of a library"),
        (
            cache("liba.so").replace(libraries=(("liba.so", "/lib/liba.so", 16),)),
            "not the bits of a library",
        ),
        (
            cache("liba.so").replace(libraries=(("liba.so", "/lib/../liba.so", 64),)),
            "'..' in a path",
        ),
        (cache().replace(directories=("relative",)), "not an absolute path below the root"),
        (cache().replace(directories=("/lib",) * 65), "too many directories"),
    ],
)
def test_what_cannot_be_applied_is_refused(
    box: Box, operation: nvc.Operation, message: str
) -> None:
    with pytest.raises(nvc.RequestError) as caught:
        nvc.apply(plan(operation), box.target)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    box.assert_untouched()


def test_a_failing_ldconfig_says_its_words(box: Box, tmp_path: Path, compile_c: CompileC) -> None:
    code = tmp_path / "fail.c"
    code.write_text(FAILING)
    failing = compile_c(tmp_path / "fail", code, flags=("-static",))
    with pytest.raises(nvc.LoaderCacheError) as caught:
        nvc.apply(plan(cache("liba.so.1")), box.target, ldconfig=str(failing))
    assert str(caught.value) == "process /sbin/ldconfig failed with error code: 6 (no)"
    with pytest.raises(nvc.LoaderCacheError) as caught:
        nvc.apply(plan(cache("liba.so.1")), box.target, ldconfig="/nonexistent")
    assert str(caught.value) == "open failed: /nonexistent: no such file or directory"
    box.assert_untouched()


@pytest.mark.parametrize("directory", ["var/cache/ldconfig", "var/cache", "var"])
def test_ldconfig_leaves_nothing_but_the_cache(box: Box, source: Path, directory: str) -> None:
    (box.rootfs / directory).mkdir(parents=True, exist_ok=True)
    box.tree = tree(box.rootfs)
    nvc.apply(plan(library(source), cache("libours.so.1")), box.target, ldconfig="")
    assert f"{LIBS}/libours.so.1" in [entry.path for entry in listed(box.rootfs)]
    after = tree(box.rootfs)
    added = {name for name in after if box.tree.get(name) != after[name]}
    assert added == {"etc/ld.so.cache", f"{LIBS[1:]}/libours.so.1"}
    nvc.detach(box.target)
    box.assert_untouched()


def library(source: Path) -> nvc.BindMount:
    """Return what mounts a library that is found as libours.so.1."""
    soname = "libours.so.1"
    content = write_library(bits=64, machine=this_machine().elf, soname=soname)
    (source / soname).write_bytes(content)
    return nvc.BindMount(origin="lib", path=f"{LIBS}/{soname}", source=f"{source}/{soname}")
