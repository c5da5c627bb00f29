# SPDX-License-Identifier: Apache-2.0
"""Locks in a directory: who holds one, for how long others wait, what becomes of its file."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

import libnvc
from libnvc._native.apply import release_lock, remove_unheld_lock, root_lock_name, take_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import FrameType


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_is_held_by_one(directory: int, tmp_path: Path) -> None:
    first = take_lock("one", directory, "one", 0)
    assert first >= 0
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
    assert take_lock("one", directory, "one", 0.02) == -1
    other = take_lock("two", directory, "two", 0)
    assert other >= 0
    release_lock(first, "", directory)
    second = take_lock("one", directory, "one", 0)
    assert second >= 0
    release_lock(second, "one", directory)
    release_lock(other, "two", directory)
    assert list(tmp_path.iterdir()) == []


def test_waits_for_its_holder(directory: int) -> None:
    first = take_lock("one", directory, "one", 0)
    parent, child = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(child, b"1")
        # Opened anew: what is inherited would count as the parent's own.
        os._exit(0 if take_lock("one", directory, "one", 60) >= 0 else 1)
    os.read(parent, 1)
    release_lock(first, "one", directory)
    os.close(parent)
    os.close(child)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_file_that_is_another_by_now_is_no_lock(directory: int, tmp_path: Path) -> None:
    first = take_lock("one", directory, "one", 0)
    (tmp_path / "one").unlink()
    second = take_lock("one", directory, "one", 0)
    assert second >= 0
    assert os.fstat(second).st_ino == (tmp_path / "one").stat().st_ino
    release_lock(first, "", directory)
    release_lock(second, "one", directory)


def test_signal_handler_that_raises_ends_the_wait(directory: int) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    first = take_lock("one", directory, "one", 0)
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(TimeoutError):
            take_lock("one", directory, "one", 60)
    finally:
        signal.signal(signal.SIGALRM, before)
        release_lock(first, "one", directory)


def test_file_that_cannot_be_made(directory: int, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    with pytest.raises(libnvc.NvcError) as caught:
        take_lock("one", directory, "/shown/one", 0)
    assert str(caught.value) == (
        "file creation failed: /shown/one: too many levels of symbolic links"
    )
    assert (caught.value.errno, caught.value.path) == (40, "/shown/one")
    assert not (tmp_path / "two").exists()


def test_only_what_nobody_holds_is_removed(directory: int, tmp_path: Path) -> None:
    first = take_lock("one", directory, "one", 0)
    remove_unheld_lock("one", directory)
    assert (tmp_path / "one").exists()
    release_lock(first, "", directory)
    assert (tmp_path / "one").exists()
    remove_unheld_lock("one", directory)
    assert not (tmp_path / "one").exists()
    remove_unheld_lock("one", directory)


def test_name_for_a_root_file_system(tmp_path: Path) -> None:
    status = tmp_path.stat()
    name = f"root.{status.st_dev}.{status.st_ino}"
    assert root_lock_name(os.getpid(), str(tmp_path)) == name
    assert root_lock_name(os.getpid(), f"{tmp_path}/.") == name
    assert root_lock_name(os.getpid(), f"{tmp_path}/missing") == ""
    assert root_lock_name(os.getpid(), "/" + "x" * 5000) == ""
    assert root_lock_name(os.getpid(), "/a\0b") == ""
    assert root_lock_name(2**30, "/") == ""
