# SPDX-License-Identifier: Apache-2.0
"""CSV files of a Jetson: lines, patterns, files, and what is wrong with them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from libnvc import MalformedFileError
from libnvc._discover.csvfiles import DIRECTORY, csv_files, parse_line, read_entries
from libnvc._discover.globs import expand, fits, is_ignored
from libnvc._discover.root import DriverRoot

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"lib, /usr/lib/libcuda.so.1.1", ("lib", "/usr/lib/libcuda.so.1.1")),
        (b"  dev ,/dev/nvmap\t\r", ("dev", "/dev/nvmap")),
        (b"sym, /a,b", ("sym", "/a,b")),
        (b"dir, //usr/./lib/", ("dir", "/usr/lib")),
        (b"dev, /dev/nvgpu/*/ctrl", ("dev", "/dev/nvgpu/*/ctrl")),
        ("lib, /ä".encode(), ("lib", "/ä")),
        (b"", None),
        (b" \t\r", None),
        (b"# lib, /x", None),
    ],
)
def test_lines(line: bytes, said: tuple[str, str] | None) -> None:
    assert parse_line(line) == said


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"lib /x", "no comma: lib /x"),
        (b"bin, /x", "unknown kind bin, not dev, dir, lib, sym"),
        (b", /x", "unknown kind of nothing, not "),
        (b"LIB, /x", "unknown kind LIB"),
        (b"lib,", "not an absolute path without '..': "),
        (b"lib, x", "not an absolute path without '..': x"),
        (b"lib, /a/../b", "not an absolute path without '..': /a/../b"),
        (b"dir, /", "the root directory"),
        (b"lib, /a\0b", r"control characters in the path /a\x00b"),
        (b"lib, /\xff", "not UTF-8"),
        (b"lib, /" + b"a" * 4095, "a path longer than any can be"),
    ],
)
def test_lines_that_mean_nothing(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}"):
        parse_line(line)


def entries(root: DriverRoot, *files: Path) -> list[tuple[str, str, str]]:
    found = read_entries(root, map(str, files))
    return [(entry.kind, entry.path, entry.place) for entry in found]


def test_bad_lines_are_named_and_the_others_count(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"lib, /a\nnonsense\n\nlib, /a\ndev, /b")
    root = DriverRoot(str(tmp_path))
    assert entries(root, file) == [("lib", "/a", "x.csv:1"), ("dev", "/b", "x.csv:5")]
    assert root.warnings == [f"{file}:2: no comma: nonsense: left out"]


def test_a_file_of_junk_does_not_fill_the_log(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(b"\xff\n" * 70000)
    root = DriverRoot(str(tmp_path))
    assert entries(root, file) == []
    assert root.warnings[0] == f"{file}: longer than 65536 lines: the others are left out"
    assert root.warnings[1] == f"{file}:1: not UTF-8: left out"
    assert root.warnings[-2:] == [
        f"{file}: 65528 more lines that mean nothing: left out",
        f"{file}: names nothing",
    ]
    assert len(root.warnings) == 11


def test_files_that_are_missing_or_none(tmp_path: Path) -> None:
    root = DriverRoot(str(tmp_path))
    missing, empty = tmp_path / "no.csv", tmp_path / "empty.csv"
    empty.touch()
    assert entries(root, missing, empty) == []
    assert root.warnings == [
        f"{missing}: missing: what it would name is left out",
        f"{empty}: names nothing",
    ]
    assert root.identities[str(missing)].ino == 0
    with pytest.raises(MalformedFileError, match=f"^unsupported file format: {tmp_path}$"):
        entries(root, tmp_path)


def test_which_files(tmp_path: Path) -> None:
    """Three count, in a fixed order; all that are there for images that ask for it."""
    place = tmp_path / DIRECTORY.lstrip("/")
    place.mkdir(parents=True)
    for name in ("l4t.csv", "cuda.CSV", "drivers.csv", "notes.txt"):
        (place / name).touch()
    root = DriverRoot(str(tmp_path))
    three = csv_files(root, DIRECTORY, every=False)
    assert three == tuple(f"{place}/{name}" for name in ("devices.csv", "drivers.csv", "l4t.csv"))
    every = csv_files(root, DIRECTORY, every=True)
    assert every == tuple(f"{place}/{name}" for name in ("cuda.CSV", "drivers.csv", "l4t.csv"))
    assert csv_files(root, "/nowhere", every=True) == ()


def test_links_to_files_stay_under_the_root(tmp_path: Path) -> None:
    (tmp_path / "root/csv").mkdir(parents=True)
    (tmp_path / "root/real.csv").write_text("lib, /a\n")
    (tmp_path / "root/csv/l4t.csv").symlink_to("/real.csv")
    root = DriverRoot(str(tmp_path / "root"))
    assert csv_files(root, "/csv", every=False)[-1] == f"{tmp_path}/root/real.csv"
    assert csv_files(root, "/csv", every=True) == (f"{tmp_path}/root/real.csv",)


def test_wildcards() -> None:
    tree = {"/": ["lib", "lib64"], "/lib": ["a.so", "b.so", ".c"], "/lib64": ["a.so"]}

    def names(directory: str) -> list[str]:
        return tree.get(directory, [])

    assert expand("/lib*/a.so", names) == ["/lib/a.so", "/lib64/a.so"]
    assert expand("/lib/[^a].so", names) == ["/lib/b.so"]
    assert expand("/l?b/*.so", names) == ["/lib/a.so", "/lib/b.so"]
    assert expand("/none/*", names) == []


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("*", "", True),
        ("a*b*c", "aXbXbc", True),
        ("a*b*c", "aXbXb", False),
        ("?", "", False),
        ("?", "ä", True),
        ("[a-c]", "b", True),
        ("[a-c]", "d", False),
        ("[^a-c]", "d", True),
        ("[!a]", "!", True),
        ("[\\]]", "]", True),
        ("[]a]", "]", False),  # a pattern of a shell, none of Go
        ("[a", "a", False),
        ("[", "[", False),
        ("[-a]", "-", False),
        ("[a-", "a", False),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("\\", "\\", False),
        ("a" + "*a" * 50 + "b", "a" * 5000, False),
    ],
)
def test_names_and_patterns(pattern: str, name: str, expected: bool) -> None:
    assert fits(name, pattern) is expected


@pytest.mark.parametrize(
    ("pattern", "ignored"),
    [
        ("/usr/lib/libx.so", True),
        ("/usr/lib/lib?.so", True),
        ("/usr/*/libx.so", True),
        ("**/libx.so", True),
        ("**/lib*", True),
        ("/usr/*", False),
        ("libx.so", False),
        ("**/liby.so", False),
        ("/usr/lib/lib[^x].so", False),
    ],
)
def test_ignored(pattern: str, ignored: bool) -> None:
    assert is_ignored("/usr/lib/libx.so", [pattern]) is ignored
