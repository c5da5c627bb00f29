# SPDX-License-Identifier: Apache-2.0
"""A generated CDI file, read and applied as engines do, makes a container that sees its GPUs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from libnvc._cdi.edits import apply_edits
from libnvc._cdi.registry import read_registry
from libnvc.sim import cuda_client
from libnvc.testing import OciContainer, copy_program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture
def spec_dir(tmp_path: Path, commands: Path, dgx_a100_mig: Path) -> Path:
    """Return a directory with the file of a DGX A100, two of whose GPUs are divided."""
    directory = tmp_path / "cdi"
    command: list[str | Path] = [
        *(commands / "nvidia-ctk", "cdi", "generate", f"--driver-root={dgx_a100_mig}"),
        f"--nvidia-cdi-hook-path={commands / 'nvidia-cdi-hook'}",
        f"--output={directory / 'nvidia.yaml'}",
    ]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return directory


def with_devices(spec_dir: Path, names: Sequence[str]) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        registry = read_registry([str(spec_dir)])
        assert registry.warnings == ()
        edits = registry.find([f"nvidia.com/gpu={name}" for name in names])
        document.update(apply_edits(document, edits))

    return change


def test_a_container_sees_its_gpu_and_no_other(
    tmp_path: Path, spec_dir: Path, rootfs: Path, runtime: str, check_gpus: Any
) -> None:
    copy_program(rootfs, cuda_client())
    container = OciContainer(
        tmp_path / "c",
        rootfs,
        runtime=runtime,
        cgroup="v1",
        change=with_devices(spec_dir, ["3", "5"]),
    )
    with container:
        check_gpus(container.exec, [3, 5])
        found = container.exec("ldconfig", "-p").stdout
        link = container.exec("readlink", "/usr/lib/x86_64-linux-gnu/libcuda.so.1").stdout
        variables = container.exec("env").stdout
    assert "libnvidia-ml.so.1 (" in found
    assert "libcuda.so.1 (" in found
    assert link == "libcuda.so.535.261.03\n"
    assert "NVIDIA_VISIBLE_DEVICES=void\n" in variables


def test_a_mig_device_comes_with_its_rights_alone(
    tmp_path: Path, spec_dir: Path, rootfs: Path
) -> None:
    container = OciContainer(tmp_path / "c", rootfs, change=with_devices(spec_dir, ["0:1"]))
    with container:
        nodes = container.exec("sh", "-c", "ls /dev/nvidia[0-9] /dev/nvidia-caps/*").stdout
    assert nodes.split() == [
        "/dev/nvidia-caps/nvidia-cap21",
        "/dev/nvidia-caps/nvidia-cap22",
        "/dev/nvidia0",
    ]
