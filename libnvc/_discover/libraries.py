# SPDX-License-Identifier: Apache-2.0
"""Find the driver's libraries, 64-bit and 32-bit, by the loader cache of the driver root.

Where the cache does not list them they are looked for in directories (`search`).
"""

from __future__ import annotations

from .._native import elf, ldcache
from .._record import Record
from ..errors import DriverNotFoundError
from ..model import Library
from .root import DriverRoot, malformed, no_library, read_file
from .tables import LIBRARIES, NVML, NVML_SONAME, TLS, TLS_ABI, UNVERSIONED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._native.path import Status

#: Prefixes of the names of all libraries that containers may get.
NAMES = tuple(dict.fromkeys(name for names in LIBRARIES.values() for name in names))
_PREFIXES = tuple(name.encode() for name in NAMES)

_Chosen = dict[tuple[str, int], Library]


class Candidate(Record):
    """A library that exists under the root.

    Attributes:
        name: in the table.
        found: the real file.
        bits: 64 or 32 as the loader cache has it, 0 for a file found in a directory.
    """

    name: str
    found: Status
    bits: int = 0

    @property
    def path(self) -> str:
        """Return the path of the file."""
        return self.found.path


def read_candidates(root: DriverRoot, cache: str) -> tuple[Candidate, ...]:
    """Return the driver's libraries for this machine, of any version: those in the loader cache.

    If libnvidia-ml is not among them, those in the known directories come before.

    Args:
        root: the driver root.
        cache: absolute path of the cache under the root; it need not exist.

    Raises:
        DriverNotFoundError: libnvidia-ml is not there: no driver is installed.
        DiscoveryError: the cache is unreadable.
        MalformedFileError: it is not a loader cache.
    """
    candidates = tuple(_cached(root, cache))
    if not _lists_nvml(candidates):
        candidates = (*_search(root), *candidates)
    if not any(candidate.name == NVML for candidate in candidates):
        raise no_library()
    return candidates


def choose_libraries(
    root: DriverRoot, candidates: tuple[Candidate, ...], version: str
) -> tuple[Library, ...]:
    """Return the libraries of one driver version without duplicates: in table order, 64-bit first.

    Of several files for one name the last in the cache counts, as in the reference. If the cache
    has only other versions, the known directories are searched for this one.

    Raises:
        DriverNotFoundError: there are only libraries of other versions, or for other machines.
        MalformedFileError: a library is not an ELF file.
    """
    chosen = _choose(root, candidates, version)
    listed = _lists_nvml(candidates)
    if listed and (NVML, 64) not in chosen:
        candidates, listed = (*_search(root), *candidates), False
        chosen = _choose(root, candidates, version)
    if (NVML, 64) not in chosen:
        raise _no_match(root, candidates, version)
    if not listed:
        place = root.host(parent(chosen[NVML, 64].path))
        root.warn(
            f"the loader cache does not list {NVML_SONAME} of driver {version}: "
            f"the driver's libraries were found in {place}"
        )
    return tuple(
        chosen[name, bits] for bits in (64, 32) for name in NAMES if (name, bits) in chosen
    )


def table_name(file_name: str) -> str:
    """Return the name in the table that a file name or SONAME begins with; it has one."""
    return next(name for name in NAMES if file_name.startswith(name))


def parent(path: str) -> str:
    """Return the directory of a file."""
    return path.rpartition("/")[0]


def _cached(root: DriverRoot, cache: str) -> Iterable[Candidate]:
    entries = _without_linker_names(_read_cache(root, cache))
    # Sorted, because a directory is opened anew each time another one comes between.
    found = {path: root.look(path) for path in sorted({path for _, path, _ in entries})}
    for soname, path, bits in entries:
        file = found[path]
        if file is None:
            root.find(path)  # a library that appears there changes the result
        else:
            yield Candidate(name=table_name(soname), found=file, bits=bits)


def _without_linker_names(entries: list[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Leave out "libX.so" where "libX.so.1" is beside it: a second name of the same file."""
    numbered = {path.rpartition(".so.")[0] for _, path, _ in entries}
    return [
        entry
        for entry in entries
        if not entry[0].endswith(".so") or entry[1].removesuffix(".so") not in numbered
    ]


def _read_cache(root: DriverRoot, cache: str) -> list[tuple[str, str, int]]:
    """Return name, path and bits of the entries that could be the driver's, in file order."""
    found = root.find(cache, denied_is_missing=False)
    if found is None:
        return []
    path = root.host(found.path)
    machine = root.architecture
    bits = {machine.cache_flags32: 32, machine.cache_flags: 64}
    entries = [
        (entry.soname, entry.path, bits[entry.flags & ldcache.ARCH])
        for entry in ldcache.parse(read_file(path), path, _PREFIXES)
        if entry.flags & ldcache.LIBC6 and entry.flags & ldcache.ARCH in bits
    ]
    if not all(_is_path(library) for _, library, _ in entries):
        raise malformed(path)
    return entries


def _is_path(text: str) -> bool:
    # isprintable() settles nearly all at once; other bytes than controls are legal in names.
    plain = text.isprintable() or not any(c < " " or c == "\x7f" for c in text)
    return text.startswith("/") and plain


def _lists_nvml(candidates: tuple[Candidate, ...]) -> bool:
    return any(candidate.name == NVML and candidate.bits == 64 for candidate in candidates)


def _search(root: DriverRoot) -> tuple[Candidate, ...]:
    from .search import search_directories

    return search_directories(root)


def _choose(root: DriverRoot, candidates: tuple[Candidate, ...], version: str) -> _Chosen:
    chosen: _Chosen = {}
    for candidate in candidates:
        if candidate.path.endswith("." + version):
            _take(root, chosen, candidate)
    homes = {parent(library.path) for (name, _), library in chosen.items() if name == NVML}
    for candidate in candidates:
        if _has_own_number(candidate) and parent(candidate.path) in homes:
            _take(root, chosen, candidate)
    return chosen


def _has_own_number(candidate: Candidate) -> bool:
    # One number only: more of them are the version of a driver, and of another one here.
    ending = candidate.path.rpartition(".so.")[2]
    return candidate.name in UNVERSIONED and ending.isascii() and ending.isdigit()


def _take(root: DriverRoot, chosen: _Chosen, candidate: Candidate) -> None:
    """Let a candidate take its place, if it is what its name and place in the cache say."""
    known = chosen.get((candidate.name, candidate.bits))
    if known is not None and known.path == candidate.path:
        return
    root.record(candidate.found)
    facts = elf.read(root.host(candidate.path))
    wanted = {64: root.architecture.elf, 32: root.architecture.elf32}
    if facts.machine != wanted[facts.bits] or candidate.bits not in (0, facts.bits):
        return
    # A package may bring two of this one; an old variant for ancient kernels has no such note.
    if candidate.name == TLS and facts.abi != TLS_ABI:
        return
    chosen[candidate.name, facts.bits] = Library(
        path=candidate.path, name=candidate.name, soname=facts.soname, bits=facts.bits
    )


def _no_match(
    root: DriverRoot, candidates: tuple[Candidate, ...], version: str
) -> DriverNotFoundError:
    """Return the error for a driver that has no libnvidia-ml of the module's version."""
    found = dict.fromkeys(candidate.path for candidate in candidates if candidate.name == NVML)
    fitting = [root.host(path) for path in found if path.endswith("." + version)]
    if fitting:
        error = no_library()
        error.code, error.path = "wrong-machine", fitting[0]
        return error
    paths = [root.host(path) for path in found]
    return DriverNotFoundError(
        f"nvml error: driver/library version mismatch (kernel module {version}, "
        f"but {', '.join(paths)})",
        path=paths[0],
        code="version-mismatch",
    )
