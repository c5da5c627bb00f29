# SPDX-License-Identifier: Apache-2.0
"""What the kernel module's files say, in the wordings of several drivers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libnvc
from libnvc._discover import procfs
from libnvc._discover.root import DriverRoot
from libnvc.model import ProcFile

if TYPE_CHECKING:
    from pathlib import Path

PROPRIETARY = b"""\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.261.03  Tue Jun 17 13:01:12 UTC 2025
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN = b"""\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build  (x@y)
GCC version:  gcc version 13.2.0
"""
INFORMATION = b"""\
Model: \t\t NVIDIA A100-SXM4-40GB
IRQ:   \t\t 16
GPU UUID: \t GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c
Video BIOS: \t 92.00.19.00.01
Bus Type: \t PCIe
DMA Size: \t 47 bits
DMA Mask: \t 0x7fffffffffff
Bus Location: \t 0000:07:00.0
Device Minor: \t 3
GPU Excluded:\t No
"""


@pytest.mark.parametrize(
    ("content", "version"),
    [
        (PROPRIETARY, "535.261.03"),
        (OPEN, "550.54.15"),
        (b"NVRM version: NVIDIA UNIX aarch64 Kernel Module  515.86.01  x\n", "515.86.01"),
        (b"GCC version:  gcc version 12.2.0\n", ""),
        (b"NVRM version: 535\n", ""),
        (b"NVRM version: NVIDIA UNIX 535..03 1.2.\n", ""),
        (b"", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_driver_version(content: bytes, version: str) -> None:
    assert procfs.parse_version(content) == version


def test_information() -> None:
    assert procfs.parse_information(INFORMATION) == procfs.GpuInformation(
        model="NVIDIA A100-SXM4-40GB",
        uuid="GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c",
        pci=(0, 7, 0),
        minor=3,
        excluded=False,
    )


@pytest.mark.parametrize("line", [b"GPU Excluded:\t Yes", b"Blacklisted:\t Yes"])
def test_excluded_gpu(line: bytes) -> None:
    content = INFORMATION.replace(b"GPU Excluded:\t No", line)
    information = procfs.parse_information(content)
    assert information is not None
    assert information.excluded


def test_uuid_of_a_sleeping_gpu_is_unknown() -> None:
    unknown = b"GPU-????????-????-????-????-????????????"
    content = INFORMATION.replace(b"GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c", unknown)
    information = procfs.parse_information(content)
    assert information is not None
    assert information.uuid == ""


@pytest.mark.parametrize("field", [b"Bus Location", b"Device Minor", b"GPU UUID"])
@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"0000:07:00", b"1" * 20, "²".encode()])
def test_malformed_information(field: bytes, value: bytes) -> None:
    lines = [
        field + b": " + value if line.startswith(field) else line
        for line in INFORMATION.splitlines()
    ]
    assert procfs.parse_information(b"\n".join(lines)) is None


@pytest.mark.parametrize(
    ("text", "pci"),
    [
        ("0000:07:00.0", (0, 7, 0)),
        ("10000:BD:1f.0", (0x10000, 0xBD, 0x1F)),
        ("ffffffff:ff:1f.7", (0xFFFFFFFF, 0xFF, 0x1F)),
        ("100000000:00:00.0", None),
        ("0:000:00.0", None),
        ("0000:07:00", None),
        ("07:00.0", None),
        ("0000: 7:00.0", None),
        ("0000:0x7:00.0", None),
    ],
)
def test_pci_address(text: str, pci: tuple[int, int, int] | None) -> None:
    assert procfs.parse_pci(text) == pci


@given(st.binary())
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    assert isinstance(procfs.parse_version(content), str)
    assert procfs.parse_information(content) is None


def make_gpu(root: Path, bus: str, minor: int, **changes: bytes) -> None:
    content = INFORMATION.replace(b"0000:07:00.0", bus.encode())
    content = content.replace(b"Device Minor: \t 3", f"Device Minor: {minor}".encode())
    for old, new in changes.items():
        content = content.replace(old.encode(), new)
    directory = root / "proc/driver/nvidia/gpus" / bus
    directory.mkdir(parents=True)
    (directory / "information").write_bytes(content)


def test_gpus_are_indexed_by_pci_address(tmp_path: Path) -> None:
    for bus, minor in (("10000:01:00.0", 0), ("0000:bd:00.0", 1), ("0000:0f:00.0", 2)):
        make_gpu(tmp_path, bus, minor)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia1").touch()
    root = DriverRoot(str(tmp_path))
    gpus = procfs.read_gpus(root, f"{tmp_path}/proc/driver/nvidia")
    assert [(gpu.index, gpu.pci, gpu.minor, gpu.device.path) for gpu in gpus] == [
        (0, "00000000:0f:00.0", 2, "/dev/nvidia2"),
        (1, "00000000:bd:00.0", 1, "/dev/nvidia1"),
        (2, "00010000:01:00.0", 0, "/dev/nvidia0"),
    ]
    assert [gpu.device.present for gpu in gpus] == [False, True, False]
    assert {(gpu.device.major, gpu.device.minor) for gpu in gpus} == {(195, n) for n in range(3)}
    assert [gpu.proc_dir for gpu in gpus] == ["0000:0f:00.0", "0000:bd:00.0", "10000:01:00.0"]


def test_excluded_gpu_is_not_counted(tmp_path: Path) -> None:
    make_gpu(tmp_path, "0000:07:00.0", 0, Excluded=b"Excluded")
    make_gpu(tmp_path, "0000:03:00.0", 1, No=b"Yes")
    root = DriverRoot(str(tmp_path))
    gpus = procfs.read_gpus(root, f"{tmp_path}/proc/driver/nvidia")
    assert [(gpu.index, gpu.pci) for gpu in gpus] == [(0, "00000000:07:00.0")]


def test_malformed_information_file_is_named(tmp_path: Path) -> None:
    make_gpu(tmp_path, "0000:07:00.0", 0, Minor=b"Major")
    path = f"{tmp_path}/proc/driver/nvidia/gpus/0000:07:00.0/information"
    with pytest.raises(libnvc.MalformedFileError) as failure:
        procfs.read_gpus(DriverRoot(str(tmp_path)), f"{tmp_path}/proc/driver/nvidia")
    assert str(failure.value) == f"unsupported file format: {path}"
    assert (failure.value.path, failure.value.step) == (path, "parse")


def test_no_gpu_at_all(tmp_path: Path) -> None:
    root = DriverRoot(str(tmp_path))
    assert procfs.read_gpus(root, f"{tmp_path}/proc/driver/nvidia") == ()
    assert root.identities[f"{tmp_path}/proc/driver/nvidia/gpus"].ino == 0


def test_proc_files_keep_content_and_mode(tmp_path: Path) -> None:
    (tmp_path / "params").write_bytes(b"ModifyDeviceFiles: 1\n")
    (tmp_path / "params").chmod(0o440)
    (tmp_path / "registry").write_bytes(b"")
    (tmp_path / "registry").chmod(0o644)
    root = DriverRoot("/")
    assert procfs.read_proc_files(root, str(tmp_path)) == (
        ProcFile(name="params", content=b"ModifyDeviceFiles: 1\n", mode=0o440),
        ProcFile(name="registry", content=b"", mode=0o644),
    )
    params = root.identities[f"{tmp_path}/params"]
    assert params.digest == hashlib.sha256(b"ModifyDeviceFiles: 1\n").hexdigest()
    assert (params.size, params.mtime_ns, params.ctime_ns) == (21, 0, 0)


@pytest.mark.parametrize(
    ("content", "major"),
    [
        ("Character devices:\n  1 mem\n510 nvidia-uvm\n\nBlock devices:\n  8 sd\n", 510),
        ("Character devices:\n509 not-nvidia-uvm\n\nBlock devices:\n", None),
        ("Character devices:\n  1 mem\n\nBlock devices:\n510 nvidia-uvm\n", None),
        ("Character devices:\nxyz nvidia-uvm\n", None),
        ("", None),
    ],
)
def test_major_of_a_module(tmp_path: Path, content: str, major: int | None) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/devices").write_text(content)
    root = DriverRoot(str(tmp_path))
    proc = f"{tmp_path}/proc/driver/nvidia"
    assert procfs.read_major(root, proc, "nvidia-uvm") == major


def test_own_procfs_comes_before_the_hosts(tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    assert procfs.proc_directory(DriverRoot(str(tmp_path))) == f"{tmp_path}/proc/driver/nvidia"


@pytest.mark.parametrize("content", [None, b"garbage"])
def test_module_that_is_not_loaded(tmp_path: Path, content: bytes | None) -> None:
    root = DriverRoot("/")
    if content is None:
        with pytest.raises(libnvc.DriverNotFoundError) as failure:
            procfs.read_driver_version(root, str(tmp_path))
        assert str(failure.value) == "nvml error: driver not loaded"
    else:
        (tmp_path / "version").write_bytes(content)
        with pytest.raises(libnvc.MalformedFileError) as malformed:
            procfs.read_driver_version(root, str(tmp_path))
        assert str(malformed.value) == f"unsupported file format: {tmp_path}/version"
