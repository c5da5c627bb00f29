# SPDX-License-Identifier: Apache-2.0
"""`nvc`: commands, exit codes, and what it says without Typer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from errno import EPERM
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from libnvc.cli import cmd_attach, cmd_cache
from libnvc.cli.exit_codes import FAILED, NO_DRIVER, OLD_KERNEL, exit_code
from typer.testing import CliRunner

import libnvc
from libnvc import errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def nvc(commands: Path) -> Callable[..., Done]:
    """Run the installed `nvc`, without colours and with wide lines."""

    def run(*words: str | Path) -> Done:
        return subprocess.run(
            [commands / "nvc", *words],
            env={"PATH": os.environ["PATH"], "TERM": "dumb", "COLUMNS": "200", "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_commands(nvc: Callable[..., Done]) -> None:
    done = nvc("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("plan", "attach", "detach", "sim", "demo", "cache"):
        assert f" {command} " in done.stdout
        assert nvc(command, "--help").returncode == 0


def test_version(nvc: Callable[..., Done]) -> None:
    done = nvc("--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nvc ")
    assert done.stdout.count("\n") == 1


def test_plan_in_both_forms(nvc: Callable[..., Done], dgx_a100: Path, rootfs: Path) -> None:
    words = ["plan", "--root", dgx_a100, "--device", "0", "--utility", "--rootfs", rootfs]
    text, as_json = nvc(*words), nvc(*words, "--json")
    assert (text.returncode, text.stderr) == (0, "")
    assert (as_json.returncode, as_json.stderr) == (0, "")
    plan = libnvc.Plan.from_json(as_json.stdout)
    assert json.loads(as_json.stdout)["schema"] == 4
    paths = {operation.path for operation in plan.operations}
    assert "/usr/bin/nvidia-smi" in paths
    assert "/dev/nvidia0" in paths
    assert "/dev/nvidia1" not in paths
    assert all(path in text.stdout for path in paths)
    libraries = {path for path in paths if "libnvidia-ml.so" in path}
    assert all(path.startswith("/usr/lib/") for path in libraries)


def test_plan_equals_that_of_the_library(
    nvc: Callable[..., Done], dgx_a100: Path, rootfs: Path
) -> None:
    target = libnvc.Target(pid=os.getpid(), rootfs=str(rootfs))
    request = libnvc.Request(
        devices=("1", "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c"),
        capabilities=("utility", "compute"),
        layout=libnvc.inspect_container(target),
    )
    expected = libnvc.make_plan(libnvc.discover(str(dgx_a100)), request)
    devices = ["--device=1", "--device", "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c"]
    done = nvc(
        "plan", f"--root={dgx_a100}", *devices, "--utility", "--compute", "--json",
        f"--pid={os.getpid()}", "--rootfs", rootfs,
    )  # fmt: skip
    assert libnvc.Plan.from_json(done.stdout).operations == expected.operations


def test_plan_changes_nothing_and_needs_no_container(
    nvc: Callable[..., Done], dgx_a100: Path
) -> None:
    done = nvc("plan", "--root", dgx_a100)
    assert (done.returncode, done.stderr) == (0, "")
    assert "/dev/nvidiactl" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["plan", "--device=9"],
            1,
            r"nvc: 9: unknown device\nnvc: hint: GPUs are numbered 0 to 7 here; .*",
        ),
        (
            ["plan", "--root=/no/such/root"],
            3,
            r"nvc: no usable NVIDIA driver below /no/such/root: .* \(--root names another place\)\n"
            "nvc: hint: /no/such/root: no such directory; .*",
        ),
        (["plan", "--rootfs=/no/such/rootfs"], 1, "nvc: open failed: /no/such/rootfs: no such .*"),
        (["detach", "--pid=4194305"], 1, "nvc: process 4194305: no such process: name .*"),
        (["attach", "--pid=4194305", "--device=0"], 1, "nvc: process 4194305: no such process: .*"),
    ],
)
def test_failures_are_one_line(
    nvc: Callable[..., Done], dgx_a100: Path, words: list[str], code: int, message: str
) -> None:
    root = [] if words[0] == "detach" or "--root=" in words[1] else [f"--root={dgx_a100}"]
    done = nvc(*words, *root)
    assert (done.returncode, done.stdout) == (code, "")
    assert re.fullmatch(f"{message}\n", done.stderr)
    assert "internal error" not in done.stderr


@pytest.mark.parametrize(
    "words", [["nope"], ["plan", "--nope"], ["detach"], ["detach", "--pid=0"], ["plan", "--pid=x"]]
)
def test_usage_errors(nvc: Callable[..., Done], words: list[str]) -> None:
    done = nvc(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.root
@pytest.mark.parametrize("command", ["plan", "attach"])
def test_one_deadline_for_everything(
    nvc: Callable[..., Done], faulty: Callable[..., Path], command: str
) -> None:
    root = faulty("nvml-hang", "dgx-a100-mig")
    pid = [f"--pid={os.getpid()}"] if command == "attach" else []
    done = nvc(command, f"--root={root}", *pid, "--device=0:0", "--timeout=0.3")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "nvc: driver rpc error: timed out\n"
        "nvc: hint: nvmlInit_v2 did not return before the deadline: a GPU hangs (see dmesg for "
        "Xid), or takes long to start (run nvidia-persistenced)\n"
    )


@pytest.mark.root
def test_what_discovery_took_is_not_left_to_apply(
    monkeypatch: pytest.MonkeyPatch, dgx_a100: Path
) -> None:
    clock = iter((1000.0, 1012.5))
    monkeypatch.setattr(cmd_attach, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    given: list[float] = []

    def apply(*_: object, timeout: float) -> libnvc.Applied:
        given.append(timeout)
        return libnvc.Applied(target=libnvc.Target(pid=1))

    monkeypatch.setattr(libnvc, "apply", apply)
    cmd_attach.attach(pid=os.getpid(), device=["0"], root=str(dgx_a100), timeout=20.0)
    assert given == [7.5]


def test_exit_code_of_each_exception() -> None:
    assert exit_code(errors.DriverNotFoundError("")) == NO_DRIVER == 3
    assert exit_code(errors.UnsupportedKernelError("")) == OLD_KERNEL == 4
    assert exit_code(errors.UnknownDeviceError("")) == FAILED == 1
    assert exit_code(ValueError()) == FAILED


def test_without_typer() -> None:
    program = (
        "import sys; sys.modules['typer'] = None; from libnvc.cli.nvc import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, "plan"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "nvc: this command needs Typer; install it with: pip install 'libnvc[cli]'\n"
    )


@pytest.mark.parametrize("word", ["show", "clear"])
def test_cache_needs_root(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """Others may not even see what is kept."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    failure = CliRunner().invoke(cmd_cache.app, [word]).exception
    assert isinstance(failure, errors.NvcError)
    assert str(failure) == "/run/libnvc/plans: only root may look: run this as root"
    assert failure.errno == EPERM
