# SPDX-License-Identifier: Apache-2.0
"""Define the extension `libnvc._core`: read the cdefs, list the sources, flags and dependencies.

Each module of the core that Python calls has a `nvc_<module>.cdef` beside its header with exactly
what Python may see; cffi compiles the two against each other, so a drift does not build.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

HERE = Path("csrc")  # relative: setuptools refuses absolute source paths

#: modules of the core, in dependency order; a module enters once it compiles without a warning
MODULES = [
    "error",
    "kernel",
    "path",
    "arena",
    "find",
    "ldcache",
    "elf",
    "dir",
    "libset",
    "ldconf",
    "ldscan",
    "blocked",
    "nvml_ask",
    "nvml",
    "plan",
    "classic",
    "source",
    "mount",
    "group",
    "journal",
    "lock",
    "cgroup",
    "devlist",
    "devprog",
    "ns",
    "chmod",
    "ldconfig",
    "cache",
    "loader",
    "undo",
    "steps",
    "access",
    "ops",
    "worker",
    "job",
    "apply",
    "json",
    "document",
    "kept",
]

# Diagnostics that the code cffi generates passes too. The stricter set for the hand-written
# sources is in tests/conftest.py; `make lint` applies it.
CFLAGS = [
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-O2",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=3",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-Wno-missing-field-initializers",
]
LDFLAGS = ["-Wl,-z,relro", "-Wl,-z,now"]


def existing(suffix: str) -> list[Path]:
    """List the files of the modules that have one with this suffix, in module order."""
    return [p for p in (HERE / f"nvc_{name}{suffix}" for name in MODULES) if p.exists()]


ffi = FFI()
for cdef in existing(".cdef"):
    ffi.cdef(cdef.read_text())
ffi.set_source(
    "libnvc._core",
    "".join(f'#include "{header.name}"\n' for header in existing(".h")),
    sources=[str(p) for p in existing(".c")],
    include_dirs=[str(HERE)],
    depends=[str(p) for p in sorted(HERE.glob("*.[ch]")) + sorted(HERE.glob("*.cdef"))]
    + [str(HERE / "ffi_build.py")],
    extra_compile_args=CFLAGS,
    extra_link_args=LDFLAGS,
    py_limited_api=True,
)
