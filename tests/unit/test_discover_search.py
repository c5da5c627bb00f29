# SPDX-License-Identifier: Apache-2.0
"""Drivers that the loader cache does not list: found in directories, by the module's version."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import libnvc
from libnvc._discover import discover
from libnvc.sim import create

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERSION = "535.261.03"
OTHER = "550.54.15"
CORE = ("libnvidia-ml.so", "libcuda.so")


def warning(place: Path | str) -> str:
    return (
        f"the loader cache does not list libnvidia-ml.so.1 of driver {VERSION}: "
        f"the driver's libraries were found in {place}"
    )


def paths(root: Path) -> list[str]:
    return [library.path for library in discover(str(root)).libraries]


@pytest.mark.parametrize("cache", ["missing", "other"])
def test_a_whole_driver_without_its_cache(
    tree: Path, write_cache: Callable[..., None], cache: str
) -> None:
    """What is found is what the cache would have given, and a warning says so."""
    expected = discover(str(tree))
    (tree / "etc/ld.so.cache").unlink()
    if cache == "other":
        write_cache(tree, ("libc.so.6", "/lib/libc.so.6", 0x0303))
    found = discover(str(tree))
    place = expected.libraries[0].path.rpartition("/")[0]
    assert found.warnings == (warning(f"{tree}{place}"),)
    assert found.replace(warnings=(), dependencies=()) == expected.replace(dependencies=())


@pytest.mark.parametrize(
    "directory",
    [
        "/run/opengl-driver/lib",
        "/usr/lib/x86_64-linux-gnu/nvidia/current",
        "/usr/lib/nvidia/current",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64",
        "/usr/lib",
        "/lib64",
        "/lib",
        "/usr/local/nvidia/lib64",
        "/home/kubernetes/bin/nvidia/lib64",
        "/usr/local/glibc/usr/lib",
        "/opt/nvidia",
    ],
)
def test_known_directories(
    tmp_path: Path,
    plant: Callable[..., str],
    show_module: Callable[..., None],
    directory: str,
) -> None:
    show_module(tmp_path)
    plant(tmp_path, directory, *CORE)
    plant(tmp_path, directory, "libcuda.so", version=OTHER)
    assert paths(tmp_path) == [f"{directory}/{name}.{VERSION}" for name in CORE]


def test_first_directory_counts(
    tmp_path: Path, plant: Callable[..., str], show_module: Callable[..., None]
) -> None:
    show_module(tmp_path)
    plant(tmp_path, "/opt/nvidia", *CORE)
    plant(tmp_path, "/run/opengl-driver/lib", "libcuda.so")
    assert paths(tmp_path) == [
        f"/opt/nvidia/libnvidia-ml.so.{VERSION}",
        f"/run/opengl-driver/lib/libcuda.so.{VERSION}",
    ]


def test_cache_counts_before_directories(
    tmp_path: Path,
    plant: Callable[..., str],
    show_module: Callable[..., None],
    write_cache: Callable[..., None],
) -> None:
    show_module(tmp_path)
    nvml = plant(tmp_path, "/usr/lib64", *CORE)
    odd = plant(tmp_path, "/srv/nvidia", *CORE)
    cuda = odd.replace("libnvidia-ml", "libcuda")
    write_cache(tmp_path, ("libcuda.so.1", cuda, 0x0303))
    assert paths(tmp_path) == [nvml, cuda]
    write_cache(tmp_path, ("libnvidia-ml.so.1", odd, 0x0303))
    found = discover(str(tmp_path))
    assert [library.path for library in found.libraries] == [odd]
    assert not [text for text in found.warnings if "loader cache" in text]


def test_the_version_of_the_module_is_searched_for(
    tmp_path: Path,
    plant: Callable[..., str],
    show_module: Callable[..., None],
    write_cache: Callable[..., None],
) -> None:
    """Two versions are installed, and the cache has only the one that is not loaded."""
    show_module(tmp_path)
    entries = []
    for name in CORE:
        path = plant(tmp_path, "/opt/new", name, version=OTHER)
        entries.append((f"{name}.1", path, 0x0303))
    write_cache(tmp_path, *entries)
    plant(tmp_path, "/usr/lib64", *CORE)
    assert paths(tmp_path) == [f"/usr/lib64/{name}.{VERSION}" for name in CORE]


def test_other_versions_in_directories_are_a_mismatch(
    tmp_path: Path, plant: Callable[..., str], show_module: Callable[..., None]
) -> None:
    show_module(tmp_path)
    nvml = plant(tmp_path, "/usr/lib64", *CORE, version=OTHER)
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        discover(str(tmp_path))
    assert str(failure.value) == (
        f"nvml error: driver/library version mismatch (kernel module {VERSION}, "
        f"but {tmp_path}{nvml})"
    )


def test_file_that_is_no_library_is_refused_in_directories_too(
    tmp_path: Path, plant: Callable[..., str], show_module: Callable[..., None]
) -> None:
    show_module(tmp_path)
    plant(tmp_path, "/usr/lib64", "libnvidia-ml.so")
    bad = tmp_path / f"usr/lib64/libcuda.so.{VERSION}"
    bad.touch()
    with pytest.raises(libnvc.MalformedFileError) as failure:
        discover(str(tmp_path))
    assert failure.value.path == str(bad)


# --- roots of other layouts ----------------------------------------------------------------------


def test_store_path_of_nix(
    tmp_path: Path, plant: Callable[..., str], show_module: Callable[..., None]
) -> None:
    """No /usr, no /etc: libraries in /lib, programs in /bin, whatever PATH says."""
    show_module(tmp_path)
    plant(tmp_path, "/lib", *CORE)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/nvidia-smi").touch()
    found = discover(str(tmp_path), path="/run/current-system/sw/bin")
    assert [library.path for library in found.libraries] == [f"/lib/{n}.{VERSION}" for n in CORE]
    assert [file.path for file in found.binaries] == ["/bin/nvidia-smi"]


def test_programs_on_the_path_come_first(
    tmp_path: Path, plant: Callable[..., str], show_module: Callable[..., None]
) -> None:
    show_module(tmp_path)
    plant(tmp_path, "/home/kubernetes/bin/nvidia/lib64", *CORE)
    for name in ("usr/bin/nvidia-smi", "home/kubernetes/bin/nvidia/bin/nvidia-smi"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "home/kubernetes/bin/nvidia/bin/nvidia-debugdump").touch()
    assert [file.path for file in discover(str(tmp_path), path="/usr/bin").binaries] == [
        "/usr/bin/nvidia-smi",
        "/home/kubernetes/bin/nvidia/bin/nvidia-debugdump",
    ]


def test_libraries_behind_links_of_another_store_path(
    tmp_path: Path, plant: Callable[..., str], show_module: Callable[..., None]
) -> None:
    """NixOS: /run/opengl-driver/lib has links to the files."""
    show_module(tmp_path)
    plant(tmp_path, "/nix/store/abc-nvidia/lib", *CORE)
    (tmp_path / "run/opengl-driver").mkdir(parents=True)
    (tmp_path / "run/opengl-driver/lib").symlink_to("/nix/store/abc-nvidia/lib")
    assert paths(tmp_path) == [f"/nix/store/abc-nvidia/lib/{name}.{VERSION}" for name in CORE]


@pytest.mark.root
@pytest.mark.parametrize("own_nodes", [True, False])
def test_driver_container(tmp_path: Path, own_nodes: bool) -> None:
    """Its root has its own loader cache, and its own device nodes or none."""
    create("t4", tmp_path / "driver")
    if not own_nodes:
        shutil.rmtree(tmp_path / "driver/dev")
        (tmp_path / "driver/dev").mkdir()
    found = discover(str(tmp_path / "driver"))
    assert found.root == f"{tmp_path}/driver"
    assert {device.present for device in found.control} == {own_nodes}
    assert [(gpu.device.minor, gpu.device.present) for gpu in found.gpus] == [(0, own_nodes)]


# --- what the result rests on --------------------------------------------------------------------


def test_directories_searched_are_dependencies(
    tmp_path: Path, plant: Callable[..., str], show_module: Callable[..., None]
) -> None:
    """A library or a directory that appears where was looked changes them."""
    show_module(tmp_path)
    plant(tmp_path, "/usr/lib64", *CORE)
    (tmp_path / "lib64").symlink_to("usr/lib64")
    before = discover(str(tmp_path)).dependencies
    assert discover(str(tmp_path)).dependencies == before
    noted = {identity.path: identity for identity in before}
    assert noted[f"{tmp_path}/usr/lib64"].digest != ""
    plant(tmp_path, "/usr/lib64", "libnvidia-opencl.so")
    after = discover(str(tmp_path)).dependencies
    assert after != before
    (tmp_path / "opt/nvidia").mkdir(parents=True)
    assert discover(str(tmp_path)).dependencies != after
