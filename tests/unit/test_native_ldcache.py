# SPDX-License-Identifier: Apache-2.0
"""The loader-cache reader on caches that ldconfig itself wrote."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from libnvc._native import ldcache
from libnvc.errors import MalformedFileError

if TYPE_CHECKING:
    from collections.abc import Callable

LDCONFIG = "/sbin/ldconfig"
ARCHITECTURES = {
    ldcache.X86_64: "x86-64",
    ldcache.AARCH64: "AArch64",
    ldcache.ARMHF: "hard-float",
    ldcache.PPC64LE: "64bit",
}


@pytest.fixture
def write_cache(tmp_path: Path, compile_c: Callable[..., Path]) -> Callable[[str], bytes]:
    """Return a function that has ldconfig write a cache of two libraries in some format."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_text("/lib\n")
    source = tmp_path / "empty.c"
    source.write_text("typedef int unused;\n")
    for name in ("libfirst.so.1", "libsecond.so.2"):
        compile_c(tmp_path / f"lib/{name}.so", source, flags=(f"-Wl,-soname,{name}",))
        os.rename(tmp_path / f"lib/{name}.so", tmp_path / "lib" / name)

    def write(style: str) -> bytes:
        subprocess.run([LDCONFIG, "-r", tmp_path, "-c", style], check=True)
        return (tmp_path / "etc/ld.so.cache").read_bytes()

    return write


@pytest.mark.parametrize("style", ["new", "compat", "old"])
def test_what_ldconfig_wrote(style: str, write_cache: Callable[[str], bytes]) -> None:
    data = write_cache(style)
    assert data.startswith(b"glibc-ld.so.cache1.1" if style == "new" else b"ld.so-1.7.0")
    assert (b"glibc-ld.so.cache1.1" in data) == (style != "old")
    entries = ldcache.parse(data, "cache")
    names = ["libsecond.so.2", "libfirst.so.1"]  # ldconfig sorts in descending order
    assert [(e.soname, e.path) for e in entries] == [(name, f"/lib/{name}") for name in names]
    assert all(e.flags & ldcache.LIBC6 for e in entries)
    assert {e.flags & ldcache.ARCH for e in entries} <= set(ARCHITECTURES)


def test_cache_of_this_machine() -> None:
    """Every line of `ldconfig -p` is an entry, in the same order."""
    printed = subprocess.run([LDCONFIG, "-p"], check=True, capture_output=True, text=True).stdout
    lines = re.findall(r"^\t(\S+) \(([^)]*)\) => (.*)$", printed, re.MULTILINE)
    entries = ldcache.parse(Path("/etc/ld.so.cache").read_bytes(), "/etc/ld.so.cache")
    assert [(e.soname, e.path) for e in entries] == [(soname, path) for soname, _, path in lines]
    for entry, (_, kind, _) in zip(entries, lines, strict=True):
        assert kind.startswith(("libc6", "ELF")) == bool(entry.flags & ldcache.LIBC6)
        assert ARCHITECTURES.get(entry.flags & ldcache.ARCH, "") in kind


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, b"\177ELF" + b"\0" * 60, b"glibc-ld.so.cache1.1"]
)
def test_not_a_cache(data: bytes) -> None:
    with pytest.raises(MalformedFileError) as caught:
        ldcache.parse(data, "/x/ld.so.cache")
    assert str(caught.value) == "unsupported file format: /x/ld.so.cache"
    assert caught.value.path == "/x/ld.so.cache"
