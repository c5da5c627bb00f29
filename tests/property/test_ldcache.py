# SPDX-License-Identifier: Apache-2.0
"""For any bytes the loader-cache reader answers or refuses; for a valid cache it is exact."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libnvc._native.ldcache import CacheEntry, parse
from libnvc.errors import MalformedFileError

Entry = tuple[bytes, bytes, int]

TEXT = st.binary(max_size=40).map(lambda text: text.replace(b"\0", b"/"))
ENTRIES = st.lists(st.tuples(TEXT, TEXT, st.integers(0, 2**32 - 1)), max_size=8)


def build(entries: list[Entry], old: int | None) -> bytes:
    """Write a cache, after an old part of so many entries (or without one)."""
    prefix = b""
    if old is not None:
        prefix = struct.pack("=12sI", b"ld.so-1.7.0", old) + b"\xee" * 12 * old
        prefix += bytes(-len(prefix) % 8)
    table, strings = b"", b""
    base = 48 + 24 * len(entries)
    for soname, path, flags in entries:
        at = base + len(strings)
        strings += soname + b"\0" + path + b"\0"
        table += struct.pack("=IIIIQ", flags, at, at + len(soname) + 1, 0, 2**64 - 1)
    header = struct.pack("=20sII5I", b"glibc-ld.so.cache1.1", len(entries), len(strings), *[0] * 5)
    return prefix + header + table + strings


def build_old(entries: list[Entry]) -> bytes:
    """Write a cache of the old part alone."""
    table, strings = b"", b""
    for soname, path, flags in entries:
        at = len(strings)
        strings += soname + b"\0" + path + b"\0"
        table += struct.pack("=III", flags, at, at + len(soname) + 1)
    return struct.pack("=12sI", b"ld.so-1.7.0", len(entries)) + table + strings


def decoded(entries: list[Entry]) -> list[CacheEntry]:
    def decode(text: bytes) -> str:
        return text.decode("utf-8", "surrogateescape")

    return [
        CacheEntry(soname=decode(soname), path=decode(path), flags=flags)
        for soname, path, flags in entries
    ]


@given(ENTRIES, st.none() | st.integers(0, 5))
def test_valid_cache_is_read_exactly(entries: list[Entry], old: int | None) -> None:
    assert parse(build(entries, old), "cache") == decoded(entries)


@given(ENTRIES)
def test_valid_old_cache_is_read_exactly(entries: list[Entry]) -> None:
    assert parse(build_old(entries), "cache") == decoded(entries)


def assert_refused(data: bytes) -> None:
    with pytest.raises(MalformedFileError) as caught:
        parse(data, "/etc/ld.so.cache")
    assert str(caught.value) == "unsupported file format: /etc/ld.so.cache"


@given(ENTRIES, st.none() | st.integers(0, 5), st.lists(TEXT, min_size=1, max_size=3))
def test_entries_are_chosen_by_the_beginning_of_their_names(
    entries: list[Entry], old: int | None, prefixes: list[bytes]
) -> None:
    prefixes += [soname[:3] for soname, _, _ in entries[::2]]
    cache = build(entries, old)
    chosen = [
        entry
        for entry, (soname, _, _) in zip(parse(cache, "cache"), entries, strict=True)
        if soname.startswith(tuple(prefixes))
    ]
    assert parse(cache, "cache", tuple(prefixes)) == chosen


@given(ENTRIES, st.none() | st.integers(0, 5), st.data())
def test_cache_cut_short_is_refused(
    entries: list[Entry], old: int | None, data: st.DataObject
) -> None:
    cache = build(entries, old)
    cut = data.draw(st.integers(0, len(cache) - 1))
    if old == 0 and 16 <= cut < 16 + 48:  # what is left is a cache, of the old part alone
        assert parse(cache[:cut], "cache") == []
    else:
        assert_refused(cache[:cut])


@given(ENTRIES, st.data())
def test_old_cache_cut_short_is_refused(entries: list[Entry], data: st.DataObject) -> None:
    cache = build_old(entries)
    assert_refused(cache[: data.draw(st.integers(0, len(cache) - 1))])


def answer_or_refuse(data: bytes) -> None:
    try:
        entries = parse(data, "/etc/ld.so.cache")
    except MalformedFileError as error:
        assert str(error) == "unsupported file format: /etc/ld.so.cache"
        return
    for entry in entries:
        assert "\0" not in entry.soname + entry.path
        assert entry.soname.encode("utf-8", "surrogateescape") in data


@given(st.binary(max_size=400))
@example(b"")
@example(b"ld.so-1.7.0\0\xff\xff\xff\xff")
def test_any_bytes(data: bytes) -> None:
    answer_or_refuse(data)
    answer_or_refuse(b"glibc-ld.so.cache1.1" + data)
    answer_or_refuse(b"ld.so-1.7.0\0" + data)


@given(
    ENTRIES,
    st.none() | st.integers(0, 5),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_changed_bytes(
    entries: list[Entry], old: int | None, changes: list[tuple[int, int]]
) -> None:
    for cache in map(bytearray, (build(entries, old), build_old(entries))):
        for at, value in changes:
            cache[at % len(cache)] = value
        answer_or_refuse(bytes(cache))
