# SPDX-License-Identifier: Apache-2.0
"""LXC's own hook, as it comes, in containers that get GPUs of a simulated driver."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

import libnvc as nvc
from libnvc.testing import NVIDIA_HOOK, LxcContainer, make_rootfs, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

DGX = "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e2"
CONTROL = {"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"}
LIBS = "/usr/lib/x86_64-linux-gnu"

#: What a hook for privileged containers calls: LXC's own is for others.
PRIVILEGED_HOOK = """\
#!/bin/sh
exec nvidia-container-cli configure {options} --device=1 --utility "$LXC_ROOTFS_MOUNT"
"""


class Make(Protocol):
    """Makes a container; keywords are its environment."""

    def __call__(
        self, hook: Path = ..., *, privileged: bool = ..., **environment: str
    ) -> LxcContainer: ...


#: How root of an unprivileged container owns its files; the second way needs kernel 5.12.
OWNERSHIPS = ["chown"] if "NVC_DENIED" in os.environ else ["chown", "idmap"]


@pytest.fixture
def ownership() -> str:
    return "chown"


@pytest.fixture
def rootfs(tmp_path: Path, ownership: str) -> Path:
    root = make_rootfs(tmp_path / "rootfs")
    if ownership == "chown":
        ids = f"{LxcContainer.FIRST_ID}:{LxcContainer.FIRST_ID}"
        subprocess.run(["chown", "-hR", ids, root], check=True)
    return root


@pytest.fixture
def make(tmp_path: Path, rootfs: Path, ownership: str, commands: Path, dgx_a100: Path) -> Make:
    """Make containers whose hooks find our command.

    LXC's hook names no driver root: the command on its PATH is a script that adds the simulated
    one, and keeps what the command says.
    """
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "said").touch()
    (programs / "said").chmod(0o666)
    command = shlex.join([f"{commands}/nvidia-container-cli", f"--root={dgx_a100}"])
    write_program(
        programs / "nvidia-container-cli",
        f'#!/bin/sh\nexec {command} "$@" 2>{shlex.quote(str(programs))}/said\n',
    )

    def make(
        hook: Path = NVIDIA_HOOK, *, privileged: bool = False, **environment: str
    ) -> LxcContainer:
        return LxcContainer(
            tmp_path / "lxc",
            rootfs,
            mount_hooks=[hook],
            environment=environment,
            programs=programs,
            shown=[dgx_a100, commands.parent, Path(sys.base_prefix)],
            privileged=privileged,
            more=[
                *(f"lxc.cgroup.devices.allow = c {node} rw" for node in ("195:1", "195:255")),
                *(["lxc.rootfs.options = idmap=container"] if ownership == "idmap" else []),
            ],
        )

    return make


def write_program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def said(container: LxcContainer) -> str:
    return (container.directory.parent / "programs/said").read_text()


def gpus(output: str) -> list[str]:
    """Return what tells the GPUs that nvidia-smi lists apart."""
    return re.findall(rf"^GPU \d+: .*\(UUID: {DGX}(..)\)$", output, re.MULTILINE)


def libraries(root: Path, *capabilities: str) -> Iterator[str]:
    """Return the SONAMEs of all libraries that capabilities bring."""
    plan = nvc.make_plan(
        nvc.discover(str(root)), nvc.Request(devices=("all",), capabilities=capabilities)
    )
    return (op.path.rpartition("/")[2] for op in plan.operations if op.origin == "soname")


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("0,2", ["3c", "3e"]),
        ("all", [f"{0x3C + n:x}" for n in range(8)]),
        (f"{DGX}41", ["41"]),
        ("0000:07:00.0", ["3c"]),
    ],
)
def test_the_hook_gives_the_gpus_asked_for(make: Make, asked: str, given: list[str]) -> None:
    container = make(NVIDIA_VISIBLE_DEVICES=asked, NVIDIA_DRIVER_CAPABILITIES="utility,compute")
    done = container.run("sh", "-c", "nvidia-smi -L && ls /dev")
    assert (done.returncode, gpus(done.stdout)) == (0, given), said(container)
    nodes = {name for name in done.stdout.split() if name.startswith("nvidia")}
    assert nodes == CONTROL | {f"nvidia{int(uuid, 16) - 0x3C}" for uuid in given}


@pytest.mark.parametrize("ownership", OWNERSHIPS)
def test_the_container_is_unprivileged(make: Make) -> None:
    done = make(NVIDIA_VISIBLE_DEVICES="0").run("sh", "-c", "cat /proc/self/uid_map; nvidia-smi -L")
    assert done.stdout.split()[:3] == ["0", "100000", "65536"]
    assert gpus(done.stdout) == ["3c"]


def test_every_library_is_found(make: Make, dgx_a100: Path) -> None:
    container = make(
        NVIDIA_VISIBLE_DEVICES="0", NVIDIA_DRIVER_CAPABILITIES="utility,compute,video,graphics"
    )
    done = container.run("/sbin/ldconfig", "-p")
    found = dict(re.findall(r"^\t(\S+) .* => (\S+)$", done.stdout, re.MULTILINE))
    wanted = set(libraries(dgx_a100, "utility", "compute", "video", "graphics"))
    assert len(wanted) == 17
    # The image's /lib is a link to /usr/lib.
    ours = {n for n, path in found.items() if f"/usr{path.removeprefix('/usr')}" == f"{LIBS}/{n}"}
    assert wanted - ours == set()


def test_nothing_but_what_was_asked_for_is_mounted(make: Make, dgx_a100: Path) -> None:
    container = make(NVIDIA_VISIBLE_DEVICES="3", NVIDIA_DRIVER_CAPABILITIES="utility")
    done = container.run("cat", "/proc/self/mountinfo")
    mounted = {
        line.split()[4]: line.split()[5].split(",")
        for line in done.stdout.splitlines()
        if str(dgx_a100) in line.split()[3]
    }
    plan = nvc.make_plan(
        nvc.discover(str(dgx_a100)),
        nvc.Request(
            devices=("3",),
            capabilities=("utility",),
            layout=nvc.Layout(libs_dir=LIBS),
            device_rules=False,
        ),
    )
    binds = [op for op in plan.operations if isinstance(op, nvc.BindMount | nvc.DeviceNode)]
    # The images's /lib is a link.
    assert set(mounted) == {re.sub("^/lib/", "/usr/lib/", op.path) for op in binds}
    assert all("nosuid" in options for options in mounted.values())
    assert all(
        ("nodev" in options) is not path.startswith("/dev/") for path, options in mounted.items()
    )


@pytest.mark.parametrize("asked", ["none", "void"])
def test_no_gpu_is_asked_for(make: Make, asked: str) -> None:
    done = make(NVIDIA_VISIBLE_DEVICES=asked).run("ls", "/dev")
    nodes = {name for name in done.stdout.split() if name.startswith("nvidia")}
    assert nodes == ({"nvidiactl"} if asked == "none" else set())


def test_a_failing_hook_stops_the_container_and_leaves_nothing(make: Make, rootfs: Path) -> None:
    before = tree(rootfs)
    container = make(NVIDIA_VISIBLE_DEVICES="0,8", NVIDIA_DRIVER_CAPABILITIES="utility")
    done = container.run("true")
    assert done.returncode == 1
    assert said(container).splitlines() == [
        "nvidia-container-cli: device error: 8: unknown device",
        "nvidia-container-cli: hint: GPUs are numbered 0 to 7 here; "
        "nvidia-smi -L on the host shows their UUIDs",
    ]
    assert tree(rootfs) == before


def test_a_failing_step_is_undone_inside_the_container(make: Make, rootfs: Path) -> None:
    (rootfs / "usr/bin/nvidia-smi").mkdir()
    before = tree(rootfs)
    container = make(NVIDIA_VISIBLE_DEVICES="0", NVIDIA_DRIVER_CAPABILITIES="utility")
    assert container.run("true").returncode == 1
    assert said(container) == (
        "nvidia-container-cli: mount error: mount operation failed: "
        "/usr/lib/x86_64-linux-gnu/lxc/rootfs/usr/bin/nvidia-smi: is a directory\n"
    )
    assert tree(rootfs) == before


@pytest.mark.parametrize("ownership", ["root"])
def test_a_privileged_container(make: Make, tmp_path: Path) -> None:
    hook = write_program(tmp_path / "programs/hook", PRIVILEGED_HOOK.format(options="--no-cgroups"))
    container = make(hook, privileged=True)
    done = container.run("sh", "-c", "cat /proc/self/uid_map; nvidia-smi -L")
    assert (done.returncode, gpus(done.stdout)) == (0, ["3d"]), said(container)
    assert done.stdout.split()[:3] == ["0", "0", "4294967295"]


@pytest.mark.parametrize("ownership", ["root"])
def test_a_privileged_container_without_no_cgroups_is_refused(make: Make, tmp_path: Path) -> None:
    hook = write_program(tmp_path / "programs/hook", PRIVILEGED_HOOK.format(options=""))
    container = make(hook, privileged=True)
    assert container.run("true").returncode == 1
    assert said(container) == (
        "nvidia-container-cli: container error: without a process of the container its cgroup is "
        "not known: use --no-cgroups, or name a process by --pid\n"
    )
