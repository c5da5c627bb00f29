# SPDX-License-Identifier: Apache-2.0
"""Read the loader's cache."""

from __future__ import annotations

import os

from libnvc._core import ffi, lib

from .._record import Record
from .check import raise_error

#: bit 0 of `CacheEntry.flags`: a library of glibc
LIBC6: int = lib.NVC_LDCACHE_LIBC6
#: the bits of `CacheEntry.flags` that name the architecture; one of the following
ARCH: int = lib.NVC_LDCACHE_ARCH
I386: int = lib.NVC_LDCACHE_I386
X86_64: int = lib.NVC_LDCACHE_X86_64
PPC64LE: int = lib.NVC_LDCACHE_PPC64LE
ARMHF: int = lib.NVC_LDCACHE_ARMHF
AARCH64: int = lib.NVC_LDCACHE_AARCH64

_WORDS = ffi.sizeof("struct nvc_ldcache_entry") // 4


class CacheEntry(Record):
    """An entry: the name programs ask for, the file, what it is for (`LIBC6`, `ARCH`)."""

    soname: str
    path: str
    flags: int


def parse(data: bytes, path: str, prefixes: tuple[bytes, ...] = (b"",)) -> list[CacheEntry]:
    """Return entries of a loader cache, in file order.

    Args:
        data: the whole file, any bytes.
        path: where it was, for messages.
        prefixes: how the names of the entries to return begin; all entries if not given.

    Raises:
        MalformedFileError: it is not a cache of glibc for this machine's byte order.
    """
    cache = ffi.new("struct nvc_ldcache *")
    err = ffi.new("struct nvc_error *")
    buffer = ffi.from_buffer("uint8_t[]", data)
    if lib.nvc_ldcache_open(buffer, len(data), cache, err) < 0:
        raise_error(err, path=path)
    entries = ffi.new("struct nvc_ldcache_entry[]", cache.count)
    if lib.nvc_ldcache_entries(buffer, len(data), cache, entries, err) < 0:
        raise_error(err, path=path)
    # One crossing for all numbers: reading fields through cffi costs more than the parsing.
    numbers = memoryview(ffi.buffer(entries)).cast("B").cast("I")
    found = []
    for index in _matching(data, numbers[1::_WORDS].tolist(), prefixes):
        first = index * _WORDS
        flags, soname, soname_len, file, file_len = numbers[first : first + 5].tolist()
        found.append(
            CacheEntry(
                soname=os.fsdecode(data[soname : soname + soname_len]),
                path=os.fsdecode(data[file : file + file_len]),
                flags=flags,
            )
        )
    return found


def _matching(data: bytes, starts: list[int], prefixes: tuple[bytes, ...]) -> list[int]:
    """Return the indices of the strings, given by their starts, that begin with a prefix.

    A cache may have tens of thousands of entries, so the first bytes settle most of them.
    """
    size = min(len(prefix) for prefix in prefixes)
    heads = {prefix[:size] for prefix in prefixes}
    return [
        index
        for index, start in enumerate(starts)
        if data[start : start + size] in heads and data.startswith(prefixes, start)
    ]
