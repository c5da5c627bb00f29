# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk config`: the default file, `--set`, and files that are there already."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from libnvc._config.settings import Config, load_config
from libnvc._config.template import Host, default_text

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Ctk

A = """\
#accept-nvidia-visible-devices-as-volume-mounts = false
#accept-nvidia-visible-devices-envvar-when-unprivileged = true
disable-require = false
supported-driver-capabilities = "compat32,compute,display,graphics,ngx,utility,video"
#swarm-resource = "DOCKER_RESOURCE_GPU"

[nvidia-container-cli]
#debug = "/var/log/nvidia-container-toolkit.log"
environment = []
#ldcache = "/etc/ld.so.cache"
ldconfig = "@/sbin/ldconfig"
load-kmods = true
#no-cgroups = false
#path = "/usr/bin/nvidia-container-cli"
#root = "/run/nvidia/driver"
#user = "root:video"

[nvidia-container-runtime]
#debug = "/var/log/nvidia-container-runtime.log"
log-level = "info"
mode = "auto"
runtimes = ["runc", "crun"]

[nvidia-container-runtime.modes]

[nvidia-container-runtime.modes.cdi]
annotation-prefixes = ["cdi.k8s.io/"]
default-kind = "nvidia.com/gpu"
spec-dirs = ["/etc/cdi", "/var/run/cdi"]

[nvidia-container-runtime.modes.csv]
mount-spec-path = "/etc/nvidia-container-runtime/host-files-for-container.d"

[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "ldconfig"

[nvidia-container-runtime-hook]
path = "nvidia-container-runtime-hook"
skip-mode-detection = false

[nvidia-ctk]
path = "nvidia-ctk"
"""
MINE = """\
# our hosts
disable-require = true   # until the images are new

[nvidia-container-cli]
# where the driver is
root = "/opt/driver"
#no-cgroups = false

[features]
ignore-imex-channel-requests = true
"""


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the root of the machine that the default file is for."""
    root = tmp_path / "host"
    (root / "etc").mkdir(parents=True)
    monkeypatch.setattr(Host.__init__, "__defaults__", (str(root),))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return root


@pytest.fixture
def file(tmp_path: Path, run_ctk: Ctk, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that is the configuration; it is not there yet."""
    path = tmp_path / "etc/config.toml"
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(path))
    return path


@pytest.mark.parametrize("name", ["default", "create-default", "generate-default"])
def test_a_the_default(run_ctk: Ctk, name: str) -> None:
    done = run_ctk("config", name)
    assert (done.status, done.out, done.err) == (0, A, "")


def test_the_default_means_the_defaults(run_ctk: Ctk, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    assert run_ctk("config", "default", "-o", path).out == ""
    assert path.read_text() == A
    assert path.stat().st_mode & 0o7777 == 0o644
    assert load_config(str(path), required=True) == Config(
        path=str(path),
        cli=Config().cli.replace(ldconfig=load_config("/no", required=False).cli.ldconfig),
    )


def test_the_default_of_other_machines(run_ctk: Ctk, host: Path) -> None:
    (host / "sbin").mkdir()
    (host / "sbin/ldconfig.real").touch()
    (host / "etc/os-release").write_text('ID=sles\nID_LIKE="suse"\n')
    changed = A.replace("@/sbin/ldconfig", "@/sbin/ldconfig.real").replace("#user", "user")
    assert run_ctk("config", "default").out == changed
    (host / "etc/os-release").write_text("ID_LIKE=debian\n")
    assert default_text(Host(str(host))) == A.replace("@/sbin/ldconfig", "@/sbin/ldconfig.real")


@pytest.mark.parametrize("before", [None, "", "\n"])
def test_without_a_file_the_defaults_are_shown(
    run_ctk: Ctk, file: Path, before: str | None
) -> None:
    if before is not None:
        file.parent.mkdir()
        file.write_text(before)
    assert run_ctk("config").out == A
    assert (file.read_text() if file.exists() else None) == before


@pytest.mark.parametrize(
    ("option", "old", "new"),
    [
        ("disable-require", "disable-require = false", "disable-require = true"),
        ("disable-require=T", "disable-require = false", "disable-require = true"),
        (
            "accept-nvidia-visible-devices-as-volume-mounts=true",
            "#accept-nvidia-visible-devices-as-volume-mounts = false",
            "accept-nvidia-visible-devices-as-volume-mounts = true",
        ),
        (
            "nvidia-container-cli.root=/d",
            '#root = "/run/nvidia/driver"',
            'root = "/d"',
        ),
        ("nvidia-container-cli.no-cgroups=0", "#no-cgroups = false", "no-cgroups = false"),
        (
            "nvidia-container-runtime.runtimes=/a:crun",
            'runtimes = ["runc", "crun"]',
            'runtimes = ["/a", "crun"]',
        ),
        ("nvidia-container-runtime.mode=cdi", 'mode = "auto"', 'mode = "cdi"'),
        (
            "nvidia-container-cli.environment=A=1,2",
            "environment = []",
            'environment = ["A=1,2"]',
        ),
        (
            "features.disable-imex-channel-creation",
            "\n[nvidia-container-cli]",
            "\n[features]\ndisable-imex-channel-creation = true\n\n[nvidia-container-cli]",
        ),
        ("features.disable-imex-channel-creation=nil", "", ""),
        (
            "nvidia-container-runtime.modes.jit-cdi.nvcdi-disable-hooks=all",
            "\n[nvidia-container-runtime.modes.legacy]",
            '\n[nvidia-container-runtime.modes.jit-cdi]\nnvcdi-disable-hooks = ["all"]\n'
            "\n[nvidia-container-runtime.modes.legacy]",
        ),
    ],
)
def test_set(run_ctk: Ctk, file: Path, option: str, old: str, new: str) -> None:
    """The same whether the file is not there yet or is the default one."""
    wanted = A.replace(old, new, 1)
    assert run_ctk("config", "--set", option).out == wanted
    file.parent.mkdir()
    file.write_text(A)
    done = run_ctk("config", "--set", option, "--in-place")
    assert (done.status, done.out) == (0, "")
    assert tomllib.loads(file.read_text()) == tomllib.loads(wanted)
    if new.count("\n") == 0:
        assert file.read_text() == wanted


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ("foo=1", 'invalid config option: undefined field: "foo"'),
        ("nvidia-container-cli.foo=1", 'invalid config option: undefined field: "foo"'),
        ("foo.bar", 'invalid config option: undefined field: "foo"'),
        ("disable-require.x=1", 'invalid config option: undefined field: "x"'),
        ("=1", 'invalid config option: undefined field: ""'),
        ("nvidia-container-cli=1", "invalid config option: nvidia-container-cli is a table"),
        (
            "nvidia-container-cli.no-pivot=x",
            'invalid format: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (
            "nvidia-container-runtime.mode",
            "invalid format: expected key=value; got nvidia-container-runtime.mode",
        ),
        ("nvidia-container-runtime.mode=x", "expected one of auto, legacy, csv, cdi, jit-cdi"),
    ],
)
def test_set_what_is_not_valid(run_ctk: Ctk, file: Path, option: str, why: str) -> None:
    done = run_ctk("config", "--set", option, "-i")
    assert (done.status, done.out) == (1, "")
    assert done.messages == [f"error invalid --set option {option}: {why}"]
    assert not file.parent.exists()


def test_set_values_are_checked(run_ctk: Ctk, file: Path) -> None:
    done = run_ctk("config", "--set=supported-driver-capabilities=compute,sound", "-i")
    assert done.status == 1
    assert "supported-driver-capabilities: unsupported capability sound" in done.messages[0]
    assert not file.exists()


def test_a_comma_in_a_list_is_warned_of(run_ctk: Ctk, file: Path) -> None:
    done = run_ctk("config", "--set", "nvidia-container-runtime.runtimes=a,b")
    assert done.messages == [
        "warning nvidia-container-runtime.runtimes: a comma does not separate values, : does"
    ]
    other = ("--set-list-separator=,", "--set", "nvidia-container-runtime.runtimes=a,b")
    done = run_ctk("config", *other)
    assert tomllib.loads(done.out)["nvidia-container-runtime"]["runtimes"] == ["a", "b"]


def test_ldconfig_may_be_saved_without_its_mark(run_ctk: Ctk, file: Path) -> None:
    done = run_ctk("config", "--set=nvidia-container-cli.ldconfig=/sbin/ldconfig", "-i")
    assert done.status == 0
    assert done.messages[0].startswith("warning nvidia-container-cli.ldconfig does not start with")
    assert run_ctk("config", "--set=nvidia-container-cli.ldconfig=@/sbin/ldconfig", "-i").err == ""
    assert file.read_text() == A


def test_a_file_keeps_what_it_says_and_gets_the_rest(run_ctk: Ctk, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(MINE)
    file.chmod(0o600)
    done = run_ctk("config", "--in-place")
    assert (done.status, done.err) == (0, "")
    text = file.read_text()
    assert [line for line in text.splitlines() if line in MINE.splitlines() and line] == [
        line for line in MINE.splitlines() if line
    ]
    wanted = tomllib.loads(A)
    wanted["disable-require"] = True
    wanted["nvidia-container-cli"]["root"] = "/opt/driver"
    wanted["features"] = {"ignore-imex-channel-requests": True}
    assert tomllib.loads(text) == wanted
    assert file.stat().st_mode & 0o7777 == 0o600
    before = file.stat()
    assert run_ctk("config", "-i").status == 0
    assert (file.stat().st_ino, file.read_text()) == (before.st_ino, text)


def test_a_line_that_is_a_comment_becomes_the_value(run_ctk: Ctk, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(MINE)
    out = run_ctk("config", "--set", "nvidia-container-cli.no-cgroups").out
    assert "\nno-cgroups = true\n" in out
    assert "#no-cgroups" not in out


def test_features_can_be_removed(run_ctk: Ctk, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(MINE)
    out = run_ctk("config", "--set", "features.ignore-imex-channel-requests=nil").out
    assert "ignore-imex-channel-requests" not in out
    assert "# until the images are new" in out


def test_the_default_file_stays_as_it_is(run_ctk: Ctk, file: Path) -> None:
    file.parent.mkdir()
    file.write_text(A)
    assert run_ctk("config").out == A


def test_unknown_keys_are_named_and_stay(run_ctk: Ctk, file: Path) -> None:
    file.parent.mkdir()
    file.write_text('colour = "red"\n[nvidia-container-cli]\nrot = "/x"\n[new]\nx = 1\n')
    done = run_ctk("config")
    assert done.messages == [
        f"warning {file}: unknown key {key}"
        for key in ("colour", "nvidia-container-cli.rot", "new")
    ]
    document = tomllib.loads(done.out)
    assert (document["colour"], document["new"]) == ("red", {"x": 1})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = \n", "Invalid value (at line 1, column 5)"),
        ("disable-require = 1\n", "disable-require: expected true or false, not 1"),
        ("features = 1\n", "features: expected a table, not 1"),
    ],
)
def test_a_file_that_is_not_understood(run_ctk: Ctk, file: Path, text: str, why: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    done = run_ctk("config", "-i")
    assert (done.status, done.messages) == (1, [f"error {file}: {why}"])
    assert file.read_text() == text


def test_which_file_is_meant(run_ctk: Ctk, file: Path, tmp_path: Path) -> None:
    for number, option in enumerate(("--config-file", "--config", "-c")):
        other = tmp_path / f"other{number}/x.toml"
        assert run_ctk("config", f"{option}={other}", "-i").status == 0
        assert other.read_text() == A
    other = tmp_path / "global.toml"
    assert run_ctk("--config", other, "config", "-i").status == 0
    assert other.read_text() == A
    assert not file.exists()
    assert run_ctk("config", "-i").status == 0
    assert file.read_text() == A
    assert run_ctk("config", "-o", tmp_path / "out").out == ""
    assert (tmp_path / "out").read_text() == A


def test_two_places_to_write_to(run_ctk: Ctk, file: Path, tmp_path: Path) -> None:
    done = run_ctk("config", "-i", "-o", tmp_path / "out")
    assert (done.status, done.messages) == (
        1,
        ["error --in-place and --output cannot be given together"],
    )
    assert not file.exists()
    assert not (tmp_path / "out").exists()
