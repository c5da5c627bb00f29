# SPDX-License-Identifier: Apache-2.0
"""Discovery of a whole driver root: what is found, in which order, and what is refused."""

from __future__ import annotations

import platform
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

import libnvc
from libnvc._discover import discover
from libnvc._discover.tables import ARCHITECTURES, LIBRARIES
from libnvc.model import DeviceFile, DriverFile, Identity, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from libnvc.model import Inventory

VERSION = "535.261.03"
ARCHITECTURE = ARCHITECTURES[platform.machine()]
NATIVE = ARCHITECTURE.cache_flags | 3
NO_LIBRARY = (
    "load library failed: libnvidia-ml.so.1: "
    "cannot open shared object file: no such file or directory"
)


@pytest.fixture
def tree(tmp_path: Path, dgx_a100: Path) -> Path:
    """Return an own copy of a simulated DGX A100."""
    subprocess.run(["cp", "-a", dgx_a100, tmp_path / "driver"], check=True)
    return tmp_path / "driver"


def library_file(tree: Path, name: str) -> Path:
    """Return the real file of a library of the tree."""
    found = [lib for lib in discover(str(tree)).libraries if lib.name == name]
    return tree / found[0].path[1:]


def write_cache(tree: Path, *entries: tuple[str, str, int]) -> None:
    """Write a loader cache of SONAME, path and flags, in this order."""
    table, strings = b"", b""
    start = 48 + 24 * len(entries)
    for soname, path, flags in entries:
        key = start + len(strings)
        strings += soname.encode() + b"\0"
        value = start + len(strings)
        strings += path.encode() + b"\0"
        table += struct.pack("=iIIIQ", flags, key, value, 0, 0)
    head = b"glibc-ld.so.cache1.1" + struct.pack("=II5I", len(entries), len(strings), *[0] * 5)
    (tree / "etc/ld.so.cache").write_bytes(head + table + strings)


def inside(tree: Path, path: Path) -> str:
    return f"/{path.relative_to(tree)}"


def names(inventory: Inventory) -> list[str]:
    return [library.name for library in inventory.libraries]


def test_gpus(dgx_a100: Path) -> None:
    found = discover(str(dgx_a100))
    assert (found.root, found.driver_version) == (str(dgx_a100), VERSION)
    assert found.proc == f"{dgx_a100}/proc/driver/nvidia"
    assert [(gpu.index, gpu.pci, gpu.proc_dir) for gpu in found.gpus] == [
        (index, f"00000000:{bus}:00.0", f"0000:{bus}:00.0")
        for index, bus in enumerate(["07", "0f", "47", "4e", "87", "90", "b7", "bd"])
    ]
    assert len({gpu.uuid for gpu in found.gpus}) == 8
    assert len({gpu.minor for gpu in found.gpus}) == 8
    assert {gpu.model for gpu in found.gpus} == {"NVIDIA A100-SXM4-40GB"}
    for gpu in found.gpus:
        assert gpu.device == DeviceFile(
            path=f"/dev/nvidia{gpu.minor}", major=195, minor=gpu.minor, present=True
        )
    assert found.warnings == ()


def test_driver_of_another_profile(mx150: Path) -> None:
    found = discover(str(mx150))
    assert found.driver_version == "515.86.01"
    assert [gpu.model for gpu in found.gpus] == ["NVIDIA GeForce MX150"]
    assert all(library.path.endswith(".515.86.01") for library in found.libraries)


def test_libraries_are_real_and_in_table_order(dgx_a100: Path) -> None:
    found = discover(str(dgx_a100))
    order = [name for group in LIBRARIES.values() for name in group]
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


def test_control_devices(dgx_a100: Path) -> None:
    control = discover(str(dgx_a100)).control
    assert [device.path for device in control] == [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-modeset",
    ]
    assert [(device.major, device.minor) for device in control[::3]] == [(195, 255), (195, 254)]
    assert [device.minor for device in control[1:3]] == [0, 1]


def test_same_root_same_inventory(tree: Path) -> None:
    assert discover(str(tree)) == discover(f"{tree}/")
    link = tree.parent / "link"
    link.symlink_to(tree)
    assert discover(str(link)) == discover(str(tree))


def test_moved_root_gives_the_same_plan(tree: Path, dgx_a100: Path) -> None:
    request = Request(devices=("all",), capabilities=("utility", "compute"))
    here = libnvc.make_plan(discover(str(tree)), request).replace(dependencies=())
    there = libnvc.make_plan(discover(str(dgx_a100)), request).replace(dependencies=())
    assert here.to_json().replace(str(tree), "ROOT") == there.to_json().replace(
        str(dgx_a100), "ROOT"
    )


# --- the loader cache ---------------------------------------------------------------------------


def test_last_entry_for_a_name_wins(tree: Path) -> None:
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


def test_entries_that_do_not_count(tree: Path) -> None:
    ml, cuda = library_file(tree, "libnvidia-ml.so"), library_file(tree, "libcuda.so")
    path = inside(tree, cuda)
    old = tree / "opt/libnvidia-opencl.so.470.1"
    old.parent.mkdir()
    shutil.copy(cuda, old)
    write_cache(
        tree,
        ("libnvidia-ml.so.1", inside(tree, ml), NATIVE),
        ("libcuda.so.1", path, 0x0003),  # i386
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
def test_cache_with_odd_paths(tree: Path, path: str) -> None:
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


def test_missing_cache(tree: Path) -> None:
    (tree / "etc/ld.so.cache").unlink()
    with pytest.raises(libnvc.DiscoveryError) as failure:
        discover(str(tree))
    error = failure.value
    assert type(error) is libnvc.DiscoveryError
    assert str(error) == f"open failed: {tree}/etc/ld.so.cache: no such file or directory"
    assert (error.errno, error.step) == (2, "open")


# --- no usable driver ---------------------------------------------------------------------------


def test_bare_root(tmp_path: Path) -> None:
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        discover(str(tmp_path))
    assert str(failure.value) == NO_LIBRARY


def test_host_without_driver(tree: Path) -> None:
    """Its cache has other libraries."""
    write_cache(tree, ("libc.so.6", "/lib/libc.so.6", NATIVE))
    library_file_1 = [*tree.rglob("libnvidia-ml.so*")]
    for file in library_file_1:
        file.unlink()
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        discover(str(tree))
    assert str(failure.value) == NO_LIBRARY


def test_driver_that_ldconfig_has_not_seen(tree: Path) -> None:
    write_cache(tree, ("libc.so.6", "/lib/libc.so.6", NATIVE))
    with pytest.raises(libnvc.DiscoveryError) as failure:
        discover(str(tree))
    assert "libnvidia-ml.so.1 is not in" in str(failure.value)
    assert f"{tree}/etc/ld.so.cache" in str(failure.value)
    assert "ldconfig" in str(failure.value)


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


# --- devices ------------------------------------------------------------------------------------


def test_missing_uvm_is_left_out_with_a_warning(tree: Path) -> None:
    for path in tree.glob("dev/nvidia-uvm*"):
        path.unlink()
    (tree / "proc/devices").unlink(missing_ok=True)
    found = discover(str(tree))
    assert [d.path for d in found.control] == ["/dev/nvidiactl", "/dev/nvidia-modeset"]
    assert found.warnings == (
        "missing device /dev/nvidia-uvm",
        "missing device /dev/nvidia-uvm-tools",
    )


def test_missing_uvm_whose_number_is_known_can_be_made(tree: Path) -> None:
    for path in tree.glob("dev/nvidia-uvm*"):
        path.unlink()
    (tree / "proc/devices").write_text("Character devices:\n507 nvidia-uvm\n")
    found = discover(str(tree))
    assert found.control[1:3] == (
        DeviceFile(path="/dev/nvidia-uvm", major=507, minor=0, present=False),
        DeviceFile(path="/dev/nvidia-uvm-tools", major=507, minor=1, present=False),
    )
    assert found.warnings == ()


def test_kernel_knows_the_number_better_than_an_old_node(tree: Path) -> None:
    (tree / "proc/devices").write_text("Character devices:\n507 nvidia-uvm\n")
    assert discover(str(tree)).control[1].major == 507


def test_missing_nodes_are_known_as_such(tree: Path) -> None:
    (tree / "dev/nvidia0").unlink()
    (tree / "dev/nvidiactl").unlink()
    found = discover(str(tree))
    assert not found.control[0].present
    assert [gpu.device.path for gpu in found.gpus if not gpu.device.present] == ["/dev/nvidia0"]


def test_gpu_without_uuid_is_kept(tree: Path) -> None:
    path = tree / "proc/driver/nvidia/gpus/0000:0f:00.0/information"
    lines = path.read_text().splitlines()
    unknown = "GPU UUID: \t GPU-????????-????-????-????-????????????"
    path.write_text("\n".join(unknown if "UUID" in line else line for line in lines))
    found = discover(str(tree))
    assert [gpu.uuid == "" for gpu in found.gpus] == [False, True] + [False] * 6
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("GPU 1 (00000000:0f:00.0) has no UUID")
    assert discover(str(tree), probe=True).gpus[1].uuid.startswith("GPU-")


# --- programs, firmware, sockets ----------------------------------------------------------------


def test_programs_follow_the_path(tree: Path) -> None:
    real = tree / "opt/nvidia/nvidia-smi"
    real.parent.mkdir(parents=True)
    real.touch()
    (tree / "opt/bin").mkdir()
    (tree / "opt/bin/nvidia-smi").symlink_to("/opt/nvidia/nvidia-smi")
    (tree / "opt/bin/nvidia-debugdump").mkdir()
    found = discover(str(tree), path="relative::/none:/opt/bin:/usr/bin").binaries
    assert found[0] == DriverFile(path="/opt/nvidia/nvidia-smi", kind="binary")
    assert "/usr/bin/nvidia-debugdump" in [file.path for file in found]
    assert discover(str(tree), path="").binaries == ()


def test_program_order_is_that_of_the_tables(dgx_a100: Path) -> None:
    assert [file.path.rpartition("/")[2] for file in discover(str(dgx_a100)).binaries] == [
        name
        for name in (
            "nvidia-smi",
            "nvidia-debugdump",
            "nvidia-persistenced",
            "nv-fabricmanager",
            "nvidia-cuda-mps-control",
            "nvidia-cuda-mps-server",
        )
        if (dgx_a100 / "usr/bin" / name).exists()
    ]


def test_firmware(tree: Path) -> None:
    directory = f"/lib/firmware/nvidia/{VERSION}"
    shutil.rmtree(tree / "lib/firmware", ignore_errors=True)
    (tree / directory[1:]).mkdir(parents=True)
    for name in ("gsp_tu10x.bin", "gsp_ad10x.bin", "gsp.txt", "other.bin"):
        (tree / directory[1:] / name).touch()
    assert [(file.target, file.kind) for file in discover(str(tree)).firmware] == [
        (f"{directory}/gsp_ad10x.bin", "firmware"),
        (f"{directory}/gsp_tu10x.bin", "firmware"),
    ]
    skipped = discover(str(tree), skip=frozenset({"gsp-firmware"}))
    assert skipped.firmware == ()


def clear_sockets(tree: Path) -> None:
    for directory in ("run", "var/run", "tmp"):
        path = tree / directory
        if path.is_symlink():
            path.unlink()
        shutil.rmtree(path, ignore_errors=True)
    (tree / "run").mkdir()
    (tree / "var").mkdir(exist_ok=True)
    (tree / "var/run").symlink_to("/run")


def make_socket(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        # A socket's name is short; the directory's need not be.
        short = Path("/tmp") / f"nvc-test-{path.parent.name}"
        short.unlink(missing_ok=True)
        server.bind(str(short))
        shutil.move(short, path)


def test_sockets(tree: Path) -> None:
    clear_sockets(tree)
    assert discover(str(tree)).ipcs == ()
    for daemon in ("persistenced", "fabricmanager"):
        make_socket(tree / f"run/nvidia-{daemon}/socket")
    (tree / "tmp/nvidia-mps").mkdir(parents=True)
    found = discover(str(tree)).ipcs
    assert [(file.path, file.target, file.file_type) for file in found] == [
        ("/run/nvidia-persistenced/socket", "/run/nvidia-persistenced/socket", "socket"),
        ("/run/nvidia-fabricmanager/socket", "/run/nvidia-fabricmanager/socket", "socket"),
        ("/tmp/nvidia-mps", "/tmp/nvidia-mps", "directory"),
    ]
    skip = frozenset({"persistenced", "fabricmanager"})
    assert discover(str(tree), skip=skip).ipcs == found[2:]
    (tree / "elsewhere").mkdir()
    assert discover(str(tree), mps_directory="/elsewhere").ipcs[2].path == "/elsewhere"


@pytest.mark.parametrize("odd", ["", "/", "//", "tmp/nvidia-mps"])
def test_mps_directory_is_never_the_whole_root(tree: Path, odd: str) -> None:
    """Whatever the environment of the caller says."""
    found = discover(str(tree), mps_directory=odd).ipcs
    assert [file.path for file in found if file.file_type == "directory"] == []


def test_what_is_no_socket_is_left_out(tree: Path) -> None:
    clear_sockets(tree)
    (tree / "run/nvidia-persistenced/socket").mkdir(parents=True)
    (tree / "run/nvidia-fabricmanager").mkdir()
    (tree / "run/nvidia-fabricmanager/socket").touch()
    (tree / "tmp").mkdir()
    (tree / "tmp/nvidia-mps").touch()
    assert discover(str(tree)).ipcs == ()


# --- NVML ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "cuda", "brand", "arch"),
    [("dgx_a100", "12.2", "Nvidia", "8.0"), ("mx150", "11.7", "GeForce", "6.1")],
)
def test_probe_adds_what_only_nvml_knows(
    request: pytest.FixtureRequest, profile: str, cuda: str, brand: str, arch: str
) -> None:
    root = str(request.getfixturevalue(profile))
    plain, probed = discover(root), discover(root, probe=True)
    assert probed.cuda_version == cuda
    assert {(gpu.brand, gpu.arch) for gpu in probed.gpus} == {(brand, arch)}
    bare = tuple(gpu.replace(brand="", arch="") for gpu in probed.gpus)
    assert probed.replace(cuda_version="", gpus=bare) == plain


# --- dependencies -------------------------------------------------------------------------------


def new_gpu(tree: Path) -> None:
    gpus = tree / "proc/driver/nvidia/gpus"
    shutil.copytree(gpus / "0000:07:00.0", gpus / "0000:ff:00.0")


def rewrite(path: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        (file,) = tree.glob(path)
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content + b"\n")

    return change


def create(path: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    return change


def remove(path: str) -> Callable[[Path], None]:
    return lambda tree: (tree / path).unlink()


@pytest.mark.parametrize(
    "change",
    [
        rewrite("etc/ld.so.cache"),
        rewrite(f"usr/lib/*/libcuda.so.{VERSION}"),
        rewrite("proc/driver/nvidia/params"),
        rewrite("proc/driver/nvidia/version"),
        rewrite("proc/driver/nvidia/gpus/0000:0f:00.0/information"),
        rewrite("usr/bin/nvidia-smi"),
        create("usr/bin/nv-fabricmanager-new"),
        create("proc/devices"),
        create(f"lib/firmware/nvidia/{VERSION}/gsp_new.bin"),
        create("usr/local/bin/nvidia-smi"),
        remove("dev/nvidia3"),
        remove("dev/nvidiactl"),
        new_gpu,
    ],
)
def test_every_input_is_a_dependency(tree: Path, change: Callable[[Path], None]) -> None:
    (tree / "proc/devices").unlink(missing_ok=True)
    before = discover(str(tree)).dependencies
    assert discover(str(tree)).dependencies == before
    change(tree)
    assert discover(str(tree)).dependencies != before


def test_dependencies_are_sorted_unique_and_under_the_root(dgx_a100: Path) -> None:
    paths = [identity.path for identity in discover(str(dgx_a100)).dependencies]
    assert paths == sorted(set(paths))
    assert all(path.startswith(f"{dgx_a100}/") for path in paths)


def test_missing_is_an_identity_too(tree: Path) -> None:
    (tree / "proc/driver/nvidia/registry").unlink(missing_ok=True)
    path = f"{tree}/proc/driver/nvidia/registry"
    assert Identity(path=path, dev=0, ino=0, size=0, mtime_ns=0, ctime_ns=0) in (
        discover(str(tree)).dependencies
    )
