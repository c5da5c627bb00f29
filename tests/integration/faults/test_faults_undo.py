# SPDX-License-Identifier: Apache-2.0
"""A second fault meets the undoing: somebody else finishes it, now or at the next detach."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.conftest import Injector
    from tests.integration.faults.conftest import Stage, Sweep

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("short_stage")]

EIO = 5

#: So many detach in another process, which takes its time.
OTHERS = 25


def undoing(sweep: Sweep, injector: Injector, stage: Stage, first: str) -> tuple[int, int]:
    """Return the number of the last call of an apply, and how many follow to undo it."""
    last = len(sweep.count())
    injector.arm((first, last))
    assert stage.failure() is not None
    stage.assert_untouched(killed=True)
    return last, len(injector.calls()) - last


@pytest.fixture
def others() -> Iterator[bool]:
    """Tell whether it is another process's turn to detach."""
    return (number % OTHERS == 0 for number in range(1 << 30))


def detach(stage: Stage, *, other: bool) -> None:
    if not other:
        nvc.detach(stage.target)
        return
    code = f"import libnvc; libnvc.detach(libnvc.Target(pid={stage.pid}))"
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


@pytest.mark.parametrize("mode", ["kill-before", "kill-after"])
def test_a_worker_that_dies_while_it_undoes_is_replaced(
    stage: Stage, sweep: Sweep, injector: Injector, mode: str
) -> None:
    last, count = undoing(sweep, injector, stage, "fail-before")

    def check() -> None:
        error = stage.failure()
        stage.assert_untouched(killed=True)
        assert len(injector.fired()) == 2
        assert str(error) == "the worker was killed"

    sweep.run(((("fail-before", last), (mode, n)) for n in sweep.points(count)), check)


@pytest.mark.parametrize("mode", ["kill-before", "kill-after"])
def test_after_two_dead_workers_detach_completes(
    stage: Stage, sweep: Sweep, injector: Injector, others: Iterator[bool], mode: str
) -> None:
    last, count = undoing(sweep, injector, stage, "kill-before")

    def check() -> None:
        error = stage.failure()
        assert type(error) is nvc.RollbackError, f"{error!r}"
        assert str(error) == (
            "the worker was killed: left in the container; what failed first: the worker was killed"
        )
        assert len(injector.fired()) == 2
        assert len(stage.journals()) == 1
        detach(stage, other=next(others))
        stage.assert_untouched(killed=True)

    sweep.run(((("kill-before", last), (mode, n)) for n in sweep.points(count)), check)


@pytest.mark.parametrize("mode", ["fail-before", "fail-after"])
def test_after_a_failing_undo_detach_completes(
    stage: Stage, sweep: Sweep, injector: Injector, others: Iterator[bool], mode: str
) -> None:
    last, count = undoing(sweep, injector, stage, "fail-before")

    def check() -> None:
        error = stage.failure()
        if type(error) is nvc.LoaderCacheError:  # of the operation itself: undoing tries again
            assert injector.fired()[1] == f"{mode} 1 unlinkat .ld.so.cache.libnvc"
            stage.assert_untouched()
            return
        assert type(error) is nvc.RollbackError, f"{error!r}"
        assert "input/output error: left in the container; what failed first: " in str(error)
        assert "\n" not in str(error)
        assert error.errno == EIO
        assert error.path
        assert error.operation is not None
        assert error.origin == stage.plan.operations[error.operation].origin
        assert len(injector.fired()) == 2
        assert len(stage.journals()) == 1
        detach(stage, other=next(others))
        stage.assert_untouched()

    sweep.run(((("fail-before", last), (mode, n)) for n in sweep.points(count)), check)


@pytest.mark.parametrize("mode", ["fail-before", "fail-after", "kill-before", "kill-after"])
def test_after_a_failing_detach_another_completes(
    stage: Stage, sweep: Sweep, injector: Injector, others: Iterator[bool], mode: str
) -> None:
    sweep.count()
    count = len(injector.calls())

    def check() -> None:
        error = stage.detach_failure()
        _, _, fired, met = injector.fired()[0].split(" ", 3)
        if error is None:  # rules go first, and what fails is tried again in its turn
            assert met.endswith("devices.deny")
            stage.assert_untouched()
            return
        assert len(stage.journals()) == 1
        detach(stage, other=next(others))
        stage.assert_untouched(killed=mode.startswith("kill"))
        assert "\n" not in str(error)
        if mode.startswith("kill"):
            assert type(error) is nvc.RollbackError, f"{error!r}"
            assert str(error) == "the worker was killed: left in the container"
        elif fired == "setns":
            assert type(error) is nvc.ContainerError, f"{error!r}"
        else:
            assert type(error) is nvc.RollbackError, f"{error!r}"
            assert str(error).endswith("input/output error: left in the container")
            assert error.errno == EIO
            assert error.path
            assert error.operation is not None

    points = (((mode, n),) for n in sweep.points(count))
    sweep.run(points, check, prepare=lambda: nvc.apply(stage.plan, stage.target))
