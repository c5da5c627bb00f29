# SPDX-License-Identifier: Apache-2.0
"""The native launcher as the hook that applies a kept plan: `create-runtime PLANFILE ROOTFS`."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

import libnvc
from libnvc._native import flat, ldcache
from libnvc.plan import (
    BindMount,
    Directory,
    LoaderCache,
    Operation,
    Plan,
    Symlink,
    Tmpfs,
    WriteFile,
)
from libnvc.testing import ContainerFailedError, NamespaceContainer, OciContainer, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

LOCKS = Path("/run/libnvc")
NAME = "nvidia-container-runtime-hook"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIBS = "/usr/lib/x86_64-linux-gnu"


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


class Box:
    """A container that is being created, a plan for it, and what it looked like at first."""

    def __init__(self, hook: Path, container: NamespaceContainer, directory: Path) -> None:
        self.hook = hook
        self.pid = container.pid
        self.rootfs = container.rootfs
        self.plan = directory / "plan"
        self.tree = tree(self.rootfs)
        self.mounts = mounts(self.pid)
        self.host_mounts = mounts()

    def write(self, *operations: Operation) -> None:
        self.plan.write_bytes(flat.encode(Plan(operations=operations)))
        self.plan.chmod(0o600)

    def state(self) -> bytes:
        return json.dumps({"ociVersion": "1.0.2", "id": "x", "pid": self.pid}).encode()

    def command(self) -> list[str | Path]:
        return [self.hook, "create-runtime", self.plan, self.rootfs]

    def start(self) -> subprocess.Popen[str]:
        """Start the hook and give it the state."""
        process = subprocess.Popen(
            self.command(),
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(self.state().decode())
        process.stdin.close()
        process.stdin = None
        return process

    def run(
        self, state: bytes | None = None, environment: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Run the hook; return exit status and what it printed."""
        done = subprocess.run(
            self.command(),
            env=environment or {},
            input=self.state() if state is None else state,
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr)

    def added(self) -> list[str]:
        """Return where something is mounted that was not, from the container's root."""
        before = {mount.identity for mount in self.mounts}
        new = [mount.path for mount in mounts(self.pid) if mount.identity not in before]
        return [path.removeprefix(str(self.rootfs)) for path in new]

    def assert_untouched(self) -> None:
        assert mounts(self.pid) == self.mounts
        assert tree(self.rootfs) == self.tree
        assert mounts() == self.host_mounts

    def assert_refused(self, message: str, state: bytes | None = None) -> None:
        assert self.run(state) == (1, "", f"{NAME}: {message}\n")
        self.assert_untouched()

    def lock(self) -> Path:
        status = self.rootfs.stat()
        return LOCKS / f"root.{status.st_dev}.{status.st_ino}"


@pytest.fixture
def hook(commands: Path) -> Path:
    return commands / NAME


@pytest.fixture
def box(tmp_path: Path, rootfs: Path, hook: Path) -> Iterator[Box]:
    with NamespaceContainer(rootfs) as container:
        box = Box(hook, container, tmp_path)
        box.write(directory())
        yield box


def directory(path: str = "/made") -> Directory:
    return Directory(origin="test", path=path, mode=0o755)


def test_plan_is_applied(box: Box, tmp_path: Path) -> None:
    source = tmp_path / "libnew.so.1"
    source.write_text("driver's\n")
    box.write(
        Tmpfs(origin="test", path="/made", mode=0o755),
        WriteFile(origin="test", path="/made/file", content=b"text\n", mode=0o444),
        BindMount(origin="test", path=f"{LIBS}/libnew.so.1", source=str(source)),
        Symlink(origin="test", path=f"{LIBS}/libnew.so", target="libnew.so.1"),
        LoaderCache(
            origin="test",
            path="/etc/ld.so.cache",
            directories=(LIBS,),
            libraries=(("libnew.so.1", f"{LIBS}/libnew.so.1", 64),),
        ),
    )
    assert box.run() == (0, "", "")
    assert box.added() == ["/made", f"{LIBS}/libnew.so.1"]
    cache = ldcache.parse((box.rootfs / "etc/ld.so.cache").read_bytes(), "cache")
    assert f"{LIBS}/libnew.so.1" in {entry.path for entry in cache}
    assert os.readlink(box.rootfs / LIBS[1:] / "libnew.so") == "libnew.so.1"
    assert mounts() == box.host_mounts
    assert not box.lock().exists()


def test_environment_changes_nothing(box: Box, tmp_path: Path, compile_c: CompileC) -> None:
    """What a dynamic program would load leaves a file; PATH and Python's variables say nothing."""
    ran = tmp_path / "ran"
    source = tmp_path / "evil.c"
    source.write_text(
        "#include <fcntl.h>\n#include <unistd.h>\n"
        "__attribute__((constructor)) static void evil(void)\n"
        f'{{ (void)!open("{ran}", O_CREAT | O_WRONLY, 0600); }}\n'
    )
    library = compile_c(tmp_path / "evil.so", source)
    subprocess.run(["/bin/true"], env={"LD_PRELOAD": str(library)}, check=True)
    assert ran.exists()
    ran.unlink()
    for name in ("runc", "python3", "sh", "ldconfig", "mount"):
        (tmp_path / name).write_text(f"#!/bin/sh\n: >{ran}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "LD_PRELOAD": str(library),
        "LD_AUDIT": str(library),
        "LD_LIBRARY_PATH": str(tmp_path),
        "GCONV_PATH": str(tmp_path),
        "PATH": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "NVIDIA_CTK_CONFIG_FILE_PATH": "/dev/zero",
        "XDG_RUNTIME_DIR": str(tmp_path),
    }
    assert box.run(environment=environment) == (0, "", "")
    assert not ran.exists()
    assert (box.rootfs / "made").is_dir()


# --- the state ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        b'{"pid":PID}',
        b' \t\r\n{ "pid" : PID , "a" : [ ] } \n',
        b'{"annotations":{"pid":1,"x":"\\"pid\\":1,\\\\"},"pid":PID}',
        b'{"a":"}, \\"pid\\": 1","pid":PID,"b":[{"pid":2},[[],{}],-0.5e+3,true,false,null]}',
        b'{"\\u0070\\u0069\\u0064":PID}',
        b'{"Pid":1,"PID":1,"pi":1,"pidx":1,"":1,"p\\u0000id":1,"pid":PID}',
        '{"a":"\u00e9\u20ac\U0001f600\\ud83d","pid":PID}'.encode(),
        b'{"a":' + b"[" * 60 + b"]" * 60 + b',"pid":PID}',
        b'{"pid":PID}' + b" " * 1000000,
    ],
)
def test_pid_of_the_state(box: Box, state: bytes) -> None:
    assert box.run(state.replace(b"PID", b"%d" % box.pid)) == (0, "", "")
    assert (box.rootfs / "made").is_dir()


JSON = "could not decode container state: not a JSON object in UTF-8"
NONE = "could not decode container state: it has no pid"
TWICE = "could not decode container state: it has more than one pid"
NO_PID = "could not decode container state: its pid is not the number of a process"
LARGE = "could not decode container state: larger than 1 MiB"


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"", JSON),
        (b"null", JSON),
        (b'"pid"', JSON),
        (b'[{"pid":PID}]', JSON),
        (b'{"pid":PID', JSON),
        (b'{"pid":PID,', JSON),
        (b'{"pid":PID,}', JSON),
        (b'{"pid":PID}x', JSON),
        (b'{"pid":PID}{}', JSON),
        (b'{"pid":PID}\0', JSON),
        (b'\xef\xbb\xbf{"pid":PID}', JSON),
        (b'{"pid":0PID}', JSON),
        (b'{"pid":PIDx}', JSON),
        (b"{pid:PID}", JSON),
        (b"{'pid':PID}", JSON),
        (b'{"pid":PID,"a":"\xff"}', JSON),
        (b'{"pid":PID,"a":"\xc0\x80"}', JSON),
        (b'{"pid":PID,"a":"\xed\xa0\x80"}', JSON),
        (b'{"pid":PID,"a":"\xf5\x80\x80\x80"}', JSON),
        (b'{"pid":PID,"a":"\xe2\x82"}', JSON),
        (b'{"pid":PID,"a":"\n"}', JSON),
        (b'{"pid":PID,"a":"\\x"}', JSON),
        (b'{"pid":PID,"a":"\\u12g4"}', JSON),
        (b'{"pid":PID,"a":nul}', JSON),
        (b'{"pid":PID,"a":.5}', JSON),
        (b'{"pid":PID,"a":1.}', JSON),
        (b'{"pid":PID,"a":1e}', JSON),
        (b'{"pid":PID,"a":NaN}', JSON),
        (b'{"pid":PID,"a":[1 2]}', JSON),
        (b'{"pid":PID,"a":[1}}', JSON),
        (b'{"pid":PID,"a":{"b"}}', JSON),
        (b'{"pid":PID,"a":' + b"[" * 100 + b"]" * 100 + b"}", JSON),
        (b'{"pid":PID,"a":' + b"[" * 1000000, JSON),
        (b"{}", NONE),
        (b'{"Pid":PID}', NONE),
        (b'{"a":{"pid":PID},"b":["pid",PID],"c":"\\"pid\\":PID"}', NONE),
        (b'{"pid":PID,"pid":PID}', TWICE),
        (b'{"pid":1,"a":1,"\\u0070id":PID}', TWICE),
        (b'{"pid":"PID"}', NO_PID),
        (b'{"pid":[PID]}', NO_PID),
        (b'{"pid":null}', NO_PID),
        (b'{"pid":-PID}', NO_PID),
        (b'{"pid":0}', NO_PID),
        (b'{"pid":PID.0}', NO_PID),
        (b'{"pid":PIDe0}', NO_PID),
        (b'{"pid":2147483648}', NO_PID),
        (b'{"pid":4294967297}', NO_PID),
        (b'{"pid":99999999999999999999999}', NO_PID),
        (b'{"pid":PID}' + b" " * (1 << 20), LARGE),
    ],
)
def test_state_that_is_refused(box: Box, state: bytes, message: str) -> None:
    box.assert_refused(message, state.replace(b"PID", b"%d" % box.pid))


def test_process_that_is_gone(box: Box) -> None:
    message = "stat failed: /proc/2147483647: no such file or directory"
    box.assert_refused(message, b'{"pid":2147483647}')


def test_process_that_is_no_container(box: Box) -> None:
    pid = os.getpid()
    message = "the process shares the caller's mount namespace: it is not a container"
    box.assert_refused(f"{message}: /proc/{pid}", b'{"pid":%d}' % pid)


# --- the plan -----------------------------------------------------------------------------------


LOOP = "too many levels of symbolic links"


def truncate(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def replace_by(make: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "open failed: PLAN: no such file or directory"),
        (replace_by(Path.mkdir), "PLAN: not a regular file"),
        (replace_by(os.mkfifo), "PLAN: not a regular file"),
        (replace_by(lambda p: p.symlink_to("/dev/zero")), "PLAN: not a regular file"),
        (replace_by(lambda p: p.symlink_to(p)), f"open failed: PLAN: {LOOP}"),
        (lambda p: p.chmod(0o620), "PLAN: others than root may write to it"),
        (lambda p: p.chmod(0o602), "PLAN: others than root may write to it"),
        (lambda p: os.chown(p, 1234, 0), "PLAN: others than root may write to it"),
        (truncate((16 << 20) + 1), "open failed: PLAN: file too large"),
        (truncate(0), "too short: plan"),
        (truncate(50), "sizes do not add up: plan"),
        (lambda p: p.write_bytes(bytes(100)), "not a plan: plan"),
    ],
)
def test_plan_file_that_is_refused(box: Box, change: Callable[[Path], None], message: str) -> None:
    change(box.plan)
    box.assert_refused(message.replace("PLAN", str(box.plan)))


def test_path_that_is_refused(box: Box) -> None:
    box.write(directory(), directory("/a/../b"))
    box.assert_refused("'..' in a path: /a/../b")


def test_root_file_system_that_is_not_there(box: Box) -> None:
    box.rootfs = box.rootfs.parent / "no\x1b\n\u00e9"
    assert box.run() == (
        1,
        "",
        f"{NAME}: open failed: {box.rootfs.parent}/no\\x1b\\n\\xc3\\xa9: no such file or directory"
        "\n",
    )
    box.rootfs = Path("relative")
    message = "the rootfs is not an absolute path: relative"
    assert box.run() == (1, "", f"{NAME}: {message}\n")


def test_step_that_fails_undoes_those_before(box: Box, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    box.write(directory(), BindMount(origin="test", path="/made/x", source=str(missing)))
    box.assert_refused(f"stat failed: {missing}: no such file or directory")


def test_words_are_those_of_the_library(box: Box, tmp_path: Path) -> None:
    """For what fails in different ways, the hook says what `libnvc.apply` says."""
    (tmp_path / "file").touch()
    failing: tuple[Operation, ...] = (
        BindMount(origin="test", path="/made", source=str(tmp_path / "missing")),
        BindMount(origin="test", path="/etc", source=str(tmp_path / "file")),
        Directory(origin="test", path="/proc/1/x", mode=0o755),
        Symlink(origin="test", path="/proc/x", target="y"),
        WriteFile(origin="test", path="/link/../file", content=b"", mode=0o644),
        Directory(origin="test", path="/up/x", mode=0o755),
    )
    (box.rootfs / "up").symlink_to("../../../x")
    box.tree = tree(box.rootfs)
    target = libnvc.Target(pid=box.pid, rootfs=str(box.rootfs))
    for operation in failing:
        with pytest.raises(libnvc.NvcError) as caught:
            libnvc.apply(Plan(operations=(operation,)), target)
        box.write(operation)
        box.assert_refused(caught.value.message)


def test_warnings(box: Box) -> None:
    (box.rootfs / "etc").rename(box.rootfs / "no-etc")
    operation = LoaderCache(
        origin="test", path="/etc/ld.so.cache", directories=(LIBS,), libraries=()
    )
    target = libnvc.Target(pid=box.pid, rootfs=str(box.rootfs))
    applied = libnvc.apply(Plan(operations=(operation,)), target)
    libnvc.detach(applied)
    assert applied.warnings
    box.write(operation)
    expected = "".join(f"{NAME}: warning: {line}\n" for line in applied.warnings)
    assert box.run() == (0, "", expected)


# --- other processes ----------------------------------------------------------------------------


def wait_until_it_catches_signals(pid: int) -> None:
    status = Path(f"/proc/{pid}/status")
    while not int(re.findall(r"SigCgt:\s*(\w+)", status.read_text())[0], 16) & 1 << 14:
        os.sched_yield()


@pytest.fixture
def held(box: Box) -> Iterator[int]:
    """Hold the lock of the container's root file system, as another process."""
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(box.lock(), os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield lock
    box.lock().unlink(missing_ok=True)
    os.close(lock)


def test_waits_for_others_with_the_same_root_file_system(box: Box, held: int) -> None:
    with box.start() as process:
        wait_until_it_catches_signals(process.pid)
        assert process.poll() is None
        box.assert_untouched()
        fcntl.flock(held, fcntl.LOCK_UN)
        assert process.communicate() == ("", "")
    assert process.returncode == 0
    assert (box.rootfs / "made").is_dir()
    assert not box.lock().exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_while_it_waits(box: Box, held: int, number: signal.Signals) -> None:
    with box.start() as process:
        wait_until_it_catches_signals(process.pid)
        process.send_signal(number)
        assert process.communicate() == ("", f"{NAME}: interrupted by a signal\n")
    assert process.returncode == 1
    box.assert_untouched()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signal_while_it_works(box: Box, number: signal.Signals) -> None:
    box.write(*(directory(f"/{i}") for i in range(5000)))
    with box.start() as process:
        while not (box.rootfs / "0").exists():
            os.sched_yield()
        process.send_signal(number)
        assert process.communicate() == ("", f"{NAME}: interrupted by a signal\n")
    assert process.returncode == 1
    box.assert_untouched()


# --- real runtimes ------------------------------------------------------------------------------


def with_hook(container: OciContainer, hook: Path, plan: Path) -> OciContainer:
    """Add a createRuntime hook to a bundle."""
    path = container.bundle / "config.json"
    document = json.loads(path.read_text())
    arguments = [hook.name, "create-runtime", str(plan), str(container.rootfs)]
    document["hooks"]["createRuntime"] = [{"path": str(hook), "args": arguments, "env": [PATH]}]
    document["annotations"] = {
        "pid": "1",
        'x","pid":1,"y': '"pid":1}',
        "run.oci.hooks.stderr": str(container.bundle / "stderr"),
    }
    path.write_text(json.dumps(document))
    return container


def test_container_of_a_runtime(
    tmp_path: Path, rootfs: Path, hook: Path, dgx_a100: Path, runtime: str, cgroup: str
) -> None:
    inventory = libnvc.discover(str(dgx_a100))
    request = libnvc.Request(devices=("1", "6"), capabilities=("utility", "compute"))
    plan = tmp_path / "plan"
    plan.write_bytes(flat.encode(libnvc.make_plan(inventory, request)))
    container = OciContainer(tmp_path / "c", rootfs, runtime=runtime, cgroup=cgroup)
    with with_hook(container, hook, plan):
        listed = container.exec("nvidia-smi", "-L")
        assert (listed.returncode, listed.stderr) == (0, "")
        uuids = [inventory.gpus[1].uuid, inventory.gpus[6].uuid]
        assert re.findall(r"GPU-[0-9a-f-]+", listed.stdout) == uuids
        loaded = container.exec("ldconfig", "-p").stdout
        assert "libcuda.so.1 " in loaded
        got = container.exec("cat", "/dev/nvidia6").stderr
        assert got == "cat: /dev/nvidia6: No such device or address\n"


def test_runtime_shows_why_the_hook_failed(
    tmp_path: Path, rootfs: Path, hook: Path, runtime: str, cgroup: str
) -> None:
    plan = tmp_path / "plan"
    operation = BindMount(origin="test", path="/x", source=f"{tmp_path}/missing")
    plan.write_bytes(flat.encode(Plan(operations=(directory(), operation))))
    before = tree(rootfs)
    container = OciContainer(tmp_path / "c", rootfs, runtime=runtime, cgroup=cgroup)
    with pytest.raises(ContainerFailedError) as caught, with_hook(container, hook, plan):
        pass
    message = f"{NAME}: stat failed: {tmp_path}/missing: no such file or directory"
    if runtime == "runc":
        assert message in str(caught.value)
    else:  # crun says nothing but that it failed, unless an annotation names a file
        assert str(caught.value).endswith(f"error executing hook `{hook}` (exit code: 1)")
        assert (container.bundle / "stderr").read_text() == f"{message}\n"
    assert tree(rootfs) == before
