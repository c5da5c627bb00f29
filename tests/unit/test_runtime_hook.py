# SPDX-License-Identifier: Apache-2.0
"""The prestart hook: its words, and what it calls `nvidia-container-cli` with."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from libnvc.cli import container_cli
from libnvc.cli.runtime_hook import main

from libnvc import _build

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nvidia-container-runtime-hook"
HEAD = ("--load-kmods", "configure", "--cuda-compat-mode=ldconfig", "--ldconfig=@/sbin/ldconfig")
SEVEN = ("compat32", "compute", "display", "graphics", "ngx", "utility", "video")
ALL = tuple(f"--{name}" for name in SEVEN)
BOTH = ("--compute", "--utility")
VISIBLE = "NVIDIA_VISIBLE_DEVICES"
PRIVILEGED = {"bounding": ["CAP_SYS_ADMIN"]}


class Hook:
    """Runs the hook on a bundle; what it calls is noted, not done."""

    def __init__(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.bundle = directory / "bundle"
        self.bundle.mkdir()
        self.config = directory / "config.toml"
        self.called: list[str] | None = None
        self.ldconfig: str | None = None
        self.patch = monkeypatch
        self.capfd = capfd
        monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(self.config))
        monkeypatch.setattr(container_cli, "main", self._note)

    def _note(self, argv: list[str], *, ldconfig: str | None, keep: object, graphics: bool) -> int:
        assert graphics
        self.called = argv
        self.ldconfig = ldconfig
        return 0

    def __call__(
        self,
        *env: str,
        config: str = 'nvidia-container-runtime.mode = "legacy"',
        words: tuple[str, ...] = ("prestart",),
        state: Any = None,
        **process: Any,
    ) -> tuple[int, str]:
        """Return the exit status and what stands on standard error."""
        self.config.write_text(config)
        document = {"ociVersion": "1.0.2", "root": {"path": "rootfs"}}
        document["process"] = {"env": list(env), **process}
        (self.bundle / "config.json").write_text(json.dumps(document))
        if state is None:
            state = json.dumps({"pid": 1234, "bundle": str(self.bundle)})
        raw = state if isinstance(state, bytes) else state.encode()
        self.patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
        self.called = None
        status = main(*words)
        return status, self.capfd.readouterr().err

    def words(self) -> tuple[str, ...]:
        """Return what it called the command with, but for the end that is always the same."""
        assert self.called is not None
        assert self.called[0] == "nvidia-container-cli"
        assert self.called[-2:] == ["--pid=1234", f"{self.bundle}/rootfs"]
        return tuple(self.called[1:-2])


@pytest.fixture
def hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Hook:
    return Hook(tmp_path, monkeypatch, capfd)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ((f"{VISIBLE}=0,1",), (*HEAD, "--device=0,1", *BOTH)),
        (
            (
                f"{VISIBLE}=all",
                "NVIDIA_DRIVER_CAPABILITIES=all",
                "NVIDIA_REQUIRE_FOO=brand=tesla driver>=1",
                "NVIDIA_REQUIRE_CUDA=cuda>=12.0",
            ),
            (
                *(*HEAD, "--device=all", *ALL),
                *("--require=cuda>=12.0", "--require=brand=tesla driver>=1"),
            ),
        ),
        (("CUDA_VERSION=11.2.1",), (*HEAD, "--device=all", *ALL, "--require=cuda>=11.2")),
        ((f"{VISIBLE}=none",), (*HEAD, *BOTH)),
        ((f"{VISIBLE}=all", "NVIDIA_DRIVER_CAPABILITIES="), (*HEAD, "--device=all", *BOTH)),
    ],
)
def test_the_command_line(hook: Hook, env: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert hook(*env) == (0, "")
    assert hook.words() == expected


def test_the_command_line_of_a_privileged_container(hook: Hook) -> None:
    asked = (
        *(f"{VISIBLE}=all", "NVIDIA_MIG_CONFIG_DEVICES=all", "NVIDIA_MIG_MONITOR_DEVICES=all"),
        "NVIDIA_IMEX_CHANNELS=0,1",
    )
    assert hook(*asked, capabilities=PRIVILEGED) == (0, "")
    rights = ("--mig-config=all", "--mig-monitor=all", "--imex-channel=0,1")
    assert hook.words() == (*HEAD, "--device=all", *rights, *BOTH)


EVERYTHING = """
accept-nvidia-visible-devices-envvar-when-unprivileged = false
accept-nvidia-visible-devices-as-volume-mounts = true
[nvidia-container-cli]
root = "/run/nvidia/driver"
debug = "/tmp/x.log"
ldcache = "/etc/ld.so.cache"
no-pivot = true
no-cgroups = true
user = "root:video"
[nvidia-container-runtime]
mode = "legacy"
modes.legacy.cuda-compat-mode = "mount"
[features]
disable-imex-channel-creation = true
"""


@pytest.mark.parametrize(("flags", "log"), [((), "/tmp/x.log"), (("-debug",), "/dev/stderr")])
def test_every_option(hook: Hook, flags: tuple[str, ...], log: str) -> None:
    assert hook(f"{VISIBLE}=0", config=EVERYTHING, words=(*flags, "prestart"))[0] == 0
    assert hook.called is None  # the environment may not ask
    assert hook(
        f"{VISIBLE}=0", config=EVERYTHING, words=(*flags, "prestart"), capabilities=PRIVILEGED
    ) == (0, "")
    assert hook.words() == (
        *("--root=/run/nvidia/driver", "--load-kmods", "--no-create-imex-channels", "--no-pivot"),
        *(f"--debug={log}", "--ldcache=/etc/ld.so.cache", "--user=root:video", "configure"),
        *("--cuda-compat-mode=mount", "--ldconfig=@/sbin/ldconfig", "--no-cgroups"),
        *("--device=0", *BOTH),
    )


@pytest.mark.parametrize(("key", "program"), [("", None), ('ldcache = "exec"', "/x/ldconfig")])
def test_who_writes_the_loader_cache(hook: Hook, key: str, program: str | None) -> None:
    config = f'{key}\nnvidia-container-cli.ldconfig = "@/x/ldconfig"'
    assert hook(f"{VISIBLE}=0", config=config) == (0, "")
    assert "--ldconfig=@/x/ldconfig" in hook.words()
    assert hook.ldconfig == program


@pytest.mark.parametrize("env", [(), (f"{VISIBLE}=void",), (f"{VISIBLE}=all", f"{VISIBLE}=void")])
def test_who_asks_for_nothing(hook: Hook, env: tuple[str, ...]) -> None:
    assert hook(*env) == (0, "")
    assert hook.called is None


@pytest.mark.parametrize(
    ("env", "config", "text"),
    [
        (
            (f"{VISIBLE}=all", "NVIDIA_DRIVER_CAPABILITIES=foo,compute"),
            "",
            "unsupported capabilities found in 'compute,foo' (allowed 'compute')",
        ),
        (
            (f"{VISIBLE}=all", "NVIDIA_MIG_CONFIG_DEVICES=all"),
            "",
            "cannot set MIG_CONFIG_DEVICES in non privileged container",
        ),
        (("NOEQ",), "", "invalid environment variable: NOEQ"),
        (
            (f"{VISIBLE}=0",),
            'nvidia-container-runtime.mode = "cdi"',
            "invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker "
            "--gpus flag) is not supported. Please use the NVIDIA Container Runtime (e.g. specify "
            "the --runtime=nvidia flag) instead",
        ),
    ],
)
def test_what_is_refused(hook: Hook, env: tuple[str, ...], config: str, text: str) -> None:
    status, said = hook(*env, config=config)
    assert status == 1
    assert text in said
    assert said.startswith(f"{NAME}: ")
    assert said.count("\n") == 1
    assert hook.called is None


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"xx",
        b"[]",
        b'{"pid": 1',
        b'{"pid": 1, "bundle": "\xff"}',
        b'{"pid": 1} {}',
        b'{"a":' * 100000,
        b" " * ((16 << 20) + 1),
    ],
    ids=["empty", "no JSON", "a list", "cut", "not UTF-8", "two", "deep", "huge"],
)
def test_a_broken_state(hook: Hook, state: bytes) -> None:
    status, said = hook(f"{VISIBLE}=0", state=state)
    assert status == 1
    assert said.startswith(f"{NAME}: could not decode container state: ")
    assert said.count("\n") == 1
    assert hook.called is None


@pytest.mark.parametrize("pid", [0, -1, "1", None, 1.5, True])
def test_a_state_without_a_process(hook: Hook, pid: object) -> None:
    state = json.dumps({"pid": pid, "bundle": str(hook.bundle)})
    status, said = hook(f"{VISIBLE}=0", state=state)
    assert status == 1
    assert said == f"{NAME}: input error: container state: pid: {pid!r}: not a running process\n"
    assert hook.called is None


def test_the_historic_name_of_the_bundle(hook: Hook) -> None:
    state = json.dumps({"pid": 1234, "bundlePath": str(hook.bundle)})
    assert hook(f"{VISIBLE}=0", state=state) == (0, "")
    assert "--device=0" in hook.words()


def test_crun_names_no_bundle_of_a_user_namespace(
    hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hook.bundle)
    assert hook(f"{VISIBLE}=0", state='{"pid": 1234, "bundle": "/"}') == (0, "")
    assert "--device=0" in hook.words()


@pytest.mark.parametrize("word", ["poststart", "poststop"])
def test_other_stages_do_nothing(hook: Hook, word: str) -> None:
    assert hook(words=(word,), state="") == (0, "")


def test_the_version(hook: Hook) -> None:
    assert main("-version") == 0
    assert hook.capfd.readouterr().out == (
        f"NVIDIA Container Runtime Hook version {_build.VERSION}\n"
    )


@pytest.mark.parametrize("words", [(), ("foo",), ("-bogus", "prestart"), ("-config",)])
def test_words_that_are_not_understood(hook: Hook, words: tuple[str, ...]) -> None:
    status, said = hook(words=words)
    assert status == 2
    assert f"Usage of {NAME}:" in said


def test_a_named_configuration_must_be_there(hook: Hook, tmp_path: Path) -> None:
    status, said = hook(f"{VISIBLE}=0", words=("-config", f"{tmp_path}/no", "prestart"))
    assert (status, said) == (
        1,
        f"{NAME}: couldn't open required configuration file: {tmp_path}/no: "
        "no such file or directory\n",
    )
