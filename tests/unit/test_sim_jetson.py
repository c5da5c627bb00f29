# SPDX-License-Identifier: Apache-2.0
"""The tree of a simulated Jetson: what its CSV files name is there, or is meant to be missing."""

from __future__ import annotations

import glob
import os
import stat
from typing import TYPE_CHECKING

import pytest

import libnvc.sim
from libnvc._native import ldcache
from libnvc.sim.jetson import CSV_DIRECTORY
from libnvc.sim.machine import this_machine

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root

LIBRARIES = f"{this_machine().libs_dir}/nvidia"
MISSING = {
    "/dev/nvhost-ctrl-pva0",
    "/usr/src/jetson_multimedia_api",
    f"{LIBRARIES}/libnvdla_compiler.so",
    f"{this_machine().libs_dir}/libnvv4l2.so",
}


def entries(root: Path) -> list[tuple[str, str]]:
    files = sorted((root / CSV_DIRECTORY.lstrip("/")).iterdir())
    assert [file.name for file in files] == ["devices.csv", "drivers.csv", "l4t.csv"]
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [(line.partition(", ")[0], line.partition(", ")[2]) for line in lines]


def test_csv_files_name_what_is_there(jetson_orin: Path) -> None:
    """Links that are absolute lead to the same path under the root."""
    named = entries(jetson_orin)
    assert {kind for kind, _ in named} == {"dev", "dir", "lib", "sym"}
    absent = set()
    for kind, path in named:
        found = glob.glob(f"{jetson_orin}{path}")
        if not found or (kind == "sym" and path.endswith("libnvv4l2.so")):
            absent.add(path)
        for place in found:
            mode = os.lstat(place).st_mode
            fits = {"dev": stat.S_ISCHR, "dir": stat.S_ISDIR, "lib": stat.S_ISREG}
            assert fits.get(kind, stat.S_ISLNK)(mode), place
    assert absent == MISSING


def test_what_tells_that_it_is_a_jetson(jetson_orin: Path) -> None:
    release = (jetson_orin / "etc/nv_tegra_release").read_text()
    assert release.startswith("# R36 (release), REVISION: 4.3, GCID: ")
    soc = jetson_orin / "sys/devices/soc0"
    assert (soc / "family").read_text() == "Tegra\n"
    assert (soc / "soc_id").read_text() == "35\n"
    assert (jetson_orin / "sys/module/nvgpu").is_dir()
    version = (jetson_orin / "proc/driver/nvidia/version").read_text()
    assert "Open Kernel Module for " in version
    assert "  540.4.0  " in version
    assert not (jetson_orin / "proc/driver/nvidia/gpus").exists()


def test_the_loader_cache(jetson_orin: Path) -> None:
    path = jetson_orin / "etc/ld.so.cache"
    found = {e.soname: e.path for e in ldcache.parse(path.read_bytes(), str(path), (b"lib",))}
    assert found["libcuda.so.1"] == f"{LIBRARIES}/libcuda.so.1"
    assert all((jetson_orin / place.lstrip("/")).is_file() for place in found.values())


def test_groups_of_devices(jetson_orin: Path) -> None:
    found = (jetson_orin / "dev/nvmap").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o660, 44)


def test_a_module_that_is_not_loaded(tmp_path: Path) -> None:
    made = libnvc.sim.create("jetson-orin", tmp_path / "root", fault="not-loaded")
    assert os.listdir(f"{made.root}/dev") == []
    assert not os.path.exists(f"{made.root}/sys/module/nvgpu")
    assert not os.path.exists(f"{made.root}/proc/driver/nvidia/version")
