# SPDX-License-Identifier: Apache-2.0
"""The caller is inside the container's namespaces; the container has a user namespace."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
import libnvc.sim
from libnvc.testing import NamespaceContainer, make_rootfs, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Done = subprocess.CompletedProcess[str]

pytestmark = pytest.mark.root

LIBS = "/usr/lib/x86_64-linux-gnu"
OWNER = 1000
EPERM = 1

USER = ["unshare", "--user", "--map-root-user", "--mount"]

#: A command line that makes namespaces, by the name of the test's parameter.
INSIDE = {
    "user": USER,
    "privileged": ["unshare", "--mount", "--propagation", "private"],
    "private proc": [*USER, "--pid", "--fork", "--mount-proc"],
    # Root of no user namespace, with its capabilities all the same.
    "no root": ["unshare", "--user", "--map-user=5", "--map-group=5", "--keep-caps", "--mount"],
}

#: Mounts what a container has, applies, tells what is mounted, detaches.
APPLY = """
import json, subprocess, sys
import libnvc as nvc
from libnvc.testing import mounts

rootfs, sim, kinds = sys.argv[1], sys.argv[2], sys.argv[3:]
subprocess.run(["mount", "--bind", rootfs, rootfs], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", rootfs + "/dev"], check=True)
before = mounts()
target = nvc.Target(pid=0, rootfs=rootfs)
layout = nvc.inspect_container(target)
request = nvc.Request(
    devices=("1",), capabilities=("utility", "compute"), layout=layout, device_rules=False
)
plan = nvc.make_plan(nvc.discover(sim), request)
applied = nvc.apply(plan, target)
new = mounts()[len(before):]
cache = subprocess.run(
    ["/sbin/ldconfig", "-p", "-C", rootfs + "/etc/ld.so.cache"], capture_output=True, text=True
).stdout
nvc.detach(applied)
print(json.dumps({
    "libs": layout.libs_dir,
    "journal": applied.journal,
    "mounts": {m.path.removeprefix(rootfs): m.options for m in new},
    "tags": [m.tags for m in new if m.tags],
    "cached": "libcuda.so.1" in cache,
    "left": mounts() != before,
}))
"""


def run_inside(way: str, *command: str | Path) -> Done:
    return subprocess.run(
        [*INSIDE[way], *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
    )


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    root = make_rootfs(tmp_path / "rootfs")
    (root / "proc/driver").mkdir()
    return root


# --- inside ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", INSIDE)
def test_apply_and_detach_inside(rootfs: Path, dgx_a100: Path, way: str) -> None:
    if way == "no root":
        subprocess.run(["chmod", "-R", "a+rX", rootfs], check=True)
    before = tree(rootfs)
    done = run_inside(way, sys.executable, "-c", APPLY, rootfs, dgx_a100)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    nodes = {path for path in told["mounts"] if path.startswith("/dev/")}
    assert nodes == {f"/dev/nvidia{n}" for n in ("1", "ctl", "-uvm", "-uvm-tools")}
    assert {"ro", "nosuid", "noexec"} <= set(told["mounts"]["/dev/nvidia1"])
    assert {"ro", "nosuid", "nodev"} <= set(told["mounts"]["/usr/bin/nvidia-smi"])
    del told["mounts"]
    assert told == {"libs": LIBS, "journal": "", "tags": [], "cached": True, "left": False}
    assert tree(rootfs) == before


def test_the_command_inside(tmp_path: Path, rootfs: Path, dgx_a100: Path, commands: Path) -> None:
    log = tmp_path / "log"
    command = [f"{commands}/nvidia-container-cli", f"--root={dgx_a100}", "--user", f"--debug={log}"]
    options = ["--no-cgroups", "--ldconfig=@/sbin/ldconfig", "--device=0", "--utility"]
    script = 'echo $$; "$@" && cat /proc/self/mountinfo'
    done = run_inside("user", "sh", "-c", script, "sh", *command, "configure", *options, rootfs)
    assert (done.returncode, done.stderr) == (0, "")
    assert "configuring container with 'no-cgroups utility standalone'" in log.read_text()
    assert f"setting pid to {done.stdout.split()[0]}\n" in log.read_text()
    assert f"{rootfs}/dev/nvidia0 " in done.stdout
    assert f"{rootfs}/dev/nvidia1 " not in done.stdout


def test_a_failure_inside_leaves_nothing(rootfs: Path, dgx_a100: Path, commands: Path) -> None:
    (rootfs / "dev/nvidia0").mkdir()
    before = tree(rootfs)
    command = [f"{commands}/nvidia-container-cli", f"--root={dgx_a100}", "configure"]
    done = run_inside("user", *command, "--no-cgroups", "--device=0", "--utility", rootfs)
    assert (done.returncode, done.stderr) == (
        1,
        f"nvidia-container-cli: mount error: mount operation failed: {rootfs}/dev/nvidia0: "
        "is a directory\n",
    )
    assert tree(rootfs) == before


def test_the_flags_of_a_mount_that_cannot_be_dropped_stay(rootfs: Path, tmp_path: Path) -> None:
    """In a user namespace the flags of what it inherits are locked."""
    (tmp_path / "host").mkdir()
    script = f"""
import libnvc as nvc
from libnvc.testing import mounts
operation = nvc.BindMount(origin="x", path="/file", source="{tmp_path}/host/file", options=("ro",))
nvc.apply(nvc.Plan(operations=(operation,)), nvc.Target(pid=0, rootfs="{rootfs}"))
print(*mounts()[-1].options)
"""
    mount = 'mount -t tmpfs -o nosuid,nodev,noexec tmpfs "$1"; : >"$1/file"; shift; exec "$@"'
    command = [*USER, sys.executable, "-c", script]
    done = run_inside("privileged", "sh", "-ec", mount, "sh", tmp_path / "host", *command)
    assert (done.stderr, done.stdout) == ("", "nodev noexec nosuid relatime ro\n")


# --- what is refused -------------------------------------------------------------------------

HOST = (
    "the caller is in the host's mount namespace: name a process of the container by its pid, or "
    "call this inside the container's namespaces"
)


def test_the_host_s_mount_namespace_is_refused(rootfs: Path) -> None:
    before, table = tree(rootfs), mounts()
    operation = nvc.Directory(origin="x", path="/new")
    with pytest.raises(nvc.ContainerError) as caught:
        nvc.apply(nvc.Plan(operations=(operation,)), nvc.Target(pid=0, rootfs=str(rootfs)))
    assert str(caught.value) == HOST
    assert (tree(rootfs), mounts()) == (before, table)


def test_the_command_on_the_host_is_refused(
    rootfs: Path, dgx_a100: Path, container_cli: Callable[..., Done]
) -> None:
    done = container_cli(f"--root={dgx_a100}", "configure", "--no-cgroups", "--utility", rootfs)
    assert (done.returncode, done.stderr) == (1, f"nvidia-container-cli: container error: {HOST}\n")


@pytest.mark.parametrize("rootfs_", ["", "/", "/proc/../"])
def test_the_host_s_root_is_refused(rootfs_: str) -> None:
    operation = nvc.Directory(origin="x", path="/libnvc-test")
    with pytest.raises(nvc.ContainerError, match="^the process's root is the host's: "):
        nvc.apply(nvc.Plan(operations=(operation,)), nvc.Target(pid=0, rootfs=rootfs_))
    assert not Path("/libnvc-test").exists()


def test_device_rules_are_refused(rootfs: Path) -> None:
    rule = nvc.DeviceAccess(origin="x", path="", major=195, minor=0)
    with pytest.raises(nvc.ContainerError) as caught:
        nvc.apply(nvc.Plan(operations=(rule,)), nvc.Target(pid=0, rootfs=str(rootfs)))
    assert str(caught.value) == (
        "without a process of the container its cgroup is not known: use --no-cgroups, or name a "
        "process by --pid"
    )


def test_nothing_is_kept_for_others_to_detach(rootfs: Path) -> None:
    with pytest.raises(nvc.ContainerError, match="^process 0: nothing was applied"):
        nvc.detach(nvc.Target(pid=0, rootfs=str(rootfs)))


def test_no_capabilities_no_mounts(rootfs: Path, tmp_path: Path) -> None:
    script = f"""
import libnvc as nvc
operation = nvc.BindMount(origin="x", path="/file", source="/etc/passwd")
try:
    nvc.apply(nvc.Plan(operations=(operation,)), nvc.Target(pid=0, rootfs="{rootfs}"))
except nvc.ApplyError as error:
    print(error.errno, error)
"""
    drop = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    done = run_inside("user", *drop, sys.executable, "-c", script)
    # Which call it was depends on the kernel.
    assert re.fullmatch(rf"{EPERM} .* failed: .*: operation not permitted\n", done.stdout)


# --- a container with a user namespace, from the host ------------------------------------------


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a directory that everybody may enter."""
    directory = Path(tempfile.mkdtemp(prefix="libnvc-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def sim(public: Path) -> Path:
    profile = next(p for p in libnvc.sim.profiles() if p.name == "t4")
    libnvc.sim.create(profile, public / "sim")
    return public / "sim"


@pytest.fixture
def owned(public: Path) -> Iterator[NamespaceContainer]:
    root = make_rootfs(public / "rootfs")
    (root / "var/cache").mkdir()
    subprocess.run(["chown", "-hR", f"{OWNER}:{OWNER}", root], check=True)
    with NamespaceContainer(root, owner=OWNER) as container:
        yield container


def as_owner(function: Callable[[], object]) -> object:
    """Call a function as the owner, in a child; return what it returns, or the error's text."""
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(OWNER, OWNER, OWNER)
            os.setresuid(OWNER, OWNER, OWNER)
            result = function()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(write_fd, json.dumps(result).encode())
        os._exit(0)
    os.close(write_fd)
    with os.fdopen(read_fd) as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def plan_for(container: NamespaceContainer, sim: Path) -> nvc.Plan:
    layout = nvc.inspect_container(nvc.Target(pid=container.pid, rootfs=str(container.rootfs)))
    request = nvc.Request(
        devices=("0",), capabilities=("utility", "compute"), layout=layout, device_rules=False
    )
    return nvc.make_plan(nvc.discover(str(sim)), request)


def owners(container: NamespaceContainer) -> set[tuple[int, int]]:
    paths = (p.lstat() for p in container.rootfs.rglob("*"))
    return {(status.st_uid, status.st_gid) for status in paths}


def check_in(container: NamespaceContainer) -> None:
    """See that a started container has its GPU, and its loader cache."""
    container.start()
    assert "libcuda.so.1" in container.exec("ldconfig", "-p").stdout
    nodes = {n for n in container.exec("ls", "/dev").stdout.split() if n.startswith("nvidia")}
    assert nodes == {"nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"}


def test_root_applies_to_a_container_with_a_user_namespace(
    owned: NamespaceContainer, sim: Path
) -> None:
    before, table = tree(owned.rootfs), mounts(owned.pid)
    target = nvc.Target(pid=owned.pid, rootfs=str(owned.rootfs))
    nvc.detach(nvc.apply(plan_for(owned, sim), target))
    assert (tree(owned.rootfs), mounts(owned.pid)) == (before, table)
    nvc.apply(plan_for(owned, sim), target)
    assert owners(owned) == {(OWNER, OWNER)}
    check_in(owned)


def test_the_owner_applies_to_its_container(owned: NamespaceContainer, sim: Path) -> None:
    before, table, host = tree(owned.rootfs), mounts(owned.pid), mounts()
    target = nvc.Target(pid=owned.pid, rootfs=str(owned.rootfs))
    plan = plan_for(owned, sim)
    assert as_owner(lambda: nvc.detach(nvc.apply(plan, target))) is None
    assert (tree(owned.rootfs), mounts(owned.pid)) == (before, table)
    assert as_owner(lambda: nvc.apply(plan, target).journal) == ""
    assert owners(owned) == {(OWNER, OWNER)}
    assert mounts() == host
    check_in(owned)


def test_a_failure_of_the_owner_leaves_nothing(owned: NamespaceContainer, sim: Path) -> None:
    blocked = owned.rootfs / "usr/bin/nvidia-smi"
    blocked.mkdir()
    before, table = tree(owned.rootfs), mounts(owned.pid)
    plan = plan_for(owned, sim)
    target = nvc.Target(pid=owned.pid, rootfs=str(owned.rootfs))
    assert as_owner(lambda: nvc.apply(plan, target)) == (
        f"MountError: mount operation failed: {blocked}: is a directory"
    )
    assert (tree(owned.rootfs), mounts(owned.pid)) == (before, table)


def test_the_owner_cannot_change_what_runs(owned: NamespaceContainer, sim: Path) -> None:
    plan = plan_for(owned, sim)
    owned.start()
    target = nvc.Target(pid=owned.pid)
    assert as_owner(lambda: nvc.apply(plan, target)) == (
        "ContainerError: a container that has already changed its root: needs CAP_SYS_ADMIN of "
        "the host, not only of the container"
    )


def test_another_user_is_refused(owned: NamespaceContainer, tmp_path: Path, sim: Path) -> None:
    with NamespaceContainer(make_rootfs(tmp_path / "other")) as other:
        target = nvc.Target(pid=other.pid, rootfs=str(other.rootfs))
        plan = plan_for(owned, sim)
        assert as_owner(lambda: nvc.apply(plan, target)) == (
            f"ContainerError: open failed: /proc/{other.pid}: permission denied"
        )
