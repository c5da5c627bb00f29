# SPDX-License-Identifier: Apache-2.0
"""Install the libraries of one driver, of one word size, in one directory."""

from __future__ import annotations

from .._record import Record
from .elfwriter import abi_note, write_library
from .libraries import DriverLibrary
from .tree import Tree

_TLS_NOTE = abi_note((2, 3, 99))


class InstalledLibraries(Record):
    """Where and how libraries are installed.

    Attributes:
        version: the driver's.
        directory: that of the loader.
        bits, elf: word size and e_machine.
        cache_flags: of their entries in the loader cache.
        native: the working libraries by name.
    """

    version: str
    directory: str
    bits: int
    elf: int
    cache_flags: int
    native: dict[str, bytes]

    def write(self, tree: Tree, libraries: tuple[DriverLibrary, ...]) -> list[tuple[str, str, int]]:
        """Write libraries and their links; return what ldconfig lists."""
        listed = []
        for library in libraries:
            directory = f"{self.directory}/{library.directory}".rstrip("/")
            names = self._write_one(tree, library, directory)
            if not library.directory:
                listed += [(name, f"{directory}/{name}", self.cache_flags) for name in names]
        tree.link(f"{self.directory}/gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1")
        return listed

    def _write_one(self, tree: Tree, library: DriverLibrary, directory: str) -> list[str]:
        file_name, soname = library.file_name(self.version), library.full_soname(self.version)
        tree.file(f"{directory}/{file_name}", self._content(library))
        if soname != file_name:
            tree.link(f"{directory}/{soname}", file_name)
        for link in library.links:
            tree.link(f"{directory}/{link}", soname if link.endswith(".so") else file_name)
        return [soname, *(link for link in library.links if link.endswith(".so"))]

    def _content(self, library: DriverLibrary) -> bytes:
        if library.native:
            return self.native[library.native]
        needed = tuple(name.format(v=self.version) for name in library.needed)
        return write_library(
            bits=self.bits,
            machine=self.elf,
            soname=library.full_soname(self.version),
            needed=(*needed, "libc.so.6"),
            note=_TLS_NOTE if library.tls else b"",
        )
