# SPDX-License-Identifier: Apache-2.0
"""Run by test_faults_cgroup2.py: faults at the calls that change device programs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integration.conftest import CompileC, Injector, Orphans
    from tests.integration.faults.conftest import Stage, Sweep

MODES = ["fail-before", "fail-after", "kill-before", "kill-after"]


@pytest.fixture(scope="module")
def devprog(tmp_path_factory: pytest.TempPathFactory, compile_c: CompileC) -> Path:
    source = Path(__file__).parents[2] / "tools/devprog.c"
    return compile_c(tmp_path_factory.mktemp("devprog") / "devprog", source)


@pytest.fixture(params=[0, 1, 2], ids=["none", "one", "two"])
def group(request: pytest.FixtureRequest, devprog: Path, orphans: Orphans) -> Iterator[Path]:
    """Make a cgroup that has so many device programs already."""
    group = Path(f"/sys/fs/cgroup/libnvc-faults-{os.getpid()}")
    group.mkdir()
    for number in range(request.param):
        subprocess.run([devprog, "attach", group, f"engine{number}"], check=True)
    yield group
    for pid in (group / "cgroup.procs").read_text().split():
        (group.parent / "cgroup.procs").write_text(pid)
    group.rmdir()


@pytest.fixture
def rules(group: Path, devprog: Path) -> Callable[[], object]:
    def read() -> tuple[str, ...]:
        done = subprocess.run([devprog, "list", group], capture_output=True, text=True, check=True)
        return tuple(done.stdout.splitlines())

    return read


@pytest.fixture
def ruled(stage: Stage) -> Stage:
    """Return a container, and a plan of rules among other things."""
    rule = [op for op in stage.plan.operations if isinstance(op, nvc.DeviceAccess)][:3]
    below = nvc.Directory(origin="dir", path="/srv/new")
    stage.plan = nvc.Plan(operations=(*rule, below))
    return stage


def test_the_rules_are_there(
    ruled: Stage, sweep: Sweep, rules: Callable[[], tuple[str, ...]]
) -> None:
    before = rules()
    assert sweep.count().count("bpf") == 3 * max(1, len(before))
    nvc.apply(ruled.plan, ruled.target)
    assert len(rules()) == max(1, len(before))
    assert all(
        new.endswith(old.split(" ", 1)[1]) for new, old in zip(rules(), before, strict=False)
    )
    nvc.detach(ruled.target)
    ruled.assert_untouched()


def test_a_program_that_cannot_be_extended(
    ruled: Stage, devprog: Path, group: Path, rules: Callable[[], tuple[str, ...]]
) -> None:
    """Those before it get their old code back, and it has nothing that could be left."""
    subprocess.run([devprog, "call", group, "caller"], check=True)
    before = rules()
    error = ruled.failure()
    assert type(error) is nvc.ContainerError
    assert str(error) == (
        "the cgroup's device program uses maps or helpers and cannot be extended: let the engine "
        f"list the devices, and use --no-cgroups: {group}"
    )
    assert rules() == before
    assert ruled.journals() == []


@pytest.mark.parametrize("mode", MODES)
def test_a_fault_leaves_the_programs_as_they_were(
    ruled: Stage, sweep: Sweep, injector: Injector, mode: str
) -> None:
    def check() -> None:
        error = ruled.failure()
        ruled.assert_untouched(killed=True)
        (fired,) = injector.fired()
        assert error is not None
        if mode.startswith("kill"):
            assert str(error) == "the worker was killed"
        elif " bpf " in fired:
            assert type(error) is nvc.ContainerError
            assert (error.errno, error.path) == (5, str(ruled.group))
            assert error.operation is not None
            assert error.origin == "control"

    sweep.run((((mode, n),) for n in sweep.points(len(sweep.count()))), check)


@pytest.mark.parametrize("mode", MODES)
def test_a_fault_while_undoing_leaves_work_for_detach(
    ruled: Stage, sweep: Sweep, injector: Injector, mode: str
) -> None:
    def check() -> None:
        error = ruled.failure()
        assert len(injector.fired()) == 2
        if isinstance(error, nvc.RollbackError):
            nvc.detach(ruled.target)
        else:  # rules go first, and what fails is tried again in its turn
            assert mode.startswith("fail")
            assert " bpf " in injector.fired()[1]
        ruled.assert_untouched(killed=True)

    last = len(sweep.count())
    injector.arm(("kill-after", last))
    assert ruled.failure() is not None
    count = len(injector.calls()) - last
    sweep.run(((("kill-after", last), (mode, n)) for n in sweep.points(count)), check)
