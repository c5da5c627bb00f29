# SPDX-License-Identifier: Apache-2.0
"""Programs, firmware and sockets of a driver root."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from libnvc._discover import discover
from libnvc.model import DriverFile

VERSION = "535.261.03"


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
