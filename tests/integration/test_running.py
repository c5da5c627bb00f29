# SPDX-License-Identifier: Apache-2.0
"""GPUs come to a running container and go again, and nothing remembers them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc
from libnvc._native import ldcache
from libnvc.testing import Mount, NamespaceContainer, OciContainer, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

# A container's own loader cache helper: ldconfig inside keeps facts about files there.
OF_THE_CONTAINER = ("var/cache", "var/cache/ldconfig", "var/cache/ldconfig/aux-cache")


class Look:
    """Everything about a container that a visit could leave changed."""

    def __init__(self, container: OciContainer, rootfs: Path) -> None:
        group = Path("/sys/fs/cgroup/devices", container.name)
        self.tree = {k: v for k, v in tree(rootfs).items() if k not in OF_THE_CONTAINER}
        self.cache = ldcache.parse((rootfs / "etc/ld.so.cache").read_bytes(), "cache")
        self.dev = tree(Path(f"/proc/{container.pid}/root/dev"))
        self.mounts: tuple[Mount, ...] = mounts(container.pid)
        self.host_mounts: tuple[Mount, ...] = mounts()
        self.rules = (group / "devices.list").read_text()
        self.descriptors = len(os.listdir("/proc/self/fd"))
        self.journals = sorted(Path("/run/libnvc").glob(f"{container.pid}.*"))

    def assert_same(self, other: Look, *, but: str = "") -> None:
        self.tree.pop(but, None)
        other.tree.pop(but, None)
        assert self.tree == other.tree
        assert self.cache == other.cache
        assert self.dev == other.dev
        assert self.mounts == other.mounts
        assert self.host_mounts == other.host_mounts
        assert self.rules == other.rules
        assert self.descriptors == other.descriptors
        assert self.journals == other.journals == []


@pytest.fixture
def container(tmp_path: Path, rootfs: Path) -> Iterator[OciContainer]:
    with OciContainer(tmp_path / "c", rootfs) as running:
        yield running


def plan_for(sim: Path, target: libnvc.Target, *devices: str) -> libnvc.Plan:
    request = libnvc.Request(
        devices=devices,
        capabilities=("utility", "compute"),
        layout=libnvc.inspect_container(target),
    )
    return libnvc.make_plan(libnvc.discover(str(sim)), request)


@pytest.mark.needs_call("move_mount", "5.2")
def test_a_hundred_times(container: OciContainer, rootfs: Path, dgx_a100: Path) -> None:
    target = libnvc.Target(pid=container.pid)
    plan = plan_for(dgx_a100, target, "all")
    before = Look(container, rootfs)
    for _ in range(100):
        libnvc.detach(libnvc.apply(plan, target))
    before.assert_same(Look(container, rootfs))


@pytest.mark.needs_call("move_mount", "5.2")
def test_one_over_the_other(container: OciContainer, rootfs: Path, dgx_a100: Path) -> None:
    """What came first serves what came later, so it goes last."""
    target = libnvc.Target(pid=container.pid)
    plans = [plan_for(dgx_a100, target, str(index)) for index in range(8)]
    before = Look(container, rootfs)
    for _ in range(3):
        applied = [libnvc.apply(plan, target) for plan in plans]
        assert container.exec("nvidia-smi", "-L").stdout.count("GPU-") == 8
        with pytest.raises(libnvc.ContainerError) as caught:
            libnvc.detach(applied[3])
        assert str(caught.value) == (
            f"process {container.pid}: something else was applied to its container later: "
            f"detach that first, or detach everything "
            f"({applied[7].journal} is newer than {applied[3].journal})"
        )
        for index in reversed(range(8)):
            libnvc.detach(applied[index])
            assert container.exec("nvidia-smi", "-L").stdout.count("GPU-") == index
        before.assert_same(Look(container, rootfs))


@pytest.mark.needs_call("move_mount", "5.2")
def test_from_another_process_after_ldconfig_ran_inside(
    container: OciContainer, rootfs: Path, dgx_a100: Path, commands: Path
) -> None:
    assert container.exec("ldconfig").returncode == 0
    before = Look(container, rootfs)
    pid = f"--pid={container.pid}"
    attach = [str(commands / "nvc"), "attach", f"--root={dgx_a100}", "--device=all", pid]
    for _ in range(3):
        attached = subprocess.run(attach, check=False, capture_output=True, text=True)
        assert (attached.stderr, attached.returncode) == ("", 0)
        assert container.exec("nvidia-smi", "-L").stdout.count("GPU-") == 8
        assert container.exec("ldconfig").returncode == 0
        assert "libcuda.so.1 " in container.exec("ldconfig", "-p").stdout
        subprocess.run([commands / "nvc", "detach", pid], check=True)
        # The cache is another file, with the same answers.
        before.assert_same(Look(container, rootfs), but="etc/ld.so.cache")


@pytest.mark.needs_call("move_mount", "5.2")
def test_its_processes_see_the_gpu_come_and_go(
    container: OciContainer, rootfs: Path, dgx_a100: Path
) -> None:
    """One process of the container, running all the time."""
    loop = "while read line; do cat /dev/nvidia5 2>&1; nvidia-smi -L | grep -c GPU-; done"
    target = libnvc.Target(pid=container.pid)
    with subprocess.Popen(
        container.command("exec", container.name, "sh", "-c", loop),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask() -> list[str]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return [process.stdout.readline().strip() for _ in range(2)]

        gone = ["cat: /dev/nvidia5: No such file or directory", "0"]
        assert ask() == gone
        for _ in range(3):
            applied = libnvc.apply(plan_for(dgx_a100, target, "5"), target)
            assert ask() == ["cat: /dev/nvidia5: No such device or address", "1"]
            libnvc.detach(applied)
            assert ask() == gone
        process.stdin.close()


def cats() -> Iterator[int]:
    """Yield the processes called cat; others may end meanwhile."""
    for path in Path("/proc").glob("[0-9]*/comm"):
        with suppress(FileNotFoundError, ProcessLookupError):
            if path.read_text() == "cat\n":
                yield int(path.parent.name)


def namespace_of(pid: int) -> str:
    """Return the mount namespace of a process, "" once it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return os.readlink(f"/proc/{pid}/ns/mnt")
    return ""


@pytest.mark.needs_call("move_mount", "5.2")
def test_any_process_of_the_container_will_do(
    container: OciContainer, rootfs: Path, dgx_a100: Path
) -> None:
    before = Look(container, rootfs)
    with subprocess.Popen(
        container.command("exec", container.name, "cat"), stdin=subprocess.PIPE
    ) as process:
        own = os.readlink(f"/proc/{container.pid}/ns/mnt")
        others: list[int] = []
        while not others:
            others = [pid for pid in cats() if namespace_of(pid) == own]
        other = libnvc.Target(pid=others[0])
        libnvc.apply(plan_for(dgx_a100, other, "0"), other)
        assert container.exec("nvidia-smi", "-L").stdout.count("GPU-") == 1
        libnvc.detach(libnvc.Target(pid=container.pid))
        before.journals = sorted(Path("/run/libnvc").glob(f"{other.pid}.*"))
        assert before.journals == []
        process.communicate()
    before.assert_same(Look(container, rootfs))


def test_what_is_made_belongs_to_the_containers_root(rootfs: Path) -> None:
    """Not to the user that the process happens to run as."""
    plan = libnvc.Plan(operations=(libnvc.Directory(origin="x", path="/opt/new"),))
    with NamespaceContainer(rootfs) as container:
        container.start()
        enter = ["nsenter", f"--target={container.pid}", "--mount", "--root", "--wd"]
        with subprocess.Popen(
            [*enter, f"--setuid={65534}", f"--setgid={65534}", "cat"], stdin=subprocess.PIPE
        ) as process:
            while Path(f"/proc/{process.pid}/comm").read_text() != "cat\n":
                assert process.poll() is None
            assert Path(f"/proc/{process.pid}").stat().st_uid == 65534
            applied = libnvc.apply(plan, libnvc.Target(pid=process.pid))
            assert (rootfs / "opt/new").stat().st_uid == 0
            libnvc.detach(applied)
            process.communicate()


def own_state() -> tuple[object, ...]:
    """Return everything of this process that a careless library could change."""
    mask = os.umask(0)
    os.umask(mask)
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    namespaces = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
    status = Path("/proc/self/status").read_text()
    fixed = [
        line
        for line in status.splitlines()
        if line.startswith(("Cap", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp"))
        or (line.startswith(("Sig", "Shd")) and not line.startswith("SigQ"))  # all of root's
    ]
    descriptors = sorted(os.listdir("/proc/self/fd"), key=int)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return (
        os.getcwd(),
        os.readlink("/proc/self/root"),
        mask,
        namespaces,
        fixed,
        descriptors,
        children,
    )


@pytest.mark.needs_call("move_mount", "5.2")
def test_eight_threads_with_eight_containers(tmp_path: Path, rootfs: Path, dgx_a100: Path) -> None:
    roots = [tmp_path / f"root{index}" for index in range(8)]
    for root in roots:
        subprocess.run(["cp", "-a", rootfs, root], check=True)
    before = [tree(root) for root in roots]
    host = mounts()
    with ExitStack() as stack:
        containers = [
            stack.enter_context(OciContainer(tmp_path / f"c{index}", root))
            for index, root in enumerate(roots)
        ]
        targets = [libnvc.Target(pid=container.pid) for container in containers]
        plans = [plan_for(dgx_a100, target, str(i)) for i, target in enumerate(targets)]
        ready = threading.Barrier(8)
        # The C library takes a signal for itself when the first thread starts.
        first = threading.Thread(target=own_state)
        first.start()
        first.join()
        own = own_state()

        def visit(index: int) -> str:
            ready.wait()
            for _ in range(10):
                libnvc.detach(libnvc.apply(plans[index], targets[index]))
            libnvc.apply(plans[index], targets[index])
            return containers[index].exec("nvidia-smi", "-L").stdout

        with ThreadPoolExecutor(8) as pool:
            listed = list(pool.map(visit, range(8)))
        assert own_state() == own
        uuids = [gpu.uuid for gpu in libnvc.discover(str(dgx_a100)).gpus]
        assert [re.findall(r"GPU-[0-9a-f-]+", text) for text in listed] == [[u] for u in uuids]
        for target in targets:
            libnvc.detach(target)
        assert own_state() == own
    assert [tree(root) for root in roots] == before
    assert mounts() == host


@pytest.mark.needs_call("move_mount", "5.2")
def test_one_at_a_time_for_a_container(
    container: OciContainer, rootfs: Path, tmp_path: Path
) -> None:
    """Threads that apply and detach at once: nothing is forgotten."""
    (tmp_path / "file").write_text("x")
    target = libnvc.Target(pid=container.pid)
    mount = libnvc.BindMount(origin="x", path="/opt/file", source=str(tmp_path / "file"))
    plan = libnvc.Plan(operations=(mount,))
    before = Look(container, rootfs)

    def work(index: int) -> None:
        for _ in range(20):
            if index % 2 == 0:
                libnvc.apply(plan, target)
                continue
            try:
                libnvc.detach(target)
            except libnvc.ContainerError as error:
                assert "nothing was applied" in str(error)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    libnvc.apply(plan, target)
    libnvc.detach(target)
    before.assert_same(Look(container, rootfs))


def test_others_that_fork_do_not_make_it_look_hung(
    container: OciContainer, rootfs: Path, tmp_path: Path
) -> None:
    """A child forked by another thread may inherit the pipe that tells of the worker's end."""
    plan = libnvc.Plan(operations=(libnvc.Directory(origin="x", path="/opt/new"),))
    target = libnvc.Target(pid=container.pid)
    stop = threading.Event()
    children: list[int] = []

    def fork() -> None:
        while not stop.is_set() and len(children) < 200:
            pid = os.fork()
            if pid == 0:
                signal.pause()
                os._exit(0)
            children.append(pid)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork in a process with threads
        thread = threading.Thread(target=fork)
        thread.start()
        try:
            while len(children) < 200:
                libnvc.detach(libnvc.apply(plan, target, timeout=2), timeout=2)
        finally:
            stop.set()
            thread.join()
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def test_a_container_with_a_user_namespace_owns_what_is_made(tmp_path: Path, rootfs: Path) -> None:
    (tmp_path / "file").write_text("x")
    subprocess.run(["chown", "-R", "100000:100000", rootfs], check=True)
    before = tree(rootfs)
    operations = (
        libnvc.Directory(origin="x", path="/opt/new"),
        libnvc.BindMount(origin="x", path="/opt/new/file", source=str(tmp_path / "file")),
        libnvc.Symlink(origin="x", path="/opt/new/link", target="file"),
        libnvc.DeviceNode(origin="x", path="/opt/new/node", major=1, minor=3),
    )
    words = ["unshare", "--user", "--mount", "--propagation", "private", "cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        own = os.readlink("/proc/self/ns/user")
        while os.readlink(f"/proc/{process.pid}/ns/user") == own:
            assert process.poll() is None
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process.pid}/{name}").write_text("0 100000 65536")
        target = libnvc.Target(pid=process.pid, rootfs=str(rootfs))
        applied = libnvc.apply(libnvc.Plan(operations=operations), target)
        made = {path: facts[1:3] for path, facts in tree(rootfs).items() if path not in before}
        assert made == dict.fromkeys(
            ("opt", "opt/new", "opt/new/file", "opt/new/link", "opt/new/node"), (100000, 100000)
        )
        libnvc.detach(applied)
        assert tree(rootfs) == before
        process.communicate()
