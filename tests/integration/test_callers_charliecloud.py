# SPDX-License-Identifier: Apache-2.0
"""Charliecloud's `ch-fromhost --nvidia`, unmodified: it copies what nvidia-container-cli lists."""

from __future__ import annotations

import os
import subprocess
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

import pytest

import libnvc.sim
from libnvc.testing import copy_program, multiarch, on_host, tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Done, Run

pytestmark = pytest.mark.root

LIBS = f"usr/lib/{multiarch()}"


class OnHost(Protocol):
    """Runs a command on a host whose driver is that of the root, or on this one."""

    def __call__(self, sim: Path | None, *command: str | Path) -> Done: ...


@pytest.fixture
def host(commands: Path) -> OnHost:
    def run(sim: Path | None, *command: str | Path) -> Done:
        return subprocess.run(
            [*(on_host(sim) if sim else ()), *command],
            env={
                "PATH": f"{commands}:/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C",
                "USER": "root",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def image(rootfs: Path) -> Path:
    """Return an image directory with a program that uses CUDA."""
    copy_program(rootfs, libnvc.sim.cuda_client())
    return rootfs


def test_the_listed_files_are_copied(
    host: OnHost, container_cli: Run, dgx_a100: Path, image: Path
) -> None:
    listed = container_cli(f"--root={dgx_a100}", "list", "--binaries", "--libraries")
    paths = [PurePosixPath(line) for line in listed.stdout.splitlines()]
    assert {path.name for path in paths} > {"nvidia-smi", "libcuda.so.535.261.03"}
    before = tree(image)
    done = host(dgx_a100, "ch-fromhost", "--nvidia", image)
    assert (done.returncode, done.stdout) == (0, "")
    after = tree(image)
    copied = {f"{LIBS if '.so' in path.name else 'usr/bin'}/{path.name}": path for path in paths}
    for inside, path in copied.items():
        assert (image / inside).read_bytes() == (dgx_a100 / str(path)[1:]).read_bytes()
    changed = {path for path in after if before.get(path) != after[path]}
    # ldconfig in the image: the cache, a link for each SONAME.
    others = changed - copied.keys() - {"etc/ld.so.cache"}
    assert {os.readlink(image / path) for path in others} <= {path.name for path in paths}


def test_the_image_uses_the_gpus(host: OnHost, dgx_a100: Path, image: Path) -> None:
    """Charliecloud isolates no devices: all GPUs of the host."""
    assert host(dgx_a100, "ch-fromhost", "--nvidia", image).returncode == 0
    listed = host(dgx_a100, "ch-run", image, "--", "nvidia-smi", "-L")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.partition(":")[0] for line in listed.stdout.splitlines()] == [
        f"GPU {index}" for index in range(8)
    ]
    counted = host(dgx_a100, "ch-run", image, "--", "cuda-probe")
    assert (counted.returncode, counted.stderr) == (0, "")
    assert counted.stdout.startswith("CUDA driver API 12.2: 8 devices\n")


def test_a_host_without_a_driver(host: OnHost, image: Path) -> None:
    before = tree(image)
    done = host(None, "ch-fromhost", "--nvidia", image)
    assert done.returncode == 1
    first, hint, *rest = done.stderr.splitlines()
    assert first == (
        "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: "
        "cannot open shared object file: no such file or directory"
    )
    assert hint.startswith("nvidia-container-cli: hint: no device in /sys/bus/pci/devices is an ")
    assert rest == [
        "ch-fromhost: nvidia-container-cli failed; does this host have GPUs?",
    ]
    assert tree(image) == before
