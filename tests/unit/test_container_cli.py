# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-cli`: how words are read, exit codes, and the line an error becomes."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libnvc.cli import container_cli as module
from libnvc.cli import container_configure, container_info, container_list
from libnvc.cli._argp import BUILTIN
from libnvc.cli.container_common import CommandError, Settings, number
from libnvc.cli.container_user import default_user, parse_user
from libnvc.cli.output import one_line

from libnvc import errors

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).parent.parent / "data"
NAME = "nvidia-container-cli"
#: Those whose differences matter here.
PROFILES = ("mx150", "t4", "dgx-a100", "dgx-h100")

Done = subprocess.CompletedProcess[str]


def call(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run the command in this process; return status, output and messages."""
    status = module.main([NAME, *words])
    out, err = capfd.readouterr()
    return status, out, err


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
    values = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert values["cli-version"] == values["lib-version"] == version("libnvc")
    assert values["build platform"] == os.uname().machine
    assert "-fstack-protector-strong" in values["build flags"].split()
    assert re.fullmatch(
        r"[0-9a-f]{40}|" + re.escape(values["lib-version"]), values["build revision"]
    )


# --- refusals ------------------------------------------------------------------------------


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
    ("words", "message"),
    [
        (
            ["list", "--imex-channel=x"],
            "error parsing IMEX info: unsupported IMEX channel value: x",
        ),
        (
            ["configure", "--imex-channel=1,1048576", "-p1", "/a"],
            "error parsing IMEX info: unsupported IMEX channel value: 1048576",
        ),
        (["list", "--imex=-1"], "error parsing IMEX info: unsupported IMEX channel value: -1"),
        (["list", "--imex=0x1"], "error parsing IMEX info: unsupported IMEX channel value: 0x1"),
        (
            ["list", f"--imex={'9' * 5000}"],
            f"error parsing IMEX info: unsupported IMEX channel value: {'9' * 5000}",
        ),
        (
            ["list", "--mig-config=all,0"],
            "mig-config error: 0: only 'all' devices are currently supported",
        ),
        (
            ["configure", "--mig-monitor=a\nb", "-p1", "/a"],
            "mig-monitor error: a\\nb: only 'all' devices are currently supported",
        ),
        (
            ["configure", "--cuda-compat-mode=Mount", "-p1", "/a"],
            "container error: invalid option: cuda-compat-mode=Mount",
        ),
        (
            ["configure", "--no-cntlibs", "--cuda-compat-mode=", "-p1", "/a"],
            "container error: invalid option: cuda-compat-mode=",
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_values_that_are_refused(
    capfd: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert call(capfd, *words) == (1, "", f"{NAME}: {message}\n")


def test_no_search_path(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, dgx_a100: Path
) -> None:
    monkeypatch.delenv("PATH")
    assert call(capfd, f"--root={dgx_a100}", "list") == (
        1,
        "",
        f"{NAME}: detection error: environment variable PATH not found\n",
    )


def test_unknown_device(capfd: pytest.CaptureFixture[str], dgx_a100: Path) -> None:
    assert call(capfd, f"--root={dgx_a100}", "list", "--device=0,9") == (
        1,
        "",
        f"{NAME}: device error: 9: unknown device\n"
        f"{NAME}: hint: GPUs are numbered 0 to 7 here; "
        "nvidia-smi -L on the host shows their UUIDs\n",
    )


# --- reading values ------------------------------------------------------------------------


def test_configure_reads_every_option() -> None:
    words = ["-c", "/rootfs", "-d0,,1", "--pid", "+42", "--device=GPU-a", "--no-cgroups", "-u"]
    wish = container_configure.read_wish(["", *words, "--no-gsp-firmware", "-l@/sbin/ldconfig"])
    assert (wish.pid, wish.rootfs) == (42, "/rootfs")
    assert wish.devices == ("0", "1", "GPU-a")
    assert wish.flags == ("compute", "no-cgroups", "utility", "no-gsp-firmware")
    assert wish.skipped() == {"gsp-firmware"}


@pytest.mark.parametrize("words", [[], ["--pid=0"], ["-p-1"], ["--pid=-2147483648"]])
def test_without_a_process_the_container_is_where_we_are(words: list[str]) -> None:
    assert container_configure.read_wish(["", *words, "/rootfs"]).pid == 0


def test_configure_reads_rights() -> None:
    words = ["-p1", "/rootfs", "--mig-config=all", "--imex-channel=07,,1", "--imex-channel", "7"]
    wish = container_configure.read_wish(["", *words, "--compat32", "--mig-monitor=,"])
    assert (wish.mig_config, wish.mig_monitor) == (True, False)
    assert wish.imex_channels == (7, 1, 7)
    assert wish.flags == ("compat32",)


@pytest.mark.parametrize(
    ("words", "mode", "flags"),
    [
        ([], "mount", ()),
        (["--cuda-compat-mode=ldconfig"], "ldconfig", ("cuda-compat-mode=ldconfig",)),
        (["--cuda-compat-mode", "disabled"], "disabled", ("cuda-compat-mode=disabled",)),
        (["--no-cntlibs", "-u"], "disabled", ("no-cntlibs", "utility")),
        (
            ["-c", "--cuda=mount", "--no-cntlibs"],
            "disabled",
            ("compute", "cuda-compat-mode=mount", "no-cntlibs"),
        ),
    ],
)
def test_cuda_compat_mode(words: list[str], mode: str, flags: tuple[str, ...]) -> None:
    wish = container_configure.read_wish(["", *words, "-p1", "/rootfs"])
    assert (wish.cuda_compat_mode, wish.flags) == (mode, flags)


def test_global_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def take(settings: Settings, _argv: list[str]) -> int:
        seen.append(settings)
        return 0

    monkeypatch.setattr(container_info, "info", take)
    assert module.main([NAME, "-kn", "--no-create-imex-channels", "info"]) == 0
    assert module.main([NAME, "--load", "info"]) == 0
    assert seen == [
        Settings(load_kmods=True, no_pivot=True, no_create_imex_channels=True),
        Settings(load_kmods=True),
    ]


@pytest.mark.parametrize("path", ["@/sbin/ldconfig", "/sbin/ldconfig", "@/no/such", "@", ""])
def test_an_ldconfig_is_read_and_not_used(path: str) -> None:
    """Nothing is executed to write the loader cache."""
    words = ["-p1", "/rootfs"]
    plain = container_configure.read_wish(["", *words])
    assert container_configure.read_wish(["", f"--ldconfig={path}", *words]) == plain


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


# --- any words at all ----------------------------------------------------------------------

PARSERS = (module.PARSER, container_info.PARSER, container_list.PARSER, container_configure.PARSER)
OPTIONS = [option for parser in PARSERS for option in (*parser.options, *BUILTIN)]
#: what a command line can hold: any bytes but NUL
ODD = st.one_of(
    st.binary(max_size=12).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
    st.text(max_size=12).map(lambda text: text.replace("\0", "")),
    st.integers(-(10**30), 10**30).map(str),
    st.sampled_from(["9" * 5000, "all", "0,1", "/rootfs", "@/sbin/ldconfig", "cuda>=1", "0:0", ""]),
)
WORDS = st.lists(
    st.one_of(
        st.sampled_from(["info", "list", "configure", "--", "-"]),
        ODD,
        st.sampled_from(OPTIONS).map(lambda option: f"--{option.name}"),
        st.tuples(st.sampled_from(OPTIONS), ODD).map(lambda pair: f"--{pair[0].name}={pair[1]}"),
        st.tuples(st.sampled_from([option for option in OPTIONS if option.short]), ODD).map(
            lambda pair: f"-{pair[0].short}{pair[1]}"
        ),
    ),
    max_size=8,
)


class ReadError(CommandError):
    """The command line was read: the rest is not done."""


@settings(max_examples=500)
@given(words=WORDS, first=st.sampled_from(["", "info", "list", "configure"]))
def test_no_command_line_is_a_traceback(words: list[str], first: str) -> None:
    def stop(*_: object) -> None:
        raise ReadError("read", "")

    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for command in (container_info, container_list, container_configure):
            patch.setattr(command, "start", stop)
        patch.setattr(module, "put", printed.append)
        patch.setattr(module, "complain", printed.append)
        status = module.main([NAME, *([first] if first else []), *words])
    (text,) = printed
    if status == 0:
        assert text.startswith(("Usage: ", "cli-version: "))
        return
    assert status == 1
    assert text.endswith("\n")
    lines = text.splitlines()
    assert all(line.isprintable() for line in lines)
    if lines[0] == f"{NAME}: read error: ":
        return
    if "Try `" in text:  # wrong words or options
        assert " ".join(lines).endswith("--usage' for more information.")
        return
    kinds = r"(input|container|mig-config|mig-monitor) error: |error parsing IMEX info: "
    assert len(lines) == 1
    assert re.match(f"{NAME}: ({kinds})", lines[0])


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
    known.remove(errors.ConfigError)  # this command reads no configuration
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
