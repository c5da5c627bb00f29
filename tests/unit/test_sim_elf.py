# SPDX-License-Identifier: Apache-2.0
"""The simulated driver's libraries and loader cache, by the eyes of pyelftools, ld.so, ldconfig."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection
from hypothesis import given
from hypothesis import strategies as st

import libnvc.sim
from libnvc._native import elf, ldcache
from libnvc.sim.cachewriter import write_cache
from libnvc.sim.elfwriter import abi_note, write_library
from libnvc.sim.libraries import driver_libraries, driver_libraries32
from libnvc.sim.machine import this_machine

NAMES = st.from_regex(r"lib[a-zA-Z0-9_+.-]{0,12}\.so(\.[0-9]{1,4}){0,3}", fullmatch=True)


def names(image: bytes, kind: str) -> list[str]:
    """Return the strings of one kind of entry of the dynamic section."""
    section = ELFFile(io.BytesIO(image)).get_section_by_name(".dynamic")
    assert isinstance(section, DynamicSection)
    field = kind.removeprefix("DT_").lower()
    return [getattr(tag, field) for tag in section.iter_tags(kind)]


@given(
    soname=NAMES,
    needed=st.lists(NAMES, max_size=5),
    note=st.booleans(),
    kind=st.sampled_from([(64, 62, "EM_X86_64"), (64, 183, "EM_AARCH64"), (32, 3, "EM_386")]),
)
def test_written_libraries(
    soname: str, needed: list[str], note: bool, kind: tuple[int, int, str]
) -> None:
    bits, machine, name = kind
    image = write_library(
        bits=bits,
        machine=machine,
        soname=soname,
        needed=tuple(needed),
        note=abi_note((2, 3, 99)) if note else b"",
    )
    file = ELFFile(io.BytesIO(image))
    assert (file.elfclass, file.little_endian, file["e_type"]) == (bits, True, "ET_DYN")
    assert file["e_machine"] == name
    assert names(image, "DT_NEEDED") == needed
    assert names(image, "DT_SONAME") == [soname]
    for section in file.iter_sections():
        assert section["sh_offset"] + section["sh_size"] <= len(image)
    for segment in file.iter_segments("PT_LOAD"):
        assert (segment["p_vaddr"] - segment["p_offset"]) % segment["p_align"] == 0
    notes = file.get_section_by_name(".note.ABI-tag")
    if not note:
        assert notes is None
        return
    assert isinstance(notes, NoteSection)
    (abi,) = notes.iter_notes()
    assert (abi["n_name"], abi["n_type"]) == ("GNU", "NT_GNU_ABI_TAG")
    assert [abi["n_desc"][f"abi_{part}"] for part in ("major", "minor", "tiny")] == [2, 3, 99]


@pytest.mark.parametrize(
    "profile",
    [profile for profile in libnvc.sim.profiles() if not profile.jetson],
    ids=lambda profile: str(profile.name),
)
def test_library_files(request: pytest.FixtureRequest, profile: libnvc.sim.Profile) -> None:
    root = request.getfixturevalue(profile.name.replace("-", "_"))
    version = profile.driver_version
    for library in driver_libraries(version):
        directory = f"{root}{this_machine().libs_dir}/{library.directory}"
        path = f"{directory}/{library.file_name(version)}"
        facts = elf.read(path)
        soname = library.full_soname(version)
        assert (facts.bits, facts.machine) == (64, this_machine().elf)
        assert facts.soname == soname
        assert facts.abi == ((2, 3, 99) if library.tls else None)
        assert facts.needed[-1] == "libc.so.6"
        assert os.path.realpath(f"{directory}/{soname}") == os.path.realpath(path)


def test_32_bit_library_files(workstation: Path) -> None:
    """For a machine that has them: those that the archives have."""
    version = "550.90.07"
    directory = workstation / "usr/lib/i386-linux-gnu"
    files = sorted(path for path in directory.rglob("*.so.*") if not path.is_symlink())
    names = {path.name.partition(".")[0] for path in files}
    assert len(names) == len(files) == 21
    assert {"libcuda", "libnvidia-ml", "libGLX_nvidia", "libnvidia-gpucomp"} <= names
    absent = ("cfg", "ngx", "rtcore", "pkcs11", "gtk3", "wayland-client", "egl-wayland", "api")
    assert not names & {"libcudadebugger", "libnvoptix", *(f"libnvidia-{name}" for name in absent)}
    sonames = {library.full_soname(version) for library in driver_libraries32(version)}
    for path in files:
        facts = elf.read(str(path))
        assert (facts.bits, facts.machine) == (32, 3)
        assert facts.soname in sonames
        assert set(facts.needed) <= {*sonames, "libc.so.6"}
        assert (path.parent / facts.soname).resolve() == path.resolve()


@pytest.mark.parametrize("profile", ["mx150", "t4", "dgx-h100", "gb200"])
def test_no_32_bit_libraries(profile: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(profile.replace("-", "_"))
    assert [path.name for path in (root / "usr/lib").iterdir()] == [
        *("firmware", f"{this_machine().name}-linux-gnu")
    ]


@pytest.mark.parametrize("version", ["515.86.01", "535.261.03", "550.54.15", "580.65.06"])
def test_needed_libraries_are_the_drivers_own(version: str) -> None:
    own = {library.full_soname(version) for library in driver_libraries(version)}
    needed = {
        name.format(v=version) for library in driver_libraries(version) for name in library.needed
    }
    assert len(needed) > 4
    assert needed <= own


@pytest.mark.parametrize("profile", ["t4", "dgx_a100", "gb200"])
def test_loader_maps_every_library(request: pytest.FixtureRequest, profile: str) -> None:
    """Not only by our own reading: ld.so loads them, with what they need."""
    directory = f"{request.getfixturevalue(profile)}{this_machine().libs_dir}"
    script = (
        "import ctypes, sys\n"
        "for path in sys.argv[1:]: ctypes.CDLL(path)\n"
        "print(open('/proc/self/maps').read())"
    )
    files = sorted(str(path) for path in Path(directory).rglob("*.so.*") if not path.is_symlink())
    assert len(files) > 30
    done = subprocess.run(
        [sys.executable, "-c", script, *files],
        env={"LD_LIBRARY_PATH": directory},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(file in done.stdout for file in files)


# --- the loader cache ---------------------------------------------------------------------------


def listing(cache: Path) -> list[str]:
    done = subprocess.run(
        ["/sbin/ldconfig", "-p", "-C", cache], capture_output=True, text=True, check=True
    )
    return re.findall(r"^\t.*", done.stdout, re.MULTILINE)


@pytest.mark.root
@pytest.mark.parametrize("profile", ["mx150", "t4", "dgx_a100", "gb200", "workstation"])
def test_cache_is_what_ldconfig_writes(
    request: pytest.FixtureRequest, tmp_path: Path, profile: str
) -> None:
    root = request.getfixturevalue(profile)
    copy = tmp_path / "root"
    shutil.copytree(root / "etc", copy / "etc")
    shutil.copytree(root / "usr", copy / "usr", symlinks=True)
    (copy / "lib").symlink_to("usr/lib")
    (copy / "etc/ld.so.cache").unlink()
    subprocess.run(["/sbin/ldconfig", "-r", copy], check=True)
    expected = listing(copy / "etc/ld.so.cache")
    assert len(expected) > 30
    assert listing(root / "etc/ld.so.cache") == expected
    # ldconfig found every link in place.
    links = [path for path in (copy / "usr").rglob("*") if path.is_symlink()]
    assert [path for path in links if not (root / path.relative_to(copy)).is_symlink()] == []


@pytest.mark.root
def test_cache_of_two_versions_is_what_ldconfig_writes(faulty: Callable[..., Path]) -> None:
    root = faulty("two-versions", "workstation")
    expected = listing(root / "etc/ld.so.cache")
    subprocess.run(["/sbin/ldconfig", "-r", root, "-C", "/etc/other.cache"], check=True)
    assert listing(root / "etc/other.cache") == expected
    assert len(expected) > 100


@given(sonames=st.sets(NAMES, max_size=12))
def test_written_cache_reads_back(sonames: set[str]) -> None:
    entries = [(name, f"/usr/lib/{name}", 0x0303) for name in sonames]
    read = ldcache.parse(write_cache(entries), "cache")
    assert sorted((entry.soname, entry.path, entry.flags) for entry in read) == sorted(entries)


def test_cache_order_is_that_of_the_loader() -> None:
    """Numbers by value, digits above other characters, longer names above shorter ones."""
    sonames = ["liba.so.1", "liba.so.10", "liba.so.9", "liba1.so", "liba.so", "libb.so"]
    read = ldcache.parse(write_cache([(name, "/" + name, 1) for name in sonames]), "cache")
    assert [entry.soname for entry in read] == [
        "libb.so",
        "liba1.so",
        "liba.so.10",
        "liba.so.9",
        "liba.so.1",
        "liba.so",
    ]


def test_cache_order_of_libraries_with_one_name() -> None:
    """64-bit ones first, then as the directories come."""
    entries = [("liba.so", "/c", 0x0003), ("liba.so", "/b", 0x0303), ("liba.so", "/a", 0x0303)]
    read = ldcache.parse(write_cache(entries), "cache")
    assert [entry.path for entry in read] == ["/b", "/a", "/c"]
