# SPDX-License-Identifier: Apache-2.0
"""The ELF reader, on what the compiler makes and on what is not ELF."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from libnvc._native import elf
from libnvc.errors import DiscoveryError, MalformedFileError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

ABI_NOTE = """
.section .note.ABI-tag,"a",%note
.balign 4
.long 4, 16, 1
.asciz "GNU"
.long {os}, 2, 3, 99
.section .note.GNU-stack,"",%progbits
"""


@pytest.fixture
def library(tmp_path: Path, compile_c: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that makes a library with an ABI note for some operating system."""

    def make(name: str = "libtest.so", *flags: str, system: int = 0) -> Path:
        source = tmp_path / "note.S"
        source.write_text(ABI_NOTE.format(os=system))
        return compile_c(tmp_path / name, source, flags=("-nostdlib", *flags))

    return make


def test_library(library: Callable[..., Path], tmp_path: Path) -> None:
    dependency = library("libb.so", "-Wl,-soname,libb.so.1")
    path = library(
        "liba.so", "-Wl,-soname,libnvidia-tls.so.535.261.03", "-Wl,--no-as-needed", str(dependency)
    )
    assert elf.read(str(path)) == elf.ElfFacts(
        bits=64,
        machine={"x86_64": 62, "aarch64": 183, "ppc64le": 21}[os.uname().machine],
        soname="libnvidia-tls.so.535.261.03",
        needed=("libb.so.1",),
        abi=(2, 3, 99),
    )


def test_no_soname(library: Callable[..., Path]) -> None:
    facts = elf.read(str(library()))
    assert (facts.soname, facts.needed) == ("", ())


def test_note_of_another_system(library: Callable[..., Path]) -> None:
    assert elf.read(str(library(system=1))).abi is None


def test_stripped_of_section_headers(library: Callable[..., Path]) -> None:
    path = library("libs.so", "-Wl,-soname,libs.so.1")
    data = bytearray(path.read_bytes())
    data[0x28:0x30] = bytes(8)  # e_shoff
    data[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    path.write_bytes(data)
    facts = elf.read(str(path))
    assert (facts.soname, facts.abi) == ("libs.so.1", (2, 3, 99))


def test_the_interpreter_itself() -> None:
    facts = elf.read(os.path.realpath("/proc/self/exe"))
    assert facts.bits == 64
    assert any(name.startswith("libc.so") for name in facts.needed)


@pytest.mark.parametrize(
    "data", [b"", b"\177ELF", b"#!/bin/sh\n" * 20, b"\177ELF\3\1\1" + bytes(99)]
)
def test_not_elf(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(MalformedFileError) as caught:
        elf.read(str(path))
    assert str(caught.value) == f"elf file read error: {path}"
    assert caught.value.path == str(path)


def test_truncated(library: Callable[..., Path]) -> None:
    path = library()
    os.truncate(path, 100)
    with pytest.raises(MalformedFileError) as caught:
        elf.read(str(path))
    assert str(caught.value) == f"elf data read error: {path}"


def test_missing(tmp_path: Path) -> None:
    path = tmp_path / "none"
    with pytest.raises(DiscoveryError) as caught:
        elf.read(str(path))
    assert type(caught.value) is DiscoveryError
    assert str(caught.value) == f"path error: {path}: no such file or directory"
    assert caught.value.errno == errno.ENOENT


def test_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MalformedFileError, match=r"^elf file read error: "):
        elf.read(str(tmp_path / "pipe"))


def test_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    with pytest.raises(DiscoveryError) as caught:
        elf.read(str(tmp_path / "socket"))
    assert caught.value.errno == errno.ENXIO


def test_newline_in_path() -> None:
    with pytest.raises(RequestError, match="contains a newline"):
        elf.read("/lib/a\nb")
