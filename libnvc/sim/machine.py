# SPDX-License-Identifier: Apache-2.0
"""What depends on the machine that a simulated driver is for."""

from __future__ import annotations

import platform

from .._record import Record
from ..errors import RequestError


class Machine(Record):
    """A processor architecture.

    Attributes:
        name: the kernel's name of it.
        elf: e_machine.
        cache_flags: flags of a loader-cache entry, "library of the current C library" included.
        libs_dir: Debian's multiarch directory, where NVIDIA's installer puts 64-bit libraries.
        elf32, cache_flags32, libs32_dir: the same for 32-bit libraries, 0 and "" where there are
            none.
    """

    name: str
    elf: int
    cache_flags: int
    libs_dir: str
    elf32: int = 0
    cache_flags32: int = 0
    libs32_dir: str = ""


_MACHINES = (
    Machine(
        name="x86_64",
        elf=62,
        cache_flags=0x0303,
        libs_dir="/usr/lib/x86_64-linux-gnu",
        elf32=3,
        cache_flags32=0x0003,
        libs32_dir="/usr/lib/i386-linux-gnu",
    ),
    Machine(name="aarch64", elf=183, cache_flags=0x0A03, libs_dir="/usr/lib/aarch64-linux-gnu"),
)


def this_machine() -> Machine:
    """Return the machine this runs on.

    Raises:
        RequestError: its native parts do not exist.
    """
    name = platform.machine()
    for machine in _MACHINES:
        if machine.name == name:
            return machine
    known = " and ".join(machine.name for machine in _MACHINES)
    raise RequestError(f"simulated drivers exist for {known}, not for {name}")
