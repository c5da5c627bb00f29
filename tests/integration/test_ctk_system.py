# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk system` on a simulated host, whose /dev is that of the machine meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

import libnvc.sim

pytestmark = pytest.mark.root

# The driver root is the host's: it is what the commands see as /dev, /proc/driver, /sys and
# /proc/devices.
VIEW = """
cd "$1" || exit 125
mount --bind dev /dev && mount -t tmpfs tmp /sys && cp -r sys/. /sys || exit 125
mount --bind proc/devices /proc/devices && mount --bind proc/driver /proc/driver || exit 125
shift; exec "$@"
"""


class Done(NamedTuple):
    status: int
    out: str
    messages: list[str]
    err: str


class Host(Protocol):
    root: Path

    def __call__(self, *words: str | Path, **environment: str) -> Done: ...


class _Host:
    def __init__(self, root: Path, commands: Path) -> None:
        self.root = root
        self._program = commands / "nvidia-ctk"

    def __call__(self, *words: str | Path, **environment: str) -> Done:
        done = subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private", "sh", "-c", VIEW, "sh"),
                *(self.root, self._program, "--debug", "system", *words),
            ],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.findall(r'^time="[^"]*" level=(\w+) msg=(".*")$', done.stderr, re.MULTILINE)
        messages = [f"{level} {json.loads(text)}" for level, text in found]
        return Done(done.returncode, done.stdout, messages, done.stderr)


@pytest.fixture
def host(tmp_path: Path, commands: Path) -> Host:
    """Return a host with MIG devices."""
    root = tmp_path / "root"
    libnvc.sim.create("dgx-a100-mig", root)
    (root / "dev/null").touch()
    return _Host(root, commands)


def links(host: Host, directory: str = "char") -> dict[str, str]:
    place = host.root / "dev" / directory
    return {path.name: os.readlink(path) for path in place.iterdir()} if place.exists() else {}


NODES = {
    **{f"195:{minor}": f"/dev/nvidia{minor}" for minor in range(8)},
    "195:254": "/dev/nvidia-modeset",
    "195:255": "/dev/nvidiactl",
    "510:0": "/dev/nvidia-uvm",
    "510:1": "/dev/nvidia-uvm-tools",
}
RIGHTS = {
    f"511:{minor}": f"/dev/nvidia-caps/nvidia-cap{minor}"
    for minor in (1, 2, 12, 13, 21, 22, 165, 166)
}


def test_links_to_the_nodes_that_are_there(host: Host) -> None:
    for name in ("nvidia-fs0", "nvidia-nvswitch0", "nvidia-nvlink"):
        os.mknod(host.root / "dev" / name, stat.S_IFCHR | 0o600, os.makedev(240, 1))
    (host.root / "dev/nvidia-file").touch()
    done = host("create-dev-char-symlinks")
    assert (done.status, done.out) == (0, "")
    assert links(host) == {**NODES, **RIGHTS}
    assert "info Linking /dev/char/195:0 to /dev/nvidia0" in done.messages
    again = host("create-dev-char-symlinks")
    assert again.status == 0
    assert {message.split()[0] for message in again.messages} == {"debug"}
    assert links(host) == {**NODES, **RIGHTS}


def test_a_dry_run_makes_nothing(host: Host) -> None:
    done = host("create-dev-char-symlinks", DRY_RUN="true")
    assert done.status == 0
    assert "info Would link /dev/char/510:1 to /dev/nvidia-uvm-tools" in done.messages
    assert len(done.messages) == len(NODES) + len(RIGHTS)
    assert not (host.root / "dev/char").exists()


def test_what_is_in_the_way_stays(host: Host) -> None:
    """A link as udev makes it is right, too."""
    char = host.root / "dev/char"
    char.mkdir()
    (char / "195:0").symlink_to("../nvidia0")
    (char / "195:1").symlink_to("/dev/nvidia2")
    (char / "195:2").write_text("x")
    done = host("create-dev-char-symlinks")
    assert done.status == 0
    assert [message for message in done.messages if message.startswith("warning")] == [
        f"warning /dev/char/195:{n} exists and does not lead to /dev/nvidia{n}: left as it is"
        for n in (1, 2)
    ]
    assert os.readlink(char / "195:0") == "../nvidia0"
    assert os.readlink(char / "195:1") == "/dev/nvidia2"
    assert (char / "195:2").read_text() == "x"
    assert os.readlink(char / "195:3") == "/dev/nvidia3"


def test_links_to_all_that_may_be(host: Host) -> None:
    (host.root / "dev/nvidia7").unlink()
    done = host("create-dev-char-symlinks", "--create-all", "--dev-char-path=/dev/other/place")
    assert done.status == 0
    found = links(host, "other/place")
    assert found.items() >= {**NODES, **RIGHTS}.items()
    # 8 GPUs with 15 instances of 1 + 8 rights each, and those to configure and watch MIG
    assert len(found) == len(NODES) + 8 * 15 * 9 + 2
    assert not (host.root / "dev/char").exists()


def test_links_for_nothing(host: Host) -> None:
    shutil.rmtree(host.root / "dev")
    (host.root / "dev").mkdir()
    done = host("create-dev-char-symlinks", "--load-kernel-modules", "--create-device-nodes")
    assert done.status == 0
    assert done.messages == [
        f"warning --{name} does nothing without --create-all"
        for name in ("load-kernel-modules", "create-device-nodes")
    ]
    assert links(host) == {}


CONTROL = {"nvidiactl": (195, 255), "nvidia-modeset": (195, 254)}
CONTROL |= {"nvidia-uvm": (510, 0), "nvidia-uvm-tools": (510, 1)}


@pytest.mark.parametrize("where", ["/", "root", "dev-root"])
def test_control_devices(host: Host, tmp_path: Path, where: str) -> None:
    root = host.root
    if where == "dev-root":
        root = tmp_path / "other"
        (root / "dev").mkdir(parents=True)
    options = {"/": [], "root": [f"--root={root}"], "dev-root": [f"--dev-root={root}"]}[where]
    for name in CONTROL:
        (root / "dev" / name).unlink(missing_ok=True)
    (root / "dev/nvidiactl").touch()
    dry = host("create-device-nodes", "--control-devices", "--dry-run", *options)
    assert dry.status == 0
    assert not (root / "dev/nvidia-uvm").exists()
    done = host("create-device-nodes", "--control-devices", *options)
    assert done.status == 0
    would = [message.replace("Would make", "Making") for message in dry.messages]
    assert would == done.messages
    prefix = "" if where == "/" else root
    assert done.messages == [
        f"debug {prefix}/dev/nvidiactl exists",
        f"info Making {prefix}/dev/nvidia-modeset (195:254)",
        f"info Making {prefix}/dev/nvidia-uvm (510:0)",
        f"info Making {prefix}/dev/nvidia-uvm-tools (510:1)",
    ]
    assert (root / "dev/nvidiactl").read_text() == ""
    for name in [*CONTROL][1:]:
        status = (root / "dev" / name).stat()
        number = os.major(status.st_rdev), os.minor(status.st_rdev)
        assert (number, status.st_mode) == (CONTROL[name], stat.S_IFCHR | 0o666)


def test_modules_that_are_loaded_are_left_alone(host: Host) -> None:
    done = host("create-device-nodes", "--load-kernel-modules", f"--root={host.root}")
    modules = ("nvidia", "nvidia_uvm", "nvidia_modeset")
    assert (done.status, done.messages) == (
        0,
        [f"debug kernel module {module} is loaded already" for module in modules],
    )


def test_a_module_that_cannot_be_loaded(host: Host) -> None:
    shutil.rmtree(host.root / "sys/module/nvidia_uvm")
    words = ("create-device-nodes", "--load-kernel-modules", f"--root={host.root}")
    assert "info Would load kernel module nvidia_uvm" in host(*words, "--dry-run").messages
    done = host(*words, "--control-devices")
    assert done.status == 1
    why = "could not load kernel module nvidia_uvm: no modprobe in the driver root"
    assert done.messages[-1] == f"error {why}"


@pytest.mark.parametrize(
    "words",
    [("create-device-nodes", "--control-devices"), ("create-dev-char-symlinks", "--create-all")],
)
def test_numbers_that_the_kernel_does_not_say(host: Host, words: tuple[str, ...]) -> None:
    devices = host.root / "proc/devices"
    devices.write_text(devices.read_text().replace("nvidia-uvm", "other"))
    done = host(*words)
    assert done.status == 1
    why = "/proc/devices: no device number of nvidia-uvm: its kernel module is not loaded"
    assert done.messages == [f"error {why}"]
    assert done.err.endswith("nvidia-ctk: hint: load it: modprobe nvidia_uvm\n")
    assert not (host.root / "dev/char").exists() or links(host) == {}


def test_a_root_without_devices(host: Host, tmp_path: Path) -> None:
    done = host("create-device-nodes", "--control-devices", f"--dev-root={tmp_path}")
    assert (done.status, done.messages) == (
        1,
        [f"error open failed: {tmp_path}/dev: no such file or directory"],
    )


def test_the_loader_cache(host: Host, tmp_path: Path) -> None:
    done = host("print-ldcache", f"--driver-root={host.root}")
    assert done.status == 0
    lines = done.out.splitlines()
    assert "libcuda.so.1 => /usr/lib/x86_64-linux-gnu/libcuda.so.1" in lines
    assert done.messages == [f"info Found {len(lines)} libraries in {host.root}/etc/ld.so.cache"]
    (host.root / "etc/ld.so.cache").write_text("no cache")
    done = host("print-ldcache", f"--driver-root={host.root}")
    why = f"unsupported file format: {host.root}/etc/ld.so.cache"
    assert (done.status, done.out, done.messages) == (1, "", [f"error {why}"])
    done = host("print-ldcache", f"--driver-root={tmp_path}")
    assert done.messages == [f"error {tmp_path}/etc/ld.so.cache: no such file"]
    assert done.err.endswith(f"nvidia-ctk: hint: run ldconfig -r {tmp_path}\n")


def test_hooks_of_older_files(commands: Path) -> None:
    """They name `nvidia-ctk hook`: the same program as nvidia-cdi-hook's."""
    for words in (("--help",), ("update-ldcache",), ("nonsense",)):
        ours, others = (
            subprocess.run(
                [f"{commands}/{name}", *words],
                capture_output=True,
                text=True,
                check=False,
                input="{",
            )
            for name, words in (("nvidia-ctk", ("hook", *words)), ("nvidia-cdi-hook", words))
        )
        assert (ours.returncode, ours.stdout) == (others.returncode, others.stdout)
        assert ours.stderr.partition("msg=")[2] == others.stderr.partition("msg=")[2]
