# SPDX-License-Identifier: Apache-2.0
"""Which directories an image's loader is told to search."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from libnvc._discover.ldconf import configured_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Return a reader of a root with these files below /etc."""

    def run(**files: str) -> tuple[str, ...]:
        for name, text in files.items():
            place = tmp_path / "root/etc" / name.replace("__", "/").replace("_", ".")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return configured_directories(str(tmp_path / "root"))

    return run


def test_directories_and_includes(read: Callable[..., tuple[str, ...]]) -> None:
    found = read(
        ld_so_conf="# words\n/a /b:/c,/d\n\ninclude ld.so.conf.d/*.conf more.conf\n/last=libc6\n",
        ld_so_conf_d__2_conf="/two/ # here\nrelative\nhwcap 1 x\n",
        ld_so_conf_d__1_conf="//one/../uno\n/a\n",
        ld_so_conf_d__1_txt="/not\n",
        more_conf="/more\ninclude /etc/ld.so.conf\n",
    )
    assert found == ("/a", "/b", "/c", "/d", "/uno", "/two", "/more", "/last")


def test_without_any(tmp_path: Path, read: Callable[..., tuple[str, ...]]) -> None:
    assert read() == ()
    (tmp_path / "root").mkdir()
    assert read() == ()
    assert read(ld_so_conf="") == ()


def test_what_is_no_file(tmp_path: Path, read: Callable[..., tuple[str, ...]]) -> None:
    """Links end in the root; nothing that could keep us waiting is read."""
    outside = tmp_path / "x.conf"
    outside.write_text("/outside\n")
    directory = tmp_path / "root/etc/d"
    directory.mkdir(parents=True)
    os.mkfifo(directory / "a.conf")
    (directory / "b.conf").mkdir()
    (directory / "c.conf").symlink_to("../../../x.conf")
    (directory / "d.conf").symlink_to("d.conf")
    (directory / "e.conf").write_bytes(b"\xff\xfe\n/e\n")
    assert read(ld_so_conf="include d/*.conf\n/z\n") == ("/e", "/z")


def test_too_many_files(tmp_path: Path, read: Callable[..., tuple[str, ...]]) -> None:
    directory = tmp_path / "root/etc/d"
    directory.mkdir(parents=True)
    for number in range(200):
        (directory / f"{number:03}.conf").write_text(f"/{number}\n")
    assert len(read(ld_so_conf="include d/*\n")) == 63
