# SPDX-License-Identifier: Apache-2.0
"""A simulated Jetson's GPU in containers: by the runtime, and by a generated CDI file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from libnvc.sim import cuda_client
from libnvc.sim.machine import this_machine
from libnvc.testing import OciContainer, copy_program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.root

LIBRARIES = f"{this_machine().libs_dir}/nvidia"
NAMES = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvbufsurface.so.1.0.0", "libnvrm_gpu.so")
NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvmap", "/dev/nvgpu/igpu0/ctrl")
#: What a node of no driver says that may be opened, and one that may not.
ALLOWED, DENIED = "No such device or address", "Operation not permitted"


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a writer of the configuration: the driver root, then lines of the runtime's."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(path))

    def write(root: Path, *lines: str) -> None:
        text = f'cache = false\n[nvidia-container-cli]\nroot = "{root}"\nload-kmods = false\n'
        path.write_text(text + "\n".join(["[nvidia-container-runtime]", *lines]) + "\n")

    return write


@pytest.fixture
def start(
    tmp_path: Path, rootfs: Path, commands: Path, configure: Callable[..., None]
) -> Callable[..., OciContainer]:
    """Return what makes a container with the runtime, of a driver root."""

    def make(
        root: Path, *environment: str, runtime: str = "runc", lines: Sequence[str] = ()
    ) -> OciContainer:
        configure(root, f'runtimes = ["{runtime}"]', *lines)
        copy_program(rootfs, cuda_client())
        wrapper = str(commands / "nvidia-container-runtime")
        return OciContainer(
            tmp_path / "c", rootfs, runtime=wrapper, cgroup="v1", environment=environment
        )

    return make


def check_gpu(container: OciContainer) -> None:
    """Check that programs find libraries and devices by themselves."""
    gpus = container.exec("cuda-probe")
    assert (gpus.returncode, gpus.stderr) == (0, "")
    assert "Orin (nvgpu)" in gpus.stdout
    listed = container.exec("ldconfig", "-p").stdout
    for name in NAMES:
        assert f"{name} (" in listed, name
    assert container.exec("cat", "/etc/nv_tegra_release").stdout.startswith("# R36 (release)")
    for node in NODES:
        assert container.exec("sh", "-c", f"test -c {node}").returncode == 0, node
    assert container.exec("ls", "/lib/firmware/ga10b").stdout.split() == [
        "fecs.bin",
        "gpmu_ucode_prod_image.bin",
    ]
    icd = container.exec("readlink", "-f", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json").stdout
    assert icd == f"{LIBRARIES}/nvidia.json\n"
    assert container.exec("cat", icd.strip()).returncode == 0


@pytest.mark.parametrize("mode", ["auto", "csv", "jit-cdi"])
def test_the_runtime_gives_a_container_the_gpu(
    jetson_orin: Path, start: Callable[..., OciContainer], runtime: str, mode: str
) -> None:
    lines = [f'mode = "{mode}"']
    with start(jetson_orin, "NVIDIA_VISIBLE_DEVICES=all", runtime=runtime, lines=lines) as box:
        check_gpu(box)
        status = Path(f"/proc/{box.pid}/status").read_text()
    assert re.search(r"^Groups:.*\b44\b", status, re.MULTILINE)  # that of /dev/nvmap
