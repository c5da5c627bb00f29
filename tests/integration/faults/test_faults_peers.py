# SPDX-License-Identifier: Apache-2.0
"""Faults while the container's root, which has peers, is out of its group for a moment."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
from libnvc.testing import mounts

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.conftest import Injector
    from tests.integration.faults.conftest import Stage, Sweep

pytestmark = pytest.mark.root

#: Makes the container's root shared, with a peer beside it.
SHARE = 'mount --make-shared "$1" && mkdir -p "$2" && mount --bind "$1" "$2"'


def share(stage: Stage, peer: Path) -> None:
    enter = ["nsenter", f"--target={stage.pid}", "--mount"]
    subprocess.run([*enter, "sh", "-c", SHARE, "sh", stage.rootfs, peer], check=True)


def root_tags(stage: Stage) -> tuple[str, ...]:
    """Return the tags of the container's root, the topmost mount there."""
    return [mount.tags for mount in mounts(stage.pid) if mount.path == str(stage.rootfs)][-1]


@pytest.fixture
def shared(stage: Stage, sources: Path, tmp_path: Path) -> Stage:
    """Return a container whose root has a peer, and a plan that mounts in it."""
    stage.plan = nvc.Plan(
        operations=(
            nvc.BindMount(origin="file", path="/usr/bin/env", source=f"{sources}/file"),
            nvc.Tmpfs(origin="over", path="/srv/there"),
            nvc.BindMount(origin="new", path="/opt/new", source=f"{sources}/file"),
        )
    )
    stage.after_renewal = lambda: share(stage, tmp_path / "peer")
    stage.after_renewal()
    return stage


@pytest.mark.parametrize("mode", ["fail-before", "fail-after", "kill-before", "kill-after"])
def test_the_root_is_back_in_its_group(
    shared: Stage, sweep: Sweep, injector: Injector, mode: str
) -> None:
    def check() -> None:
        error = shared.failure()
        shared.assert_untouched(killed=mode.startswith("kill"))
        assert error is not None
        assert len(injector.fired()) == 1

    assert root_tags(shared)[0].startswith("shared:")
    calls = sweep.count()
    sweep.run((((mode, n),) for n in sweep.points(len(calls))), check)


@pytest.mark.parametrize("mode", ["kill-before", "kill-after"])
def test_a_second_worker_brings_the_root_back(
    shared: Stage, sweep: Sweep, injector: Injector, mode: str
) -> None:
    """The first one fails, and dies while it undoes."""

    def check() -> None:
        error = shared.failure()
        shared.assert_untouched(killed=True)
        assert error is not None

    count = len(sweep.count())
    firsts = sweep.points(count)[2:]
    seconds = range(1, 6)
    sweep.run(((("fail-before", n), (mode, m)) for n in firsts for m in seconds), check)


def test_if_nobody_remembers_its_group_the_root_gets_one_of_its_own(
    shared: Stage, sweep: Sweep, injector: Injector
) -> None:
    def look() -> list[tuple[object, ...]]:
        return [(mount.identity, mount.path) for mount in mounts(shared.pid)]

    def check() -> None:
        assert isinstance(shared.failure(), nvc.RollbackError)
        nvc.detach(shared.target)
        assert look() == before
        assert root_tags(shared)[0].startswith("shared:")

    before = look()
    calls = sweep.count()
    attached = calls.index("move_mount") + 1
    points = (("kill-after", attached), ("kill-before", 1))
    sweep.run([points], check)
