# SPDX-License-Identifier: Apache-2.0
"""Read the few facts of an ELF file that choosing a library needs."""

from __future__ import annotations

import os

from libnvc._core import ffi, lib

from .._record import Record
from .check import encode_path, raise_error


class ElfFacts(Record):
    """What an ELF file says about itself.

    Attributes:
        bits: 64 or 32.
        machine: e_machine; 62 is x86-64, 183 AArch64.
        soname: DT_SONAME, or "".
        needed: DT_NEEDED, in file order.
        abi: the oldest Linux kernel of its ABI note (2, 3, 99), or None without such a note.
    """

    bits: int
    machine: int
    soname: str
    needed: tuple[str, ...]
    abi: tuple[int, int, int] | None


def read(path: str) -> ElfFacts:
    """Read the facts of the file at `path` on the host, from a few kilobytes of it.

    Raises:
        MalformedFileError: not a regular file, not ELF, or it contradicts itself.
        DiscoveryError: it cannot be opened or read.
        RequestError: a NUL or newline in the path.
    """
    facts = ffi.new("struct nvc_elf_facts *")
    err = ffi.new("struct nvc_error *")
    if lib.nvc_elf_read(encode_path(path), facts, err) < 0:
        raise_error(err, discovery=True)
    needed = ffi.buffer(facts.needed)[: facts.needed_len]
    return ElfFacts(
        bits=facts.bits,
        machine=facts.machine,
        soname=os.fsdecode(ffi.string(facts.soname)),
        needed=tuple(os.fsdecode(name) for name in needed.split(b"\0")[:-1]),
        abi=tuple(facts.abi) if facts.has_abi else None,
    )
