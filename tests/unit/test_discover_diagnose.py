# SPDX-License-Identifier: Apache-2.0
"""Why a driver cannot be used: one host for each cause, with its code, message and hint."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from libnvc.cli import container_cli
from libnvc.cli.output import hint_line

import libnvc
import libnvc.sim
from libnvc._discover import diagnose, discover
from libnvc._discover.diagnose import explain
from libnvc._discover.kernelfacts import KernelFacts
from libnvc._discover.root import DriverRoot

if TYPE_CHECKING:
    from collections.abc import Callable

    Host = Path

VERSION = "535.261.03"
RELEASE = "6.1.0-test"
CLI = "nvidia-container-cli"
DOCS = Path(__file__).parents[2] / "docs/errors.md"

NO_LIBRARY = (
    "initialization error: load library failed: libnvidia-ml.so.1: "
    "cannot open shared object file: no such file or directory"
)
NOT_LOADED = "initialization error: nvml error: driver not loaded"
MISMATCH = "initialization error: nvml error: driver/library version mismatch"
GPU = "sys/bus/pci/devices/0000:07:00.0"
MODULE = f"usr/lib/modules/{RELEASE}/updates/dkms/nvidia.ko.xz"


@pytest.fixture
def host(tmp_path: Path, plant: Callable[..., str], show_module: Callable[..., None]) -> Path:
    """Return a host on which discovery finds a driver: libraries, a cache, a module, a GPU."""
    root = tmp_path / "host"
    plant(root, "/usr/lib64", "libnvidia-ml.so", "libcuda.so")
    (root / "lib").symlink_to("usr/lib")
    show_module(root)
    write(root, "proc/sys/kernel/osrelease", f"{RELEASE}\n")
    write(root, f"{GPU}/vendor", "0x10de\n")
    write(root, f"{GPU}/class", "0x030200\n")
    bind(root, "nvidia")
    write(root, "sys/bus/pci/devices/0000:00:1f.0/vendor", "0x8086\n")
    write(root, "sys/bus/pci/devices/0000:00:1f.0/class", "0x060100\n")
    write(root, "sys/module/nvidia/refcnt", "42\n")
    write(root, MODULE, "")
    return root


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def bind(root: Path, driver: str) -> None:
    """Let a kernel driver have the GPU."""
    (root / "sys/bus/pci/drivers" / driver).mkdir(parents=True)
    (root / GPU / "driver").unlink(missing_ok=True)
    (root / GPU / "driver").symlink_to(f"../../drivers/{driver}")


def unload(root: Path) -> None:
    shutil.rmtree(root / "proc/driver")
    shutil.rmtree(root / "sys/module")
    (root / GPU / "driver").unlink()


def uninstall(root: Path) -> None:
    shutil.rmtree(root / "usr/lib64")


# --- the conditions ------------------------------------------------------------------------------


def no_gpu(root: Path) -> None:
    unload(root)
    shutil.rmtree(root / GPU)


def no_gpu_and_no_libraries(root: Path) -> None:
    no_gpu(root)
    uninstall(root)


def no_gpu_in_docker_desktop(root: Path) -> None:
    no_gpu(root)
    write(root, "proc/sys/kernel/osrelease", "6.6.12-linuxkit\n")


def module_for_another_kernel(root: Path) -> None:
    unload(root)
    write(root, "proc/sys/kernel/osrelease", "6.1.0-newer\n")


def nouveau(root: Path) -> None:
    unload(root)
    bind(root, "nouveau")


def vfio(root: Path) -> None:
    unload(root)
    bind(root, "vfio-pci")


def blacklisted(root: Path) -> None:
    unload(root)
    write(root, "etc/modprobe.d/gpu.conf", "# no GPU here\nblacklist nvidia\n")


def replaced_by_false(root: Path) -> None:
    unload(root)
    write(root, "usr/lib/modprobe.d/off.conf", "install nvidia /bin/false\n")


def blacklisted_at_boot(root: Path) -> None:
    unload(root)
    write(root, "proc/cmdline", "quiet modprobe.blacklist=nouveau,nvidia\n")


def proc_hidden(root: Path) -> None:
    shutil.rmtree(root / "proc/driver")


def libraries_elsewhere(root: Path) -> None:
    (root / "srv").mkdir()
    (root / "opt/vendor").mkdir(parents=True)
    (root / "usr/lib64").rename(root / "opt/vendor/gpu")
    (root / "usr/lib64").mkdir()


def broken_cache(root: Path) -> None:
    write(root, "etc/ld.so.cache", "not a cache")


def other_machine(root: Path) -> None:
    for file in root.glob("usr/lib64/*.so.*.*.*"):
        data = bytearray(file.read_bytes())
        data[18:20] = b"\x08\0"  # e_machine: MIPS
        file.write_bytes(data)


def empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def missing(root: Path) -> None:
    shutil.rmtree(root)


def wsl(root: Path) -> None:
    uninstall(root)
    write(root, "dev/dxg", "")


def wsl_with_its_libraries(root: Path) -> None:
    unload(root)
    write(root, "dev/dxg", "")


def tegra(root: Path) -> None:
    uninstall(root)
    write(root, "etc/nv_tegra_release", "# R36\n")


def newer_module(root: Path) -> None:
    version = root / "proc/driver/nvidia/version"
    version.write_text(version.read_text().replace(VERSION, "550.54.15"))


CONDITIONS = [
    (no_gpu, "no-gpu", NOT_LOADED, ["/sys/bus/pci/devices", "0x10de"]),
    (no_gpu_and_no_libraries, "no-gpu", NO_LIBRARY, ["/sys/bus/pci/devices", "plugged in"]),
    (no_gpu_in_docker_desktop, "no-gpu", NOT_LOADED, ["Docker Desktop"]),
    (unload, "module-not-loaded", NOT_LOADED, [f"/{MODULE}", "modprobe nvidia", "Secure Boot"]),
    (
        module_for_another_kernel,
        "module-missing",
        NOT_LOADED,
        ["/lib/modules/6.1.0-newer", "/usr/lib/modules/6.1.0-newer", "dkms"],
    ),
    (nouveau, "nouveau", NOT_LOADED, ["0000:07:00.0", "blacklist nouveau"]),
    (vfio, "vfio", NOT_LOADED, ["0000:07:00.0", "driverctl"]),
    (blacklisted, "module-blacklisted", NOT_LOADED, ["/etc/modprobe.d/gpu.conf", f"/{MODULE}"]),
    (replaced_by_false, "module-blacklisted", NOT_LOADED, ["/usr/lib/modprobe.d/off.conf"]),
    (blacklisted_at_boot, "module-blacklisted", NOT_LOADED, ["/proc/cmdline"]),
    (
        proc_hidden,
        "proc-hidden",
        NOT_LOADED,
        ["/sys/module/nvidia", "/proc/driver/nvidia/version", "masked"],
    ),
    (uninstall, "userland-missing", NO_LIBRARY, ["/etc/ld.so.cache", "/usr/lib", "install"]),
    (
        libraries_elsewhere,
        "library-not-found",
        NO_LIBRARY,
        [
            "/etc/ld.so.cache",
            "/usr/lib64",
            "/opt/vendor/gpu/libnvidia-ml.so.1",
            "/etc/ld.so.conf.d",
            "ldconfig",
        ],
    ),
    (
        broken_cache,
        "cache-broken",
        "detection error: unsupported file format: ROOT/etc/ld.so.cache",
        ["/etc/ld.so.cache", "run ldconfig -r ROOT"],
    ),
    (other_machine, "wrong-machine", NO_LIBRARY, [f"/usr/lib64/libnvidia-ml.so.{VERSION}"]),
    (
        newer_module,
        "version-mismatch",
        f"{MISMATCH} (kernel module 550.54.15, but ROOT/usr/lib64/libnvidia-ml.so.{VERSION})",
        ["/proc/driver/nvidia/version", "/sys/module/nvidia/refcnt: used 42 times", "reboot"],
    ),
    (empty, "empty-root", NO_LIBRARY, ["ROOT has neither", "driver container"]),
    (missing, "empty-root", NO_LIBRARY, ["ROOT: no such directory"]),
    (wsl, "unsupported-platform", NO_LIBRARY, ["/dev/dxg", "WSL 2"]),
    (wsl_with_its_libraries, "unsupported-platform", NOT_LOADED, ["/dev/dxg", "WSL 2"]),
    (tegra, "unsupported-platform", NO_LIBRARY, ["/etc/nv_tegra_release", "Jetson"]),
]


def say(capfd: pytest.CaptureFixture[str], root: Path, *words: str) -> tuple[str, str]:
    """Run a command that fails; return message and hint, ROOT for the root's path."""
    assert container_cli.main([CLI, f"--root={root}", *words]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    match = re.fullmatch(f"{CLI}: (.+)\n{CLI}: hint: (.+)\n", err.replace(str(root), "ROOT"))
    assert match is not None, err
    return match[1], match[2]


def test_the_host_itself_is_good(host: Path) -> None:
    """Otherwise no condition below would prove anything."""
    assert len(discover(str(host)).libraries) == 2


@pytest.mark.parametrize(
    ("condition", "code", "message", "words"),
    CONDITIONS,
    ids=[condition.__name__ for condition, *_ in CONDITIONS],
)
def test_condition(
    capfd: pytest.CaptureFixture[str],
    host: Path,
    condition: Callable[[Path], None],
    code: str,
    message: str,
    words: list[str],
) -> None:
    condition(host)
    with pytest.raises(libnvc.DiscoveryError) as failure:
        discover(str(host))
    assert failure.value.code == code
    said, hint = say(capfd, host, "list")
    assert said == message
    assert hint == failure.value.hint.replace(str(host), "ROOT")
    for word in words:
        assert (f"ROOT{word}" if word.startswith("/") else word) in hint


def test_hints_are_distinct(host: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each condition has a hint of its own, and there are at least ten codes."""
    hints, codes = [], set()
    for number, (condition, code, _, _) in enumerate(CONDITIONS):
        root = tmp_path / f"copy{number}"
        shutil.copytree(host, root, symlinks=True)
        condition(root)
        with pytest.raises(libnvc.DiscoveryError) as failure:
            discover(str(root))
        hints.append(failure.value.hint.replace(str(root), "ROOT"))
        codes.add(code)
    # Two conditions are there twice, with libraries and without.
    assert len(set(hints)) == len(CONDITIONS) - 2
    assert len(codes) >= 10


# --- NVML ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code", "message", "words"),
    [
        (9, "nvml-failed", NOT_LOADED, ["nvmlInit", "dmesg"]),
        (18, "version-mismatch", MISMATCH, ["reboot"]),
        (4, "nodes-forbidden", None, ["/dev/nvidiactl has mode 666, owner 0:0", "--user"]),
    ],
)
def test_nvml_that_refuses(
    capfd: pytest.CaptureFixture[str],
    faulty: Callable[..., Path],
    number: int,
    code: str,
    message: str | None,
    words: list[str],
) -> None:
    root = faulty(f"nvml-error={number}")
    said, hint = say(capfd, root, "info")
    assert said == (message or "initialization error: nvml error: insufficient permissions")
    for word in words:
        assert word in hint
    with pytest.raises(libnvc.ProbeError) as failure:
        libnvc.probe(discover(str(root)), fresh=True)
    assert failure.value.code == code


def test_device_nodes_missing(capfd: pytest.CaptureFixture[str], tree: Path) -> None:
    shutil.rmtree(tree / "dev")
    (tree / "dev").mkdir()
    said, hint = say(capfd, tree, "info")
    assert said == NOT_LOADED
    assert "ROOT/dev/nvidiactl is missing: run nvidia-modprobe" in hint
    with pytest.raises(libnvc.ProbeError) as failure:
        libnvc.probe(discover(str(tree)), fresh=True)
    assert failure.value.code == "nodes-missing"


@pytest.mark.parametrize(
    ("message", "step", "code"),
    [
        ("driver rpc error: timed out", "nvml", "nvml-timeout"),
        ("driver rpc error: failed to process request", "nvml", "nvml-crashed"),
        ("load library failed: /x.so: undefined symbol: y", "dlopen", "nvml-not-loaded"),
        ("change root failed: /x: operation not permitted", "chroot", ""),
    ],
)
def test_probe_that_ends_otherwise(host: Path, message: str, step: str, code: str) -> None:
    error = libnvc.ProbeError(message, step=step)
    explain(DriverRoot(str(host)), "/etc/ld.so.cache", error)
    assert (error.code, bool(error.hint), str(error)) == (code, bool(code), message)


# --- what a diagnosis may do ---------------------------------------------------------------------


def test_a_hint_is_one_line(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Also where the root's name is hostile."""
    root = tmp_path / "a\x1b[31m"
    root.mkdir()
    assert container_cli.main([CLI, f"--root={root}", "list"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{CLI}: hint: {tmp_path}/a\\x1b[31m has neither")


def test_errors_without_a_hint_have_no_second_line() -> None:
    assert hint_line("x", libnvc.DiscoveryError("text")) == ""
    assert hint_line("x", KeyboardInterrupt()) == ""
    assert hint_line("x", libnvc.DiscoveryError("text", hint="a\nb")) == "x: hint: a\\nb\n"


def test_files_that_cannot_be_read_count_as_missing(host: Path) -> None:
    unload(host)
    shutil.rmtree(host / "usr/lib/modules")
    (host / "usr/lib/modules").symlink_to("../../../../../../../../lib/modules")
    (host / GPU / "vendor").unlink()
    (host / GPU / "vendor").mkdir()
    facts = KernelFacts(DriverRoot(str(host)))
    assert (facts.module_file(), facts.gpus(), facts.users()) == ("", {}, "")


def test_a_failing_diagnosis_leaves_the_error_alone(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise libnvc.DiscoveryError("of the diagnosis")

    monkeypatch.setattr(diagnose, "KernelFacts", fail)
    unload(host)
    with pytest.raises(libnvc.DriverNotFoundError) as failure:
        discover(str(host))
    assert str(failure.value) == "nvml error: driver not loaded"
    assert (failure.value.code, failure.value.hint) == ("", "")


def test_root_without_procfs_reads_the_hosts(tmp_path: Path) -> None:
    """As the root of a driver container."""
    facts = KernelFacts(DriverRoot(str(tmp_path)))
    assert facts.proc("/version") == "/proc/version"
    assert facts.sys("/module") == "/sys/module"
    assert facts.release == Path("/proc/sys/kernel/osrelease").read_text().strip()
    assert all(place.startswith(f"{tmp_path}/") for place in facts.module_directories())


def test_module_names_of_distributions(host: Path) -> None:
    module = host / MODULE
    for name, found in (
        ("nvidia-current.ko", True),
        ("nvidia.ko", True),
        ("nvidia-uvm.ko", False),
        ("i2c-nvidia-gpu.ko.xz", False),
    ):
        module = module.rename(module.with_name(name))
        expected = str(host.joinpath("usr/lib/modules", RELEASE, "updates/dkms", name))
        assert KernelFacts(DriverRoot(str(host))).module_file() == (expected if found else "")


def test_every_code_is_documented() -> None:
    codes = {code for _, code, _, _ in CONDITIONS} | {
        "nvml-failed",
        "nodes-forbidden",
        "nodes-missing",
        "nvml-timeout",
        "nvml-crashed",
        "nvml-not-loaded",
        "unknown-device",
        "not-permitted",
        "csv-missing",
    }
    assert set(re.findall(r"^\| `([a-z-]+)` \|", DOCS.read_text(), re.MULTILINE)) == codes
