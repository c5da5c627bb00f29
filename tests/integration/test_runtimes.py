# SPDX-License-Identifier: Apache-2.0
"""runc and crun, each on both versions of cgroups, root file system writable and read-only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc
from libnvc.testing import OciContainer, configure_hook, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root


@pytest.fixture(params=[False, True], ids=["writable", "readonly"])
def readonly(request: pytest.FixtureRequest) -> bool:
    read_only: bool = request.param
    return read_only


@pytest.fixture
def configured(
    tmp_path: Path,
    commands: Path,
    dgx_a100: Path,
    rootfs: Path,
    runtime: str,
    cgroup: str,
    readonly: bool,
) -> Iterator[OciContainer]:
    """Run a container that a prestart hook gave GPUs 1 and 6."""
    command = [str(commands / "nvidia-container-cli"), f"--root={dgx_a100}", "configure"]
    command += ["--device=1,6", "--utility", "--compute"]
    hook = configure_hook(tmp_path / "hook", command, rootfs)
    container = OciContainer(
        tmp_path / "c",
        rootfs,
        prestart=[hook],
        readonly=readonly,
        runtime=runtime,
        cgroup=cgroup,
    )
    with container as running:
        yield running


def test_prestart_gives_exactly_the_asked_gpus(configured: OciContainer, dgx_a100: Path) -> None:
    gpus = libnvc.discover(str(dgx_a100)).gpus
    listed = configured.exec("nvidia-smi", "-L")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert re.findall(r"GPU-[0-9a-f-]+", listed.stdout) == [gpus[1].uuid, gpus[6].uuid]
    for index in (1, 6):
        got = configured.exec("cat", f"/dev/nvidia{index}").stderr
        assert got == f"cat: /dev/nvidia{index}: No such device or address\n"
    assert configured.exec("ls", "/dev/nvidia0").returncode != 0
    loaded = configured.exec("ldconfig", "-p").stdout
    assert "libcuda.so.1 " in loaded
    assert "libnvidia-ml.so.1 " in loaded


def test_other_gpus_are_denied(
    tmp_path: Path,
    commands: Path,
    dgx_a100: Path,
    rootfs: Path,
    runtime: str,
    cgroup: str,
) -> None:
    command = [str(commands / "nvidia-container-cli"), f"--root={dgx_a100}", "configure"]
    hook = configure_hook(tmp_path / "hook", [*command, "--device=1,6", "--utility"], rootfs)
    (rootfs / "nodes").mkdir()
    with OciContainer(
        tmp_path / "c", rootfs, prestart=[hook], runtime=runtime, cgroup=cgroup
    ) as container:
        found = {}
        for minor in range(8):
            container.exec("mknod", f"/nodes/{minor}", "c", "195", str(minor))
            answer = container.exec("cat", f"/nodes/{minor}").stderr
            found[minor] = answer.rpartition(": ")[2].strip()
    allowed, denied = "No such device or address", "Operation not permitted"
    assert found == {minor: allowed if minor in (1, 6) else denied for minor in range(8)}


@pytest.mark.needs_call("move_mount", "5.2")
def test_attach_and_detach_while_it_runs(
    tmp_path: Path,
    commands: Path,
    dgx_a100: Path,
    rootfs: Path,
    runtime: str,
    cgroup: str,
) -> None:
    """The commands work on a running container, whatever hierarchies the host shows besides."""
    before = tree(rootfs)
    with OciContainer(tmp_path / "c", rootfs, runtime=runtime, cgroup=cgroup) as container:
        table = mounts(container.pid)
        nvc = [str(commands / "nvc")]
        attach = [*nvc, "attach", f"--root={dgx_a100}", "--device=3", f"--pid={container.pid}"]
        done = subprocess.run(attach, capture_output=True, text=True, check=False)
        assert (done.stderr, done.returncode) == ("", 0)
        assert re.fullmatch(r"GPU 3: NVIDIA A100-SXM4-40GB \(GPU-[0-9a-f-]{36}\)\n", done.stdout)
        assert container.exec("nvidia-smi", "-L").stdout.count("GPU-") == 1
        container.exec("mknod", "/dev/other", "c", "195", "4")
        assert "Operation not permitted" in container.exec("cat", "/dev/other").stderr
        detach = [*nvc, "detach", f"--pid={container.pid}"]
        done = subprocess.run(detach, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert container.exec("nvidia-smi", "-L").returncode != 0
        container.exec("mknod", "/dev/nvidia3", "c", "195", "3")
        assert "Operation not permitted" in container.exec("cat", "/dev/nvidia3").stderr
        assert mounts(container.pid) == table
    assert tree(rootfs) == before


def test_a_device_program_is_replaced_without_a_gap(
    tmp_path: Path, dgx_a100: Path, rootfs: Path, runtime: str
) -> None:
    """A process that opens a denied node all the time never gets through."""
    watcher = (
        "i=0; while [ ! -e /stop ]; do cat /denied; i=$((i + 1)); done 2>/log; echo $i >/tries"
    )
    plan = libnvc.Plan(
        operations=tuple(
            libnvc.DeviceAccess(origin="test", path="", major=195, minor=minor)
            for minor in range(8)
        )
    )
    with OciContainer(tmp_path / "c", rootfs, runtime=runtime, cgroup="v2") as container:
        container.exec("mknod", "/denied", "c", "195", "100")
        view = [*container.command("exec"), container.name, "sh", "-c", watcher]
        with subprocess.Popen(view, stdin=subprocess.DEVNULL) as loop:
            try:
                while not (rootfs / "log").exists():
                    assert loop.poll() is None
                for _ in range(100):
                    libnvc.detach(libnvc.apply(plan, libnvc.Target(pid=container.pid)))
            finally:
                (rootfs / "stop").touch()
        assert loop.returncode == 0
    answers = set((rootfs / "log").read_text().splitlines())
    assert answers == {"cat: /denied: Operation not permitted"}
    assert int((rootfs / "tries").read_text()) > 10


def test_a_program_of_a_cgroup_above_is_not_worked_around(tmp_path: Path, rootfs: Path) -> None:
    """A rule in the process's own cgroup would not help: the one above denies all the same."""
    rule = libnvc.DeviceAccess(origin="test", path="", major=195, minor=0)
    with OciContainer(tmp_path / "c", rootfs, cgroup="v2") as container:
        group = Path("/sys/fs/cgroup/unified", container.name)
        below = group / "below"
        below.mkdir()
        (below / "cgroup.procs").write_text(str(container.pid))
        with pytest.raises(libnvc.ContainerError) as caught:
            libnvc.apply(libnvc.Plan(operations=(rule,)), libnvc.Target(pid=container.pid))
        (group / "cgroup.procs").write_text(str(container.pid))
        below.rmdir()
    assert str(caught.value) == (
        "the device program that confines the container is that of a cgroup above: name a process "
        "that is directly in the container's cgroup, or let the engine list the devices and use "
        f"--no-cgroups: {below}"
    )


# Runs where only version 2 is mounted: a container whose cgroup has no program of its own. Prints
# what opening three devices gives, before, with, and after a rule for the first.
WITHOUT_PROGRAM = """
import subprocess
import sys
from pathlib import Path

import libnvc
from libnvc.testing import NamespaceContainer

top = Path("/sys/fs/cgroup")
group = top / sys.argv[2]
JOIN = f'echo $$ >{group}/cgroup.procs; exec "$@"'

def look(pid):
    for node in ("/gpu0", "/gpu1", "/null"):
        enter = ["nsenter", f"--target={pid}", "--mount", "--root", "--wd", "cat", node]
        run = subprocess.run(["sh", "-c", JOIN, "sh", *enter], capture_output=True, text=True)
        print(node, run.stderr.rpartition(": ")[2].strip() or "fine")

rule = libnvc.DeviceAccess(origin="test", path="", major=195, minor=0)
group.mkdir()
with NamespaceContainer(Path(sys.argv[1])) as container:
    (group / "cgroup.procs").write_text(str(container.pid))
    container.start()
    for node, number in {"gpu0": "195 0", "gpu1": "195 1", "null": "1 3"}.items():
        container.exec("mknod", f"/{node}", "c", *number.split())
    target = libnvc.Target(pid=container.pid)
    look(container.pid)
    applied = libnvc.apply(libnvc.Plan(operations=(rule,)), target)
    look(container.pid)
    libnvc.detach(applied)
    look(container.pid)
    (top / "cgroup.procs").write_text(str(container.pid))
group.rmdir()
"""


def test_a_container_without_a_program_gets_one(tmp_path: Path, rootfs: Path) -> None:
    """It allows what it allowed before, but of the GPUs only those that were asked for."""
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_PROGRAM)
    view = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    mount = 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    done = subprocess.run(
        [
            *view,
            mount,
            "sh",
            sys.executable,
            "-P",
            script,
            rootfs,
            f"libnvc-{os.getpid()}-{tmp_path.name}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    gpu, denied = "No such device or address", "Operation not permitted"
    free = [f"/gpu0 {gpu}", f"/gpu1 {gpu}", "/null fine"]
    assert done.stdout.splitlines() == [
        *free,
        f"/gpu0 {gpu}",
        f"/gpu1 {denied}",
        "/null fine",
        *free,
    ]


# Runs where no cgroup hierarchy is in sight: `configure` on a container, with and without rules.
WITHOUT_CGROUPS = """
import subprocess
import sys

from libnvc.testing import NamespaceContainer

command, sim, rootfs = sys.argv[1:]
with NamespaceContainer(rootfs) as container:
    for more in ([], ["--no-cgroups"]):
        words = ["configure", f"--pid={container.pid}", "--device=0", "--utility", *more, rootfs]
        run = subprocess.run([command, f"--root={sim}", *words], capture_output=True, text=True)
        print(run.returncode, run.stderr.strip())
    container.start()
    print(container.exec("nvidia-smi", "-L").stdout.count("GPU-"))
"""


def test_without_a_cgroup_in_sight(
    tmp_path: Path, commands: Path, dgx_a100: Path, rootfs: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(WITHOUT_CGROUPS)
    view = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    hide = 'mount -t tmpfs none /sys/fs/cgroup; exec "$@"'
    command = str(commands / "nvidia-container-cli")
    words = [sys.executable, "-P", str(script), command, str(dgx_a100), str(rootfs)]
    done = subprocess.run([*view, hide, "sh", *words], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "1 nvidia-container-cli: container error: no cgroup of the container that rules devices is "
        "mounted here (looked for cgroup2, and cgroup with devices): let the engine list the "
        "devices and use --no-cgroups",
        "0 ",
        "1",
    ]
