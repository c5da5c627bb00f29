# SPDX-License-Identifier: Apache-2.0
"""Device nodes below a root that somebody else may change."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from libnvc._system.nodes import Devices, Node, NodeParameters

pytestmark = pytest.mark.root

NULL = Node(name="null", major=1, minor=3)
CAP = Node(name="caps/cap1", major=1, minor=5, parameters=NodeParameters(uid=7, gid=8, mode=0o640))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    return tmp_path


def facts(path: Path) -> tuple[bool, int, int, int, int, int]:
    """Return type, number, mode and owner of what has this name."""
    status = path.lstat()
    number = status.st_rdev
    return (
        stat.S_ISCHR(status.st_mode),
        os.major(number),
        os.minor(number),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )


def make(root: Path, *nodes: Node) -> None:
    with Devices(str(root)) as devices:
        for node in nodes:
            devices.make(node)
            devices.link(node)


def test_nodes_are_made_whatever_the_umask_is(root: Path) -> None:
    before = os.umask(0o077)
    try:
        make(root, NULL, CAP)
    finally:
        os.umask(before)
    assert facts(root / "dev/null") == (True, 1, 3, 0o666, 0, 0)
    assert facts(root / "dev/caps/cap1") == (True, 1, 5, 0o640, 7, 8)
    for name in ("caps", "char"):
        assert stat.S_IMODE((root / "dev" / name).stat().st_mode) == 0o755
    assert (root / "dev/char/1:3").readlink() == Path("../null")
    assert (root / "dev/char/1:5").readlink() == Path("../caps/cap1")


def test_what_is_right_is_not_touched(root: Path) -> None:
    make(root, NULL, CAP)
    places = [path for path in sorted(root.rglob("*")) if not path.is_dir()]
    before = [(path.lstat().st_ino, path.lstat().st_ctime_ns) for path in places]
    make(root, NULL, CAP)
    assert len(places) == 4
    assert [(path.lstat().st_ino, path.lstat().st_ctime_ns) for path in places] == before


def test_wrong_owner_and_mode_are_set(root: Path) -> None:
    path = root / "dev/null"
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(path, 5, 6)
    inode = path.lstat().st_ino
    make(root, NULL)
    assert facts(path) == (True, 1, 3, 0o666, 0, 0)
    assert path.lstat().st_ino == inode


@pytest.mark.parametrize("kind", ["number", "block", "file", "link", "fifo"])
def test_anything_else_is_replaced(root: Path, kind: str) -> None:
    path, victim = root / "dev/null", root / "victim"
    victim.write_text("kept")
    victim.chmod(0o600)
    if kind == "number":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "block":
        os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(1, 3))
    elif kind == "file":
        path.write_text("")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(victim)
    make(root, NULL)
    assert facts(path) == (True, 1, 3, 0o666, 0, 0)
    assert (victim.read_text(), stat.S_IMODE(victim.stat().st_mode)) == ("kept", 0o600)


def test_a_directory_is_not_replaced(root: Path) -> None:
    (root / "dev/null").mkdir()
    with pytest.raises(IsADirectoryError):
        make(root, NULL)
    assert (root / "dev/null").is_dir()


@pytest.mark.parametrize("name", ["dev", "dev/caps", "dev/char"])
def test_links_to_directories_are_not_followed(tmp_path: Path, name: str) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (root / "dev").mkdir(parents=True)
    if name == "dev":
        (root / "dev").rmdir()
    (root / name).symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        make(root, CAP)
    assert list(outside.iterdir()) == []


def test_links_to_devices_are_corrected(root: Path) -> None:
    (root / "dev/char").mkdir()
    (root / "dev/char/1:3").symlink_to("../zero")
    make(root, NULL)
    assert (root / "dev/char/1:3").readlink() == Path("../null")


def test_a_file_in_the_place_of_a_link_stays(root: Path) -> None:
    (root / "dev/char").mkdir()
    (root / "dev/char/1:3").write_text("ours")
    with pytest.raises(FileExistsError):
        make(root, NULL)
    assert (root / "dev/char/1:3").read_text() == "ours"


def test_a_node_that_cannot_be_given_its_owner_is_removed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(PermissionError):
        make(root, CAP)
    assert list((root / "dev/caps").iterdir()) == []
    os.mknod(root / "dev/caps/cap1", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    with pytest.raises(PermissionError):
        make(root, CAP)
    assert facts(root / "dev/caps/cap1") == (True, 1, 5, 0o600, 0, 0)  # it was there


def test_a_link_put_in_the_place_of_a_new_node_is_not_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = root / "victim"
    victim.write_text("")
    victim.chmod(0o600)
    mknod = os.mknod

    def swap(name: str, mode: int, number: int, *, dir_fd: int) -> None:
        mknod(name, mode, number, dir_fd=dir_fd)
        os.unlink(name, dir_fd=dir_fd)
        os.symlink(victim, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mknod", swap)
    with pytest.raises(FileExistsError, match="replaced meanwhile"):
        make(root, NULL)
    status = victim.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, 0)


def test_a_node_that_another_process_makes_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mknod = os.mknod

    def lose(name: str, mode: int, number: int, *, dir_fd: int) -> None:
        monkeypatch.setattr(os, "mknod", mknod)
        mknod(name, mode, number, dir_fd=dir_fd)
        mknod(name, mode, number, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mknod", lose)
    make(root, NULL)
    assert facts(root / "dev/null") == (True, 1, 3, 0o666, 0, 0)


def test_a_root_without_devices(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Devices(str(tmp_path))
