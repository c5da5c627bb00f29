# SPDX-License-Identifier: Apache-2.0
"""Write a loader cache in glibc's new format, sorted as the loader's binary search expects."""

from __future__ import annotations

import functools
import re
import struct

#: flags of a 64-bit library, by machine
FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03, "ppc64le": 0x0503}
_HEAD = struct.Struct("=17s3sIIB3xI12x")
_ENTRY = struct.Struct("=iIIIQ")
_NATIVE_ENDIAN = 2  # little


def write_cache(libraries: list[tuple[str, str]], *, machine: str) -> bytes:
    """Return a cache of pairs of SONAME and path."""
    ordered = sorted(
        libraries, key=lambda pair: functools.cmp_to_key(_compare)(pair[0]), reverse=True
    )
    entries, text = b"", b""
    start = _HEAD.size + _ENTRY.size * len(ordered)
    for soname, path in ordered:
        key = start + len(text)
        text += soname.encode() + b"\0"
        entries += _ENTRY.pack(FLAGS[machine], key, start + len(text), 0, 0)
        text += path.encode() + b"\0"
    head = _HEAD.pack(
        b"glibc-ld.so.cache", b"1.1", len(ordered), len(text), _NATIVE_ENDIAN, 0
    )
    return head + entries + text


def _compare(left: str, right: str) -> int:
    """Compare as the loader does: runs of digits by value, everything else by character."""
    for a, b in zip(_runs(left), _runs(right), strict=False):
        if a == b:
            continue
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        if isinstance(a, int):
            return 1
        if isinstance(b, int):
            return -1
        return 1 if a > b else -1
    return len(_runs(left)) - len(_runs(right))


def _runs(text: str) -> list[int | str]:
    return [int(run) if run.isdigit() else run for run in re.findall(r"\d+|\D", text)]
