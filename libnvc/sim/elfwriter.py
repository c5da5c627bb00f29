# SPDX-License-Identifier: Apache-2.0
"""Write small shared objects: real ELF files that the loader maps and relocates, without code."""

from __future__ import annotations

import struct

# The largest page any machine maps; what is written to lies this much above its place in the file.
_PAGE = 0x10000
_PT_LOAD, _PT_DYNAMIC, _PT_NOTE, _PT_GNU_STACK = 1, 2, 4, 0x6474E551
_R, _RW = 4, 6
_SHT_STRTAB, _SHT_HASH, _SHT_DYNAMIC, _SHT_NOTE, _SHT_DYNSYM = 3, 5, 6, 7, 11
_ALLOC, _WRITE = 2, 1
_DT_NULL, _DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB = 0, 1, 4, 5, 6
_DT_STRSZ, _DT_SYMENT, _DT_SONAME = 10, 11, 14


class _Format:
    """How a class of ELF files lays its tables out."""

    def __init__(self, ident: int, word: str) -> None:
        self.ident = b"\x7fELF" + bytes((ident, 1, 1))
        self.header = struct.Struct(f"<16sHHI{word * 3}IHHHHHH")
        self.section = struct.Struct(f"<II{word * 4}II{word * 2}")
        self.dynamic = struct.Struct(f"<{word * 2}")
        # These two have the same members in an order of their own.
        self.segment = struct.Struct("<IIQQQQQQ" if word == "Q" else "<IIIIIIII")
        self.symbol_size = 24 if word == "Q" else 16

    def pack_segment(self, kind: int, flags: int, *rest: int) -> bytes:
        """Return a program header; `rest`: offset, addresses, sizes, alignment."""
        if self.segment.size == 56:
            return self.segment.pack(kind, flags, *rest)
        return self.segment.pack(kind, *rest[:-1], flags, rest[-1])


_FORMATS = {32: _Format(1, "I"), 64: _Format(2, "Q")}


class _Strings:
    """A string table."""

    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        offset = len(self.data)
        self.data += text.encode("ascii") + b"\0"
        return offset


class _Section:
    """A section: what is in it and where."""

    def __init__(
        self, name: str, kind: int, flags: int, data: bytes, *, link: int = 0, entry: int = 0
    ) -> None:
        self.name = name
        self.kind = kind
        self.flags = flags
        self.data = data
        self.link = link
        self.entry = entry
        self.offset = 0

    @property
    def address(self) -> int:
        """Where the loader maps it, 0 if it does not."""
        if self.flags & _WRITE:
            return _PAGE + self.offset
        return self.offset if self.flags & _ALLOC else 0


def abi_note(release: tuple[int, int, int]) -> bytes:
    """Return a note that says which Linux release is needed at least."""
    return struct.pack("<III4sIIII", 4, 16, 1, b"GNU\0", 0, *release)


def write_library(
    *, bits: int, machine: int, soname: str, needed: tuple[str, ...] = (), note: bytes = b""
) -> bytes:
    """Return a little-endian shared object.

    Args:
        bits: 32 or 64.
        machine: e_machine.
        soname: DT_SONAME; none if empty.
        needed: DT_NEEDED, in order.
        note: content of .note.ABI-tag; none if empty.
    """
    form = _FORMATS[bits]
    strings = _Strings()
    names = [(_DT_NEEDED, strings.add(name)) for name in needed]
    if soname:
        names.append((_DT_SONAME, strings.add(soname)))
    # The dynamic section's size is known before its content is.
    dynamic_size = form.dynamic.size * (len(names) + 6)
    sections = [
        _Section(".hash", _SHT_HASH, _ALLOC, struct.pack("<IIII", 1, 1, 0, 0), link=2, entry=4),
        _Section(
            ".dynsym", _SHT_DYNSYM, _ALLOC, bytes(form.symbol_size), link=3, entry=form.symbol_size
        ),
        _Section(".dynstr", _SHT_STRTAB, _ALLOC, strings.data),
        *([_Section(".note.ABI-tag", _SHT_NOTE, _ALLOC, note)] if note else []),
    ]
    dynamic = _Section(
        ".dynamic",
        _SHT_DYNAMIC,
        _ALLOC | _WRITE,
        bytes(dynamic_size),
        link=3,
        entry=form.dynamic.size,
    )
    segments = 5 if note else 4
    end = _place(sections, form.header.size + segments * form.segment.size)
    dynamic.offset = _align(end)
    dynamic.data = _dynamic(form, names, sections, len(strings.data))
    return _assemble(form, machine, [*sections, dynamic], end, segments)


def _align(offset: int) -> int:
    return -(-offset // 8) * 8


def _place(sections: list[_Section], offset: int) -> int:
    """Give each section its offset, aligned; return the end of the last."""
    for section in sections:
        section.offset = _align(offset)
        offset = section.offset + len(section.data)
    return offset


def _dynamic(
    form: _Format, names: list[tuple[int, int]], sections: list[_Section], strings: int
) -> bytes:
    where = {section.name: section.address for section in sections}
    entries = [
        *names,
        (_DT_HASH, where[".hash"]),
        (_DT_STRTAB, where[".dynstr"]),
        (_DT_SYMTAB, where[".dynsym"]),
        (_DT_STRSZ, strings),
        (_DT_SYMENT, form.symbol_size),
        (_DT_NULL, 0),
    ]
    return b"".join(form.dynamic.pack(*entry) for entry in entries)


def _segment_table(form: _Format, loaded: list[_Section], end: int) -> bytes:
    dynamic = loaded[-1]
    size = len(dynamic.data)
    table = [
        (_PT_LOAD, _R, 0, 0, 0, end, end, _PAGE),
        (_PT_LOAD, _RW, dynamic.offset, *[dynamic.address] * 2, size, size, _PAGE),
        (_PT_DYNAMIC, _RW, dynamic.offset, *[dynamic.address] * 2, size, size, 8),
        (_PT_GNU_STACK, _RW, 0, 0, 0, 0, 0, 16),
    ]
    for section in loaded:
        if section.kind == _SHT_NOTE:
            length = len(section.data)
            table.append((_PT_NOTE, _R, *[section.offset] * 3, length, length, 4))
    return b"".join(form.pack_segment(*entry) for entry in table)


def _section_table(form: _Format, sections: list[_Section], names: _Strings) -> bytes:
    table = [bytes(form.section.size)]
    for section in sections:
        # Of .dynsym: the index of the first symbol that is not local.
        info = 1 if section.kind == _SHT_DYNSYM else 0
        table.append(
            form.section.pack(
                names.add(section.name),
                section.kind,
                section.flags,
                section.address,
                section.offset,
                len(section.data),
                section.link,
                info,
                4 if section.kind == _SHT_NOTE else 8,
                section.entry,
            )
        )
    return b"".join(table)


def _assemble(
    form: _Format, machine: int, loaded: list[_Section], end: int, segments: int
) -> bytes:
    dynamic = loaded[-1]
    names = _Strings()
    last = _Section(".shstrtab", _SHT_STRTAB, 0, b"")
    last.offset = dynamic.offset + len(dynamic.data)
    sections = [*loaded, last]
    _section_table(
        form, sections, names
    )  # once for the names, which the table's own place depends on
    last.data = names.data
    table_offset = _align(last.offset + len(last.data))
    header = form.header.pack(
        form.ident.ljust(16, b"\0"),
        3,  # ET_DYN
        machine,
        1,
        0,
        form.header.size,
        table_offset,
        0,
        form.header.size,
        form.segment.size,
        segments,
        form.section.size,
        len(sections) + 1,
        len(sections),
    )
    image = bytearray(table_offset)
    image[: form.header.size] = header
    table = _segment_table(form, loaded, end)
    image[form.header.size : form.header.size + len(table)] = table
    for section in sections:
        image[section.offset : section.offset + len(section.data)] = section.data
    return bytes(image) + _section_table(form, sections, _Strings())
