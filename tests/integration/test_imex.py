# SPDX-License-Identifier: Apache-2.0
"""IMEX channels in a real container, and what happens when one is not there."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

import libnvc
import libnvc.sim
from libnvc.testing import NamespaceContainer, OciContainer, configure_hook, mounts, tree

pytestmark = pytest.mark.root

DIRECTORY = "/dev/nvidia-caps-imex-channels"
ALLOWED, DENIED = "No such device or address", "Operation not permitted"


def test_the_asked_channels_and_no_others(
    tmp_path: Path, commands: Path, gb200: Path, rootfs: Path, runtime: str, cgroup: str
) -> None:
    command = [str(commands / "nvidia-container-cli"), f"--root={gb200}", "configure"]
    command += ["--device=all", "--imex-channel=0", "--imex-channel=2", "--utility"]
    hook = configure_hook(tmp_path / "hook", command, rootfs)
    major = libnvc.discover(str(gb200)).imex_channels[0].major
    (rootfs / "nodes").mkdir()
    with OciContainer(
        tmp_path / "c", rootfs, prestart=[hook], runtime=runtime, cgroup=cgroup
    ) as container:
        assert container.exec("ls", DIRECTORY).stdout.split() == ["channel0", "channel2"]
        for channel in range(4):
            path = f"/nodes/{channel}"
            container.exec("mknod", path, "c", str(major), str(channel))
            cause = ALLOWED if channel in (0, 2) else DENIED
            assert container.exec("cat", path).stderr == f"cat: {path}: {cause}\n"


def refuse(
    sim: Path, commands: Path, rootfs: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run `configure`; nothing may have changed by it."""
    before = tree(rootfs)
    with NamespaceContainer(rootfs) as container:
        table = mounts(container.pid)
        command = [str(commands / "nvidia-container-cli"), f"--root={sim}", "configure"]
        command += ["--no-cgroups", "--utility", "--device=0", f"--pid={container.pid}"]
        done = subprocess.run(
            [*command, *words, str(rootfs)], capture_output=True, text=True, check=False
        )
        assert mounts(container.pid) == table
    assert tree(rootfs) == before
    assert (done.returncode, done.stdout) == (1, "")
    return done


def test_missing_channel_leaves_nothing(commands: Path, gb200: Path, rootfs: Path) -> None:
    done = refuse(gb200, commands, rootfs, "--imex-channel=0,99")
    line, hint = done.stderr.splitlines()
    path = f"{gb200}{DIRECTORY}/channel99"
    assert line == (
        f"nvidia-container-cli: mount error: stat failed: {path}: no such file or directory"
    )
    assert hint.startswith("nvidia-container-cli: hint: this IMEX channel does not exist on the ")


def test_wrong_node_leaves_nothing(tmp_path: Path, commands: Path, rootfs: Path) -> None:
    """It is found out late, when all else has been mounted."""
    sim = Path(libnvc.sim.create("gb200", tmp_path / "sim").root)
    node = sim / DIRECTORY[1:] / "channel1"
    node.unlink()
    os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    done = refuse(sim, commands, rootfs, "--imex-channel=0,1")
    assert done.stderr == f"nvidia-container-cli: mount error: invalid device node: {node}\n"
