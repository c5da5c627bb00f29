# SPDX-License-Identifier: Apache-2.0
"""The ELF reader agrees with pyelftools on every library here, and survives any change to one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_E_MACHINE
from elftools.elf.segments import NoteSegment
from hypothesis import given
from hypothesis import strategies as st

from libnvc._native import elf
from libnvc.errors import MalformedFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORIES = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
SAMPLES = [
    path.read_bytes()
    for path in sorted((Path(__file__).parent.parent / "fuzz/corpus/elf").iterdir())
]


def system_libraries() -> Iterator[Path]:
    """Yield each library of this machine once."""
    for directory in DIRECTORIES:
        for path in sorted(Path(directory).glob("*.so*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    if file.read(4) == b"\177ELF":
                        yield path


def by_pyelftools(path: Path) -> elf.ElfFacts:
    """Read the same facts with an independent program."""
    soname, needed, abi = "", [], None
    with path.open("rb") as file:
        image = ELFFile(file)
        for segment in image.iter_segments():
            if isinstance(segment, DynamicSegment):
                for tag in segment.iter_tags():  # the name of an attribute depends on the tag
                    soname = getattr(tag, "soname", soname)
                    needed += [tag.needed] if hasattr(tag, "needed") else []
            elif isinstance(segment, NoteSegment):
                for note in segment.iter_notes():
                    if note["n_type"] == "NT_GNU_ABI_TAG" and note["n_name"] == "GNU":
                        desc = note["n_desc"]
                        abi = (desc["abi_major"], desc["abi_minor"], desc["abi_tiny"])
        return elf.ElfFacts(
            bits=image.elfclass,
            machine=ENUM_E_MACHINE[image["e_machine"]],
            soname=soname,
            needed=tuple(needed),
            abi=abi,
        )


def test_agrees_with_pyelftools_on_every_library_here() -> None:
    compared = 0
    for path in system_libraries():
        assert elf.read(str(path)) == by_pyelftools(path), path
        compared += 1
    assert compared > 20


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elf") / "lib.so"


def answer_or_refuse(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        facts = elf.read(str(path))
    except MalformedFileError as error:
        assert str(error) in {
            f"elf file read error: {path}",
            f"elf data read error: {path}",
        }
        return
    assert facts.bits in {32, 64}
    for name in (facts.soname, *facts.needed):
        assert name.encode("utf-8", "surrogateescape") in data


@given(st.binary(max_size=300), st.sampled_from([b"", b"\177ELF\1\1\1", b"\177ELF\2\2\1"]))
def test_any_bytes(scratch: Path, data: bytes, magic: bytes) -> None:
    answer_or_refuse(scratch, magic + data)


@given(
    st.sampled_from(SAMPLES),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.integers(0, 2000),
)
def test_changed_and_cut_short(
    scratch: Path, sample: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(sample)
    for at, value in changes:
        data[at % len(data)] = value
    answer_or_refuse(scratch, bytes(data[:length]))


def test_every_library_here_cut_short(scratch: Path) -> None:
    """Where its tables are missing, a library is refused or the facts are the true ones."""
    for path in list(system_libraries())[:40]:
        with path.open("rb") as file:
            data = file.read(1 << 20)
        truth = elf.read(str(path))
        for length in (0, 4, 16, 63, 64, 200, 1000, 4095, 4096, len(data) // 2, len(data) - 1):
            scratch.write_bytes(data[:length])
            try:
                facts = elf.read(str(scratch))
            except MalformedFileError:
                continue
            assert facts == truth
