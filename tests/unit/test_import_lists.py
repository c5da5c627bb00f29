# SPDX-License-Identifier: Apache-2.0
"""Pin the modules that the commands load on the way to a started container.

Each module costs time at every container start. An interpreter without `site` is used: an
editable install would load some of the modules asked about before our first line.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import _cffi_backend
import libnvc.cli
import pytest

import libnvc

if TYPE_CHECKING:
    from collections.abc import Callable

CLI = ["_argp", "container_cli", "container_common", "output"]

#: of the standard library, what a start may load: small or built into the interpreter
STANDARD = {
    "__future__",
    "_cffi_backend",
    "_sha2",  # Python 3.12 and later
    "_sha256",
    "_struct",
    "_thread",
    "errno",
    "pwd",
    "struct",
    "time",
}

MARK = "modules:"

PROGRAM = """
import os, sys  # what `site` loads anyway
sys.path += {paths!r}
import libnvc
libnvc.__path__.append({cli!r})  # where `libnvc.cli` is, also in an editable install
before = {{name for name in sys.modules if name.split(".")[0] != "libnvc"}}
{statement}
print({mark!r}, *sorted(set(sys.modules) - before))
"""


@pytest.fixture
def loaded() -> Callable[..., set[str]]:
    """Give a function that lists the modules that a statement loads in a fresh interpreter."""

    def run(statement: str) -> set[str]:
        cli_parent = Path(next(iter(libnvc.cli.__path__))).parent
        program = PROGRAM.format(
            paths=[str(Path(_cffi_backend.__file__).parent), str(Path(libnvc.__file__).parents[1])],
            cli=str(cli_parent),
            statement=statement,
            mark=MARK,
        )
        done = subprocess.run(
            [sys.executable, "-S", "-P", "-c", program],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return set(done.stdout.rpartition(MARK)[2].split())

    return run


def call(*words: str) -> str:
    return f"from libnvc.cli.container_cli import main; main({['x', *words]!r})"


def test_importing_libnvc(loaded: Callable[..., set[str]]) -> None:
    assert loaded("import libnvc") - STANDARD == {"libnvc"}


def test_importing_the_container_cli(loaded: Callable[..., set[str]]) -> None:
    expected = {"libnvc", "libnvc._record", "libnvc.cli", *(f"libnvc.cli.{name}" for name in CLI)}
    assert loaded("import libnvc.cli.container_cli") - STANDARD == expected


@pytest.mark.parametrize(
    ("words", "modules"),
    [
        (["list"], {"container_list"}),
        # as far as a plan: applying it would change this very process's mounts
        (
            ["configure", "-d0", "-c", f"--pid={os.getpid()}", "--ldconfig=@/no/such", "/usr"],
            {"container_configure"},
        ),
        (["-u0:0", "info"], {"container_info", "container_user"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_running_a_command(
    loaded: Callable[..., set[str]], dgx_a100: Path, words: list[str], modules: set[str]
) -> None:
    found = loaded(call(f"--root={dgx_a100}", *words))
    ours = {name for name in found if name.split(".")[0] == "libnvc"}
    cli = {name for name in ours if name.startswith("libnvc.cli.")}
    assert cli == {f"libnvc.cli.{name}" for name in {*CLI, "_debuglog", *modules}}
    assert not {name for name in ours if name.startswith(("libnvc.sim", "libnvc.testing"))}
    assert found - ours <= STANDARD
