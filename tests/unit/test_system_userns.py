# SPDX-License-Identifier: Apache-2.0
"""Telling the host's user namespace from others."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from libnvc._system.userns import in_user_namespace

if TYPE_CHECKING:
    from pathlib import Path

HOST = "         0          0 4294967295\n"


@pytest.mark.parametrize(
    ("uid_map", "gid_map", "setgroups", "inside"),
    [
        (HOST, HOST, "allow\n", False),
        (HOST, HOST, None, False),  # a kernel before 3.19
        (None, None, None, False),  # a kernel without user namespaces
        ("", HOST, "allow\n", True),  # not set up yet
        (HOST, "", "allow\n", True),
        ("0 1000 1\n", HOST, "allow\n", True),
        (HOST, "0 100000 65536\n", "allow\n", True),
        ("0 0 65536\n1 1 1\n", HOST, "allow\n", True),
        (HOST, HOST, "deny\n", True),
        ("junk\n", HOST, "allow\n", True),
    ],
)
def test_files(
    tmp_path: Path, uid_map: str | None, gid_map: str | None, setgroups: str | None, *, inside: bool
) -> None:
    files = {"uid_map": uid_map, "gid_map": gid_map, "setgroups": setgroups}
    for name, text in files.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    assert in_user_namespace(str(tmp_path)) is inside


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "uid_map").mkdir()
    with pytest.raises(IsADirectoryError):
        in_user_namespace(str(tmp_path))


@pytest.mark.root
def test_a_real_one() -> None:
    program = "from libnvc._system.userns import in_user_namespace as f; print(f())"
    command = [sys.executable, "-P", "-c", program]
    for words in (["unshare", "--user"], ["unshare", "--user", "--map-root-user"]):
        done = subprocess.run([*words, *command], capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"
