# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk`: its flags, help, log and exit statuses, as urfave/cli has them."""

from __future__ import annotations

import os
import re
import subprocess
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from libnvc.cli import ctk
from libnvc.cli._flags import Flag, UsageError, parse

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.conftest import Ctk

FLAGS = (
    Flag(name="name", aliases=("n",), default="x", variable="NAME"),
    Flag(name="item", kind=list),
    Flag(name="whole", kind=list, is_split=False),
    Flag(name="on", kind=bool, variable="ON"),
)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], {"name": "x", "item": (), "whole": (), "on": False}),
        (["--name", "y"], {"name": "y"}),
        (["--name=y=z"], {"name": "y=z"}),
        (["-name", "y"], {"name": "y"}),
        (["-n=y"], {"name": "y"}),
        (["--name", "--on"], {"name": "--on", "on": False}),
        (["--name="], {"name": ""}),
        (["--name=y", "--name=z"], {"name": "z"}),
        (["--item=a,b", "--item", "c"], {"item": ("a", "b", "c")}),
        (["--whole=a,b", "--whole", "c"], {"whole": ("a,b", "c")}),
        (["--on"], {"on": True}),
        (["--on=false"], {"on": False}),
        (["--on=T"], {"on": True}),
    ],
)
def test_values(words: list[str], values: dict[str, object]) -> None:
    got = parse(FLAGS, words, {}).values
    assert {key: got[key] for key in values} == values


def test_words_mix_with_flags_unless_the_first_is_a_command() -> None:
    words = ["a", "--on", "b", "--", "--name"]
    mixed = parse(FLAGS, words, {})
    assert (mixed.words, mixed.given) == (("a", "b", "--name"), frozenset({"on"}))
    first = parse(FLAGS, words, {}, stops=True)
    assert (first.words, first.given) == (tuple(words), frozenset())


def test_variables_give_flags_that_are_not_there() -> None:
    environment = {"NAME": "env", "ON": "true"}
    assert parse(FLAGS, [], environment).values["name"] == "env"
    got = parse(FLAGS, ["--name=y"], environment)
    assert (got.values["name"], got.values["on"], got.given) == (
        "y",
        True,
        frozenset({"name", "on"}),
    )
    assert parse(FLAGS, [], {"NAME": ""}).values["name"] == "x"


@pytest.mark.parametrize(
    ("words", "environment", "message"),
    [
        (["--bogus"], {}, "flag provided but not defined: -bogus"),
        (["-x=1"], {}, "flag provided but not defined: -x"),
        (["--name"], {}, "flag needs an argument: -name"),
        (
            ["--on=x"],
            {},
            'invalid value "x" for flag -on: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (
            [],
            {"ON": "2"},
            'invalid value "2" for flag -on: strconv.ParseBool: parsing "2": invalid syntax',
        ),
    ],
)
def test_usage_errors(words: list[str], environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(FLAGS, words, environment)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--help"],
        ["help"],
        ["h"],
        ["runtime"],
        ["runtime", "-h"],
        ["help", "runtime"],
        ["runtime", "help", "configure"],
        ["runtime", "configure", "--help"],
        ["config", "--help"],
        ["config", "help"],
        ["config", "default", "-h"],
    ],
)
def test_help(run_ctk: Ctk, words: list[str]) -> None:
    done = run_ctk(*words)
    assert (done.status, done.err) == (0, "")
    named = [word for word in words if word.isalpha() and word not in ("help", "h")]
    assert done.out.startswith(f"NAME:\n   {' '.join(['nvidia-ctk', *named])} - ")


def test_help_lists_what_there_is(run_ctk: Ctk) -> None:
    listed = re.findall(r"^   ([a-z]+) ", run_ctk().out.partition("COMMANDS")[2], re.MULTILINE)
    assert listed == [name for name, _, _ in ctk.COMMANDS if " " not in name]
    assert "set-list-separator" not in run_ctk("config", "--help").out


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["bogus"], "bogus"),
        (["runtime", "bogus"], "bogus"),
        (["config", "bogus"], "bogus"),
        (["help", "bogus"], "bogus"),
        (["a\x1b[2J"], "a\\x1b[2J"),
    ],
)
def test_an_unknown_command(run_ctk: Ctk, words: list[str], name: str) -> None:
    done = run_ctk(*words)
    assert (done.status, done.out, done.err) == (3, "", f"No help topic for '{name}'\n")


@pytest.mark.parametrize(
    "words", [["--bogus"], ["runtime", "--bogus"], ["config", "default", "--bogus"]]
)
def test_an_unknown_flag_shows_how_to_use_the_command(run_ctk: Ctk, words: list[str]) -> None:
    done = run_ctk(*words)
    assert (done.status, done.out) == (1, "")
    full = " ".join(["nvidia-ctk", *words[:-1]])
    start = f"Incorrect Usage: flag provided but not defined: -bogus\n\nNAME:\n   {full} - "
    assert done.err.startswith(start)
    assert done.messages == ["error flag provided but not defined: -bogus"]


def test_version(run_ctk: Ctk) -> None:
    for flag in ("--version", "-v"):
        done = run_ctk(flag)
        assert (done.status, done.err) == (0, "")
        first, *rest = done.out.splitlines()
        assert first == f"NVIDIA Container Toolkit CLI version {version('libnvc')}"
        assert all(re.fullmatch("commit: [0-9a-f]{40}", line) for line in rest)


def test_the_log_can_be_quiet_or_full(run_ctk: Ctk, tmp_path: Path) -> None:
    def words(name: str) -> list[str]:
        return ["runtime", "configure", f"--config={tmp_path / name}"]

    assert len(run_ctk(*words("a")).messages) == 2
    assert run_ctk("--quiet", *words("b")).err == ""
    assert run_ctk(*words("c"), "--quiet").err == ""
    (tmp_path / "d").write_text("{}")
    messages = run_ctk("--debug", *words("d")).messages
    assert [line for line in messages if line.startswith("debug Wrote backup ")]
    failed = run_ctk("--quiet", *words("no\nfile/a\0b"))
    assert failed.status == 1
    assert len(failed.messages) == 1


def test_words_too_many_are_named(run_ctk: Ctk) -> None:
    done = run_ctk("runtime", "configure", "--dry-run", "true")
    assert (done.status, done.messages) == (0, ["warning Ignoring argument true"])


def test_standard_output_that_takes_no_more(commands: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [commands / "nvidia-ctk", "config", "default"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert 'level=error msg="write failed: no space left on device"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("create-dev-char-symlinks",), "make links in /dev/char"),
        (
            ("create-device-nodes", "--control-devices"),
            "load kernel modules and make device nodes",
        ),
    ],
)
def test_the_host_is_prepared_by_root(
    run_ctk: Ctk, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], what: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = run_ctk("system", *words)
    assert (done.status, done.out) == (1, "")
    assert done.messages == [f"error only root may {what}"]
    assert done.err.endswith("nvidia-ctk: hint: run this as root\n")
