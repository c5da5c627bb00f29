# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk runtime configure` for Docker, and what holds for every engine's files."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest

from libnvc._engines.backup import backup_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.conftest import Ctk, CtkDone

    Run = Callable[..., CtkDone]

ENTRY = {"args": [], "path": "nvidia-container-runtime"}
B1 = """\
{
    "runtimes": {
        "nvidia": {
            "args": [],
            "path": "nvidia-container-runtime"
        }
    }
}
"""
B2 = '{"log-driver":"json-file","features":{"buildkit":true},"runtimes":{"foo":{"path":"/x"}}}'
RESTART = "info It is recommended that docker daemon be restarted."


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "daemon.json"


@pytest.fixture
def configure(run_ctk: Ctk, file: Path) -> Run:
    def run(*options: str | Path) -> CtkDone:
        return run_ctk("runtime", "configure", f"--config={file}", *options)

    return run


def backup(file: Path) -> Path:
    return file.parent / f"state/libnvc/backup{file}"


@pytest.mark.parametrize("before", [None, "", "{}", " \n"])
def test_b1_an_empty_file(configure: Run, file: Path, before: str | None) -> None:
    if before is not None:
        file.write_text(before)
    done = configure()
    assert (done.status, done.out) == (0, "")
    assert done.messages == [f"info Wrote updated config to {file}", RESTART]
    assert file.read_text() == B1
    assert file.stat().st_mode & 0o7777 == 0o644


def test_b2_other_members_stay_in_their_order(configure: Run, file: Path) -> None:
    file.write_text(B2)
    assert configure().status == 0
    document = json.loads(file.read_text())
    assert document == {
        "log-driver": "json-file",
        "features": {"buildkit": True},
        "runtimes": {"foo": {"path": "/x"}, "nvidia": ENTRY},
    }
    assert list(document) == ["log-driver", "features", "runtimes"]


def test_b3_features_are_merged_and_b4_stay(configure: Run, file: Path) -> None:
    file.write_text(B2)
    assert configure("--set-as-default", "--cdi.enabled").status == 0
    document = json.loads(file.read_text())
    assert document["features"] == {"buildkit": True, "cdi": True}
    assert document["default-runtime"] == "nvidia"
    again = configure()
    assert again.messages == [f"info Nothing to change in {file}"]
    assert json.loads(file.read_text()) == document


def test_b5_unset_of_what_was_made_removes_it(configure: Run, file: Path) -> None:
    configure("--set-as-default", "--cdi.enabled")
    done = configure("--unset")
    assert done.messages == [f"info Removed empty config from {file}", RESTART]
    assert not file.exists()


@pytest.mark.parametrize(
    "options", [[], ["--set-as-default"], ["--cdi.enabled", "--set-as-default"]]
)
@pytest.mark.parametrize(
    "before", [B2, "{}", "", '{"default-runtime": "crun", "x": 1.50}\n', B2 + "\n\n"]
)
def test_unset_gives_back_every_byte(
    configure: Run, file: Path, options: list[str], before: str
) -> None:
    file.write_text(before)
    assert configure(*options).status == 0
    assert backup(file).read_text() == before
    assert configure("--nvidia-runtime-path=/elsewhere").status == 0
    assert configure("--unset").status == 0
    assert file.read_text() == before
    assert not backup(file).exists()


def test_unset_leaves_what_was_changed_since(configure: Run, file: Path) -> None:
    file.write_text('{"default-runtime": "crun", "features": {"cdi": false}}')
    configure("--set-as-default", "--cdi.enabled")
    document = json.loads(file.read_text())
    document["debug"] = True
    document["runtimes"]["other"] = {"path": "/o"}
    file.write_text(json.dumps(document))
    assert configure("--unset").status == 0
    assert json.loads(file.read_text()) == {
        "default-runtime": "crun",
        "features": {"cdi": False},
        "runtimes": {"other": {"path": "/o"}},
        "debug": True,
    }


def test_unset_of_an_entry_that_somebody_else_made(configure: Run, file: Path) -> None:
    """Nobody knows who wanted CDI: it stays."""
    file.write_text(
        '{"default-runtime":"nvidia","runtimes":{"nvidia":{"path":"/n"}},'
        '"features":{"cdi":true},"debug":true}'
    )
    assert configure("--unset").status == 0
    assert json.loads(file.read_text()) == {"features": {"cdi": True}, "debug": True}


def test_unset_without_an_entry_changes_nothing(configure: Run, file: Path) -> None:
    assert configure("--unset").messages == [f"info Nothing to change in {file}"]
    assert not file.exists()
    file.write_text(B2)
    assert configure("--unset", "--nvidia-runtime-name=x").messages == [
        f"info Nothing to change in {file}"
    ]
    assert file.read_text() == B2


def test_an_old_backup_is_not_taken_for_the_original(configure: Run, file: Path) -> None:
    file.write_text('{"a": 1}')
    configure()
    file.unlink()
    configure()
    assert not backup(file).exists()
    configure("--unset")
    assert not file.exists()
    file.write_text('{"b": 1}')
    configure()
    configure("--unset")
    assert file.read_text() == '{"b": 1}'


def test_two_runtimes(configure: Run, file: Path) -> None:
    file.write_text(B2)
    configure("--set-as-default")
    configure("--nvidia-runtime-name=other", "--runtime-path=/o")
    runtimes = json.loads(file.read_text())["runtimes"]
    assert runtimes == {
        "foo": {"path": "/x"},
        "nvidia": ENTRY,
        "other": {"args": [], "path": "/o"},
    }
    configure("--unset")
    assert json.loads(file.read_text())["runtimes"].keys() == {"foo", "other"}


def test_an_entry_is_replaced(configure: Run, file: Path) -> None:
    file.write_text(
        '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "runtimeArgs": []}}}'
    )
    configure()
    assert json.loads(file.read_text()) == {"runtimes": {"nvidia": ENTRY}}


def test_numbers_and_strings_stay_as_they_are(configure: Run, file: Path) -> None:
    file.write_text(
        '{"a": 1.10, "b": 12345678901234567890123, "c": 1E400, "d": "\\ud800é<", "e": null}'
    )
    assert configure().status == 0
    text = file.read_text()
    for part in ('"a": 1.10,', '"b": 12345678901234567890123,', '"c": 1E400,', '"d": "\\ud800'):
        assert part in text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{bad", "not JSON (at line 1, column 2): Expecting property name"),
        (b'{\n  "a": 1,\n  "b" 2}', "not JSON (at line 3, column 7): Expecting ':' delimiter"),
        (b'{"a": 1,}', "not JSON (at line 1, column"),
        (b'{"a": \xff}', "not UTF-8 (at line 1, column 7)"),
        (b"[]", "not a JSON object (at line 1, column 1)"),
        (b'{"a": NaN}', "not JSON: NaN is no number"),
        (b'{"a": 1, "a": 2}', 'member "a" occurs twice'),
        (b"[" * 100000, "nested too deeply"),
        (b'{"runtimes": []}', "runtimes: expected a table"),
        (b'{"features": 1}', "features: expected a table"),
    ],
)
def test_a_file_that_is_not_understood_is_not_touched(
    configure: Run, file: Path, data: bytes, why: str
) -> None:
    file.write_bytes(data)
    for options in (["--cdi.enabled"], ["--dry-run"], ["--diff"]):
        done = configure(*options)
        assert (done.status, done.out) == (1, "")
        assert done.messages[-1].startswith(f"error {file}: {why}")
    assert file.read_bytes() == data
    assert os.listdir(file.parent) == [file.name]


def test_dry_run_and_diff_write_nothing(configure: Run, file: Path) -> None:
    assert configure("--dry-run").out == B1
    made = configure("--diff")
    assert (made.status, made.messages) == (0, [])
    assert made.out.startswith(f"--- /dev/null\n+++ {file}\n@@ -0,0 +1,8 @@\n+{{\n")
    assert not file.exists()
    file.write_text('{"a": 1}')
    assert json.loads(configure("--dry-run").out) == {"a": 1, "runtimes": {"nvidia": ENTRY}}
    assert '-{"a": 1}\n\\ No newline at end of file\n' in configure("--diff").out
    assert file.read_text() == '{"a": 1}'
    assert not backup(file).exists()
    configure()
    assert configure("--diff").out == ""
    taken = configure("--unset", "--diff").out
    assert '+{"a": 1}\n\\ No newline at end of file\n' in taken
    assert configure("--unset", "--dry-run").out == '{"a": 1}'


def test_owner_mode_attributes_and_link_stay(configure: Run, file: Path, tmp_path: Path) -> None:
    real = tmp_path / "real/docker.json"
    real.parent.mkdir()
    real.write_text("{}")
    real.chmod(0o640)
    os.chown(real, 4711, 4712)
    os.setxattr(real, "user.note", b"mine")
    file.symlink_to("real/docker.json")
    assert configure().status == 0
    assert file.is_symlink()
    for path in (real, tmp_path / f"state/libnvc/backup{real}"):
        facts = path.stat()
        assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid) == (0o640, 4711, 4712)
    assert os.getxattr(real, "user.note") == b"mine"
    assert "nvidia" in real.read_text()
    assert os.listdir(real.parent) == ["docker.json"]


def test_missing_directories_are_made(configure: Run, run_ctk: Ctk, tmp_path: Path) -> None:
    path = tmp_path / "a/b/daemon.json"
    assert run_ctk("runtime", "configure", f"--config={path}").status == 0
    assert path.read_text() == B1
    assert path.parent.stat().st_mode & 0o7777 == 0o755


def test_what_cannot_be_read_or_written(configure: Run, file: Path, tmp_path: Path) -> None:
    file.mkdir()
    assert configure().messages[-1] == f"error {file}: not a regular file"
    file.rmdir()
    os.mkfifo(file)
    assert configure().messages[-1] == f"error {file}: not a regular file"
    file.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(file))
        assert configure().messages[-1] == (f"error {file}: cannot open: no such device or address")
    file.unlink()
    file.write_text("{}")
    done = configure("--config", file / "below")
    assert (done.status, done.messages) == (
        1,
        [f"error {file}/below: cannot open: not a directory"],
    )


def test_a_leftover_of_a_killed_run_is_replaced(configure: Run, file: Path) -> None:
    leftover = file.with_name(".daemon.json.nvidia-new")
    leftover.write_text("half")
    assert configure().status == 0
    assert not leftover.exists()
    assert file.read_text() == B1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runtime=podman"], "unrecognized runtime 'podman'"),
        (["--drop-in-config=/x"], "runtime docker does not support drop-in configs"),
        (["--nvidia-runtime-name="], "the NVIDIA runtime name is empty"),
        (["--config-source=x"], 'unrecognized config source "x"'),
    ],
)
def test_flags_that_make_no_sense(
    configure: Run, file: Path, options: list[str], message: str
) -> None:
    done = configure(*options)
    assert (done.status, done.out, done.messages) == (1, "", [f"error {message}"])
    assert not file.exists()


def test_podman_is_told_what_to_do(configure: Run) -> None:
    hint = configure("--runtime=podman").err.splitlines()[1]
    assert hint.startswith("nvidia-ctk: hint: podman needs no entry: ")
    assert "--config-mode=oci-hook" in hint


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        (["--config-source=command"], "Ignoring config-source=command for docker"),
        (["--executable-path=/x"], "Ignoring executable-path flag for docker"),
        (["--config-mode=x"], "Ignoring unsupported config mode x"),
        (["--runtime-path=/no/such"], "/no/such is no program on this machine"),
    ],
)
def test_flags_that_are_warned_of(
    configure: Run, file: Path, options: list[str], warning: str
) -> None:
    done = configure(*options)
    assert done.status == 0
    assert done.messages[0].startswith(f"warning {warning}")
    assert "nvidia" in file.read_text()


def test_where_backups_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for state in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", state)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert backup_of("/etc/f") == "/var/lib/libnvc/backup/etc/f"
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("HOME", "/home/u")
        assert backup_of("/etc/f") == "/home/u/.local/state/libnvc/backup/etc/f"
