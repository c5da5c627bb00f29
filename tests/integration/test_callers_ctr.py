# SPDX-License-Identifier: Apache-2.0
"""Containerd's `ctr run --gpus`, unmodified: it calls nvidia-container-cli from a prestart hook."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import libnvc
import libnvc.sim
from libnvc.plan import BindMount, DeviceNode, Plan, Tmpfs
from libnvc.testing import (
    Containerd,
    copy_program,
    make_rootfs,
    mounts,
    multiarch,
    on_host,
    with_cgroups,
    write_image,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

IMAGE = "test:1"

# The machine's cgroup v2 may have no controller for processors.
RUN = ("run", "--cpu-shares", "0")

#: What `ctr` asks for, whatever it is told.
CAPABILITIES = ("compute", "compat32", "graphics", "utility", "video", "display")
LAYOUT = libnvc.Layout(libs_dir=f"/usr/lib/{multiarch()}", libs32_dir="/usr/lib/i386-linux-gnu")

GPU_0 = "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c"
GPU_3 = "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23f"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an image with a program that uses CUDA, as an archive."""
    directory = tmp_path_factory.mktemp("image")
    rootfs = make_rootfs(directory / "rootfs")
    copy_program(rootfs, libnvc.sim.cuda_client())
    return write_image(directory / "image.tar", rootfs, IMAGE)


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of a simulated DGX A100 without daemons, whose sockets `on_host` lacks."""
    profile = next(p for p in libnvc.sim.profiles() if p.name == "dgx-a100")
    root = tmp_path_factory.mktemp("sim") / "root"
    libnvc.sim.create(profile.replace(daemons=()), root)
    return root


@pytest.fixture(scope="module", params=["v1", "v2"])
def containerd(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    commands: Path,
    sim: Path,
    image: Path,
) -> Iterator[Containerd]:
    """Run containerd on a host that has the simulated driver, with one kind of cgroups."""
    environment = {"PATH": f"{commands}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    host = [*with_cgroups(request.param), *on_host(sim)]
    with Containerd(tmp_path_factory.mktemp("ctr"), environment, host) as containerd:
        imported = containerd.ctr("images", "import", image)
        assert (imported.returncode, imported.stderr) == (0, "")
        yield containerd


def plan_for(sim: Path) -> Plan:
    """Return what shall come into a container that is given GPU 0."""
    inventory = libnvc.discover(str(sim))
    request = libnvc.Request(devices=("0",), capabilities=CAPABILITIES, layout=LAYOUT)
    return libnvc.make_plan(inventory, request)


def test_the_container_sees_gpu_0_only(containerd: Containerd) -> None:
    done = containerd.ctr(
        *(*RUN, "--rm", "--gpus", "0", IMAGE, "c1"), "sh", "-c", "nvidia-smi -L; cuda-probe"
    )
    assert (done.returncode, done.stderr) == (0, "")
    listed, counted, first = done.stdout.splitlines()
    assert listed == f"GPU 0: NVIDIA A100-SXM4-40GB (UUID: {GPU_0})"
    assert counted == "CUDA driver API 12.2: 1 device"
    assert first.startswith(f"device 0: NVIDIA A100-SXM4-40GB, {GPU_0}, ")


def test_two_gpus(containerd: Containerd) -> None:
    asked = ("--gpus", "0", "--gpus", "3")
    done = containerd.ctr(*RUN, "--rm", *asked, IMAGE, "c2", "nvidia-smi", "-L")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"UUID: ([^)]*)", done.stdout) == [GPU_0, GPU_3]


def test_the_cgroup_allows_gpu_0_only(containerd: Containerd) -> None:
    script = "cat /dev/nvidia0; mknod /tmp/nvidia1 c 195 1 && cat /tmp/nvidia1"
    done = containerd.ctr(*RUN, "--rm", "--gpus", "0", IMAGE, "c3", "sh", "-c", script)
    assert done.stderr.splitlines() == [
        "cat: /dev/nvidia0: No such device or address",
        "cat: /tmp/nvidia1: Operation not permitted",
    ]


def test_nothing_comes_that_was_not_asked_for(containerd: Containerd, sim: Path) -> None:
    operations = plan_for(sim).operations
    planned = {op.path for op in operations if isinstance(op, BindMount | DeviceNode)}
    tmpfs = {op.path for op in operations if isinstance(op, Tmpfs)}
    ordinary = running(containerd, "c4")
    given = running(containerd, "c5", "--gpus", "0")
    paths = given["mounts"] - ordinary["mounts"]
    # The firmware's path goes through a link of the image, and this kernel lacks the directory of
    # the driver: it is made in a tmpfs.
    assert {path.replace("/usr/lib/firmware", "/lib/firmware") for path in paths} - {
        "/proc/driver"
    } == {path for path in planned | tmpfs if path != "/proc/driver/nvidia"}
    assert given["nodes"] - ordinary["nodes"] == {
        *("nvidia0", "nvidiactl", "nvidia-modeset", "nvidia-uvm", "nvidia-uvm-tools")
    }


def running(containerd: Containerd, name: str, *options: str) -> dict[str, set[str]]:
    """Run a container; return its mount points and the names in its /dev."""
    started = containerd.ctr(*RUN, "--detach", *options, IMAGE, name, "sleep", "1000000")
    assert (started.returncode, started.stderr) == (0, "")
    tasks = containerd.ctr("tasks", "list").stdout
    found = re.search(rf"^{name} +([0-9]+) +RUNNING$", tasks, re.MULTILINE)
    assert found, tasks
    listed = containerd.ctr("tasks", "exec", "--exec-id", "1", name, "ls", "/dev")
    return {
        "mounts": {mount.path for mount in mounts(found[1])},
        "nodes": set(listed.stdout.split()),
    }


def test_without_gpus_a_container_is_untouched(containerd: Containerd) -> None:
    script = (
        "cat /proc/self/mounts; ls /dev; mknod /tmp/nvidia0 c 195 0; cat /tmp/nvidia0; nvidia-smi"
    )
    done = containerd.ctr(*RUN, "--rm", IMAGE, "c6", "sh", "-c", script)
    assert "nvidia" not in done.stdout
    assert done.stderr.splitlines() == [
        "cat: /tmp/nvidia0: Operation not permitted",
        "sh: 1: nvidia-smi: not found",
    ]
    assert done.returncode == 127


def test_an_unknown_gpu_stops_the_container(containerd: Containerd) -> None:
    done = containerd.ctr(*RUN, "--rm", "--gpus", "9", IMAGE, "c7", "true")
    assert done.returncode == 1
    line, hint = done.stderr.splitlines()
    assert line.endswith("nvidia-container-cli: device error: 9: unknown device")
    assert hint.startswith("nvidia-container-cli: hint: GPUs are numbered 0 to 7 here; ")
    assert not re.search("^c7 ", containerd.ctr("tasks", "list").stdout, re.MULTILINE)
