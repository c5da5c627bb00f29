# SPDX-License-Identifier: Apache-2.0
"""The example works as shown: namespaces, configure, run, detach, with a second thread alive."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from libnvc.testing import mounts, tree

pytestmark = pytest.mark.root

EXAMPLE = Path(__file__).parents[2] / "examples/tiny_runtime.py"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", EXAMPLE, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_it_runs_a_program_and_leaves_nothing(dgx_a100: Path, rootfs: Path) -> None:
    before = tree(rootfs), mounts()
    done = run(dgx_a100, rootfs, "3", "nvidia-smi", "-L")
    assert (done.returncode, done.stderr) == (0, "")
    configured, listed, detached = done.stdout.splitlines()
    assert re.fullmatch(r"configured: \d+ operations", configured)
    assert re.fullmatch(r"GPU 0: NVIDIA A100-SXM4-40GB \(UUID: GPU-[0-9a-f-]{36}\)", listed)
    assert detached == "detached"
    assert (tree(rootfs), mounts()) == before


def test_it_returns_the_status_of_the_program(dgx_a100: Path, rootfs: Path) -> None:
    done = run(dgx_a100, rootfs, "0", "sh", "-c", "exit 7")
    assert (done.returncode, done.stderr) == (7, "")


def test_it_gives_the_gpu_that_was_asked_for(dgx_a100: Path, rootfs: Path) -> None:
    """Not merely one of them: the fourth, seen as the first and only one."""
    alone = run(dgx_a100, rootfs, "3", "nvidia-smi", "-L").stdout
    node = run(dgx_a100, rootfs, "3", "ls", "/dev").stdout
    assert alone.count("GPU-") == 1
    assert re.findall(r"nvidia\d+", node) == ["nvidia3"]


def test_an_unknown_gpu_is_one_line(dgx_a100: Path, rootfs: Path) -> None:
    before = tree(rootfs), mounts()
    done = run(dgx_a100, rootfs, "99", "nvidia-smi", "-L")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "tiny_runtime: 99: unknown device\n"
    assert (tree(rootfs), mounts()) == before
