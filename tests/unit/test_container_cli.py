# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-cli`: formats, exit codes, refusals, and the line an error becomes."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libnvc.cli import container_cli as module
from libnvc.cli import container_configure, container_info, container_list
from libnvc.cli.container_common import CommandError, number
from libnvc.cli.container_user import default_user, parse_user
from libnvc.cli.output import one_line

import libnvc.sim
from libnvc import errors
from libnvc.model import DeviceFile, DriverFile, Gpu, Inventory, Library
from libnvc.testing import NamespaceContainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = Path(__file__).parent.parent / "data"
NAME = "nvidia-container-cli"
PROFILES = tuple(profile.name for profile in libnvc.sim.profiles())

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
    wanted = {"libraries", "binaries", "ipcs", "firmwares"}
    assert container_list.paths(inventory(2), ["1", "0"], wanted) == [
        "/dev/nvidiactl",
        "/dev/nvidia-modeset",  # its existence is not looked at, that of the uvm nodes is
        "/dev/nvidia6",
        "/dev/nvidia7",
        "/usr/bin/nvidia-smi",
        "/usr/lib/libcuda.so.1.2",
        "/run/socket",
        "/lib/firmware/gsp.bin",
    ]


def test_version_has_the_references_lines(container_cli: Callable[..., Done]) -> None:
    keys = [
        "cli-version",
        "lib-version",
        "build date",
        "build revision",
        "build compiler",
        "build platform",
        "build flags",
    ]
    for words in (["--version"], ["-V"], ["info", "--version"], ["configure", "-V", "/x"]):
        done = container_cli(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split(": ")[0] for line in done.stdout.splitlines()] == keys
        assert all(re.fullmatch(r"[a-z -]+: \S.*", line) for line in done.stdout.splitlines())
    assert f"build platform: {os.uname().machine}\n" in done.stdout


# --- refusals ------------------------------------------------------------------------------

NO_PROCESS = "no container process: give one with --pid=PID (standalone mode is not supported)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["configure"], "invalid rootfs directory"),
        (["configure", "--pid=1"], "invalid rootfs directory"),
        (["configure", "--pid=1", ""], "invalid rootfs directory"),
        (["configure", "--pid=1", "/"], "invalid rootfs directory"),
        (["configure", "--pid=1", "//"], "invalid rootfs directory"),
        (["configure", "--pid=1", "/./.."], "invalid rootfs directory"),
        (["configure", "--pid=1", "relative"], "invalid rootfs directory"),
        (
            ["configure", "--pid=1", "/a\nb"],
            "invalid rootfs directory: newline in the path: /a\\nb",
        ),
        (["configure", "/a"], NO_PROCESS),
        (["configure", "--pid=0", "/a"], NO_PROCESS),
        (["configure", "--pid=-1", "/a"], NO_PROCESS),
        (["configure", "--pid=abc", "/a"], "parse pid failed: invalid argument"),
        (["configure", "--pid=abc", "relative"], "parse pid failed: invalid argument"),
        (["configure", "--pid=", "/a"], "parse pid failed: invalid argument"),
        (["configure", "--pid=1x", "/a"], "parse pid failed: invalid argument"),
        (
            ["configure", "--pid=2147483648", "/a"],
            "parse pid failed: numerical result out of range",
        ),
        (
            ["configure", "--pid=" + "9" * 9999, "/a"],
            "parse pid failed: numerical result out of range",
        ),
        (["configure", "--ldconfig=@/a\nb", "/a"], "newline in the path of --ldconfig: @/a\\nb"),
        (["--root=/a\nb", "list"], "newline in the path of --root: /a\\nb"),
        (["--ldcache=/a\x1b\n", "info"], "newline in the path of --ldcache: /a\\x1b\\n"),
        (["--debug=\n", "info"], "newline in the path of --debug: \\n"),
        (["--user=1x", "info"], "parse user/group failed: invalid argument"),
        (["--user=-1", "info"], "parse user/group failed: numerical result out of range"),
        (["--user=4294967295", "info"], "parse user/group failed: numerical result out of range"),
        (["-uroot:nosuchgroup", "info"], "parse user/group failed: no such file or directory"),
        (["--user=nosuchuser", "list"], "parse user/group failed: no such file or directory"),
        (["--user=", "list"], "parse user/group failed: no such file or directory"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_input_error(capfd: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    assert call(capfd, *words) == (1, "", f"{NAME}: input error: {message}\n")


@pytest.mark.parametrize("option", ["--root=", "--ldcache="])
def test_empty_root(capfd: pytest.CaptureFixture[str], option: str) -> None:
    expected = f"{NAME}: initialization error: invalid argument\n"
    assert call(capfd, option, "list") == (1, "", expected)


@pytest.mark.parametrize(
    "words",
    [
        ["configure", "--compat32", "--pid=1", "/a"],
        ["configure", "--no-cntlibs", "--pid=1", "/a"],
        ["configure", "--mig-config=all", "--pid=1", "/a"],
        ["--load-kmods", "info"],
    ],
)
def test_options_of_later_are_unknown(capfd: pytest.CaptureFixture[str], words: list[str]) -> None:
    option = next(word for word in words if word.startswith("--"))
    status, out, err = call(capfd, *words)
    assert (status, out) == (1, "")
    assert f": unrecognized option '{option}'\nTry `{NAME}" in err


def test_no_search_path(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, dgx_a100: Path
) -> None:
    monkeypatch.delenv("PATH")
    assert call(capfd, f"--root={dgx_a100}", "list") == (
        1,
        "",
        f"{NAME}: detection error: environment variable PATH not found\n",
    )


def test_missing_host_ldconfig(
    capfd: pytest.CaptureFixture[str], dgx_a100: Path, rootfs: Path
) -> None:
    command = (f"--root={dgx_a100}", "configure", f"--pid={os.getpid()}", str(rootfs))
    assert call(capfd, *command, "--ldconfig=@/no/such") == (
        1,
        "",
        f"{NAME}: ldcache error: open failed: /no/such: no such file or directory\n",
    )


def test_unknown_device(capfd: pytest.CaptureFixture[str], dgx_a100: Path) -> None:
    assert call(capfd, f"--root={dgx_a100}", "list", "--device=0,9") == (
        1,
        "",
        f"{NAME}: device error: 9: unknown device\n",
    )


# --- reading values ------------------------------------------------------------------------


def test_configure_reads_every_option() -> None:
    words = ["-c", "/rootfs", "-d0,,1", "--pid", "+42", "--device=GPU-a", "--no-cgroups", "-u"]
    wish = container_configure.read_wish(["", *words, "--no-gsp-firmware", "-l@/sbin/ldconfig"])
    assert (wish.pid, wish.rootfs, wish.ldconfig) == (42, "/rootfs", "/sbin/ldconfig")
    assert wish.devices == ("0", "1", "GPU-a")
    assert wish.flags == ("compute", "no-cgroups", "utility", "no-gsp-firmware")
    assert wish.skipped() == {"gsp-firmware"}


def test_ldconfig_of_the_container_is_never_taken() -> None:
    wish = container_configure.read_wish(["", "--ldconfig=/sbin/ldconfig", "-p1", "/rootfs"])
    assert wish.ldconfig == ""


def test_user_forms() -> None:
    root = pwd.getpwuid(0)
    group = grp.getgrgid(65534)
    assert parse_user("1000:1001") == (1000, 1001)
    assert parse_user("0") == parse_user("0:") == (0, root.pw_gid)
    assert parse_user(f"{root.pw_name}:{group.gr_name}") == (0, 65534)
    assert parse_user("4294967294:0") == (4294967294, 0)
    assert parse_user(None) == (os.geteuid(), os.getegid())


@pytest.mark.root
def test_default_user_of_root_is_nobody() -> None:
    numbers = [
        int(Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("overflowuid", "overflowgid")
    ]
    assert default_user() == tuple(numbers)


@given(
    value=st.integers(-(2**70), 2**70), sign=st.sampled_from(["", "+"]), zeros=st.integers(0, 40)
)
def test_numbers(value: int, sign: str, zeros: int) -> None:
    text = f"-{'0' * zeros}{-value}" if value < 0 else f"{sign}{'0' * zeros}{value}"
    if -5 <= value <= 2**31 - 1:
        assert number("parse pid", text, -5, 2**31 - 1) == value
        return
    with pytest.raises(CommandError, match="input error: parse pid failed: numerical"):
        number("parse pid", text, -5, 2**31 - 1)


# --- the line an error becomes -------------------------------------------------------------


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_class_of_each_exception() -> None:
    expected = {
        "DriverNotFoundError": "initialization",
        "ProbeError": "initialization",
        "DiscoveryError": "detection",
        "MalformedFileError": "detection",
        "RequestError": "input",
        "UnknownDeviceError": "device",
        "MissingDeviceError": "mount",
        "MigConfigError": "mig-config",
        "MigMonitorError": "mig-monitor",
        "RequirementError": "requirement",
        "ApplyError": "mount",
        "ContainerError": "container",
        "MountError": "mount",
        "LoaderCacheError": "ldcache",
        "RollbackError": "mount",
        "UnsupportedKernelError": "mount",
        "NvcError": "mount",
    }
    known = {kind for kind in subclasses(errors.NvcError) if kind.__module__ == errors.__name__}
    assert {kind.__name__ for kind in known} == set(expected)
    for kind in known:
        assert module.describe(kind("text")) == f"{expected[kind.__name__]} error: text"


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("dlopen", "initialization"),
        ("nvmlInit_v2", "initialization"),
        ("nvmlSystemGetDriverVersion", "detection"),
        ("nvmlDeviceGetHandleByIndex_v2", "detection"),
    ],
)
def test_class_of_what_nvml_answers(step: str, kind: str) -> None:
    error = errors.ProbeError("nvml error: gpu is lost", step=step)
    assert module.describe(error) == f"{kind} error: nvml error: gpu is lost"


def test_no_exception_is_a_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(error: BaseException) -> Callable[..., int]:
        def run(*_: object) -> int:
            raise error

        return run

    for error, line in (
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "internal error: MemoryError: "),
        (ValueError("a\nb"), "internal error: ValueError: a\\nb"),
        (
            errors.MountError("mount operation failed: /a\udcff\r\n"),
            "mount error: mount operation failed: /a\\xff\\r\\n",
        ),
    ):
        monkeypatch.setattr(container_info, "info", fail(error))
        assert call(capfd, "info") == (1, "", f"{NAME}: {line}\n")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["info", "--usage"]])
def test_output_that_cannot_be_written(commands: Path, words: list[str]) -> None:
    command = [str(commands / NAME), *words]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr.decode()) == (
        1,
        f"{NAME}: output error: write failed: broken pipe\n",
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr.decode()) == (
        1,
        f"{NAME}: output error: write failed: no space left on device\n",
    )


def test_messages_that_nobody_reads(commands: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([commands / NAME, "configure"], stderr=full, check=False)
    assert done.returncode == 1


@given(st.text() | st.binary().map(os.fsdecode))
def test_one_line_is_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert one_line(line) == line
    assert line.splitlines() in ([], [line])
    if text.isprintable():
        assert line == text


# --- debug log -----------------------------------------------------------------------------

LOG_LINE = re.compile(r"[IW]\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ [a-z_]+\.py:\d+\] (.+)")


def test_debug_log(capfd: pytest.CaptureFixture[str], tmp_path: Path, dgx_a100: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    assert call(capfd, f"--root={dgx_a100}", "-d", str(log), "list", "-b")[0] == 0
    before, blank, banner, blank2, *lines = log.read_text().splitlines()
    assert (before, blank, blank2) == ("before", "", "")
    assert banner == "-- WARNING, the following logs are for debugging purposes only --"
    matches = [LOG_LINE.fullmatch(line) for line in lines]
    messages = [match[1] for match in matches if match]
    assert len(messages) == len(lines)
    assert messages[0].startswith("initializing library context (version=")
    assert messages[1:3] == [f"using root {dgx_a100}", "using ldcache /etc/ld.so.cache"]
    assert f"selecting {dgx_a100}/usr/bin/nvidia-smi" in messages
    assert (
        "listing device /dev/nvidia0 (GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c at 00000000:07:00.0)"
        in messages
    )


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
    messages = [
        match[1] for match in map(LOG_LINE.fullmatch, log.read_text().splitlines()) if match
    ]
    for expected in (
        "configuring container with 'utility no-cgroups supervised'",
        f"setting pid to {container.pid}",
        f"setting rootfs to {rootfs}",
        f"mounting {dgx_a100}/usr/bin/nvidia-smi at {rootfs}/usr/bin/nvidia-smi",
        err.removeprefix(f"{NAME}: warning: ").rstrip("\n"),
    ):
        assert expected in messages


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
