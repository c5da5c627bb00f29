# SPDX-License-Identifier: Apache-2.0
"""The command line of `nvidia-cdi-hook`, and where it takes the container's root from."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libnvc.cli.cdi_hook import main
from libnvc.cli.cdi_hook_words import HOOKS, USAGE, UsageError, Words, read_words
from libnvc.cli.cdi_hook_work import container_root
from libnvc.cli.container_common import CommandError

from libnvc import _build
from libnvc.errors import NvcError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "nvidia-cdi-hook"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEBUG", "QUIET"):
        for prefix in ("NVIDIA_CTK_", "NVIDIA_CDI_"):
            monkeypatch.delenv(prefix + name, raising=False)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))


@pytest.mark.parametrize(
    ("words", "status", "output", "errors"),
    [
        ((), 0, "", f"{NAME}: warning: No CDI hook specified\n"),
        (("--debug",), 0, "", f"{NAME}: warning: No CDI hook specified\n"),
        (("--quiet",), 0, "", ""),
        (("newhook", "--bogus"), 0, "", f"{NAME}: warning: Unsupported CDI hook: newhook\n"),
        (("new\nhook",), 0, "", f"{NAME}: warning: Unsupported CDI hook: new\\nhook\n"),
        (("--quiet", "newhook", "--help"), 0, "", ""),
        (("noop",), 0, "", ""),
        (("--bogus", "noop"), 1, "", f"{NAME}: flag provided but not defined: -bogus\n{USAGE}"),
        (
            ("create-symlinks", "--bogus"),
            *(1, "", f"{NAME}: flag provided but not defined: -bogus\n{USAGE}"),
        ),
        (
            ("update-ldcache", "--folder"),
            1,
            "",
            f"{NAME}: flag needs an argument: -folder\n{USAGE}",
        ),
        (("--help",), 0, USAGE, ""),
        (("help",), 0, USAGE, ""),
        (("update-ldcache", "-h"), 0, USAGE, ""),
        (("-v",), 0, f"NVIDIA CDI Hook version {_build.VERSION}\n", ""),
        (
            ("create-symlinks", "--link", "a"),
            *(1, "", f"{NAME}: invalid symlink specification a\n"),
        ),
        (
            ("update-ldcache",),
            1,
            "",
            f"{NAME}: failed to load container state: failed to decode container state: EOF\n",
        ),
        (("enable-cuda-compat",), 0, "", ""),
        (("sequence",), 0, "", f"{NAME}: warning: No CDI hook specified\n"),
        (
            ("sequence", "noop", "then", "newhook", "--bogus"),
            *(0, "", f"{NAME}: warning: Unsupported CDI hook: newhook\n"),
        ),
        (("sequence", "noop", "then", "update-ldcache", "--help"), 0, USAGE, ""),
        (
            ("sequence", "noop", "then", "chmod", "--bogus"),
            *(1, "", f"{NAME}: flag provided but not defined: -bogus\n{USAGE}"),
        ),
        (
            ("sequence", "noop", "then", "create-symlinks", "--link", "a"),
            *(1, "", f"{NAME}: invalid symlink specification a\n"),
        ),
    ],
)
def test_words(
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    status: int,
    output: str,
    errors: str,
) -> None:
    assert main(*words) == status
    assert capfd.readouterr() == (output, errors)


@pytest.mark.parametrize("words", [("--debug", "noop"), ("noop", "--container-spec", "/a")])
def test_words_by_which_something_else_is_meant(words: tuple[str, ...]) -> None:
    assert read_words(words, {}).given == ()


def test_a_sequence() -> None:
    words = ("--quiet", "sequence", "chmod", "--mode=1", "--path", "/a", "then", "noop")
    assert read_words(words, {}) == Words(
        hook="sequence",
        flags=frozenset({"quiet"}),
        parts=(
            Words(
                hook="chmod",
                values=(("mode", "1"), ("path", "/a")),
                given=("chmod", "--mode=1", "--path", "/a"),
            ),
            Words(hook="noop", given=("noop",)),
        ),
    )


def test_another_program_may_have_the_hooks(capfd: pytest.CaptureFixture[str]) -> None:
    assert main("newhook", name="nvidia-ctk hook") == 0
    assert capfd.readouterr().err == "nvidia-ctk hook: warning: Unsupported CDI hook: newhook\n"


@pytest.mark.parametrize(
    ("variable", "value", "flags"),
    [
        ("NVIDIA_CTK_DEBUG", "true", {"debug"}),
        ("NVIDIA_CDI_DEBUG", "1", {"debug"}),
        ("NVIDIA_CTK_QUIET", "T", {"quiet"}),
        ("NVIDIA_CDI_QUIET", "TRUE", {"quiet"}),
        ("NVIDIA_CTK_DEBUG", "false", set()),
        ("NVIDIA_CTK_DEBUG", "nonsense", set()),
    ],
)
def test_flags_of_the_environment(variable: str, value: str, flags: set[str]) -> None:
    assert read_words(["noop"], {variable: value}).flags == flags
    assert "debug" not in read_words(["--debug=false", "noop"], {variable: value}).flags


def test_values() -> None:
    words = ["update-ldcache", "--folder", "/a,b", "-folder=/c=d", "extra", "--folder=", "--", "-x"]
    read = read_words(words, {})
    assert read == Words(
        hook="update-ldcache",
        values=(("folder", "/a,b"), ("folder", "/c=d"), ("folder", "")),
        given=tuple(words),
    )
    assert read.last("ldconfig-path", "/sbin/ldconfig") == "/sbin/ldconfig"


@given(st.lists(st.sampled_from([*HOOKS, "new"]) | st.text(max_size=8), max_size=5))
def test_any_words(words: list[str]) -> None:
    try:
        read = read_words(words, {})
    except UsageError as error:
        assert str(error).startswith(("flag provided", "flag needs"))
    else:
        assert read.hook in ("", *words)
        assert all(name in (*HOOKS[read.hook], "container-spec") for name, _ in read.values)


# --- the container's root -----------------------------------------------------------------------


def root(state: object, directory: Path, document: object = None) -> str:
    (directory / "config.json").write_text(json.dumps(document))
    file = directory / "state"
    file.write_text(json.dumps(state))
    return container_root(Words(values=(("container-spec", str(file)),)))


@pytest.mark.parametrize(
    ("state", "document", "expected"),
    [
        ({"bundle": "."}, {"root": {"path": "rootfs"}}, "{}/rootfs"),
        ({"bundlePath": "."}, {"root": {"path": "/else/where"}}, "/else/where"),
        ({"bundle": "/", "root": "/merged"}, None, "/merged"),
        ({"bundle": ".", "root": "below"}, None, "{}/below"),
        ({"bundle": ".", "root": ""}, {"root": {"path": "../x"}, "process": 1}, "{}/../x"),
    ],
)
def test_root(tmp_path: Path, state: dict[str, str], document: object, expected: str) -> None:
    for name in ("bundle", "bundlePath"):
        if state.get(name) == ".":
            state = {**state, name: str(tmp_path)}
    found = root(state, tmp_path, document)
    assert found == str((tmp_path / expected.format(tmp_path)).resolve())


@pytest.mark.parametrize(
    ("state", "document"),
    [
        ({"bundle": "."}, {}),
        ({"bundle": "."}, {"root": None}),
        ({"bundle": "."}, {"root": {"path": 1}}),
        ({"bundle": "."}, {"root": {"path": ""}}),
        ({"bundle": "."}, {"root": {"path": "/"}}),
        ({"bundle": "."}, {"root": {"path": "/tmp/.."}}),
        ({"bundle": "."}, {"root": {"path": "a\nb"}}),
        ({"bundle": "."}, ["root"]),
        ({"bundle": ["x"]}, {}),
        ({"root": "below"}, {}),
        ({"root": 1}, {}),
        ([], {}),
    ],
)
def test_no_root(tmp_path: Path, state: object, document: object) -> None:
    if isinstance(state, dict) and state.get("bundle") == ".":
        state = {**state, "bundle": str(tmp_path)}
    with pytest.raises((CommandError, NvcError)):
        root(state, tmp_path, document)


@given(st.binary(max_size=60))
def test_any_state(data: bytes) -> None:
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        with pytest.raises(CommandError, match="container state"):
            container_root(Words())
