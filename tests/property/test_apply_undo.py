# SPDX-License-Identifier: Apache-2.0
"""Whatever the image contains and whatever is asked: all of it or nothing, and never outside.

The operations act on a directory of a real container that is filled with links, files and
directories by chance; some of the links try to leave.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import libnvc as nvc
from libnvc.testing import NamespaceContainer, make_rootfs, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

NAMES = st.sampled_from(("a", "b", "c"))
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "/play/" + "/".join(names))
LINKS = st.sampled_from(
    ("a", "b", "../a", "../../../../../../tmp", "/", "/play/c", "/proc/self/root", "nowhere", "..")
)
ENTRIES = st.one_of(st.just("dir"), st.just("file"), st.just("fifo"), LINKS)
FORESTS = st.dictionaries(PATHS, ENTRIES, max_size=8)


def operations(host: str) -> st.SearchStrategy[nvc.Operation]:
    """Give operations of every kind that changes the tree."""
    return st.one_of(
        st.builds(nvc.Directory, origin=st.just("o"), path=PATHS),
        st.builds(nvc.BindMount, origin=st.just("o"), path=PATHS, source=st.just(f"{host}/file")),
        st.builds(
            nvc.BindMount,
            origin=st.just("o"),
            path=PATHS,
            source=st.just(f"{host}/dir"),
            file_type=st.just("directory"),
        ),
        st.builds(
            nvc.Symlink,
            origin=st.just("o"),
            path=PATHS,
            target=st.just("target"),
            overwrite=st.booleans(),
        ),
        st.builds(
            nvc.DeviceNode,
            origin=st.just("o"),
            path=PATHS,
            major=st.just(195),
            minor=st.just(0),
        ),
        st.builds(
            nvc.Tmpfs, origin=st.just("o"), path=PATHS, fallback=st.sampled_from(("", "/play"))
        ),
    )


class Ground:
    """A container to play in, and a directory of the host next to it."""

    def __init__(self, directory: Path) -> None:
        self.host = directory / "host"
        (self.host / "dir").mkdir(parents=True)
        (self.host / "file").write_text("from the host\n")
        self.rootfs = make_rootfs(directory / "rootfs")
        self.play = self.rootfs / "play"


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def container(ground: Ground) -> Iterator[NamespaceContainer]:
    with NamespaceContainer(ground.rootfs) as running:
        yield running


def plant(root: Path, forest: dict[str, str]) -> None:
    for path, entry in forest.items():
        at = root / path.lstrip("/")
        try:
            # Only below real directories: a link here would make the test itself leave.
            for parent in reversed(at.relative_to(root).parents[:-1]):
                (root / parent).mkdir(exist_ok=True)
                if (root / parent).is_symlink():
                    raise FileExistsError
            if entry == "dir":
                at.mkdir()
            elif entry == "file":
                at.touch(exist_ok=False)
            elif entry == "fifo":
                os.mkfifo(at)
            else:
                at.symlink_to(entry)
        except OSError:
            continue  # two entries that cannot both be: the first stays


@settings(max_examples=150)
@given(data=st.data(), forest=FORESTS)
def test_all_or_nothing(
    ground: Ground, container: NamespaceContainer, data: st.DataObject, forest: dict[str, str]
) -> None:
    shutil.rmtree(ground.play, ignore_errors=True)
    ground.play.mkdir()
    plant(ground.rootfs, forest)
    asked = data.draw(st.lists(operations(str(ground.host)), max_size=6))
    before, table = tree(ground.rootfs), mounts(container.pid)
    own, host = mounts(), tree(ground.host)
    target = nvc.Target(pid=container.pid, rootfs=str(ground.rootfs))
    try:
        applied = nvc.apply(nvc.Plan(operations=tuple(asked)), target)
    except nvc.MountError as error:
        assert "\n" not in str(error)
    else:
        nvc.detach(applied)
    assert mounts(container.pid) == table
    assert tree(ground.rootfs) == before
    assert (mounts(), tree(ground.host)) == (own, host)
