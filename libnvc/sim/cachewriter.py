# SPDX-License-Identifier: Apache-2.0
"""Write a loader cache (`/etc/ld.so.cache`) in glibc's new format."""

from __future__ import annotations

import functools
import struct

_MAGIC = b"glibc-ld.so.cache1.1"
_LITTLE_ENDIAN = 2
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")


def write_cache(entries: list[tuple[str, str, int]]) -> bytes:
    """Return a loader cache.

    Args:
        entries: SONAME, absolute path and flags, which tell the kind of library. Of two libraries
            with the same SONAME and flags the loader takes the one that comes first here.
    """
    # The loader searches by halving: this order is part of the format.
    ordered = sorted(entries, key=functools.cmp_to_key(_compare), reverse=True)
    strings = bytearray()
    offset = _HEADER.size + _ENTRY.size * len(ordered)
    table = []
    for soname, path, flags in ordered:
        key = offset + len(strings)
        strings += soname.encode("ascii") + b"\0"
        value = offset + len(strings)
        strings += path.encode("ascii") + b"\0"
        table.append(_ENTRY.pack(flags, key, value, 0, 0))
    header = _HEADER.pack(_MAGIC, len(ordered), len(strings), _LITTLE_ENDIAN, 0)
    return header + b"".join(table) + bytes(strings)


def _compare(one: tuple[str, str, int], other: tuple[str, str, int]) -> int:
    return _compare_names(one[0], other[0]) or one[2] - other[2]


def _compare_names(left: str, right: str) -> int:
    """Compare names as the loader does: runs of digits as numbers, and above other characters."""
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i].isdigit() and right[j].isdigit():
            a, i = _number(left, i)
            b, j = _number(right, j)
        elif left[i].isdigit() or right[j].isdigit():
            return 1 if left[i].isdigit() else -1
        else:
            a, b = ord(left[i]), ord(right[j])
            i, j = i + 1, j + 1
        if a != b:
            return a - b
    return (len(left) - i) - (len(right) - j)


def _number(text: str, start: int) -> tuple[int, int]:
    end = start
    while end < len(text) and text[end].isdigit():
        end += 1
    return int(text[start:end]), end
