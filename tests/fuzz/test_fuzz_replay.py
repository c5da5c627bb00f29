# SPDX-License-Identifier: Apache-2.0
"""Run each fuzz target once over its committed corpus, under sanitizers."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Protocol

import pytest

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "csrc"
TARGETS = sorted(HERE.glob("fuzz_*.c"))
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


def source(name: str) -> Path:
    """Return the file of a module: of the core, or with its directory one of another program."""
    return CORE / (f"{name}.c" if "/" in name else f"nvc_{name}.c")


@pytest.mark.parametrize("target", TARGETS, ids=lambda path: path.stem)
def test_replay(target: Path, tmp_path: Path, compile_c: CompileC) -> None:
    needs = re.search(r"needs: ([a-z_/ ]+?) \*/", target.read_text())
    assert needs, f"{target.name} has no line of needed modules"
    modules = [source(name) for name in needs[1].split()]
    corpus = sorted((HERE / "corpus" / target.stem.removeprefix("fuzz_")).iterdir())
    assert corpus
    binary = compile_c(
        tmp_path / target.stem, target, HERE / "replay.c", *modules, flags=SANITIZERS
    )
    done = subprocess.run(
        [binary, *corpus], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"replayed {len(corpus)}\n"
