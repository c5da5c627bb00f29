# SPDX-License-Identifier: Apache-2.0
"""Read what a CUDA compatibility library says of the drivers that it works with.

It stands in a note of the section `.note.cuda.fwd_compatibility`. The file is an image's: every
number in it is checked, and what is read is bounded.
"""

from __future__ import annotations

import os

from ..errors import MalformedFileError

_SECTION = b".note.cuda.fwd_compatibility"
_OWNER = b"NVIDIA Corporation\0"
_HEADER = 64  # bytes of an ELF header of 64 bits
_ENTRY = 64  # and of an entry of its section table
_SECTIONS = 4096
_LIMIT = 1 << 16  # bytes of the names of sections, and of a note


def read_note(fd: int) -> bytes | None:
    """Return the note's text, None if the library has no such note.

    Args:
        fd: an open regular file.

    Raises:
        MalformedFileError: it is no ELF file of 64 bits in little-endian order, or contradicts
            itself.
    """
    header = _read(fd, 0, _HEADER)
    if header[:6] != b"\x7fELF\x02\x01":
        raise MalformedFileError("not an ELF file of 64 bits", step="parse")
    table, size = _number(header, 40, 8), _number(header, 58, 2)
    count, names = _number(header, 60, 2), _number(header, 62, 2)
    if count == 0:
        return None
    if size != _ENTRY or count > _SECTIONS or names >= count:
        raise MalformedFileError("unusable table of sections", step="parse")
    entries = _read(fd, table, count * _ENTRY)
    strings = _section(fd, entries, names)
    for index in range(count):
        start = _number(entries, index * _ENTRY, 4)
        if strings[start : start + len(_SECTION) + 1] == _SECTION + b"\0":
            return _payload(_section(fd, entries, index))
    return None


def _section(fd: int, entries: bytes, index: int) -> bytes:
    at = index * _ENTRY
    return _read(fd, _number(entries, at + 24, 8), _number(entries, at + 32, 8))


def _payload(note: bytes) -> bytes:
    owner_size, size = _number(note, 0, 4), _number(note, 4, 4)
    start = 12 + (owner_size + 3) // 4 * 4
    if note[12 : 12 + owner_size] != _OWNER or start + size > len(note):
        raise MalformedFileError("unusable note", step="parse")
    return note[start : start + size].rstrip(b"\0")


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _read(fd: int, offset: int, size: int) -> bytes:
    limit = max(_LIMIT, _SECTIONS * _ENTRY)
    if size > limit or offset >= 1 << 62:
        raise MalformedFileError("a part is too large", step="parse")
    data = os.pread(fd, size, offset)
    if len(data) != size:
        raise MalformedFileError("a part lies outside the file", step="parse")
    return data
