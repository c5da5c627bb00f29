# SPDX-License-Identifier: Apache-2.0
"""Looking below a driver root, and remembering what was looked at."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

import libnvc
from libnvc._discover.root import DriverRoot, read_file
from libnvc.model import Identity

if TYPE_CHECKING:
    from pathlib import Path


def missing(path: str) -> Identity:
    return Identity(path=path, dev=0, ino=0, size=0, mtime_ns=0, ctime_ns=0)


def test_root_is_absolute_and_free_of_links(tmp_path: Path) -> None:
    (tmp_path / "driver").mkdir()
    (tmp_path / "link").symlink_to("driver")
    assert DriverRoot(f"{tmp_path}/link/").prefix == f"{tmp_path}/driver"
    assert DriverRoot("/").prefix == ""
    assert DriverRoot("/").host("/etc") == "/etc"


def test_missing_root_is_a_missing_driver(tmp_path: Path) -> None:
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        DriverRoot(f"{tmp_path}/none")
    assert str(failure.value) == (
        "load library failed: libnvidia-ml.so.1: "
        "cannot open shared object file: no such file or directory"
    )


@pytest.mark.parametrize("root", ["", "driver", "./driver"])
def test_relative_root(root: str) -> None:
    with pytest.raises(libnvc.DiscoveryError, match="not an absolute path"):
        DriverRoot(root)


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(libnvc.DiscoveryError) as failure:
        DriverRoot(f"{tmp_path}/file")
    assert str(failure.value) == f"open failed: {tmp_path}/file: not a directory"
    assert (failure.value.path, failure.value.step) == (f"{tmp_path}/file", "open")


def test_find_resolves_inside_and_records(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/real").write_text("x")
    (tmp_path / "lib").symlink_to("/usr/lib")
    root = DriverRoot(str(tmp_path))
    found = root.find("/lib/real")
    assert found is not None
    assert found.path == "/usr/lib/real"
    status = os.lstat(tmp_path / "usr/lib/real")
    identity = root.identities.pop(f"{tmp_path}/usr/lib/real")
    assert identity == Identity(
        path=f"{tmp_path}/usr/lib/real",
        dev=status.st_dev,
        ino=status.st_ino,
        size=1,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )
    assert [*root.identities] == [f"{tmp_path}/lib"]


@pytest.mark.parametrize("first", ["../b/1", "/b/1"])
def test_links_on_the_way_are_recorded(tmp_path: Path, first: str) -> None:
    """Where one of them is changed, the path leads elsewhere, though all that it led to stays."""
    for name in ("a", "b", "real"):
        (tmp_path / name).mkdir()
    (tmp_path / "real/file").touch()
    (tmp_path / "a/link").symlink_to(first)
    (tmp_path / "b/1").symlink_to("./2")
    (tmp_path / "b/2").symlink_to("../a/../real/")
    root = DriverRoot(str(tmp_path))
    found = root.find("/a/link/file")
    assert found is not None
    assert found.path == "/real/file"
    names = ["a/link", "b/1", "b/2", "real/file"]
    assert sorted(root.identities) == [f"{tmp_path}/{name}" for name in names]
    assert 0 not in {identity.ino for identity in root.identities.values()}


def test_what_a_link_to_nothing_leads_to_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("none/at/all")
    root = DriverRoot(str(tmp_path))
    assert root.find("/link") is None
    assert root.identities[f"{tmp_path}/none"] == missing(f"{tmp_path}/none")
    assert root.identities[f"{tmp_path}/link"].ino != 0


def test_links_without_an_end(tmp_path: Path) -> None:
    (tmp_path / "1").symlink_to("2")
    (tmp_path / "2").symlink_to("1")
    root = DriverRoot(str(tmp_path))
    assert root.find("/1/x") is None
    assert {f"{tmp_path}/1", f"{tmp_path}/2"} <= root.identities.keys()


@pytest.mark.parametrize("path", ["/lib/none", "/lib/none/deeper", "/lib/file/below"])
def test_missing_path_is_recorded_where_it_would_appear(tmp_path: Path, path: str) -> None:
    """Not through the link on the host, which would lead out of the root."""
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/file").touch()
    (tmp_path / "lib").symlink_to("/usr/lib")
    root = DriverRoot(str(tmp_path))
    assert root.find(path) is None
    expected = f"{tmp_path}/usr/lib/none" if "none" in path else f"{tmp_path}/usr/lib/file/below"
    assert root.identities.pop(expected) == missing(expected)
    assert [*root.identities] == [f"{tmp_path}/lib"]


def test_path_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("../../etc")
    with pytest.raises(libnvc.DiscoveryError, match="resolves outside of") as failure:
        DriverRoot(str(tmp_path)).find("/link/passwd")
    assert "\n" not in str(failure.value)


def test_content_identity_ignores_times(tmp_path: Path) -> None:
    """The times of a procfs file are those of its look-up."""
    path = tmp_path / "file"
    root = DriverRoot("/")
    path.write_bytes(b"abc")
    path.chmod(0o640)
    assert root.note_content(str(path)) == (b"abc", 0o100640)
    first = root.identities[str(path)]
    os.utime(path, ns=(1, 1))
    root.note_content(str(path))
    assert root.identities[str(path)] == first
    assert first.digest == hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"abd")
    root.note_content(str(path))
    assert root.identities[str(path)] != first


def test_missing_content_is_recorded(tmp_path: Path) -> None:
    root = DriverRoot("/")
    assert root.note_content(f"{tmp_path}/none") is None
    assert root.note_names(f"{tmp_path}/none") is None
    assert root.identities == {f"{tmp_path}/none": missing(f"{tmp_path}/none")}


def test_content_is_not_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(libnvc.DiscoveryError) as failure:
        DriverRoot("/").note_content(f"{tmp_path}/link")
    assert failure.value.errno == errno.ELOOP


def test_directory_identity_follows_its_names(tmp_path: Path) -> None:
    root = DriverRoot("/")
    (tmp_path / "b").touch()
    assert root.note_names(str(tmp_path)) == ("b",)
    first = root.identities[str(tmp_path)]
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff", os.O_CREAT))
    assert root.note_names(str(tmp_path)) == ("b", "\udcff")
    assert root.identities[str(tmp_path)] != first


def test_a_directory_that_is_replaced_meanwhile(tmp_path: Path) -> None:
    """As that of a module in procfs that is unloaded and loaded again."""
    root = DriverRoot(str(tmp_path))
    (tmp_path / "directory").mkdir()
    assert root.resolve("/directory/file") is None
    (tmp_path / "directory").rmdir()
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory/file").touch()
    assert root.resolve("/directory/file") == "/directory/file"


def test_read_file_waits_for_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for odd in (tmp_path / "fifo", tmp_path):
        with pytest.raises(libnvc.MalformedFileError) as failure:
            read_file(str(odd))
        assert str(failure.value) == f"unsupported file format: {odd}"


def test_read_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(libnvc.DiscoveryError) as failure:
        read_file(f"{tmp_path}/none")
    assert str(failure.value) == f"open failed: {tmp_path}/none: no such file or directory"
    assert failure.value.errno == 2


def test_file_that_is_absurdly_large(tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(libnvc.MalformedFileError):
        read_file(f"{tmp_path}/sparse")
