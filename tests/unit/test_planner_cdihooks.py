# SPDX-License-Identifier: Apache-2.0
"""What the hooks of CDI files plan, and what a CUDA compatibility library says of itself."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libnvc import plan as ops
from libnvc._discover.compatnote import read_note
from libnvc._planner import cdihooks
from libnvc.errors import MalformedFileError, RequestError
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", "/a/b"),
        ("a/b", "/a/b"),
        ("//a/./b/", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../b", "/b"),
        ("", "/"),
    ],
)
def test_inside(path: str, expected: str) -> None:
    assert cdihooks.inside(path) == expected


def test_links() -> None:
    plan = cdihooks.plan_links(["a::/b", "../c::d", "a::/b"])
    links = [(op.path, op.target, op.overwrite) for op in plan.operations]  # type: ignore[attr-defined]
    assert links == [("/b", "a", True), ("/d", "../c", True)]


@pytest.mark.parametrize("link", ["", "a", "a:b", "a::b::c", "::b", "a::", "a::/.."])
def test_no_link(link: str) -> None:
    with pytest.raises(RequestError, match=f"^invalid symlink specification {link}$"):
        cdihooks.plan_links(["a::/b", link])


def test_folders() -> None:
    assert cdihooks.plan_folders(["/a", "/b/", "/a"]).operations == (
        ops.LoaderCache(
            origin="update-ldcache",
            path="/etc/ld.so.cache",
            directories=("/a", "/b"),
            in_place=True,
        ),
    )
    assert cdihooks.plan_compat("/c").operations == (
        ops.LoaderCache(origin="enable-cuda-compat", path="/etc/ld.so.cache", directories=("/c",)),
    )


def test_profile() -> None:
    *_, file = cdihooks.plan_profile([0, 3, 3]).operations
    assert isinstance(file, ops.WriteFile)
    assert file.content == (
        b'{"profiles":[{"name":"_container_","settings":["EGLVisibleDGPUDevices",0x9]}],'
        b'"rules":[{"pattern":[],"profile":"_container_"}]}'
    )
    assert file.mode == 0o444


@pytest.mark.parametrize("end", [b"", b"\n", b"\nOther: 1\n"])
def test_params(end: bytes) -> None:
    params = b"EnableMSI: 1\nModifyDeviceFiles: 1" + end
    assert cdihooks.may_modify(params)
    tmpfs, file, *others = cdihooks.plan_params(
        params, {"params": "file", "version": "file", "gpus": "directory"}
    ).operations
    assert isinstance(tmpfs, ops.Tmpfs)
    assert isinstance(file, ops.WriteFile)
    assert file.content == b"EnableMSI: 1\nModifyDeviceFiles: 0" + (end or b"\n")
    assert not cdihooks.may_modify(file.content)
    assert [(op.path, op.file_type) for op in others if isinstance(op, ops.BindMount)] == [
        ("/proc/driver/nvidia/gpus", "directory"),
        ("/proc/driver/nvidia/version", "file"),
    ]


NOTE = {"Driver": [535, 550], "CUDA Version": "13.0"}


@pytest.mark.parametrize(
    ("note", "version", "driver", "cuda", "expected"),
    [
        (NOTE, "580.65", "550.54.14", "", True),
        (NOTE, "580.65", "560.28", "", False),
        (NOTE, "545.1", "550.54.14", "", False),
        (NOTE, "580.65", "550.54.14", "99", True),
        (NOTE, "580.65", "", "12.9", True),
        (NOTE, "580.65", "", "13.0", False),
        (NOTE, "580.65", "", "13.1", False),
        ({}, "580.65", "550.54", "", False),
        ({"Driver": 550}, "580.65", "550.54", "", False),
        ({"CUDA Version": []}, "580.65", "", "12.0", False),
        (None, "580.65", "550.54", "", True),
        (None, "580.65", "580.10", "", False),
        (None, "580.65", "99.1", "", True),
        (None, "580.65", "", "12.0", False),
        (None, "580.65", "550.54", "12.0", False),
        (None, "x.y", "550.54", "", False),
        (None, "580.65", "five", "", False),
        (NOTE, "580.65", "", "twelve", False),
    ],
)
def test_compat(
    note: dict[str, object] | None, version: str, driver: str, cuda: str, expected: bool
) -> None:
    assert cdihooks.prefers_compat(note, version, driver, cuda) is expected


# --- the note -----------------------------------------------------------------------------------

TEXT = b'{"Format":1,"CUDA Version":"13.0","Driver":[535,550],"Device":[]}'
OWNER = b"NVIDIA Corporation\0"


def elf(
    text: bytes = TEXT, owner: bytes = OWNER, name: bytes = b".note.cuda.fwd_compatibility"
) -> bytes:
    """Return a file of three sections: none, the note, names."""
    note = struct.pack("<III", len(owner), len(text), 1) + owner.ljust(20, b"\0") + text
    names = b"\0" + name + b"\0.shstrtab\0"
    start = 64
    table = start + len(note) + len(names)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, table, 0, 64, 0, 0, 64, 3, 2)
    entry = struct.Struct("<IIQQQQIIQQ")
    sections = (
        entry.pack(*[0] * 10),
        entry.pack(1, 7, 0, 0, start, len(note), 0, 0, 4, 0),
        entry.pack(2 + len(name), 3, 0, 0, start + len(note), len(names), 0, 0, 1, 0),
    )
    return header + note + names + b"".join(sections)


def read(data: bytes, directory: Path) -> bytes | None:
    file = directory / "file"
    file.write_bytes(data)
    fd = os.open(file, os.O_RDONLY)
    try:
        return read_note(fd)
    finally:
        os.close(fd)


def test_note(tmp_path: Path) -> None:
    assert read(elf(), tmp_path) == TEXT
    assert read(elf(name=b".note.other"), tmp_path) is None
    library = write_library(bits=64, machine=this_machine().elf, soname="libcuda.so.1")
    assert read(library, tmp_path) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        elf()[:-1],
        elf(owner=b"Somebody\0"),
        elf()[:58] + b"\x28" + elf()[59:],
        elf()[:62] + b"\x09" + elf()[63:],
        elf()[:40] + b"\xff" * 8 + elf()[48:],
        elf()[:68] + b"\xff" * 4 + elf()[72:],
    ],
)
def test_no_note(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(MalformedFileError):
        read(data, tmp_path)


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_any_note(tmp_path_factory: pytest.TempPathFactory, at: int, change: bytes) -> None:
    data = bytearray(elf())
    data[at : at + len(change)] = change
    try:
        found = read(bytes(data), tmp_path_factory.getbasetemp())
    except MalformedFileError:
        return
    assert found is None or isinstance(found, bytes)
