# SPDX-License-Identifier: Apache-2.0
"""Loading the driver: modules, by a modprobe that only notes its call.

The simulated host's modprobe is a static program: what runs is chrooted there.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc.sim
from libnvc._system.host import Host
from libnvc._system.load import MODULES, load_driver
from libnvc.testing import NamespaceContainer

if TYPE_CHECKING:
    from collections.abc import Callable

MODPROBE = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

int main(int argc, char **argv)
{
	char path[100], module[50];
	FILE *log = fopen("/modprobe.log", "a"), *state;

	for (int i = 0; i < argc; i++)
		fprintf(log, "%s ", argv[i]);
	for (char **e = environ; *e; e++)
		fprintf(log, "%s ", *e);
	fprintf(log, "%s\n", getcwd(path, sizeof path));
	fclose(log);
	puts("to standard output");
	fputs("to standard error", stderr);
	if (access("/modprobe.hangs", F_OK) == 0) {
		state = fopen("/modprobe.hangs", "w");
		fprintf(state, "%d", getpid());
		fclose(state);
		pause();
	}
	if (access("/modprobe.fails", F_OK) == 0)
		return 1;
	snprintf(module, sizeof module, "%s", argv[1]);
	for (char *c = module; *c; c++)
		*c = *c == '-' ? '_' : *c;
	snprintf(path, sizeof path, "/sys/module/%s", module);
	mkdir("/sys/module", 0755);
	mkdir(path, 0755);
	strcat(path, "/initstate");
	state = fopen(path, "w");
	fputs("live\n", state);
	return fclose(state);
}
"""

LOADING = [f"loading kernel module {name.replace('-', '_')}" for name in MODULES]


class Messages:
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.infos: list[str] = []
        self.warnings: list[str] = []

    def info(self, text: str) -> None:
        self.infos.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="session")
def modprobe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("modprobe")
    (directory / "modprobe.c").write_text(MODPROBE)
    command = ["gcc", "-w", "-static", "-o", "modprobe", "modprobe.c"]
    subprocess.run(command, cwd=directory, check=True)
    return directory / "modprobe"


@pytest.fixture
def root(tmp_path: Path, modprobe: Path, request: pytest.FixtureRequest) -> Path:
    """Return a host whose driver is loaded, with a modprobe."""
    request.applymarker("root")
    root = tmp_path / "root"
    libnvc.sim.create("t4", root)
    shutil.copy(modprobe, root / "sbin/kmod")
    (root / "sbin/modprobe").symlink_to("/sbin/kmod")
    return root


def unload(root: Path) -> None:
    shutil.rmtree(root / "sys/module")


def load(root: Path, *, timeout: float = 30.0) -> Messages:
    messages = Messages()
    load_driver(str(root), messages, timeout=timeout)
    return messages


def calls(root: Path) -> list[str]:
    log = root / "modprobe.log"
    return log.read_text().splitlines() if log.exists() else []


def nodes(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return major, minor and mode of the character devices, by name in /dev."""
    found = {}
    for path in (root / "dev").rglob("*"):
        status = path.lstat()
        if stat.S_ISCHR(status.st_mode):
            number = status.st_rdev
            mode = stat.S_IMODE(status.st_mode)
            name = str(path.relative_to(root / "dev"))
            found[name] = (os.major(number), os.minor(number), mode)
    return found


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


pytestmark = pytest.mark.root


# --- modules -------------------------------------------------------------------------------


def test_modules_that_are_loaded_are_not_loaded_again(root: Path) -> None:
    before = nodes(root)
    messages = load(root)
    assert messages.warnings == []
    assert [text for text in messages.infos if text.startswith("loading")] == LOADING
    assert (calls(root), nodes(root)) == ([], before | nodes(root))
    for name in before:
        assert f"running mknod for /dev/{name}" in messages.infos


def test_nothing_is_executed_or_loaded_where_all_is_right(root: Path) -> None:
    load(root)
    program = (
        "import sys, os\n"
        "sys.addaudithook(lambda event, _: event in ('os.fork', 'os.exec', 'os.posix_spawn',\n"
        "    'os.mknod', 'os.chmod', 'os.chown', 'os.symlink', 'os.remove', 'os.mkdir')\n"
        "    and print(event))\n"
        "from libnvc._system.load import load_driver\n"
        "class Nothing:\n"
        "    info = warn = lambda self, text: None\n"
        f"load_driver({str(root)!r}, Nothing())\n"
        "print(*{'subprocess', 'signal', 're', 'typing', 'json'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-S", "-P", "-c", f"import sys; sys.path += {sys.path!r}\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # what makes sure of a directory
    assert done.stdout.splitlines() == ["os.mkdir", "os.mkdir", ""]


def test_modules_are_loaded_below_the_root(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    unload(root)
    assert load(root).warnings == []
    assert calls(root) == [f"/sbin/modprobe {name} PATH=/sbin /" for name in MODULES]
    assert (root / "sys/module/nvidia_uvm/initstate").exists()
    assert capfd.readouterr() == ("", "")


def test_the_kernels_modprobe_is_used(root: Path) -> None:
    unload(root)
    write(root, "proc/sys/kernel/modprobe", "/opt/load\n")
    write(root, "opt/load", "")
    shutil.move(root / "sbin/kmod", root / "opt/load")
    assert load(root).warnings == []
    assert calls(root)[0] == "/opt/load nvidia PATH=/sbin /"


def test_a_modprobe_that_is_a_link_out_of_the_root(root: Path, modprobe: Path) -> None:
    unload(root)
    (root / "sbin/modprobe").unlink()
    (root / "sbin/modprobe").symlink_to(modprobe)  # resolved below the root, where it is not
    text = "could not load kernel module nvidia: no modprobe in the driver root"
    assert text in load(root).warnings


@pytest.mark.parametrize("kind", ["missing", "not executable", "a directory"])
def test_no_modprobe(root: Path, kind: str) -> None:
    unload(root)
    path = root / "sbin/kmod"
    if kind == "not executable":
        path.chmod(0o644)
    else:
        path.unlink()
    if kind == "a directory":
        path.mkdir()
    assert load(root).warnings == [
        f"could not load kernel module {name}: no modprobe in the driver root"
        for name in ("nvidia", "nvidia_uvm", "nvidia_modeset")
    ]


def test_a_modprobe_that_is_no_program(root: Path) -> None:
    unload(root)
    (root / "sbin/kmod").write_text("junk")
    assert load(root).warnings[0] == (
        "could not load kernel module nvidia: /sbin/modprobe: "
        "[Errno 8] Exec format error: '/sbin/modprobe'"
    )


def test_a_modprobe_that_fails(root: Path) -> None:
    unload(root)
    write(root, "modprobe.fails", "")
    for path in (root / "dev").glob("nvidia*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert load(root).warnings == [
        f"could not load kernel module {name}: /sbin/modprobe did not load it"
        for name in ("nvidia", "nvidia_uvm", "nvidia_modeset")
    ]
    assert nodes(root) == {}  # of no use without the module


def test_a_modprobe_that_hangs(root: Path) -> None:
    write(root, "modprobe.hangs", "")
    (root / "sys/module/nvidia_uvm/initstate").unlink()
    assert load(root, timeout=0.2).warnings == [
        "could not load kernel module nvidia_uvm: /sbin/modprobe did not end in 0.2 s"
    ]
    assert len(calls(root)) == 1
    pid = int((root / "modprobe.hangs").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_no_gpu(root: Path) -> None:
    shutil.rmtree(root / "sys/bus/pci/devices")
    unload(root)
    assert load(root).warnings == [
        "no GPU of NVIDIA on the PCI bus",
        *(
            f"could not load kernel module {name}: no GPU"
            for name in ("nvidia", "nvidia_uvm", "nvidia_modeset")
        ),
    ]
    assert calls(root) == []


def test_other_pci_devices_do_not_count(root: Path) -> None:
    bus = "sys/bus/pci/devices"
    write(root, f"{bus}/0000:00:01.0/vendor", "0x10de\n")  # an audio device of NVIDIA
    write(root, f"{bus}/0000:00:01.0/class", "0x040300\n")
    write(root, f"{bus}/0000:00:02.0/vendor", "0x8086\n")
    write(root, f"{bus}/0000:00:02.0/class", "0x030000\n")
    write(root, f"{bus}/0000:00:03.0/vendor", "0x10de\n")
    assert load(root).warnings == []
    assert "nvidia1" not in nodes(root)


def test_links_of_the_root_do_not_lead_out_of_it(root: Path, tmp_path: Path) -> None:
    bus = "sys/bus/pci/devices"
    outside = tmp_path / "outside"
    write(outside, "gpu/vendor", "0x10de\n")
    write(outside, "gpu/class", "0x030000\n")
    (root / bus / "0000:00:01.0").symlink_to(outside / "gpu")
    params = root / "proc/driver/nvidia/params"
    shutil.move(params, outside / "params")
    (outside / "params").write_text("DeviceFileMode: 0\n")
    params.symlink_to(outside / "params")
    before = nodes(root)
    assert load(root).warnings == []
    assert {name: number for name, number in nodes(root).items() if name in before} == before
    assert "nvidia1" not in nodes(root)


def test_links_inside_the_root_are_followed(root: Path) -> None:
    bus = "sys/bus/pci/devices"
    write(root, "sys/devices/gpu/vendor", "0x10de\n")
    write(root, "sys/devices/gpu/class", "0x030000\n")
    (root / bus / "0000:00:01.0").symlink_to("../../../devices/gpu")
    assert load(root).warnings == []
    assert "nvidia1" in nodes(root)


def test_a_root_without_procfs_and_sysfs_uses_the_hosts(tmp_path: Path) -> None:
    host = Host(str(tmp_path))
    assert (host.proc, host.sys) == ("/proc", "/sys")
    assert host.names("/proc/sys/kernel/") == tuple(sorted(os.listdir("/proc/sys/kernel")))
    assert host.read("/proc/devices").startswith(b"Character devices:")
    assert host.major("mem") == 1
    assert host.major("m") is None


def test_only_root_loads_modules(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unload(root)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    text = "could not load kernel module nvidia: only root may load it"
    assert load(root).warnings[0] == text
    assert calls(root) == []


def test_a_user_namespace_is_left_alone(root: Path) -> None:
    unload(root)
    program = (
        "from libnvc._system.load import load_driver\n"
        "class Messages:\n"
        "    info = warn = lambda self, text: print(text)\n"
        f"load_driver({str(root)!r}, Messages())\n"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-P", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    text = "skipping kernel modules and device nodes: this is a user namespace\n"
    assert (done.stdout, calls(root)) == (text, [])


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    (warning,) = load(tmp_path / "none").warnings
    assert warning.startswith("could not load the driver: load library failed: ")


# --- the command ---------------------------------------------------------------------------


def test_a_container_gets_a_gpu_whose_node_was_missing(
    root: Path, rootfs: Path, container_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    unload(root)
    (root / "dev/nvidia0").unlink()
    with NamespaceContainer(rootfs) as container:
        words = ("configure", "-d0", "-u", "--no-cgroups", f"--pid={container.pid}", str(rootfs))
        done = container_cli(f"--root={root}", *words)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("nvidia-container-cli: mount error: stat failed: ")
        assert calls(root) == []
        done = container_cli(f"--root={root}", "--load-kmods", *words)
        assert (done.returncode, done.stdout) == (0, "")
        inside = Path(f"/proc/{container.pid}/mountinfo").read_text()
    assert f" {rootfs}/dev/nvidia0 " in inside
    assert len(calls(root)) == 3
