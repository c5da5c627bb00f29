# SPDX-License-Identifier: Apache-2.0
"""Containers that share a root file system, and start at the same time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import libnvc
from libnvc._native import ldcache
from libnvc.testing import NamespaceContainer

pytestmark = pytest.mark.root

LOCKS = Path("/run/libnvc")


def lock_of(rootfs: Path) -> Path:
    status = rootfs.stat()
    return LOCKS / f"root.{status.st_dev}.{status.st_ino}"


class Reader(threading.Thread):
    """Reads the loader cache over and over, as programs that start do.

    Attributes:
        seen: how many entries it had, each time.
    """

    def __init__(self, cache: Path) -> None:
        super().__init__()
        self._cache = cache
        self._ended = threading.Event()
        self.seen: list[int] = []

    def run(self) -> None:
        while not self._ended.is_set():
            # raises for a cache that is missing or broken: then the last number is none of ours
            self.seen.append(-1)
            self.seen[-1] = len(ldcache.parse(self._cache.read_bytes(), "cache"))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def test_all_of_those_that_start_at_once_are_configured(
    commands: Path, dgx_a100: Path, rootfs: Path
) -> None:
    containers = [NamespaceContainer(rootfs) for _ in range(40)]
    cli = [str(commands / "nvidia-container-cli"), f"--root={dgx_a100}", "configure"]
    kinds = ("--compute", "--video", "--utility", "--graphics", "--ngx")

    def configure(number: int) -> subprocess.CompletedProcess[str]:
        wanted = ["--device=all", kinds[number % len(kinds)], "--no-cgroups"]
        command = [*cli, *wanted, f"--pid={containers[number].pid}", str(rootfs)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    cache = rootfs / "etc/ld.so.cache"
    subprocess.run(["ldconfig", "-r", rootfs], check=True)
    before = ldcache.parse(cache.read_bytes(), "cache")
    reader = Reader(cache)
    try:
        for container in containers:
            container.__enter__()
        reader.start()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(configure, range(len(containers))))
    finally:
        reader.stop()
        for container in containers:
            container.__exit__(None, None, None)
    assert [(done.returncode, done.stderr) for done in answers] == [(0, "")] * len(containers)
    # What each of them added is there, and what was there before.
    listed = ldcache.parse(cache.read_bytes(), "cache")
    found = {entry.soname for entry in listed}
    assert {entry.soname for entry in before} < found
    assert {library.soname for library in libnvc.discover(str(dgx_a100)).libraries} <= found
    assert len(reader.seen) > len(containers)
    assert min(reader.seen) >= len(before)
    assert reader.seen == sorted(reader.seen)
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
