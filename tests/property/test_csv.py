# SPDX-License-Identifier: Apache-2.0
"""CSV files of a Jetson: no line and no tree under the driver root is too odd."""

from __future__ import annotations

import os
import stat
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from libnvc import DriverNotFoundError
from libnvc._discover.csvfiles import KINDS, parse_line
from libnvc._discover.globs import fits
from libnvc._discover.root import DriverRoot
from libnvc._discover.tegra import find_tegra
from libnvc._native.flat import encode
from libnvc._planner.tegra import plan_tegra
from libnvc._render.cdi import HookProgram, cdi_edits
from libnvc.plan import BindMount, Symlink

PIECES = (
    *("dev", "dir", "lib", "sym", ",", ", ", " ", "\t", "\r", "\n", "/", "//", "..", ".", "#"),
    *("/dev/nvmap", "/a", "/a/b", "*", "?", "[", "[^a]", "]", "ä", "\0", "\x7f", "\x85", "::"),
)
lines = st.one_of(
    st.binary(max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=8).map(lambda parts: "".join(parts).encode()),
)


@given(lines)
@example(b"lib, /\xc2\x85")
@example(b"lib, /a\n")
def test_a_line_is_an_entry_nothing_or_refused(line: bytes) -> None:
    try:
        said = parse_line(line)
    except ValueError as error:
        assert str(error).isprintable()
        return
    if said is None:
        assert line.decode().strip()[:1] in ("", "#")
        return
    kind, path = said
    assert kind in KINDS
    assert path.startswith("/")
    assert not {"", ".", ".."} & set(path[1:].split("/"))
    assert path.isprintable() or not any(c < " " or c == "\x7f" for c in path)
    # What it says means the same again, however it was written.
    assert parse_line(f"{kind},{path}".encode()) == said


PARTS = ("*", "?", "a", "b", "ab", "[ab]", "[a-c]", "[^a]")


@given(st.lists(st.sampled_from(PARTS), max_size=6).map("".join), st.text("abc", max_size=8))
def test_patterns_fit_as_in_the_standard_library(pattern: str, name: str) -> None:
    assert fits(name, pattern) == fnmatchcase(name, pattern.replace("[^", "[!"))


@given(st.text("*?[]^-\\ab", max_size=10), st.text("*[]^-\\ab", max_size=8))
def test_any_text_is_a_pattern_or_fits_nothing(pattern: str, name: str) -> None:
    assert fits(name, pattern) in (True, False)


names = st.sampled_from(["a", "a", "b", "b", "lib.so", "c::d", "n\nl"])
texts = st.one_of(
    names,
    st.lists(st.one_of(names, st.just("..")), min_size=1, max_size=4).map("/".join),
    st.lists(names, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)),
)
paths = st.lists(names, min_size=1, max_size=2).map(tuple)
things = st.one_of(st.just(("file", "")), st.just(("dir", "")), st.tuples(st.just("link"), texts))
trees = st.dictionaries(paths, things, max_size=8)
patterns = st.lists(
    st.one_of(names, st.sampled_from(["*", "?", "[ab]", "lib*"])), min_size=1, max_size=2
)
entries = st.lists(
    st.tuples(st.sampled_from(KINDS), patterns.map(lambda parts: "/" + "/".join(parts))),
    max_size=6,
)


def lay_out(root: Path, tree: dict[tuple[str, ...], tuple[str, str]]) -> None:
    """Make as much of a tree as fits together; nothing through links that lead out of it."""
    for parts, (kind, text) in tree.items():
        path = root.joinpath(*parts)
        if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root)):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(text)
            elif kind == "dir":
                path.mkdir()
            else:
                path.open("xb").close()
        except OSError:
            continue


@given(trees, entries)
@example({("a", "a"): ("file", ""), ("l",): ("link", "a/..")}, [("dir", "/l")])
@example({("n\nl",): ("file", "")}, [("dev", "/*/*"), ("lib", "/*/*")])
def test_whatever_is_named_stays_under_the_root(
    tree: dict[tuple[str, ...], tuple[str, str]], said: list[tuple[str, str]]
) -> None:
    """What comes of it can be done, and said in a CDI file."""
    with tempfile.TemporaryDirectory() as directory:
        root, file = Path(directory, "root"), Path(directory, "t.csv")
        root.mkdir()
        lay_out(root, tree)
        file.write_text("".join(f"{kind}, {path}\n" for kind, path in said))
        try:
            found = find_tegra(DriverRoot(str(root)), [str(file)])
        except DriverNotFoundError:
            return
        plan = plan_tegra(found, ())
        mounted = [op for op in plan.operations if isinstance(op, BindMount)]
        for mount in mounted:
            assert os.path.realpath(mount.source) == mount.source
            assert mount.source.startswith(f"{root}/")
            kinds = {"file": stat.S_ISREG, "directory": stat.S_ISDIR}
            assert kinds[mount.file_type](os.lstat(mount.source).st_mode)
        for link in plan.operations:
            if isinstance(link, Symlink):
                assert os.readlink(f"{root}{os.path.dirname(link.path)}/" + _name(link)) == (
                    link.target
                )
        assert encode(plan)
        assert cdi_edits(plan, HookProgram())
        assert all(warning.isprintable() for warning in plan.warnings)


def _name(link: Symlink) -> str:
    return os.path.basename(link.path)
