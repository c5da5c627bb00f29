# SPDX-License-Identifier: Apache-2.0
"""MIG devices in real containers, on both versions of cgroups."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import libnvc
import libnvc.sim
from libnvc.testing import OciContainer, copy_program, tree

pytestmark = pytest.mark.root

CAPS_MAJOR = 511
ALLOWED, DENIED = "No such device or address", "Operation not permitted"


def openable(container: OciContainer, minors: list[int]) -> set[int]:
    """Return the minors of capability devices that the container may open."""
    allowed = set()
    for minor in minors:
        path = f"/nodes/{minor}"
        container.exec("mknod", path, "c", str(CAPS_MAJOR), str(minor))
        answer = container.exec("cat", path).stderr
        assert answer in (f"cat: {path}: {ALLOWED}\n", f"cat: {path}: {DENIED}\n")
        if ALLOWED in answer:
            allowed.add(minor)
    return allowed


def test_rule_for_several_minors(tmp_path: Path, rootfs: Path, runtime: str, cgroup: str) -> None:
    """It allows its range, to the last one and no further, and goes when it is taken back."""
    (rootfs / "nodes").mkdir()
    access = libnvc.DeviceAccess(origin="test", path="", major=CAPS_MAJOR, minor=100, count=40)
    one = libnvc.DeviceAccess(origin="test", path="", major=CAPS_MAJOR, minor=7)
    minors = [6, 7, 8, 99, 100, 101, 139, 140, 1048575]
    with OciContainer(tmp_path / "c", rootfs, runtime=runtime, cgroup=cgroup) as container:
        assert openable(container, minors) == set()
        plan = libnvc.Plan(operations=(access, one))
        applied = libnvc.apply(plan, libnvc.Target(pid=container.pid))
        assert openable(container, minors) == {7, 100, 101, 139}
        libnvc.detach(applied)
        assert openable(container, minors) == set()


def mig_plan(
    sim: Path, container: OciContainer, *devices: str, control: bool = False
) -> libnvc.Plan:
    target = libnvc.Target(pid=container.pid)
    request = libnvc.Request(
        devices=devices,
        capabilities=("utility", "compute"),
        mig_config=control,
        layout=libnvc.inspect_container(target),
    )
    rights = frozenset({"config"} if control else ())
    found = libnvc.discover(str(sim), mig_control=rights)
    if libnvc.needs_probe(request, found):
        found = libnvc.probe(found)
    return libnvc.make_plan(found, request)


@pytest.mark.needs_call("move_mount", "5.2")
@pytest.mark.parametrize(
    "selector", ["0:1", "MIG-a0000000-0000-4000-8000-000002000000"], ids=["index", "uuid"]
)
def test_one_mig_device(
    tmp_path: Path, rootfs: Path, dgx_a100_mig: Path, cgroup: str, selector: str
) -> None:
    """The container sees its MIG device, and may use no other one of that GPU."""
    (rootfs / "nodes").mkdir()
    probe = copy_program(rootfs, libnvc.sim.cuda_client())
    before = tree(rootfs)
    with OciContainer(tmp_path / "c", rootfs, cgroup=cgroup) as container:
        plan = mig_plan(dgx_a100_mig, container, selector)
        applied = libnvc.apply(plan, libnvc.Target(pid=container.pid))
        listed = container.exec("nvidia-smi", "-L")
        assert (listed.returncode, listed.stderr) == (0, "")
        assert re.findall(r"(?:GPU|MIG)-[0-9a-f-]{36}", listed.stdout) == [
            "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c",
            "MIG-a0000000-0000-4000-8000-000002000000",
        ]
        counted = container.exec(probe)
        assert counted.stdout.startswith("CUDA driver API 12.2: 1 device\n")
        assert "MIG 3g.20gb, MIG-a0000000-0000-4000-8000-000002000000," in counted.stdout
        # 1, 2: configure, watch; 12, 13 the first MIG device's; 21, 22 ours
        assert openable(container, [1, 2, 12, 13, 21, 22, 165, 166]) == {21, 22}
        libnvc.detach(applied)
        assert openable(container, [21, 22]) == set()
    for node in (rootfs / "nodes").iterdir():
        node.unlink()
    assert tree(rootfs) == before


@pytest.mark.needs_call("move_mount", "5.2")
def test_rights_to_configure(
    tmp_path: Path, rootfs: Path, dgx_a100_mig: Path, runtime: str, cgroup: str
) -> None:
    """A container that may divide GPU 1 may use all that can be made of it, and nothing else."""
    (rootfs / "nodes").mkdir()
    with OciContainer(tmp_path / "c", rootfs, runtime=runtime, cgroup=cgroup) as container:
        plan = mig_plan(dgx_a100_mig, container, "1", control=True)
        applied = libnvc.apply(plan, libnvc.Target(pid=container.pid))
        ours = [138, 200, 272]  # the first, some, and the last right of GPU 1
        assert openable(container, [1, 2, 3, 137, *ours, 273]) == {1, *ours}
        assert container.exec("ls", "/dev/nvidia-caps/nvidia-cap1").returncode == 0
        config = "/proc/driver/nvidia/capabilities/mig/config"
        assert "DeviceFileMinor: 1\n" in container.exec("cat", config).stdout
        libnvc.detach(applied)
        assert openable(container, [1, *ours]) == set()
