# SPDX-License-Identifier: Apache-2.0
"""Which calls of a low-level runtime create a container, and from which bundle."""

from __future__ import annotations

import pytest
from libnvc.cli.runtime_args import asks_version, read_call


@pytest.mark.parametrize(
    ("line", "bundle"),
    [
        ("create c", ""),
        ("create --bundle /b c", "/b"),
        ("create --bundle=/b c", "/b"),
        ("create -b /b c", "/b"),
        ("create -b=/b c", "/b"),
        ("create -bundle /b c", "/b"),
        ("create --bundle /a --bundle=/b c", "/b"),
        ("--root /r --log=/l --systemd-cgroup create --pid-file /p --bundle /b c", "/b"),
        ("--root create create --bundle /b c", "/b"),
        ("--bundle-like x create --bundle /b c", "/b"),  # an option that is not known
        ("create --bundle create c", "create"),
    ],
)
def test_calls_that_create(line: str, bundle: str) -> None:
    call = read_call(line.split())
    assert (call.is_create, call.bundle, call.container) == (True, bundle, "c")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "start create",
        "--root create state x",
        "delete --force create",
        "--root",
        "exec c create",
    ],
)
def test_calls_that_do_not(line: str) -> None:
    assert not read_call(line.split()).is_create


def test_the_log_that_the_engine_names() -> None:
    call = read_call(["--log", "/l.json", "--log-format", "json", "--debug", "create", "c"])
    assert (call.log, call.log_format, call.is_debug) == ("/l.json", "json", True)
    assert read_call(["--log=/l", "create", "c"]).log == "/l"


@pytest.mark.parametrize("flag", ["-b", "--bundle"])
def test_a_bundle_that_is_not_named(flag: str) -> None:
    call = read_call(["--log", "/l", "create", "c", flag])
    assert (call.is_create, call.bundle, call.log) == (True, None, "/l")


@pytest.mark.parametrize("word", ["version", "-version", "--version", "--version=true"])
def test_words_that_ask_for_the_version(word: str) -> None:
    assert asks_version(["--debug", word])
    assert not asks_version(["--debug", "versions", "--log=version"])
