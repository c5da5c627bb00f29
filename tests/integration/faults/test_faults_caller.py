# SPDX-License-Identifier: Apache-2.0
"""The caller dies, or a signal reaches it, while it applies: nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
from libnvc._native.apply import apply_flat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from tests.integration.conftest import CompileC, InjectInto, Orphans
    from tests.integration.faults.conftest import Stage, Sweep

    OnSignal = Callable[[Callable[[], object]], object]

pytestmark = pytest.mark.root

#: A caller is a whole interpreter: so many calls are passed over between two.
STEP = 7

#: After so many calls of a worker in the container there is enough to undo.
ENOUGH = 12

APPLY = """
import signal, sys, libnvc
signal.signal(signal.SIGTERM, signal.SIG_DFL)
pid, rootfs, ldconfig, plan = sys.argv[1:]
with open(plan) as file:
    plan = libnvc.Plan.from_json(file.read())
input()
libnvc.apply(plan, libnvc.Target(pid=int(pid), rootfs=rootfs), ldconfig=ldconfig or None)
"""

DETACH = "import sys, libnvc; libnvc.detach(libnvc.Target(pid=int(sys.argv[1])))"

#: Stands in for ldconfig: waits for SIGTERM, which workers block, then succeeds. Its filter allows
#: few calls.
WAITING = """
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
static void end(int number) { (void)number; _exit(0); }
int main(void)
{
	int word = 0;
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (signal(SIGTERM, end) == SIG_ERR)
		return 1;
	for (;;)
		(void)syscall(SYS_futex, &word, 0 /* FUTEX_WAIT */, 0, NULL);
}
"""


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory, compile_c: CompileC) -> Path:
    directory = tmp_path_factory.mktemp("waiting")
    (directory / "wait.c").write_text(WAITING)
    return compile_c(directory / "wait", directory / "wait.c", flags=("-static",))


@pytest.fixture
def caller(stage: Stage, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a process that applies the plan once it is told to by a line."""

    def start(ldconfig: str | Path = "") -> subprocess.Popen[str]:
        (tmp_path / "plan").write_text(stage.plan.to_json())
        arguments = [str(stage.pid), str(stage.rootfs), str(ldconfig), str(tmp_path / "plan")]
        return subprocess.Popen(
            [sys.executable, "-P", "-c", APPLY, *arguments], stdin=subprocess.PIPE, text=True
        )

    return start


def ldconfig_of(pid: int) -> int:
    """Wait until a process runs what stands in for ldconfig, and that can be ended; its pid."""
    catches_sigterm = 1 << (signal.SIGTERM - 1)
    while True:
        for worker in children_of(pid):
            for child in children_of(worker):
                try:
                    status = Path(f"/proc/{child}/status").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    continue
                caught = status.split("\nSigCgt:\t", 1)[1].split("\n", 1)[0]
                if int(caught, 16) == catches_sigterm:
                    return child


def children_of(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


# --- the caller dies ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["kill-parent-before", "kill-parent-after"])
def test_a_worker_left_alone_undoes_everything(
    stage: Stage,
    sweep: Sweep,
    orphans: Orphans,
    caller: Callable[[], subprocess.Popen[str]],
    inject_into: InjectInto,
    mode: str,
) -> None:
    for number in sweep.points(len(sweep.count()), STEP):
        with caller() as process, inject_into(process.pid) as other:
            other.arm((mode, number))
            orphans.reset()
            process.communicate("go\n", timeout=60)
            assert process.returncode == -signal.SIGKILL
            ends = orphans.wait()
        assert len(other.fired()) == 1
        assert ends
        stage.assert_untouched()


@pytest.mark.parametrize("mode", ["kill-before", "kill-after"])
def test_another_process_detaches_after_the_death_of_both(
    stage: Stage,
    sweep: Sweep,
    orphans: Orphans,
    caller: Callable[[], subprocess.Popen[str]],
    inject_into: InjectInto,
    mode: str,
) -> None:
    calls = sweep.count()
    first = calls.index("setns") + ENOUGH
    for number in (n for n in sweep.points(len(calls), STEP) if n > first):
        with caller() as process, inject_into(process.pid) as other:
            other.arm(("kill-parent-after", number), (mode, 3))
            orphans.reset()
            process.communicate("go\n", timeout=60)
            assert process.returncode == -signal.SIGKILL
            assert -signal.SIGKILL in orphans.wait()
        assert len(other.fired()) == 2
        assert len(stage.journals()) == 1
        subprocess.run([sys.executable, "-P", "-c", DETACH, str(stage.pid)], check=True)
        stage.assert_untouched()


# --- signals reach it -----------------------------------------------------------------------------


class HandlerError(Exception):
    """What a signal handler raises."""


@pytest.fixture
def on_signal() -> Iterator[OnSignal]:
    """Set what a SIGUSR1 does."""
    before = signal.getsignal(signal.SIGUSR1)
    yield lambda react: signal.signal(signal.SIGUSR1, lambda *_: react())
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def signalled(stage: Stage, waiting: Path) -> Callable[[], nvc.Applied]:
    """Apply, and get a SIGUSR1 while ldconfig, the last operation, is at work."""

    def apply() -> nvc.Applied:
        def send() -> None:
            ldconfig_of(os.getpid())
            os.kill(os.getpid(), signal.SIGUSR1)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return nvc.apply(stage.plan, stage.target, ldconfig=str(waiting))
        finally:
            sender.join()

    return apply


def test_a_handler_that_raises_stops_it(
    stage: Stage,
    signalled: Callable[[], nvc.Applied],
    on_signal: OnSignal,
) -> None:
    def react() -> None:
        raise HandlerError

    on_signal(react)
    stage.watch()
    with pytest.raises(HandlerError):
        signalled()
    stage.assert_untouched(killed=True)


def test_a_handler_that_raises_when_ldconfig_is_done_stops_it(
    stage: Stage,
    signalled: Callable[[], nvc.Applied],
    on_signal: OnSignal,
) -> None:
    def react() -> None:
        os.kill(ldconfig_of(os.getpid()), signal.SIGTERM)
        raise HandlerError

    on_signal(react)
    stage.watch()
    with pytest.raises(HandlerError):
        signalled()
    stage.assert_untouched()


def test_after_another_handler_it_goes_on(
    stage: Stage,
    signalled: Callable[[], nvc.Applied],
    on_signal: OnSignal,
) -> None:
    on_signal(lambda: os.kill(ldconfig_of(os.getpid()), signal.SIGTERM))
    stage.watch()
    nvc.detach(signalled())
    stage.assert_untouched()


def test_a_handler_that_raises_at_the_very_end_undoes_all(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply_and_raise(flat: bytes, **options: Any) -> None:
        apply_flat(flat, **options)
        raise HandlerError

    monkeypatch.setattr("libnvc._apply.direct.apply_flat", apply_and_raise)
    stage.watch()
    with pytest.raises(HandlerError):
        nvc.apply(stage.plan, stage.target)
    stage.assert_untouched()


def test_sigterm_leaves_a_worker_that_undoes(
    stage: Stage,
    orphans: Orphans,
    caller: Callable[[Path], subprocess.Popen[str]],
    waiting: Path,
) -> None:
    stage.watch()
    with caller(waiting) as process:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        ldconfig = ldconfig_of(process.pid)
        orphans.reset()
        process.terminate()
        assert process.wait(timeout=60) == -signal.SIGTERM
        assert len(stage.journals()) == 1
        os.kill(ldconfig, signal.SIGTERM)
        assert orphans.wait() == [1]
    stage.assert_untouched()


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("interrupt-parent-after", (1, "nvidia-container-cli: interrupted\n")),
        ("terminate-parent-after", (-signal.SIGTERM, "")),
    ],
)
def test_a_signal_to_configure_leaves_nothing(
    stage: Stage,
    sweep: Sweep,
    orphans: Orphans,
    commands: Path,
    dgx_a100: Path,
    inject_into: InjectInto,
    mode: str,
    said: tuple[int, str],
) -> None:
    number = sweep.count().index("setns") + ENOUGH
    with (
        subprocess.Popen(
            [
                # A job in the background of a script inherits an ignored SIGINT.
                *("sh", "-c", 'read go && exec env --default-signal=INT "$@"', "sh"),
                *(f"{commands}/nvidia-container-cli", f"--root={dgx_a100}", "configure"),
                *("--device=all", "--utility", "--compute"),
                *(f"--pid={stage.pid}", str(stage.rootfs)),
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
        inject_into(process.pid) as other,
    ):
        other.arm((mode, number))
        orphans.reset()
        stderr = process.communicate("go\n", timeout=60)[1]
        assert (process.returncode, stderr) == said
        assert len(other.fired()) == 1
        orphans.wait()
    stage.assert_untouched(killed=True)
