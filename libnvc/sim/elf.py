# SPDX-License-Identifier: Apache-2.0
"""Write small but real ELF64 shared objects: right SONAME, NEEDED and ABI note, loadable.

They export nothing. One writable segment holds the whole file, because the dynamic loader
relocates the dynamic section in place.
"""

from __future__ import annotations

import struct

MACHINES = {"x86_64": 62, "aarch64": 183, "ppc64le": 21}
_EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
_PHDR = struct.Struct("<IIQQQQQQ")
_SHDR = struct.Struct("<IIQQQQIIQQ")
_SYM = struct.Struct("<IBBHQQ")
_DYN = struct.Struct("<qQ")
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE, _PT_STACK = 1, 2, 4, 0x6474E551
_DT = {"NEEDED": 1, "HASH": 4, "STRTAB": 5, "SYMTAB": 6, "STRSZ": 10, "SYMENT": 11, "SONAME": 14}
_R, _RW = 4, 6


def write_library(
    soname: str,
    *,
    machine: str,
    needed: tuple[str, ...] = (),
    abi: tuple[int, int, int] = (2, 0, 0),
) -> bytes:
    """Return a shared object.

    Args:
        soname: DT_SONAME.
        machine: as `uname -m` says.
        needed: DT_NEEDED, in order.
        abi: oldest Linux version of the .note.ABI-tag.
    """
    strings = _Strings()
    names = [(_DT["NEEDED"], strings.add(name)) for name in needed]
    names.append((_DT["SONAME"], strings.add(soname)))
    section_names = _Strings()
    labels = [".note.ABI-tag", ".hash", ".dynsym", ".dynstr", ".dynamic", ".shstrtab"]
    indexes = [section_names.add(label) for label in labels]
    note = struct.pack("<III4sIIII", 4, 16, 1, b"GNU\0", 0, *abi)
    hash_table = struct.pack("<IIII", 1, 1, 0, 0)
    dynamic_size = _DYN.size * (len(names) + 6)
    bodies = [note, hash_table, bytes(_SYM.size), strings.raw, bytes(dynamic_size)]
    offsets, end = _place(_EHDR.size + 4 * _PHDR.size, bodies)
    tags = [
        *names,
        (_DT["HASH"], offsets[1]),
        (_DT["STRTAB"], offsets[3]),
        (_DT["SYMTAB"], offsets[2]),
        (_DT["STRSZ"], len(strings.raw)),
        (_DT["SYMENT"], _SYM.size),
        (0, 0),
    ]
    bodies[4] = b"".join(_DYN.pack(*tag) for tag in tags)
    bodies.append(section_names.raw)
    offsets.append(end)
    sections = _section_table(indexes, offsets, bodies)
    table = _align(end + len(section_names.raw))
    image = bytearray(table)
    header = _EHDR.pack(
        b"\x7fELF\x02\x01\x01".ljust(16, b"\0"),
        *(3, MACHINES[machine], 1, 0, _EHDR.size, table, 0),
        *(_EHDR.size, _PHDR.size, 4, _SHDR.size, 7, 6),
    )
    image[: len(header)] = header
    segments = _program_headers(end, offsets, len(note), dynamic_size)
    image[_EHDR.size : _EHDR.size + len(segments)] = segments
    for offset, body in zip(offsets, bodies, strict=True):
        image[offset : offset + len(body)] = body
    return bytes(image) + sections


class _Strings:
    def __init__(self) -> None:
        self.raw = b"\0"

    def add(self, text: str) -> int:
        offset = len(self.raw)
        self.raw += text.encode() + b"\0"
        return offset


def _align(offset: int) -> int:
    return (offset + 7) & ~7


def _place(start: int, bodies: list[bytes]) -> tuple[list[int], int]:
    offsets = []
    at = start
    for body in bodies:
        at = _align(at)
        offsets.append(at)
        at += len(body)
    return offsets, at


def _program_headers(end: int, offsets: list[int], note: int, dynamic: int) -> bytes:
    def segment(kind: int, flags: int, at: int, size: int, align: int) -> bytes:
        return _PHDR.pack(kind, flags, at, at, at, size, size, align)

    return (
        segment(_PT_LOAD, _RW, 0, end, 0x10000)
        + segment(_PT_DYNAMIC, _RW, offsets[4], dynamic, 8)
        + segment(_PT_NOTE, _R, offsets[0], note, 4)
        + segment(_PT_STACK, _RW, 0, 0, 16)
    )


def _section_table(names: list[int], offsets: list[int], bodies: list[bytes]) -> bytes:
    # type, flags, link, info, alignment, entry size; in the order of the bodies
    kinds = (
        (7, 2, 0, 0, 4, 0),
        (5, 2, 3, 0, 8, 4),
        (11, 2, 4, 1, 8, _SYM.size),
        (3, 2, 0, 0, 1, 0),
        (6, 3, 4, 0, 8, _DYN.size),
        (3, 0, 0, 0, 1, 0),
    )
    table = bytes(_SHDR.size)
    for name, (kind, flags, link, info, align, entry), at, body in zip(
        names, kinds, offsets, bodies, strict=True
    ):
        address = at if flags else 0
        table += _SHDR.pack(name, kind, flags, address, at, len(body), link, info, align, entry)
    return table
