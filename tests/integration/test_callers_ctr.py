# SPDX-License-Identifier: Apache-2.0
"""Containerd's `ctr run --gpus`, unmodified: it calls nvidia-container-cli from a prestart hook."""

from __future__ import annotations

import os
import re
from functools import partial
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

    from tests.conftest import CheckGpus

pytestmark = pytest.mark.root

IMAGE = "test:1"

# The machine's cgroup v2 may have no controller for processors.
RUN = ("run", "--cpu-shares", "0")

#: What `ctr` asks for, whatever it is told.
CAPABILITIES = ("compute", "compat32", "graphics", "utility", "video", "display")
LAYOUT = libnvc.Layout(libs_dir=f"/usr/lib/{multiarch()}", libs32_dir="/usr/lib/i386-linux-gnu")


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


@pytest.mark.parametrize("indices", [[0], [0, 3]])
def test_the_container_can_use_the_gpus_asked_for(
    containerd: Containerd, indices: list[int], check_gpus: CheckGpus
) -> None:
    asked = [option for index in indices for option in ("--gpus", str(index))]
    check_gpus(partial(containerd.run, [*RUN[1:], *asked], IMAGE, "c1"), indices)


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
    return {
        "mounts": {mount.path for mount in mounts(found[1])},
        "nodes": set(os.listdir(f"/proc/{found[1]}/root/dev")),
    }


def test_without_gpus_a_container_is_untouched(containerd: Containerd) -> None:
    script = (
        "cat /proc/self/mounts; ls /dev; mknod /tmp/nvidia0 c 195 0; cat /tmp/nvidia0; nvidia-smi"
    )
    done = containerd.run(RUN[1:], IMAGE, "c6", "sh", "-c", script)
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
