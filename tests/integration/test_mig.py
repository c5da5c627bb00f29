# SPDX-License-Identifier: Apache-2.0
"""MIG devices in real containers, on both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

import libnvc
from libnvc.testing import OciContainer

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


@pytest.mark.needs_call("move_mount", "5.2")
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
