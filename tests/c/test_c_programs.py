# SPDX-License-Identifier: Apache-2.0
"""Compile each C test program, plain and with sanitizers, run it, and read its TAP output."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "csrc"
PROGRAMS = sorted(HERE.glob("test_*.c"))

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
VARIANTS = {"plain": (), "sanitized": SANITIZERS}


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


def needed_sources(program: Path) -> list[Path]:
    """Return the modules of the core that a program's `needs:` line names."""
    line = re.search(r"needs: ([a-z_ ]+)", program.read_text())
    assert line, f"{program.name} has no line of needed modules"
    return [CORE / f"nvc_{name}.c" for name in line[1].split()]


def fake_libraries(compile_c: CompileC, directory: Path) -> list[Path]:
    """Return libraries that stand for NVML: one that works, one that hangs, one that crashes."""
    return [
        compile_c(directory / f"{name}.so", HERE / "fake_nvml.c", flags=flags)
        for name, flags in {"works": (), "hangs": ("-DHANG",), "crashes": ("-DCRASH",)}.items()
    ]


ARGUMENTS: dict[str, Callable[[CompileC, Path], list[Path]]] = {
    "test_elf": lambda _, directory: [directory],
    "test_nvml": lambda compile_c, directory: [
        directory,
        *fake_libraries(compile_c, directory),
    ],
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_program(program: Path, variant: str, tmp_path: Path, compile_c: CompileC) -> None:
    sources = [program, *needed_sources(program)]
    binary = compile_c(tmp_path / program.stem, *sources, flags=VARIANTS[variant])
    find_arguments = ARGUMENTS.get(program.stem)
    arguments = find_arguments(compile_c, tmp_path) if find_arguments else []
    done = subprocess.run(
        [binary, *arguments],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith("not ok")]
    assert (done.returncode, failed, done.stderr) == (0, [], "")
    passed = sum(line.startswith("ok ") for line in lines)
    assert passed > 0
    assert lines[-1] == f"1..{passed}"
