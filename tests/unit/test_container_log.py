# SPDX-License-Identifier: Apache-2.0
"""The debug log of `nvidia-container-cli`."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from libnvc.cli import container_cli as module
from libnvc.cli._debuglog import FileLog

import libnvc.sim
from libnvc.testing import NamespaceContainer

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nvidia-container-cli"


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not look at what this machine keeps."""
    monkeypatch.setattr("libnvc._kept.entries", list)


def call(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command in this process; return status, output and messages."""
    status = module.main([NAME, *words])
    out, err = capfd.readouterr()
    return status, out, err


LOG_LINE = re.compile(r"([IW])\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ [a-z_]+\.py:\d+\] (.+)")


def messages(text: str) -> list[str]:
    """Return the messages of a log, of which every line but the banner must be one."""
    blank, banner, blank2, *lines = text.splitlines()
    assert (blank, blank2) == ("", "")
    assert banner == "-- WARNING, the following logs are for debugging purposes only --"
    matches = [LOG_LINE.fullmatch(line) for line in lines]
    assert all(matches)
    return [f"{match[1]} {match[2]}" for match in matches if match]


def test_debug_log(capfd: pytest.CaptureFixture[str], tmp_path: Path, t4: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    command = (f"--root={t4}", "-u7:8", "-d", str(log), "list", "--imex-channel=3,0", "-b")
    assert call(capfd, *command)[0] == 0
    before, _, text = log.read_text().partition("\n")
    assert before == "before"
    said = messages(text)
    assert re.match(r"I initializing library context \(version=\S+, build=\S+\)$", said[0])
    assert said[1:7] == [
        f"I using root {t4}",
        "I using ldcache /etc/ld.so.cache",
        "I using unprivileged user 7:8",
        "I using IMEX channel 3",
        "I using IMEX channel 0",
        "I requesting driver information with ''",
    ]
    assert said[-1] == "I shutting down library context"
    assert f"I selecting {t4}/usr/bin/nvidia-smi" in said
    for line in (
        "W missing library libnvidia-nscq.so",
        "W missing compat32 library libcuda.so",
        "W missing ipc path /var/run/nvidia-fabricmanager/socket",
        "I listing device /dev/nvidiactl",
    ):
        assert line in said
    missed = [line for line in said if line.startswith("W missing ")]
    assert len(missed) == len(set(missed))
    (device,) = (line for line in said if line.startswith("I listing device /dev/nvidia0 "))
    assert re.fullmatch(r".* \(GPU-[0-9a-f-]{36} at 00000000:[0-9a-f]{2}:[0-9a-f]{2}\.0\)", device)


def test_what_is_left_out_is_not_missed(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, t4: Path
) -> None:
    log = tmp_path / "log"
    left_out = ("--no-gsp-firmware", "--no-fabricmanager", "--no-persistenced")
    assert call(capfd, f"--root={t4}", f"-d{log}", "list", *left_out)[0] == 0
    said = messages(log.read_text())
    words = "no-fabricmanager no-gsp-firmware no-persistenced"
    assert f"I requesting driver information with '{words}'" in said
    assert not [line for line in said if "ipc path" in line or "firmware path" in line]


def test_missing_node(capfd: pytest.CaptureFixture[str], tmp_path: Path, t4: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(t4, root, symlinks=True, ignore=shutil.ignore_patterns("dev", "run"))
    assert call(capfd, f"--root={root}", "-d", str(tmp_path / "log"), "list", "-b")[0] == 0
    said = messages((tmp_path / "log").read_text())
    assert "W missing device /dev/nvidiactl" in said
    assert "I listing device /dev/nvidiactl" not in said


@pytest.mark.root
def test_loading_is_logged(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log, root = tmp_path / "log", tmp_path / "root"
    libnvc.sim.create("t4", root)
    (root / "proc/devices").write_text("Character devices:\n510 nvidia-uvm\n511 nvidia-caps\n")
    words = ("-k", f"--root={root}", f"--debug={log}")
    assert call(capfd, *words, "list", "--imex-channel", "4")[0] == 0
    said = messages(log.read_text())
    for line in (
        "I loading kernel module nvidia",
        "I running mknod for /dev/nvidia0",
        "I loading kernel module nvidia_uvm",
        "I loading kernel module nvidia_modeset",
    ):
        assert line in said
    text = "W no device number: the kernel has no nvidia-caps-imex-channels"
    assert text in said
    log.unlink()
    switch = "--no-create-imex-channels"
    assert call(capfd, *words, switch, "list", "--imex-channel", "4")[0] == 0
    said = messages(log.read_text())
    assert "I using IMEX channel 4" in said
    assert text not in said


def test_failure_ends_the_log(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert call(capfd, f"--root={tmp_path}", f"-d{log}", "list")[0] == 1
    assert messages(log.read_text())[-1] == "I shutting down library context"


def test_log_to_standard_error(capfd: pytest.CaptureFixture[str], t4: Path) -> None:
    status, out, err = call(capfd, f"--root={t4}", "-d/dev/stderr", "list", "-d0")
    assert status == 0
    assert "/dev/nvidia0\n" in out
    assert messages(err)[-1] == "I shutting down library context"


def test_log_to_standard_error_that_is_a_socket(commands: Path, t4: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [str(commands / NAME), f"--root={t4}", "-d/dev/stderr", "list", "-b"]
        assert subprocess.run(command, stderr=theirs.fileno(), check=False).returncode == 0
        theirs.close()
        received = b"".join(iter(lambda: ours.recv(1 << 16), b""))
    assert messages(received.decode())[-1] == "I shutting down library context"


def test_log_to_the_terminal(commands: Path, t4: Path) -> None:
    main, terminal = os.openpty()
    command = [str(commands / NAME), f"--root={t4}", "-d/dev/tty", "list", "-d0"]
    started = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    received = b""
    while b"shutting down" not in received:  # a terminal holds little
        received += os.read(main, 1 << 16)
    _, errors = started.communicate()
    assert (started.returncode, errors) == (0, b"")
    os.close(terminal)
    os.close(main)
    assert b"] initializing library context" in received


def test_the_log_is_not_inherited(tmp_path: Path) -> None:
    with FileLog(str(tmp_path / "log")) as log:
        flags = fcntl.fcntl(log._fd, fcntl.F_GETFL)
        assert flags & os.O_APPEND
        assert not os.get_inheritable(log._fd)
    with FileLog("/dev/stderr") as log:
        assert not os.get_inheritable(log._fd)


@pytest.mark.root
def test_debug_log_of_configure(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, dgx_a100: Path, rootfs: Path
) -> None:
    log = tmp_path / "log"
    with NamespaceContainer(rootfs) as container:
        subprocess.run(
            ["nsenter", f"-m/proc/{container.pid}/ns/mnt", "umount", rootfs / "proc"], check=True
        )
        pid = f"--pid={container.pid}"
        words = (f"--root={dgx_a100}", f"-d{log}", "configure", "-d0", "-u", "--no-cgroups", pid)
        status, out, err = call(capfd, *words, str(rootfs))
    # with no procfs to hide, one thing is left out: that is worth a line
    assert (status, out, err.count("\n")) == (0, "", 1)
    assert err.startswith(f"{NAME}: warning: /proc/driver/nvidia: ")
    said = messages(log.read_text())
    for expected in (
        "I configuring container with 'utility no-cgroups supervised'",
        f"I setting pid to {container.pid}",
        f"I setting rootfs to {rootfs}",
        f"I mounting {dgx_a100}/usr/bin/nvidia-smi at {rootfs}/usr/bin/nvidia-smi",
        "W " + err.removeprefix(f"{NAME}: warning: ").rstrip("\n"),
    ):
        assert expected in said


def test_debug_log_that_cannot_be_opened(capfd: pytest.CaptureFixture[str]) -> None:
    assert call(capfd, "--debug=/no/such/log", "list") == (
        1,
        "",
        f"{NAME}: initialization error: open failed: /no/such/log: no such file or directory\n",
    )


def test_full_debug_log_stops_nothing(capfd: pytest.CaptureFixture[str], dgx_a100: Path) -> None:
    status, out, err = call(capfd, f"--root={dgx_a100}", "-d/dev/full", "list", "-d0")
    assert (status, err) == (0, "")
    assert "/dev/nvidia0\n" in out
