# SPDX-License-Identifier: Apache-2.0
"""`nvc demo` shows what it claims, and leaves nothing behind, also when it is interrupted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from libnvc.testing import mounts

pytestmark = pytest.mark.root


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Have the demo make its files where nothing else is."""
    (tmp_path / "demo").mkdir()
    return {**os.environ, "TMPDIR": str(tmp_path / "demo")}


def traces(environment: dict[str, str]) -> set[str]:
    """List what a demo makes on the host: files, cgroups, journals of what was applied."""
    groups = [path.name for path in Path("/sys/fs/cgroup/devices").glob("libnvc-*")]
    journals = [path.name for path in Path("/run/libnvc").glob("*")]
    return {*os.listdir(environment["TMPDIR"]), *groups, *journals}


def test_as_root(commands: Path, environment: dict[str, str]) -> None:
    mounted, there = mounts(), traces(environment)
    done = subprocess.run(
        [commands / "nvc", "demo"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert mounts() == mounted
    assert traces(environment) <= there
    assert "\x1b" not in done.stdout
    inside = re.findall(r"\[process \d+ in the container, mount namespace (\S+)\]", done.stdout)
    assert len(inside) == 8
    assert len(set(inside)) == 1
    assert os.readlink("/proc/self/ns/mnt") not in inside
    assert re.findall(r"GPU (\d): NVIDIA A100-SXM4-40GB", done.stdout) == ["0", "1"]
    assert "CUDA driver API 12.2: 2 devices" in done.stdout
    assert "libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1" in done.stdout
    assert "'/dev/nvidia0' for reading: No such device or address" in done.stdout
    assert "'/dev/nvidia2' for reading: Operation not permitted" in done.stdout
    assert "nvidia-smi: not found" in done.stdout


def test_in_a_user_namespace(commands: Path, environment: dict[str, str]) -> None:
    """What an ordinary user gets, after the demo has made itself root of a user namespace."""
    mounted, there = mounts(), traces(environment)
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", commands / "nvc", "demo"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert mounts() == mounted
    assert traces(environment) <= there
    said = " ".join(done.stdout.split())
    assert "Not by runc: you are not root." in said
    assert "What cannot be shown this way: device rules" in said
    assert "Nor device nodes" in said
    assert "libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1" in done.stdout
    assert "nvidia-smi: not found" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(commands: Path, environment: dict[str, str], number: signal.Signals) -> None:
    mounted, there = mounts(), traces(environment)
    with subprocess.Popen(
        [commands / "nvc", "demo"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert any("container# nvidia-smi -L" in line for line in demo.stdout)
        demo.send_signal(number)
        _, errors = demo.communicate()
    assert demo.returncode != 0
    assert "Traceback" not in errors
    assert mounts() == mounted
    assert traces(environment) <= there
