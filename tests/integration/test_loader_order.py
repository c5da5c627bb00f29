# SPDX-License-Identifier: Apache-2.0
"""What the loader of a container finds: 32-bit libraries, the image's CUDA compatibility."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import OciContainer, configure_hook, multiarch

pytestmark = pytest.mark.root

COMPAT = "/usr/local/cuda-13.0/compat"


def cached(rootfs: Path) -> list[tuple[str, str, str]]:
    """Return SONAME, kind and path of the container's loader cache, as the loader searches it."""
    cache = rootfs / "etc/ld.so.cache"
    listing = ["/sbin/ldconfig", "-p", "-C", str(cache)]
    text = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    return re.findall(r"^\t(\S+) \((.*)\) => (\S+)$", text, re.MULTILINE)


def configured(
    tmp_path: Path, commands: Path, sim: Path, rootfs: Path, *words: str
) -> OciContainer:
    command = [str(commands / "nvidia-container-cli"), f"--root={sim}", "configure", "--device=0"]
    hook = configure_hook(tmp_path / "hook", [*command, *words], rootfs)
    return OciContainer(tmp_path / "c", rootfs, prestart=[hook])


def test_32_bit_libraries(tmp_path: Path, commands: Path, workstation: Path, rootfs: Path) -> None:
    words = ("--compute", "--graphics", "--compat32")
    with configured(tmp_path, commands, workstation, rootfs, *words) as container:
        found = cached(rootfs)
        for soname in ("libcuda.so.1", "libGLX_nvidia.so.0"):
            paths = {(kind, path) for name, kind, path in found if name == soname}
            assert paths == {
                ("libc6,x86-64", f"/usr/lib/{multiarch()}/{soname}"),
                ("libc6", f"/usr/lib/i386-linux-gnu/{soname}"),
            }
        opened = container.exec("sh", "-c", ": </usr/lib/i386-linux-gnu/libcuda.so.1")
        assert (opened.returncode, opened.stderr) == (0, "")


def test_without_compat32_there_are_none(
    tmp_path: Path, commands: Path, workstation: Path, rootfs: Path
) -> None:
    with configured(tmp_path, commands, workstation, rootfs, "--compute", "--graphics"):
        assert not [path for _, _, path in cached(rootfs) if "i386" in path]
    assert not (rootfs / "usr/lib/i386-linux-gnu").exists()


@pytest.fixture
def cuda_image(rootfs: Path) -> Path:
    """An image with CUDA compatibility libraries, newer than any simulated driver."""
    directory = rootfs / COMPAT[1:]
    directory.mkdir(parents=True)
    (rootfs / "usr/local/cuda").symlink_to("cuda-13.0")
    library = write_library(bits=64, machine=this_machine().elf, soname="libcuda.so.1")
    (directory / "libcuda.so.999.1").write_bytes(library)
    (directory / "libcuda.so.1").symlink_to("libcuda.so.999.1")
    return rootfs


@pytest.mark.parametrize(
    ("words", "used"),
    [
        (("--compute",), True),
        (("--compute", "--cuda-compat-mode=mount"), True),
        (("--video", "--cuda-compat-mode=ldconfig"), True),
        (("--compute", "--cuda-compat-mode=disabled"), False),
        (("--compute", "--cuda-compat-mode=mount", "--no-cntlibs"), False),
        (("--utility",), False),
    ],
)
def test_cuda_compatibility(
    tmp_path: Path,
    commands: Path,
    dgx_a100: Path,
    cuda_image: Path,
    words: tuple[str, ...],
    used: bool,
) -> None:
    """The image's library comes first, and the driver's stays; nothing of the image is mounted."""
    with configured(tmp_path, commands, dgx_a100, cuda_image, *words) as container:
        found = [path for name, _, path in cached(cuda_image) if name == "libcuda.so.1"]
        table = container.exec("cat", "/proc/self/mountinfo").stdout
    expected = [f"{COMPAT}/libcuda.so.1"] if used else []
    if "--utility" not in words:
        expected.append(f"/usr/lib/{multiarch()}/libcuda.so.1")
    assert found == expected
    assert COMPAT not in table
