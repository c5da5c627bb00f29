# SPDX-License-Identifier: Apache-2.0
"""What `nvidia-container-cli info` and `list` print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from libnvc.cli import container_cli as module
from libnvc.cli import container_info
from libnvc.cli.container_list import Question, paths, read_question

import libnvc.sim
from libnvc.model import (
    Capability,
    DeviceFile,
    DriverFile,
    Gpu,
    Inventory,
    Library,
    Mig,
    MigDevice,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = Path(__file__).parent.parent / "data"
NAME = "nvidia-container-cli"
PROFILES = tuple(sorted(path.stem for path in DATA.glob("*.list")))

Done = subprocess.CompletedProcess[str]


def call(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command in this process; return status, output and messages."""
    status = module.main([NAME, *words])
    out, err = capfd.readouterr()
    return status, out, err


def gpu(index: int) -> Gpu:
    minor = 7 - index
    return Gpu(
        index=index,
        minor=minor,
        uuid=f"GPU-{index}",
        pci=f"00000000:0{index}:00.0",
        model="Model, with comma",
        device=DeviceFile(path=f"/dev/nvidia{minor}", major=195, minor=minor),
        brand="Tesla",
        arch="8.0",
    )


def inventory(gpus: int) -> Inventory:
    """Return one with a file of each kind; the host has no uvm nodes."""
    return Inventory(
        root="/driver",
        proc="",
        driver_version="535.261.03",
        cuda_version="12.2",
        gpus=tuple(gpu(index) for index in range(gpus)),
        control=(
            DeviceFile(path="/dev/nvidiactl", major=195, minor=255),
            DeviceFile(path="/dev/nvidia-uvm", major=510, minor=0, present=False),
            DeviceFile(path="/dev/nvidia-uvm-tools", major=510, minor=1, present=False),
            DeviceFile(path="/dev/nvidia-modeset", major=195, minor=254, present=False),
        ),
        libraries=(Library(path="/usr/lib/libcuda.so.1.2", name="libcuda.so", soname=""),),
        binaries=(DriverFile(path="/usr/bin/nvidia-smi", kind="binary"),),
        firmware=(
            DriverFile(path="/usr/lib/gsp.bin", kind="firmware", target="/lib/firmware/gsp.bin"),
        ),
        ipcs=(DriverFile(path="/run/socket", kind="ipc", file_type="socket"),),
        proc_files=(),
    )


# --- formats -------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("words", "suffix"), [(("info",), "info"), (("info", "--csv"), "csv"), (("list",), "list")]
)
def test_format_is_the_references(
    request: pytest.FixtureRequest,
    container_cli: Callable[..., Done],
    profile: str,
    words: tuple[str, ...],
    suffix: str,
) -> None:
    root = request.getfixturevalue(profile.replace("-", "_"))
    done = container_cli(f"--root={root}", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (DATA / f"{profile}.{suffix}").read_text()


@pytest.fixture(scope="module")
def open_sims() -> Iterator[Path]:
    """Return a directory with every simulated driver that every user can enter."""
    directory = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="libnvc-test-"))
    directory.chmod(0o755)
    for profile in PROFILES:
        libnvc.sim.create(profile, directory / profile)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.root
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("words", "suffix"), [(("info",), "info"), (("info", "--csv"), "csv"), (("list",), "list")]
)
@pytest.mark.parametrize("user", [1000, 65534])
def test_ordinary_user_sees_the_same(
    capfd: pytest.CaptureFixture[str],
    open_sims: Path,
    profile: str,
    words: tuple[str, ...],
    suffix: str,
    *,
    user: int,
) -> None:
    # In a child of this process, because that user may not be allowed to enter the directory
    # with the interpreter; the first call loads every module that the second one needs.
    expected = (DATA / f"{profile}.{suffix}").read_text()
    command = (f"--root={open_sims / profile}", *words)
    assert call(capfd, *command) == (0, expected, "")
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        os._exit(module.main([NAME, *command]))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert capfd.readouterr() == (expected, "")


def test_list_selects(container_cli: Callable[..., Done], dgx_a100: Path) -> None:
    everything = (DATA / "dgx-a100.list").read_text().splitlines()

    def listed(*words: str) -> list[str]:
        done = container_cli(f"--root={dgx_a100}", "list", *words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    def matching(pattern: str) -> list[str]:
        return [path for path in everything if re.search(pattern, path)]

    control = matching("^/dev/nvidia[^0-9]")
    assert listed("--device=0") == [*control, "/dev/nvidia0"]
    assert listed("-d7", "-d", "2,7") == [*control, "/dev/nvidia7", "/dev/nvidia2"]
    assert listed("--device=") == control
    assert listed("-l") == matching("^/usr/lib/")
    assert listed("--binaries") == matching("^/usr/bin/")
    assert listed("--firmwares") == matching("^/lib/firmware/")
    assert listed("-lb") == matching("^/usr/bin/") + matching("^/usr/lib/")
    assert listed("--no-persistenced") == []
    assert listed("-i") == matching("^/(run|tmp)/")
    assert listed("-i", "--no-persistenced") == [p for p in listed("-i") if "persistenced" not in p]
    assert listed("-i", "--no-fabricmanager") == [
        p for p in listed("-i") if "fabricmanager" not in p
    ]
    assert listed("-f", "--no-gsp-firmware") == []


def test_info_without_gpus() -> None:
    assert container_info.as_text(inventory(0)) == (
        "NVRM version:   535.261.03\nCUDA version:   12.2\n"
    )
    assert container_info.as_csv(inventory(0)) == (
        "NVRM version,CUDA version\n535.261.03,12.2\n\n"
        "Device Index,Device Minor,Model,Brand,GPU UUID,Bus Location,Architecture\n"
    )


def test_info_tells_index_from_minor_and_quotes_nothing() -> None:
    block = container_info.as_text(inventory(1)).splitlines()[2:]
    assert block[:4] == [
        "",
        "Device Index:   0",
        "Device Minor:   7",
        "Model:          Model, with comma",
    ]
    last = container_info.as_csv(inventory(2)).splitlines()[-1]
    assert last == "1,6,Model, with comma,Tesla,GPU-1,00000000:01:00.0,8.0"


def test_list_order_of_sections() -> None:
    asked = read_question(["", "-lbif", "-d1", "-d", "0"])
    assert paths(inventory(2), asked) == [
        "/dev/nvidiactl",
        "/dev/nvidia-modeset",  # its existence is not looked at, that of the uvm nodes is
        "/dev/nvidia6",
        "/dev/nvidia7",
        "/usr/bin/nvidia-smi",
        "/usr/lib/libcuda.so.1.2",
        "/run/socket",
        "/lib/firmware/gsp.bin",
    ]


def test_32_bit_libraries() -> None:
    small = Library(path="/usr/lib32/libcuda.so.1.2", name="libcuda.so", soname="", bits=32)
    found = inventory(0)
    found = found.replace(libraries=(*found.libraries, small))
    assert paths(found, read_question(["", "-l"])) == ["/usr/lib/libcuda.so.1.2"]
    assert paths(found, read_question(["", "--compat32"])) == []
    both = ["/usr/lib/libcuda.so.1.2", "/usr/lib32/libcuda.so.1.2"]
    assert paths(found, read_question(["", "-l", "--compat32"])) == both


EVERYTHING = Question(
    devices=("all",),
    sections=frozenset({"binaries", "libraries", "ipcs", "firmwares", "compat32"}),
)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], EVERYTHING),
        (["--imex-channel=0"], EVERYTHING.replace(imex_channels=(0,))),
        (["--imex=3,1,3,"], EVERYTHING.replace(imex_channels=(3, 1, 3))),
        (["--imex-channel", "0"], Question(imex_channels=(0,))),
        (["--imex-channel=0", "--imex-channel=2,0"], Question(imex_channels=(0, 2, 0))),
        (
            ["--imex-channel=0", "-l"],
            Question(sections=frozenset({"libraries"}), imex_channels=(0,)),
        ),
        (["--no-persistenced"], Question(skipped=frozenset({"persistenced"}))),
        (["--compat32"], Question(sections=frozenset({"compat32"}))),
        (["--mig-config=all"], Question(mig_config=True)),
        (["--mig-monitor", "ALL,,"], Question(mig_monitor=True)),
        (["--mig-config=,"], Question()),
        (["-d", ""], Question(devices=("",))),
        (
            ["-f", "--no-gsp-firmware", "-i"],
            Question(sections=frozenset({"ipcs"}), skipped=frozenset({"gsp-firmware"})),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_list_reads(words: list[str], asked: Question) -> None:
    assert read_question(["", *words]) == asked


# --- rights --------------------------------------------------------------------------------


def capability(path: str, minor: int, *, devices: bool) -> Capability:
    node = DeviceFile(path=f"/dev/nvidia-caps/nvidia-cap{minor}", major=511, minor=minor)
    return Capability(path=f"capabilities/{path}", device=node if devices else None)


def with_mig(*, devices: bool) -> Inventory:
    """Return an inventory whose first two GPUs, minors 7 and 6, can be divided; 7 is."""
    found = inventory(3)
    mig = MigDevice(
        index=0,
        gpu_instance=1,
        compute_instance=0,
        gpu_access=capability("gpu7/mig/gi1/access", 957, devices=devices),
        compute_access=capability("gpu7/mig/gi1/ci0/access", 958, devices=devices),
    )
    first, second, third = found.gpus
    return found.replace(
        gpus=(
            first.replace(mig_capable=True, mig_devices=(mig,)),
            second.replace(mig_capable=True),
            third,
        ),
        mig=Mig(
            config=capability("mig/config", 1, devices=devices),
            monitor=capability("mig/monitor", 2, devices=devices),
            minors=((6, 813), (7, 948), (7, 949), (9, 1)) if devices else (),
            major=511 if devices else None,
        ),
    )


CONTROL = ["/dev/nvidiactl", "/dev/nvidia-modeset"]
PROC = "/proc/driver/nvidia/capabilities"
CAP = "/dev/nvidia-caps/nvidia-cap"
CASES = [
    (["-d0:0"], True, [*CONTROL, "/dev/nvidia7", "G", "C", f"{CAP}957", f"{CAP}958"]),
    (["-d0:0"], False, [*CONTROL, "/dev/nvidia7", "G", "C"]),
    (["-d0"], True, [*CONTROL, "/dev/nvidia7"]),
    (
        ["-d1", "--imex-channel=5,0", "--mig-config=all"],
        True,
        [
            *CONTROL,
            "/dev/nvidia6",
            "/dev/nvidia-caps-imex-channels/channel5",
            "/dev/nvidia-caps-imex-channels/channel0",
            *(f"{PROC}/mig/config", f"{CAP}1"),
            *(f"{PROC}/gpu6", "/dev/nvidia-caps", f"{CAP}813"),
        ],
    ),
    (
        ["-dall", "--mig-monitor=all", "--mig-config=all", "-b"],
        True,
        [
            *(*CONTROL, "/dev/nvidia7", "/dev/nvidia6", "/dev/nvidia5"),
            *(f"{PROC}/mig/config", f"{CAP}1"),
            *(f"{PROC}/gpu7", "/dev/nvidia-caps", f"{CAP}948", f"{CAP}949"),
            *(f"{PROC}/gpu6", "/dev/nvidia-caps", f"{CAP}813"),
            *(f"{PROC}/mig/monitor", f"{CAP}2"),
            *(f"{PROC}/gpu7", "/dev/nvidia-caps", f"{CAP}948", f"{CAP}949"),
            *(f"{PROC}/gpu6", "/dev/nvidia-caps", f"{CAP}813"),
            "/usr/bin/nvidia-smi",
        ],
    ),
    (
        ["-dall", "--mig-config=all"],
        False,
        [
            *(*CONTROL, "/dev/nvidia7", "/dev/nvidia6", "/dev/nvidia5"),
            *(f"{PROC}/mig/config", f"{PROC}/gpu7", f"{PROC}/gpu6"),
        ],
    ),
    (["-d2", "--mig-config=all"], True, [*CONTROL, "/dev/nvidia5"]),
    (["--mig-config=all"], True, []),
]


@pytest.mark.parametrize(("words", "devices", "expected"), CASES)
def test_list_of_rights(words: list[str], expected: list[str], *, devices: bool) -> None:
    accesses = {"G": f"{PROC}/gpu7/mig/gi1/access", "C": f"{PROC}/gpu7/mig/gi1/ci0/access"}
    listed = paths(with_mig(devices=devices), read_question(["", *words]))
    assert listed == [accesses.get(path, path) for path in expected]


def test_rights_of_a_simulated_host(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    libnvc.sim.create("dgx-a100-mig", tmp_path / "root")
    root = f"--root={tmp_path}/root"
    status, out, err = call(capfd, root, "list", "-d1", "--mig-config=all")
    assert (status, err) == (0, "")
    config, device, *rights = out.splitlines()[-139:]
    assert (config, device) == (f"{PROC}/mig/config", f"{CAP}1")
    assert rights[:2] == [f"{PROC}/gpu1", "/dev/nvidia-caps"]
    assert rights[2:] == [f"{CAP}{3 + 135 + number}" for number in range(135)]


@pytest.mark.parametrize(
    ("right", "error"),
    [("mig-config", libnvc.MigConfigError), ("mig-monitor", libnvc.MigMonitorError)],
)
def test_rights_to_mig_do_not_go_with_one_device(right: str, error: type[libnvc.NvcError]) -> None:
    asked = read_question(["", "-d0:0", f"--{right}=all"])
    with pytest.raises(error) as refused:
        paths(with_mig(devices=True), asked)
    text = f"{right} error: all: cannot enable {right} with specific MIG devices selected"
    assert module.describe(refused.value) == text
