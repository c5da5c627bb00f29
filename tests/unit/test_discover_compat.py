# SPDX-License-Identifier: Apache-2.0
"""The CUDA compatibility libraries of an image, however odd the image."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import libnvc
from libnvc._discover.compat import find_cuda_compat


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    """As NVIDIA's CUDA images have it: links to a versioned directory, links to the files."""
    directory = tmp_path / "usr/local/cuda-12.4/compat"
    directory.mkdir(parents=True)
    (tmp_path / "usr/local/cuda").symlink_to("/etc/alternatives/cuda")
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "etc/alternatives/cuda").symlink_to("/usr/local/cuda-12.4")
    for name in ("libcuda", "libnvidia-nvvm"):
        (directory / f"{name}.so.550.54.15").write_bytes(b"")
        (directory / f"{name}.so.1").symlink_to(f"{name}.so.550.54.15")
    (directory / "libcuda.so").symlink_to("libcuda.so.1")
    (directory / "README").write_bytes(b"")
    return tmp_path


FOUND = (
    "/usr/local/cuda-12.4/compat/libcuda.so.550.54.15",
    "/usr/local/cuda-12.4/compat/libnvidia-nvvm.so.550.54.15",
)


def test_real_files_once(rootfs: Path) -> None:
    assert find_cuda_compat(str(rootfs)) == FOUND
    assert libnvc.inspect_rootfs(str(rootfs)).cuda_compat == FOUND


def test_image_without_them(tmp_path: Path) -> None:
    assert find_cuda_compat(str(tmp_path)) == ()
    assert libnvc.inspect_rootfs(str(tmp_path)).cuda_compat == ()


@pytest.mark.parametrize(
    "target", ["/../../../etc", "../../../../../etc", "/nowhere", "compat", "/etc/passwd"]
)
def test_directory_is_a_link_to_nothing_useful(tmp_path: Path, target: str) -> None:
    (tmp_path / "usr/local/cuda").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"")
    (tmp_path / "usr/local/cuda/compat").symlink_to(target)
    assert find_cuda_compat(str(tmp_path)) == ()


def test_links_out_of_the_root_are_left_out(rootfs: Path) -> None:
    directory = rootfs / "usr/local/cuda-12.4/compat"
    (directory / "libout.so.1").symlink_to("/../../../../../../etc/passwd")
    (directory / "liblost.so.1").symlink_to("/nowhere")
    (directory / "libself.so.1").symlink_to("libself.so.1")
    assert find_cuda_compat(str(rootfs)) == FOUND


def test_a_crowd_is_not_read(tmp_path: Path) -> None:
    directory = tmp_path / "usr/local/cuda/compat"
    directory.mkdir(parents=True)
    for number in range(300):
        (directory / f"lib{number:03}.so.1").write_bytes(b"")
    assert len(find_cuda_compat(str(tmp_path))) == 256


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    directory = tmp_path / "usr/local/cuda/compat"
    directory.mkdir(parents=True)
    Path(os.fsdecode(os.fsencode(directory) + b"/lib\xff\n.so.550")).write_bytes(b"")
    assert find_cuda_compat(str(tmp_path)) == ()
