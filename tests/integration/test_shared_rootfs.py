# SPDX-License-Identifier: Apache-2.0
"""Containers that share a root file system, and start at the same time."""

from __future__ import annotations

import fcntl
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import libnvc
from libnvc.testing import NamespaceContainer, mounts

pytestmark = pytest.mark.root

LOCKS = Path("/run/libnvc")
SONAMES = ("libcuda.so.1", "libnvidia-ml.so.1")


def lock_of(rootfs: Path) -> Path:
    status = rootfs.stat()
    return LOCKS / f"root.{status.st_dev}.{status.st_ino}"


def test_all_of_those_that_start_at_once_are_configured(
    commands: Path, dgx_a100: Path, rootfs: Path
) -> None:
    containers = [NamespaceContainer(rootfs) for _ in range(8)]
    cli = [str(commands / "nvidia-container-cli"), f"--root={dgx_a100}", "configure"]
    cli += ["--device=all", "--utility", "--compute", "--video", "--no-cgroups"]

    def configure(container: NamespaceContainer) -> subprocess.CompletedProcess[str]:
        command = [*cli, f"--pid={container.pid}", str(rootfs)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    try:
        for container in containers:
            container.__enter__()
        with ThreadPoolExecutor(len(containers)) as pool:
            answers = list(pool.map(configure, containers))
        assert [(done.returncode, done.stderr) for done in answers] == [(0, "")] * len(containers)
        shown = {len(mounts(container.pid)) for container in containers}
        assert len(shown) == 1  # every one has all of them
        cache = subprocess.run(
            ["/sbin/ldconfig", "-p", "-C", str(rootfs / "etc/ld.so.cache")],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert all(f"\t{soname} " in cache for soname in SONAMES)
    finally:
        for container in containers:
            container.__exit__(None, None, None)
    assert not (rootfs / "etc/ld.so.cache~").exists()
    assert not lock_of(rootfs).exists()


def test_a_lock_that_others_hold_is_not_waited_for_for_ever(dgx_a100: Path, rootfs: Path) -> None:
    request = libnvc.Request(capabilities=("utility",), device_rules=False)
    plan = libnvc.make_plan(libnvc.discover(str(dgx_a100)), request)
    with NamespaceContainer(rootfs) as container:
        target = libnvc.Target(pid=container.pid, rootfs=str(rootfs))
        LOCKS.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(lock_of(rootfs), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            applied = libnvc.apply(plan, target, timeout=2.0)
            assert applied.warnings[len(plan.warnings) :] == (
                f"{lock_of(rootfs)}: another container with this root file system is being "
                "changed for more than 2 seconds: going on without waiting for it",
            )
            assert lock_of(rootfs).exists()
        finally:
            os.close(lock)
        libnvc.detach(applied)
    assert not lock_of(rootfs).exists()


def test_lock_of_somebody_killed_is_removed(dgx_a100: Path, rootfs: Path) -> None:
    LOCKS.mkdir(mode=0o700, exist_ok=True)
    left = LOCKS / "root.0.1"
    left.touch(mode=0o600)
    plan = libnvc.make_plan(
        libnvc.discover(str(dgx_a100)), libnvc.Request(device_rules=False, loader_cache=False)
    )
    with NamespaceContainer(rootfs) as container:
        applied = libnvc.apply(plan, libnvc.Target(pid=container.pid, rootfs=str(rootfs)))
        assert not left.exists()
        libnvc.detach(applied)
