# SPDX-License-Identifier: Apache-2.0
"""A simulated Jetson's GPU in containers: by the runtime, and by a generated CDI file."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from libnvc._cdi.edits import apply_edits
from libnvc._cdi.registry import read_registry
from libnvc.sim import cuda_client
from libnvc.sim.elfwriter import write_library
from libnvc.sim.jetson import CSV_DIRECTORY
from libnvc.sim.machine import this_machine
from libnvc.testing import (
    MAPPED,
    ContainerFailedError,
    OciContainer,
    copy_program,
    make_rootfs,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.root

LIBRARIES = f"{this_machine().libs_dir}/nvidia"
NAMES = ("libcuda.so.1", "libnvidia-ml.so.1", "libnvbufsurface.so.1.0.0", "libnvrm_gpu.so")
NODES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/nvmap", "/dev/nvgpu/igpu0/ctrl")


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
        root: Path,
        *environment: str,
        runtime: str = "runc",
        lines: Sequence[str] = (),
        place: str = "c",
    ) -> OciContainer:
        configure(root, f'runtimes = ["{runtime}"]', *lines)
        copy_program(rootfs, cuda_client())
        wrapper = str(commands / "nvidia-container-runtime")
        return OciContainer(
            tmp_path / place, rootfs, runtime=wrapper, cgroup="v1", environment=environment
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


@pytest.mark.parametrize("mode", ["auto", "csv", "jit-cdi", "legacy"])
def test_the_runtime_gives_a_container_the_gpu(
    jetson_orin: Path, start: Callable[..., OciContainer], runtime: str, mode: str
) -> None:
    lines = [f'mode = "{mode}"']
    with start(jetson_orin, "NVIDIA_VISIBLE_DEVICES=all", runtime=runtime, lines=lines) as box:
        check_gpu(box)
        status = Path(f"/proc/{box.pid}/status").read_text()
    if mode != "legacy":  # the hook comes too late for it
        assert re.search(r"^Groups:.*\b44\b", status, re.MULTILINE)  # that of /dev/nvmap


@pytest.mark.parametrize("readonly", [False, True])
def test_containers_with_a_user_namespace(
    jetson_orin: Path, commands: Path, configure: Callable[..., None], readonly: bool
) -> None:
    configure(jetson_orin)
    with tempfile.TemporaryDirectory(prefix="libnvc-") as directory:
        Path(directory).chmod(0o755)
        rootfs = make_rootfs(Path(directory, "rootfs"))
        copy_program(rootfs, cuda_client())
        subprocess.run(["chown", "-R", f"{MAPPED}:{MAPPED}", rootfs], check=True)
        container = OciContainer(
            Path(directory, "c"),
            rootfs,
            runtime=str(commands / "nvidia-container-runtime"),
            readonly=readonly,
            user_namespace=True,
            environment=["NVIDIA_VISIBLE_DEVICES=all"],
        )
        with container as box:
            check_gpu(box)


def test_other_containers_get_nothing(
    jetson_orin: Path, start: Callable[..., OciContainer]
) -> None:
    with start(jetson_orin, "NVIDIA_VISIBLE_DEVICES=void") as box:
        found = box.exec("sh", "-c", "ls -d /dev/nvidia0 /dev/nvgpu /etc/nv_tegra_release").stdout
    assert found == ""


def test_without_a_device_it_may_not_use_the_gpu(
    jetson_orin: Path, start: Callable[..., OciContainer]
) -> None:
    """`none` gives files alone: in a release of the reference it gave every device."""
    with start(jetson_orin, "NVIDIA_VISIBLE_DEVICES=none") as box:
        assert "libcuda.so.1 (" in box.exec("ldconfig", "-p").stdout
        assert box.exec("sh", "-c", "ls /dev/nvidia0 /dev/nvmap /dev/nvgpu").stdout == ""
        assert box.exec("cuda-probe").returncode != 0


def test_the_hook_gives_it_where_no_runtime_does(
    tmp_path: Path,
    jetson_orin: Path,
    rootfs: Path,
    commands: Path,
    configure: Callable[..., None],
) -> None:
    """This is how `docker --gpus` asks, which the reference refuses on a Jetson."""
    configure(jetson_orin)
    copy_program(rootfs, cuda_client())
    hook = tmp_path / "hook"
    config = tmp_path / "config.toml"
    program = commands / "nvidia-container-runtime-hook"
    hook.write_text(f"#!/bin/sh\nexec {program} -config {config} prestart\n")
    hook.chmod(0o755)
    container = OciContainer(
        tmp_path / "c", rootfs, prestart=[hook], environment=["NVIDIA_VISIBLE_DEVICES=0"]
    )
    with container as box:
        check_gpu(box)


def test_a_cdi_file_gives_it(
    tmp_path: Path, jetson_orin: Path, rootfs: Path, commands: Path, runtime: str
) -> None:
    directory = tmp_path / "cdi"
    words = ["cdi", "generate", f"--driver-root={jetson_orin}", f"--output={directory}/n.yaml"]
    hook = f"--nvidia-cdi-hook-path={commands / 'nvidia-cdi-hook'}"
    subprocess.run([commands / "nvidia-ctk", *words, hook], check=True, stderr=subprocess.DEVNULL)

    def change(document: dict[str, Any]) -> None:
        registry = read_registry([str(directory)])
        assert registry.warnings == ()
        document.update(apply_edits(document, registry.find(["nvidia.com/gpu=0"])))

    copy_program(rootfs, cuda_client())
    with OciContainer(tmp_path / "c", rootfs, runtime=runtime, cgroup="v1", change=change) as box:
        check_gpu(box)


def test_more_csv_files_for_images_that_ask_for_them(
    tmp_path: Path, jetson_orin: Path, start: Callable[..., OciContainer]
) -> None:
    """CUDA of the host in images without it, as up to JetPack 4: three files were too few."""
    root = tmp_path / "driver"
    subprocess.run(["cp", "-a", jetson_orin, root], check=True)
    library = "/usr/local/cuda-10.2/lib64/libcublas.so.10"
    (root / library.lstrip("/")).parent.mkdir(parents=True)
    content = write_library(bits=64, machine=this_machine().elf, soname="libcublas.so.10")
    (root / library.lstrip("/")).write_bytes(content)
    (root / f"{CSV_DIRECTORY}/cuda.csv".lstrip("/")).write_text(f"lib, {library}\n")
    with start(root, "NVIDIA_VISIBLE_DEVICES=all") as box:
        assert "libcublas" not in box.exec("ldconfig", "-p").stdout
    asked = ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_JETPACK=csv-mounts=all")
    with start(root, *asked, place="d") as box:
        assert f"libcublas.so.10 (libc6,x86-64) => {library}" in box.exec("ldconfig", "-p").stdout


def test_libraries_in_a_directory_that_comes_whole(
    tmp_path: Path, jetson_orin: Path, rootfs: Path, start: Callable[..., OciContainer]
) -> None:
    """The loader finds them where the image says that it looks."""
    root = tmp_path / "driver"
    subprocess.run(["cp", "-a", jetson_orin, root], check=True)
    library = "/usr/local/cuda-10.2/lib64/libcudart.so.10.2"
    (root / library.lstrip("/")).parent.mkdir(parents=True)
    content = write_library(bits=64, machine=this_machine().elf, soname="libcudart.so.10.2")
    (root / library.lstrip("/")).write_bytes(content)
    (root / f"{CSV_DIRECTORY}/l4t.csv".lstrip("/")).write_text("dir, /usr/local/cuda-10.2\n")
    (rootfs / "etc/ld.so.conf.d/cuda.conf").write_text("/usr/local/cuda-10.2/lib64\n")
    with start(root, "NVIDIA_VISIBLE_DEVICES=all") as box:
        assert f"libcudart.so.10.2 (libc6,x86-64) => {library}" in box.exec("ldconfig", "-p").stdout


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("NVIDIA_REQUIRE_CUDA=cuda>=13.0", "unsatisfied condition: cuda>=13.0"),
        ("NVIDIA_REQUIRE_ARCH=arch>=9.0", "unsatisfied condition: arch>=9.0"),
        ("NVIDIA_VISIBLE_DEVICES=1", "unsupported device id: 1"),
    ],
)
def test_what_is_refused(
    jetson_orin: Path, start: Callable[..., OciContainer], variable: str, words: str
) -> None:
    container = start(jetson_orin, "NVIDIA_VISIBLE_DEVICES=all", variable)
    with pytest.raises(ContainerFailedError, match=words), container:
        pass


def test_requirements_that_hold(jetson_orin: Path, start: Callable[..., OciContainer]) -> None:
    asked = ("NVIDIA_REQUIRE_CUDA=cuda>=12.6,arch>=8.7", "NVIDIA_REQUIRE_JETPACK_HOST=x")
    with start(jetson_orin, "NVIDIA_VISIBLE_DEVICES=all", *asked) as box:
        assert "Orin" in box.exec("cuda-probe").stdout


def test_libraries_that_the_image_has_as_empty_files(
    jetson_orin: Path, rootfs: Path, start: Callable[..., OciContainer]
) -> None:
    """As images have them that were made on a Jetson: placeholders of what was mounted there."""
    place = rootfs / LIBRARIES.lstrip("/")
    place.mkdir(parents=True)
    for name in ("libcuda.so.1.1", "libcuda.so.1", "libcuda.so", "libnvrm_gpu.so"):
        (place / name).touch()
    with start(jetson_orin, "NVIDIA_VISIBLE_DEVICES=all") as box:
        check_gpu(box)
