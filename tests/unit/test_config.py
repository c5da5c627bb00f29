# SPDX-License-Identifier: Apache-2.0
"""config.toml: where it is looked for, what its values become, and what is refused."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Any

import pytest

from libnvc._config import plain
from libnvc._config.settings import (
    CliSettings,
    Config,
    HookSettings,
    RuntimeSettings,
    find_config,
    load_config,
)
from libnvc.errors import ConfigError
from libnvc.model import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: what `nvidia-ctk config default` prints
REFERENCE = """\
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

EVERYTHING = """\
disable-require = true
swarm-resource = "DOCKER_RESOURCE_GPU,OTHER"
accept-nvidia-visible-devices-envvar-when-unprivileged = false
accept-nvidia-visible-devices-as-volume-mounts = true
supported-driver-capabilities = "video, compute,,utility"
ldcache = "exec"

[nvidia-container-cli]
root = "/run/nvidia/driver"
path = "/usr/bin/nvidia-container-cli"
environment = ["A=1", "B=2"]
debug = "/var/log/cli.log"
ldcache = "/etc/ld.so.cache"
ldconfig = "@/nowhere/ldconfig"
load-kmods = false
no-pivot = true
no-cgroups = true
user = "root:video"

[nvidia-container-runtime]
debug = "/var/log/runtime.log"
log-level = "debug"
runtimes = ["/usr/bin/crun"]
mode = "legacy"

[nvidia-container-runtime.modes.cdi]
annotation-prefixes = ["a/", "b/"]
default-kind = "example.com/gpu"
spec-dirs = ["/cdi"]

[nvidia-container-runtime.modes.csv]
mount-spec-path = "/csv"
compat-container-root = "/compat"

[nvidia-container-runtime.modes.jit-cdi]
nvcdi-feature-flags = ["x"]
nvcdi-disable-hooks = ["all"]

[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "mount"

[nvidia-container-runtime-hook]
path = "/usr/bin/hook"
skip-mode-detection = true

[nvidia-ctk]
path = "/usr/bin/nvidia-ctk"

[features]
allow-cuda-compat-libs-from-container = true
disable-imex-channel-creation = false
ignore-imex-channel-requests = true
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str | bytes], Config]:
    """Give a function that loads a configuration of the given text."""

    def run(text: str | bytes) -> Config:
        file = tmp_path / "config.toml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(str(file), required=True)

    return run


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({}, "/etc/nvidia-container-runtime/config.toml"),
        (
            {"NVIDIA_CTK_CONFIG_FILE_PATH": "", "XDG_CONFIG_HOME": ""},
            "/etc/nvidia-container-runtime/config.toml",
        ),
        ({"XDG_CONFIG_HOME": "/x"}, "/x/nvidia-container-runtime/config.toml"),
        ({"NVIDIA_CTK_CONFIG_FILE_PATH": "/y", "XDG_CONFIG_HOME": "/x"}, "/y"),
    ],
)
def test_where_it_is(environment: dict[str, str], path: str) -> None:
    assert find_config(environment) == path


def test_the_references_own_file_says_the_defaults(load: Callable[[str], Config]) -> None:
    found = load(REFERENCE)
    assert found.path.endswith("/config.toml")
    assert found.replace(path="") == Config()


def test_every_key(load: Callable[[str], Config]) -> None:
    assert load(EVERYTHING).replace(path="") == Config(
        disable_require=True,
        swarm_resource="DOCKER_RESOURCE_GPU,OTHER",
        accept_envvar_when_unprivileged=False,
        accept_volume_mounts=True,
        supported_capabilities="compute,utility,video",
        ldcache="exec",
        cli=CliSettings(
            root="/run/nvidia/driver",
            path="/usr/bin/nvidia-container-cli",
            environment=("A=1", "B=2"),
            debug="/var/log/cli.log",
            ldcache="/etc/ld.so.cache",
            ldconfig="@/nowhere/ldconfig",
            load_kmods=False,
            no_pivot=True,
            no_cgroups=True,
            user="root:video",
        ),
        runtime=RuntimeSettings(
            debug="/var/log/runtime.log",
            log_level="debug",
            runtimes=("/usr/bin/crun",),
            mode="legacy",
            annotation_prefixes=("a/", "b/"),
            default_kind="example.com/gpu",
            spec_dirs=("/cdi",),
            csv_path="/csv",
            csv_compat_root="/compat",
            cuda_compat_mode="mount",
        ),
        hook=HookSettings(path="/usr/bin/hook", skip_mode_detection=True),
        features=frozenset(
            {"allow-cuda-compat-libs-from-container", "ignore-imex-channel-requests"}
        ),
    )


@pytest.mark.parametrize("text", [REFERENCE, EVERYTHING])
def test_such_files_are_read_without_tomllib(
    load: Callable[[str], Config], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setitem(sys.modules, "tomllib", None)
    load(text)


@pytest.mark.parametrize(
    "text",
    [
        'nvidia-container-cli.root = "/driver"',
        'nvidia-container-cli = {root = "/driver"}',
        '[nvidia-container-cli]\nroot = "/dri\\u0076er"',
        '[nvidia-container-cli]\r\nroot = "/driver"\r\n',
        '# für alle\n[nvidia-container-cli]\nroot = """/driver"""',
    ],
)
def test_all_of_toml_is_understood(load: Callable[[str], Config], text: str) -> None:
    assert plain.parse(text) is None
    assert load(text).cli.root == "/driver"


def test_unknown_keys_are_told(load: Callable[[str], Config]) -> None:
    found = load(
        '"nvidia-container-cli.root" = "/x"\nnew = 1\n[nvidia-container-cli]\nrot = "/x"\n'
        "[features]\ngds = true\n[other]\na = 1\n[nvidia-container-runtime.modes.x]\nb = 1\n"
    )
    assert found.cli == CliSettings()
    assert found.features == frozenset()
    assert found.unknown == (
        "nvidia-container-cli.root",
        "new",
        "nvidia-container-cli.rot",
        "features.gds",
        "other",
        "nvidia-container-runtime.modes.x",
    )


def test_all_capabilities_are_named() -> None:
    assert Config().supported_capabilities == ",".join(sorted(CAPABILITIES))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("all", Config().supported_capabilities),
        ("utility,all", Config().supported_capabilities),
        ("", ""),
        (" video ,compute, video", "compute,video"),
    ],
)
def test_supported_capabilities(load: Callable[[str], Config], value: str, names: str) -> None:
    assert load(f'supported-driver-capabilities = "{value}"').supported_capabilities == names


def test_a_wrapped_ldconfig_stands_for_the_real_one(
    load: Callable[[str], Config], tmp_path: Path
) -> None:
    text = f'[nvidia-container-cli]\nldconfig = "@{tmp_path}/ldconfig"'
    assert load(text).cli.ldconfig == f"@{tmp_path}/ldconfig"
    (tmp_path / "ldconfig.real").touch()
    assert load(text).cli.ldconfig == f"@{tmp_path}/ldconfig.real"


def test_ldconfig_of_a_container_needs_a_feature(load: Callable[[str], Config]) -> None:
    text = '[nvidia-container-cli]\nldconfig = "/sbin/ldconfig"\n[features]\n'
    allowed = load(f"{text}allow-ldconfig-from-container = true")
    assert allowed.cli.ldconfig == "/sbin/ldconfig"
    with pytest.raises(ConfigError) as caught:
        load(f"{text}allow-ldconfig-from-container = false")
    assert caught.value.message.endswith(
        '/config.toml: nvidia-container-cli.ldconfig value "/sbin/ldconfig" is not host-relative '
        "(does not start with a '@')"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a = \n", ": Invalid value (at line 1, column 5)"),
        ("a = 1\nb", ": Expected '=' after a key in a key/value pair (at end of document)"),
        (b"a = '\xff'", ": not UTF-8"),
        ("#" * ((1 << 20) + 1), ": larger than 1048576 bytes"),
        ("a = " + "[" * 100_000, ": nested too deeply"),
        ("disable-require = 1", ": disable-require: expected true or false, not 1"),
        ('disable-require = "1"', ': disable-require: expected true or false, not "1"'),
        ("swarm-resource = true", ": swarm-resource: expected a string, not true"),
        ("features = 1", ": features: expected a table, not 1"),
        (
            "[nvidia-container-runtime]\nruntimes = 'runc'",
            ': nvidia-container-runtime.runtimes: expected a list of strings, not "runc"',
        ),
        (
            "[nvidia-container-runtime]\nruntimes = ['runc', 1]",
            ": nvidia-container-runtime.runtimes: expected a list of strings, not ['runc', 1]",
        ),
        (
            "[nvidia-container-runtime.modes]\nlegacy = false",
            ": nvidia-container-runtime.modes.legacy: expected a table, not false",
        ),
        (
            "[nvidia-ctk]\npath = 1979-05-27",
            ": nvidia-ctk.path: expected a string, not 1979-05-27",
        ),
        (
            "[features]\nallow-unknown-oci-spec-fields = 'true'",
            ': features.allow-unknown-oci-spec-fields: expected true or false, not "true"',
        ),
        ('ldcache = "never"', ': ldcache: expected one of native, exec, not "never"'),
        (
            'supported-driver-capabilities = "compute,foo"',
            ": supported-driver-capabilities: unsupported capability foo (known are compat32, "
            'compute, display, graphics, ngx, utility, video and all), not "compute,foo"',
        ),
        (
            '[nvidia-container-cli]\nldconfig = ""',
            ': nvidia-container-cli.ldconfig value "" is not host-relative (does not start with '
            "a '@')",
        ),
    ],
)
def test_what_is_refused(load: Callable[[Any], Config], text: str | bytes, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert caught.value.message == f"{caught.value.path}{why}"
    assert caught.value.path.endswith("/config.toml")


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert load_config(str(tmp_path / "none"), required=False) == Config()


def test_a_required_file_is_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "none")
    with pytest.raises(ConfigError) as caught:
        load_config(path, required=True)
    assert caught.value.message == (
        f"couldn't open required configuration file: {path}: no such file or directory"
    )
    assert (caught.value.errno, caught.value.path) == (errno.ENOENT, path)


@pytest.mark.parametrize("required", [True, False])
def test_a_directory_is_no_configuration(tmp_path: Path, required: bool) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path), required=required)
    assert caught.value.message.endswith(f"configuration file: {tmp_path}: is a directory")
    assert caught.value.errno == errno.EISDIR
