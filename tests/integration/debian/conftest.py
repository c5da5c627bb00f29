# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own files: Debian's packages of the driver, installed below a directory by dpkg.

They are fetched with this machine's apt sources and kept in pytest's cache. Nothing is installed
on the machine, and nothing of them is part of libnvc. As there is no GPU, what the kernel shows
and NVML are those of a simulated driver of the same version.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import libnvc.sim
from libnvc.testing import CannotFetchError, fetch_packages, multiarch

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITE = "bookworm"

#: All of the driver that comes into containers, 93 MB. Not OptiX: that alone would be 131 MB more.
PACKAGES = (
    "glx-alternative-mesa",
    "glx-alternative-nvidia",
    "glx-diversions",
    "libcuda1",
    "libcudadebugger1",
    "libegl-nvidia0",
    "libgles-nvidia1",
    "libgles-nvidia2",
    "libglx-nvidia0",
    "libnvcuvid1",
    "libnvidia-allocator1",
    "libnvidia-cfg1",
    "libnvidia-eglcore",
    "libnvidia-encode1",
    "libnvidia-fbc1",
    "libnvidia-glcore",
    "libnvidia-glvkspirv",
    "libnvidia-ml1",
    "libnvidia-ngx1",
    "libnvidia-nvvm4",
    "libnvidia-opticalflow1",
    "libnvidia-pkcs11-openssl3",
    "libnvidia-ptxjitcompiler1",
    "libnvidia-rtcore",
    "nvidia-alternative",
    "nvidia-cuda-mps",
    "nvidia-driver-bin",
    "nvidia-egl-common",
    "nvidia-egl-icd",
    "nvidia-legacy-check",
    "nvidia-modprobe",
    "nvidia-opencl-common",
    "nvidia-opencl-icd",
    "nvidia-persistenced",
    "nvidia-smi",
    "nvidia-vdpau-driver",
    "nvidia-vulkan-common",
    "nvidia-vulkan-icd",
    "update-glx",
)

LIBS = f"usr/lib/{multiarch()}"

_QUIET = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
}


class Driver(NamedTuple):
    """A driver root with NVIDIA's files.

    Attributes:
        root: the driver root.
        version: the driver's version.
        layout: "debian", or "flat" as NVIDIA's installer has it.
    """

    root: Path
    version: str
    layout: str


@pytest.fixture(scope="session")
def packages(request: pytest.FixtureRequest) -> tuple[Path, ...]:
    """Return the packages' files; fetched once, until pytest's cache is cleared."""
    assert request.config.cache is not None
    kept = Path(str(request.config.cache.mkdir("debian-driver"))) / SUITE
    try:
        return fetch_packages(kept, SUITE, PACKAGES, ("contrib", "non-free"))
    except CannotFetchError as error:
        pytest.skip(f"Debian's packages of the driver: {error}")


@pytest.fixture(scope="session")
def version(packages: tuple[Path, ...]) -> str:
    """Return the driver's version, as in the file names."""
    (name,) = [path.name for path in packages if path.name.startswith("libcuda1_")]
    return name.split("_")[1].rpartition("-")[0]


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory, version: str) -> Path:
    """Return the root of a simulated DGX A100 with that version of the driver, without daemons."""
    profile = next(p for p in libnvc.sim.profiles() if p.name == "dgx-a100")
    root = tmp_path_factory.mktemp("kernel") / "root"
    libnvc.sim.create(profile.replace(driver_version=version, daemons=()), root)
    return root


@pytest.fixture(scope="session")
def installed(
    tmp_path_factory: pytest.TempPathFactory, packages: tuple[Path, ...], debian: Path
) -> Path:
    """Return a Debian root in which dpkg has installed the packages.

    Without what they depend on: X, and Debian's own OpenGL. Their scripts make the links, by
    update-alternatives, and the loader cache.
    """
    root = tmp_path_factory.mktemp("installed") / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", debian, root], check=True)
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # no daemons
    policy.chmod(0o755)
    options = (f"--root={root}", "--force-depends", "--force-unsafe-io")
    done = subprocess.run(
        ["dpkg", *options, "--install", *packages],
        env=_QUIET,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return root


@pytest.fixture(scope="session")
def debian_driver(installed: Path, kernel: Path, version: str) -> Driver:
    """Return a driver as Debian lays it out: most libraries in a directory of their own."""
    for name in ("dev", "proc", "sys"):
        subprocess.run(["cp", "-a", kernel / name, installed], check=True)
    shutil.copytree(kernel / "usr/lib/firmware", installed / "usr/lib/firmware")
    library = f"libnvidia-ml.so.{version}"
    shutil.copy(kernel / LIBS / library, installed / LIBS / "nvidia/current" / library)
    return Driver(installed, version, "debian")


@pytest.fixture(scope="session")
def flat_driver(debian_driver: Driver, kernel: Path) -> Driver:
    """Return a driver as NVIDIA's installer lays it out: the libraries among the system's."""
    libs, source, version = kernel / LIBS, debian_driver.root / LIBS, debian_driver.version
    for path in [*libs.glob("lib*"), *libs.glob("vdpau/*")]:
        path.unlink()
    for path in [*source.glob(f"lib*.so.{version}"), *source.glob("nvidia/current/lib*.so*")]:
        directory = libs / "vdpau" if path.name.startswith("libvdpau") else libs
        if not path.is_symlink():
            os.link(path, directory / path.name)
        elif path.parent != source:
            (directory / path.name).symlink_to(os.readlink(path))
    (libs / "libGLX_indirect.so.0").symlink_to(f"libGLX_nvidia.so.{version}")
    for program in (kernel / "usr/bin").iterdir():
        program.unlink()
    for program in _programs(debian_driver.root):
        os.link(program, kernel / "usr/bin" / program.name)
    subprocess.run(["ldconfig", "-r", kernel], check=True, env=_QUIET, capture_output=True)
    return Driver(kernel, version, "flat")


def _programs(root: Path) -> Iterator[Path]:
    yield from root.glob("usr/lib/nvidia/current/nvidia-[!b]*[!z]")
    yield from (path for path in root.glob("usr/*bin/nvidia-*") if not path.is_symlink())


@pytest.fixture(scope="session", params=["debian", "flat"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Give the driver in both layouts."""
    driver: Driver = request.getfixturevalue(f"{request.param}_driver")
    return driver
