# SPDX-License-Identifier: Apache-2.0
"""The driver's libraries by the loader cache: which are chosen, and when none can be."""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

import libnvc
from libnvc._discover import discover
from libnvc._discover.libraries import choose_libraries, read_candidates
from libnvc._discover.root import DriverRoot
from libnvc._discover.tables import ARCHITECTURES, LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from libnvc.model import Inventory

    WriteCache = Callable[..., None]
    Plant = Callable[..., str]

VERSION = "535.261.03"
NATIVE = ARCHITECTURES[platform.machine()].cache_flags | 3
NO_LIBRARY = (
    "load library failed: libnvidia-ml.so.1: "
    "cannot open shared object file: no such file or directory"
)


def library_file(tree: Path, name: str) -> Path:
    """Return the real file of a library of the tree."""
    found = [lib for lib in discover(str(tree)).libraries if lib.name == name]
    return tree / found[0].path[1:]


def inside(tree: Path, path: Path) -> str:
    return f"/{path.relative_to(tree)}"


def names(inventory: Inventory) -> list[str]:
    return [library.name for library in inventory.libraries]


def test_libraries_are_real_and_in_table_order(dgx_a100: Path) -> None:
    found = discover(str(dgx_a100))
    order = dict.fromkeys(name for group in LIBRARIES.values() for name in group)
    assert names(found) == [name for name in order if name in names(found)]
    assert {"libnvidia-ml.so", "libcuda.so", "libnvidia-ptxjitcompiler.so"} <= set(names(found))
    for library in found.libraries:
        file = dgx_a100 / library.path[1:]
        assert not file.is_symlink()
        assert file.name.startswith(library.name)
        assert file.name.endswith(f".{VERSION}")
        with open(file, "rb") as stream:
            elf = ELFFile(stream)
            dynamic = elf.get_section_by_name(".dynamic")
            assert isinstance(dynamic, DynamicSection)
            tags: list[Any] = list(dynamic.iter_tags("DT_SONAME"))
            assert (library.bits, library.soname) == (elf.elfclass, *(tag.soname for tag in tags))


def test_last_entry_for_a_name_wins(write_cache: WriteCache, tree: Path) -> None:
    ml, cuda = library_file(tree, "libnvidia-ml.so"), library_file(tree, "libcuda.so")
    other = tree / f"opt/libcuda.so.{VERSION}"
    other.parent.mkdir()
    shutil.copy(cuda, other)
    entries = [
        ("libnvidia-ml.so.1", inside(tree, ml), NATIVE),
        ("libcuda.so.1", inside(tree, cuda), NATIVE),
        ("libcuda.so.1", inside(tree, other), NATIVE),
    ]
    write_cache(tree, *entries)
    assert [lib.path for lib in discover(str(tree)).libraries] == [
        inside(tree, ml),
        inside(tree, other),
    ]
    write_cache(tree, *reversed(entries))
    assert discover(str(tree)).libraries[1].path == inside(tree, cuda)


def test_entries_that_do_not_count(write_cache: WriteCache, tree: Path) -> None:
    ml, cuda = library_file(tree, "libnvidia-ml.so"), library_file(tree, "libcuda.so")
    path = inside(tree, cuda)
    old = tree / "opt/libnvidia-opencl.so.470.1"
    old.parent.mkdir()
    shutil.copy(cuda, old)
    write_cache(
        tree,
        ("libnvidia-ml.so.1", inside(tree, ml), NATIVE),
        ("libcuda.so.1", path, 0x0003),  # i386, but the file is not
        ("libcuda.so.1", path, NATIVE & ~1),  # not of this C library
        ("libcuda.so.1", f"/nowhere/libcuda.so.{VERSION}", NATIVE),
        ("libnvidia-opencl.so.1", inside(tree, old), NATIVE),  # another version
        ("libmycuda.so.1", path, NATIVE),
        ("libcudart.so.1", path, NATIVE),
    )
    found = discover(str(tree))
    assert names(found) == ["libnvidia-ml.so"]
    # A library that appears there later is noticed.
    assert [d.path for d in found.dependencies if "nowhere" in d.path] == [f"{tree}/nowhere"]


def test_thread_local_storage_library_needs_its_note(tree: Path) -> None:
    assert "libnvidia-tls.so" in names(discover(str(tree)))
    without = library_file(tree, "libnvidia-cfg.so")
    with open(without, "rb") as stream:
        assert ELFFile(stream).get_section_by_name(".note.ABI-tag") is None
    shutil.copy(without, library_file(tree, "libnvidia-tls.so"))
    assert "libnvidia-tls.so" not in names(discover(str(tree)))


def test_library_that_is_no_elf_file(tree: Path) -> None:
    file = library_file(tree, "libcuda.so")
    file.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(libnvc.MalformedFileError) as failure:
        discover(str(tree))
    assert failure.value.path == str(file)
    assert str(file) in str(failure.value)


@pytest.mark.parametrize("path", ["usr/lib/libcuda.so.1", "/usr/lib/\nlibcuda.so.1", ""])
def test_cache_with_odd_paths(write_cache: WriteCache, tree: Path, path: str) -> None:
    write_cache(tree, ("libcuda.so.1", path, NATIVE))
    with pytest.raises(libnvc.MalformedFileError) as failure:
        discover(str(tree))
    assert str(failure.value) == f"unsupported file format: {tree}/etc/ld.so.cache"


@pytest.mark.parametrize("content", [b"", b"x", b"glibc-ld.so.cache1.1" + b"\xff" * 100])
def test_corrupt_cache(tree: Path, content: bytes) -> None:
    (tree / "etc/ld.so.cache").write_bytes(content)
    with pytest.raises(libnvc.MalformedFileError) as failure:
        discover(str(tree))
    assert str(failure.value) == f"unsupported file format: {tree}/etc/ld.so.cache"
    assert failure.value.path == f"{tree}/etc/ld.so.cache"


def test_cache_elsewhere(tree: Path) -> None:
    expected = discover(str(tree)).libraries
    (tree / "etc/ld.so.cache").rename(tree / "cache")
    assert discover(str(tree), ldcache="/cache").libraries == expected


# --- no usable driver ----------------------------------------------------------------------------


def test_bare_root(tmp_path: Path) -> None:
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        discover(str(tmp_path))
    assert str(failure.value) == NO_LIBRARY


def test_host_without_driver(write_cache: WriteCache, tree: Path) -> None:
    """Its cache has other libraries."""
    write_cache(tree, ("libc.so.6", "/lib/libc.so.6", NATIVE))
    library_file_1 = [*tree.rglob("libnvidia-ml.so*")]
    for file in library_file_1:
        file.unlink()
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        discover(str(tree))
    assert str(failure.value) == NO_LIBRARY


def test_module_not_loaded(tree: Path) -> None:
    (tree / "proc/driver/nvidia/version").unlink()
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        discover(str(tree))
    assert str(failure.value) == "nvml error: driver not loaded"


def test_module_of_another_version(tree: Path) -> None:
    version = tree / "proc/driver/nvidia/version"
    version.write_text(version.read_text().replace(VERSION, "550.54.15"))
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        discover(str(tree))
    message = str(failure.value)
    assert message.startswith("nvml error: driver/library version mismatch")
    assert "550.54.15" in message
    assert VERSION in message


def test_version_must_match_whole(tree: Path) -> None:
    """535.261.03 is not 35.261.03."""
    version = tree / "proc/driver/nvidia/version"
    version.write_text(version.read_text().replace(VERSION, VERSION[1:]))
    with pytest.raises(libnvc.DriverNotFoundError, match="version mismatch"):
        discover(str(tree))


# --- machines and 32-bit libraries ---------------------------------------------------------------

#: e_machine and flags in the cache, of 64-bit and of 32-bit libraries
MACHINES = {
    "x86_64": ((62, 0x0303), (3, 0x0003)),
    "aarch64": ((183, 0x0A03), (40, 0x0903)),
    "ppc64le": ((21, 0x0503), None),
}


def choose(root: Path, machine: str) -> list[tuple[str, int]]:
    """Return the path and bits of the libraries chosen for a machine."""
    driver = DriverRoot(str(root), machine)
    candidates = read_candidates(driver, "/etc/ld.so.cache")
    chosen = choose_libraries(driver, candidates, VERSION)
    return [(library.path, library.bits) for library in chosen]


@pytest.mark.parametrize("machine", MACHINES)
def test_libraries_of_a_machine(
    tmp_path: Path, plant: Plant, write_cache: WriteCache, machine: str
) -> None:
    """Each machine takes its own two kinds, the 64-bit ones first, and nobody else's."""
    entries = []
    for name, kinds in MACHINES.items():
        for elf, flags in filter(None, kinds):
            for library in ("libcuda.so", "libnvidia-ml.so"):
                path = plant(tmp_path, f"/{name}/{elf}", library, machine=elf)
                entries.append((f"{library}.1", path, flags))
    write_cache(tmp_path, *entries)
    wide, narrow = MACHINES[machine]
    expected = [(wide[0], 64), *([(narrow[0], 32)] if narrow else [])]
    assert choose(tmp_path, machine) == [
        (f"/{machine}/{elf}/{library}.{VERSION}", bits)
        for elf, bits in expected
        for library in ("libnvidia-ml.so", "libcuda.so")
    ]


@pytest.mark.parametrize("machine", MACHINES)
def test_libraries_of_a_machine_in_directories(tmp_path: Path, plant: Plant, machine: str) -> None:
    """Without a cache the files themselves say what they are for."""
    expected = []
    for kind, bits in zip(MACHINES[machine], (64, 32), strict=True):
        if kind is not None:
            path = plant(tmp_path, f"/usr/lib{bits}", "libnvidia-ml.so", machine=kind[0])
            expected.append((path, bits))
    plant(tmp_path, "/usr/lib", "libnvidia-ml.so", "libcuda.so", machine=8)  # MIPS
    assert choose(tmp_path, machine) == expected


def test_unknown_machine_has_no_driver(tmp_path: Path, plant: Plant) -> None:
    plant(tmp_path, "/usr/lib64", "libnvidia-ml.so")
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        choose(tmp_path, "sparc64")
    assert str(failure.value) == NO_LIBRARY
    assert failure.value.code == "wrong-machine"
    assert failure.value.path == f"{tmp_path}/usr/lib64/libnvidia-ml.so.{VERSION}"


def test_32_bit_libraries_follow_the_same_rules(
    tmp_path: Path, plant: Plant, write_cache: WriteCache
) -> None:
    first = plant(tmp_path, "/usr/lib32", "libcuda.so", "libnvidia-tls.so", machine=3)
    last = plant(tmp_path, "/opt/lib32", "libcuda.so", machine=3)
    other = plant(tmp_path, "/usr/lib32", "libnvidia-opencl.so", machine=3, version="470.1")
    wide = plant(tmp_path, "/usr/lib64", "libnvidia-ml.so", "libcuda.so")
    write_cache(
        tmp_path,
        ("libcuda.so.1", first, 0x0003),
        ("libcuda.so.1", last, 0x0003),
        ("libcuda.so.1", "/usr/lib64/libcuda.so.1", 0x0303),
        ("libnvidia-opencl.so.1", other, 0x0003),  # another version
        ("libnvidia-tls.so.1", "/usr/lib32/libnvidia-tls.so.1", 0x0003),  # without its note
        ("libnvidia-ml.so.1", wide, 0x0303),
        ("libnvidia-cfg.so.1", wide, 0x0003),  # 64-bit, whatever the cache says
    )
    assert choose(tmp_path, "x86_64") == [
        (wide, 64),
        (f"/usr/lib64/libcuda.so.{VERSION}", 64),
        (last, 32),
    ]


def test_32_bit_libraries_alone_are_no_driver(
    tmp_path: Path, plant: Plant, write_cache: WriteCache
) -> None:
    path = plant(tmp_path, "/usr/lib32", "libnvidia-ml.so", machine=3)
    write_cache(tmp_path, ("libnvidia-ml.so.1", path, 0x0003))
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        choose(tmp_path, "x86_64")
    assert (str(failure.value), failure.value.code) == (NO_LIBRARY, "wrong-machine")


# --- libraries with a number of their own --------------------------------------------------------


def test_library_that_has_no_version_counts_beside_the_others(
    tmp_path: Path, plant: Plant, write_cache: WriteCache
) -> None:
    nvml = plant(tmp_path, "/usr/lib64", "libnvidia-ml.so")
    beside = plant(tmp_path, "/usr/lib64", "libnvidia-nvvm70.so", version="4")
    apart = plant(tmp_path, "/opt/lib", "libnvidia-nvvm70.so", version="4")
    entries = [
        ("libnvidia-ml.so.1", nvml, 0x0303),
        ("libnvidia-nvvm70.so.4", beside, 0x0303),
        ("libnvidia-nvvm70.so.4", apart, 0x0303),
    ]
    write_cache(tmp_path, *entries)
    assert choose(tmp_path, "x86_64") == [(nvml, 64), (beside, 64)]
    write_cache(tmp_path, entries[0], entries[2])
    assert choose(tmp_path, "x86_64") == [(nvml, 64)]


@pytest.mark.parametrize(
    ("name", "version"), [("libnvidia-nvvm70.so", "550.54.15"), ("libcuda.so", "4")]
)
def test_no_other_version_is_taken_for_a_number(
    tmp_path: Path, plant: Plant, write_cache: WriteCache, name: str, version: str
) -> None:
    nvml = plant(tmp_path, "/usr/lib64", "libnvidia-ml.so")
    odd = plant(tmp_path, "/usr/lib64", name, version=version)
    write_cache(tmp_path, ("libnvidia-ml.so.1", nvml, 0x0303), (f"{name}.4", odd, 0x0303))
    assert choose(tmp_path, "x86_64") == [(nvml, 64)]
