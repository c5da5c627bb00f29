# SPDX-License-Identifier: Apache-2.0
"""Several driver versions on one host: never two of them in one container."""

from __future__ import annotations

import itertools
import platform
import shutil
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libnvc
from libnvc import plan as ops
from libnvc._discover.tables import ARCHITECTURES, LIBRARIES, TLS, TLS_ABI
from libnvc.model import CAPABILITIES, Layout, Request
from libnvc.sim.cachewriter import write_cache
from libnvc.sim.elfwriter import abi_note, write_library

VERSIONS = ("535.261.03", "535.261.031", "515.86.01", "5.261.03")
MACHINE = ARCHITECTURES[platform.machine()]
ELF_MACHINE = {"x86_64": 62, "aarch64": 183, "ppc64le": 21}[platform.machine()]
DIRECTORIES = (MACHINE.libs_dir, "/usr/lib64", "/opt/nvidia")
NAMES = tuple(itertools.chain.from_iterable(LIBRARIES.values()))
NVML = "libnvidia-ml.so"

#: a file: name in the table, version, directory
File = tuple[str, str, str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver root that each example fills anew."""
    return tmp_path_factory.mktemp("versions") / "root"


def fill(root: Path, module: str, files: list[File], listed: list[File]) -> None:
    """Install the files, list some of them in the loader cache, and load a module."""
    shutil.rmtree(root, ignore_errors=True)
    version = root / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {module}  Tue Jun 24\n")
    for name in ("nvidiactl", "nvidia-modeset"):
        device = root / "dev" / name
        device.parent.mkdir(exist_ok=True)
        device.touch()
    for name, library_version, directory in files:
        path = root / directory[1:] / f"{name}.{library_version}"
        path.parent.mkdir(parents=True, exist_ok=True)
        note = abi_note(TLS_ABI) if name == TLS else b""
        path.write_bytes(write_library(bits=64, machine=ELF_MACHINE, soname=f"{name}.1", note=note))
    cache = root / "etc/ld.so.cache"
    cache.parent.mkdir()
    flags = MACHINE.cache_flags | 3
    entries = [(f"{name}.1", f"{place}/{name}.{number}", flags) for name, number, place in listed]
    cache.write_bytes(write_cache(entries))


files = st.tuples(st.sampled_from(NAMES), st.sampled_from(VERSIONS), st.sampled_from(DIRECTORIES))


@given(
    st.sampled_from(VERSIONS),
    st.lists(files, max_size=24, unique=True),
    st.lists(st.sampled_from(VERSIONS), min_size=1, unique=True),
    st.randoms(use_true_random=False),
)
def test_one_version_in_a_plan(
    root: Path, module: str, found: list[File], managed: list[str], random: Random
) -> None:
    found = [*dict.fromkeys([*found, *((NVML, version, DIRECTORIES[0]) for version in managed)])]
    listed = [*found]
    random.shuffle(listed)
    fill(root, module, found, listed)
    usable = any(name == NVML and version == module for name, version, _ in found)
    if not usable:
        with pytest.raises(libnvc.DriverNotFoundError) as failure:
            libnvc.discover(str(root))
        assert "driver/library version mismatch" in str(failure.value)
        assert module in str(failure.value)
        return
    inventory = libnvc.discover(str(root))
    plan = libnvc.make_plan(inventory, Request(capabilities=CAPABILITIES, layout=Layout()))
    sources = [op.source for op in plan.operations if isinstance(op, ops.BindMount)]
    assert sources
    for source in sources:
        assert source.endswith(f".so.{module}")
    # and nothing of that version is missing
    assert {Path(source).name for source in sources} == {
        f"{name}.{version}" for name, version, _ in found if version == module
    }
