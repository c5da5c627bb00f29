# SPDX-License-Identifier: Apache-2.0
"""The resolver never leaves the root, and agrees with a few lines of Python."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libnvc import DiscoveryError
from libnvc._native.path import Finder, resolve

NAMES = ("a", "b", "c")
TARGETS = st.lists(st.sampled_from((*NAMES, "..", ".")), min_size=1, max_size=4).map("/".join)
LINKS = st.builds(lambda absolute, rest: ("/" if absolute else "") + rest, st.booleans(), TARGETS)
ENTRIES = st.one_of(st.just("dir"), st.just("file"), LINKS)
FORESTS = st.dictionaries(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join), ENTRIES, max_size=10
)


class OutsideError(Exception):
    """The oracle's word for a path that leaves its root."""


def build(root: Path, forest: dict[str, str]) -> None:
    for name in sorted(forest):
        path, entry = root / name, forest[name]
        if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root)):
            continue  # a link leads out: nothing is made there
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry == "dir":
                path.mkdir()
            elif entry == "file":
                path.write_bytes(b"")
            else:
                path.symlink_to(entry)
        except OSError:
            continue  # two entries that cannot both be: the first stays


def oracle(root: Path, path: str) -> str | None:
    """Resolve by string: slow, racy, and simple enough to believe."""
    todo, links = path.split("/"), 0
    done: list[str] = []
    while todo:
        name = todo.pop(0)
        here = root.joinpath(*done)
        if name == "":
            continue
        if not here.is_dir():
            raise NotADirectoryError
        if name == ".":
            continue
        if name == "..":
            if not done:
                raise OutsideError
            done.pop()
            continue
        at = here / name
        if at.is_symlink():
            links += 1
            if links > 40:
                raise OSError
            text = os.readlink(at)
            todo = text.split("/") + todo
            done = [] if text.startswith("/") else done
        elif not os.path.lexists(at):
            if ".." in todo:
                raise FileNotFoundError
            return None
        else:
            done.append(name)
    return "/" + "/".join(done)


@given(forest=FORESTS, path=TARGETS)
def test_agrees_with_the_oracle(forest: dict[str, str], path: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "root")
        root.mkdir()
        build(root, forest)
        try:
            expected = oracle(root, path)
        except (OutsideError, OSError) as refused:
            with pytest.raises(DiscoveryError) as caught:
                resolve(str(root), f"/{path}")
            outside = f"path error: /{path} resolves outside of {root}"
            assert (str(caught.value) == outside) == isinstance(refused, OutsideError)
            return
        assert resolve(str(root), f"/{path}") == expected


@given(forest=FORESTS, paths=st.lists(TARGETS, min_size=2, max_size=5))
def test_many_look_ups_are_as_one(forest: dict[str, str], paths: list[str]) -> None:
    """What an earlier one left open changes nothing."""

    def look(finder: Finder, path: str) -> tuple[str, int, int] | str | None:
        try:
            found = finder.find(f"/{path}")
        except DiscoveryError as error:
            return str(error)
        return (found.path, found.dev, found.ino) if found else None

    with tempfile.TemporaryDirectory() as directory:
        build(Path(directory), forest)
        finder = Finder(directory)
        for path in paths:
            found = look(finder, path)
            assert found == look(Finder(directory), path)
            if isinstance(found, tuple):
                status = os.lstat(directory + found[0])
                assert found[1:] == (status.st_dev, status.st_ino)


@pytest.mark.parametrize("link", ["/", "/etc", "../../../../etc", "/proc/self/root", "loop"])
def test_no_link_reaches_the_host(tmp_path: Path, link: str) -> None:
    (tmp_path / "loop").symlink_to(link)
    try:
        found = resolve(str(tmp_path), "/loop/passwd")
    except DiscoveryError as error:
        assert "resolves outside of" in str(error) or "too many levels" in str(error)
    else:
        assert found is None


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiscoveryError) as caught:
        resolve(str(tmp_path / "nowhere"), "/x")
    assert str(caught.value) == f"path error: {tmp_path}/nowhere: no such file or directory"
    assert caught.value.errno == 2
