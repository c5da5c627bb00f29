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


class CacheEntry(Record):
    """An entry: the name programs ask for, the file, what it is for (`LIBC6`, `ARCH`)."""

    soname: str
    path: str
    flags: int


def parse(data: bytes, path: str) -> list[CacheEntry]:
    """Return the entries of a loader cache, in file order.

    Args:
        data: the whole file, any bytes.
        path: where it was, for messages.

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
    numbers = memoryview(ffi.buffer(entries)).cast("B").cast("I").tolist()
    return [
        CacheEntry(
            soname=os.fsdecode(data[soname : soname + soname_len]),
            path=os.fsdecode(data[file : file + file_len]),
            flags=flags,
        )
        for flags, soname, soname_len, file, file_len, *_ in zip(*[iter(numbers)] * 10, strict=True)
    ]
