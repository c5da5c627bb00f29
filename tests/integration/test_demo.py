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


def traces(said: str, environment: dict[str, str]) -> list[str]:
    """List what a demo that printed this has left on the host: files, cgroups, journals."""
    names = re.findall(r"libnvc-[0-9a-f]{12}", said)
    pids = re.findall(r"the container's process is (\d+)", said)
    groups = [name for name in names if Path("/sys/fs/cgroup/devices", name).exists()]
    journals = [path.name for pid in pids for path in Path("/run/libnvc").glob(f"{pid}.*")]
    return os.listdir(environment["TMPDIR"]) + groups + journals


@pytest.mark.parametrize("cgroup", ["as mounted", "v2"])
def test_as_root(commands: Path, environment: dict[str, str], cgroup: str) -> None:
    mounted = mounts()
    view = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    only_v2 = [*view, 'mount -t cgroup2 none /sys/fs/cgroup; exec "$@"', "sh"]
    done = subprocess.run(
        [*(only_v2 if cgroup == "v2" else []), str(commands / "nvc"), "demo"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert mounts() == mounted
    assert traces(done.stdout, environment) == []
    assert "\x1b" not in done.stdout
    inside = re.findall(r"\[process \d+ in the container, mount namespace (\S+)\]", done.stdout)
    old_kernel = "move_mount" in os.environ.get("NVC_DENIED", "")
    said = " ".join(done.stdout.split())
    assert ("needs kernel 5.2 or newer" in said) == old_kernel
    assert len(inside) == (8 if old_kernel else 10)
    assert len(set(inside)) == 1
    assert os.readlink("/proc/self/ns/mnt") not in inside
    assert re.findall(r"GPU (\d): NVIDIA A100-SXM4-40GB", done.stdout) == [
        *("0", "1"),
        *(() if old_kernel else ("0", "1", "2", "0", "1")),
    ]
    assert "CUDA driver API 12.2: 2 devices" in done.stdout
    assert "libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1" in done.stdout
    assert "'/dev/nvidia0' for reading: No such device or address" in done.stdout
    assert "'/dev/nvidia2' for reading: Operation not permitted" in done.stdout
    assert "nvidia-smi: not found" in done.stdout


def test_in_a_user_namespace(commands: Path, environment: dict[str, str]) -> None:
    """What an ordinary user gets, after the demo has made itself root of a user namespace."""
    mounted = mounts()
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", commands / "nvc", "demo"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert mounts() == mounted
    assert traces(done.stdout, environment) == []
    said = " ".join(done.stdout.split())
    assert "Not by runc: you are not root." in said
    assert "What cannot be shown this way: device rules" in said
    assert "Nor device nodes" in said
    assert "libcuda.so.1 (libc6,x86-64) => /usr/lib/x86_64-linux-gnu/libcuda.so.1" in done.stdout
    assert "nvidia-smi: not found" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(commands: Path, environment: dict[str, str], number: signal.Signals) -> None:
    mounted = mounts()
    with subprocess.Popen(
        # A job in the background of a script inherits an ignored SIGINT.
        ["env", f"--default-signal={number.name.removeprefix('SIG')}", commands / "nvc", "demo"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        said = ""
        for line in demo.stdout:
            said += line
            if line == "   container# nvidia-smi -L\n":
                break
        demo.send_signal(number)
        _, errors = demo.communicate()
    assert re.search(r"the container's process is \d+", said)
    assert demo.returncode != 0
    assert "Traceback" not in errors
    assert mounts() == mounted
    assert traces(said, environment) == []
