# SPDX-License-Identifier: Apache-2.0
"""The C sources compile without a warning at the strict level, and gcc's analyzer is quiet."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted(
    path for kind in ("", "sim/", "launcher/") for path in ROOT.glob(f"csrc/{kind}*.c")
)


def complaints(source: Path, flags: tuple[str, ...]) -> str:
    """Return what the compiler has to say about a file."""
    include = [f"-I{ROOT / 'csrc'}", f"-I{source.parent}", '-DNVC_VERSION="0"']
    command = ["gcc", *flags, *include, "-O2", "-fPIC", "-c", str(source), "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr or ("" if done.returncode == 0 else f"exit {done.returncode}")


def check_all(flags: tuple[str, ...]) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda source: complaints(source, flags), SOURCES)
    assert "".join(found) == ""


def test_sources_are_found() -> None:
    assert {"nvc_error.c", "nvc_ldcache.c", "nvc_elf.c", "nvc_nvml.c"} <= {
        source.name for source in SOURCES
    }


def test_strict_warnings(strict_flags: tuple[str, ...]) -> None:
    check_all(strict_flags)


def test_analyzer(strict_flags: tuple[str, ...]) -> None:
    check_all((*strict_flags, "-fanalyzer"))


def test_analyzer_is_awake(strict_flags: tuple[str, ...], tmp_path: Path) -> None:
    """It reports a planted double free, so its silence means something."""
    planted = tmp_path / "planted.c"
    planted.write_text(
        "#include <stdlib.h>\nvoid f(void *p);\nvoid f(void *p) { free(p); free(p); }\n"
    )
    assert "analyzer-double-free" in complaints(planted, (*strict_flags, "-fanalyzer"))
