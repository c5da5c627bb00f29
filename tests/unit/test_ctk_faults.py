# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk` is killed at every system call that changes a file: old or new, never half."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from libnvc._engines import docker
from libnvc._engines.files import Change, commit
from libnvc._engines.runtime import Runtime
from libnvc.errors import ConfigError

if TYPE_CHECKING:
    from tests.unit.conftest import Ctk

#: dies before the call with that number; a write is cut in half first
PROGRAM = """
import os, signal, sys
from libnvc._engines import files
from libnvc.cli import ctk
left = int(sys.argv[1])
def deadly(name):
    call = getattr(os, name)
    def wrapped(*words, **options):
        global left
        left -= 1
        if left == 0:
            if name == "write":
                call(words[0], bytes(words[1])[:len(words[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*words, **options)
    setattr(os, name, wrapped)
for name in ("mkdir", "open", "write", "fchmod", "fchown", "fsync", "rename", "unlink"):
    deadly(name)
sys.exit(ctk.main(["nvidia-ctk", "--quiet", *sys.argv[2:]]))
"""
MAIN = """\
version = 2 # kept
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def killed_at(number: int, state: Path, *words: str | Path) -> int:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(number), *words],
        env={"XDG_STATE_HOME": str(state), "PATH": os.environ["PATH"]},
        check=False,
    )
    return done.returncode


@pytest.mark.parametrize("engine", ["docker", "containerd"])
def test_killed_anywhere(engine: str, run_ctk: Ctk, tmp_path: Path) -> None:
    file, state = tmp_path / "d/file", tmp_path / "state"
    drop_in = tmp_path / "d/conf.d/99-nvidia.toml"
    file.parent.mkdir()
    old = {"docker": '{"a": 1}', "containerd": MAIN}[engine]
    file.write_text(old)
    words: list[str | Path] = ["runtime", "configure", f"--runtime={engine}", f"--config={file}"]
    if engine == "containerd":
        words.append(f"--drop-in-config={drop_in}")
    files = (file, drop_in)

    def look() -> list[str | None]:
        return [path.read_text() if path.exists() else None for path in files]

    run_ctk(*words)
    new = look()
    for step in ([], ["--unset"]):
        before, after = ([old, None], new) if not step else (new, [old, None])
        for number in count(1):
            status = killed_at(number, state, *words, *step)
            for is_now, was, becomes in zip(look(), before, after, strict=True):
                assert is_now in (was, becomes)
            # Whatever was left behind, the next run comes to its end, and the way back is open.
            assert run_ctk("--quiet", *words).err == run_ctk("--quiet", *words, "--diff").out == ""
            assert look() == new
            if not step:
                run_ctk(*words, "--unset")
                assert look() == [old, None]
            if status == 0:
                break
            assert status == -9
        assert number > 5
        run_ctk(*words)
    leftovers = {path.name for path in tmp_path.rglob(".*")}
    assert leftovers == set()


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"old")

    def write(fd: int, data: bytes) -> int:
        raise OSError(28, "")

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(ConfigError) as caught:
        commit([Change(path=str(file), before=b"old", after=b"new")])
    assert (caught.value.errno, caught.value.path) == (28, str(file))
    assert str(caught.value) == f"{file}: cannot write: no space left on device"
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_that_somebody_changes_meanwhile(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"theirs")
    with pytest.raises(ConfigError, match="somebody else has changed it meanwhile"):
        commit([Change(path=str(file), before=b"old", after=b"new")])
    assert file.read_bytes() == b"theirs"


def test_runs_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Each adds its own; who comes too late is told."""
    file = tmp_path / "daemon.json"
    words = ["runtime", "configure", f"--config={file}"]
    runs = [
        subprocess.Popen(
            [
                *(sys.executable, "-P", "-c", PROGRAM, "0", *words),
                f"--nvidia-runtime-name=n{number}",
            ],
            env={"XDG_STATE_HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    done = [(run.communicate()[1], run.returncode) for run in runs]
    text = file.read_text()
    for number, (said, status) in enumerate(done):
        assert (status == 0) == (f'"n{number}"' in text)
        assert status == 0 or "somebody else has changed it meanwhile" in said
    assert 0 in [status for _, status in done]


def test_a_change_that_is_none_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    file = tmp_path / "daemon.json"
    file.write_text("{}")
    commit(docker.configure(str(file), Runtime(name="nvidia", path="/n")))
    before = file.stat()
    assert commit(docker.configure(str(file), Runtime(name="nvidia", path="/n"))) == []
    assert file.stat() == before
