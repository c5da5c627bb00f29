# SPDX-License-Identifier: Apache-2.0
"""Find the driver's libraries through the loader cache of the driver root."""

from __future__ import annotations

import os
from errno import ENOENT

from .._native import elf, ldcache
from .._record import Record
from ..errors import DiscoveryError, DriverNotFoundError
from ..model import Library
from .root import DriverRoot, malformed, no_library, os_error, read_file
from .tables import (
    ARCHITECTURES,
    LIBRARIES,
    LIBRARY_DIRECTORIES,
    NVML,
    NVML_SONAME,
    TLS,
    TLS_ABI,
)

_NAMES = tuple(name for names in LIBRARIES.values() for name in names)


class Candidate(Record):
    """A library of the cache that exists under the root: name in the table, real path."""

    name: str
    path: str


def read_candidates(root: DriverRoot, cache: str) -> tuple[Candidate, ...]:
    """Read the loader cache: the driver's 64-bit libraries for this machine, in file order.

    Args:
        root: the driver root.
        cache: absolute path of the cache under the root.

    Raises:
        DriverNotFoundError: libnvidia-ml is not there: no driver is installed.
        DiscoveryError: the cache is missing or unreadable.
        MalformedFileError: it is not a loader cache.
    """
    found = []
    for soname, path in _read_cache(root, cache):
        name = next(name for name in _NAMES if soname.startswith(name))
        real = root.resolve(path)
        if real is None:
            root.find(path)  # a library that appears there changes the result
        else:
            found.append(Candidate(name=name, path=real))
    if not any(candidate.name == NVML for candidate in found):
        _fail_unlisted(root, cache)
    return tuple(found)


def choose_libraries(
    root: DriverRoot, candidates: tuple[Candidate, ...], version: str
) -> tuple[Library, ...]:
    """Return the libraries of one driver version, in table order, without duplicates.

    Of several files for one name the last in the cache counts, as in the reference.

    Raises:
        DriverNotFoundError: there are only libraries of other versions.
        MalformedFileError: a library is not an ELF file.
    """
    chosen: dict[str, Library] = {}
    for candidate in candidates:
        known = chosen.get(candidate.name)
        if not candidate.path.endswith("." + version) or (
            known is not None and known.path == candidate.path
        ):
            continue
        library = _read_library(root, candidate)
        if library is not None:
            chosen[candidate.name] = library
    if NVML not in chosen:
        _fail_version(root, candidates, version)
    return tuple(chosen[name] for name in _NAMES if name in chosen)


def _read_cache(root: DriverRoot, cache: str) -> list[tuple[str, str]]:
    """Return name and path of the entries that could be the driver's."""
    found = root.find(cache, denied_is_missing=False)
    if found is None:
        if _find_unlisted(root) is None:
            raise no_library()
        raise os_error("open", root.host(cache), FileNotFoundError(ENOENT, ""))
    path = root.host(found)
    machine = ARCHITECTURES.get(os.uname().machine)
    flags = machine.cache_flags if machine else -1
    entries = [
        (entry.soname, entry.path)
        for entry in ldcache.parse(read_file(path), path)
        if entry.soname.startswith(_NAMES)
        and entry.flags & ldcache.LIBC6
        and entry.flags & ldcache.ARCH == flags
    ]
    if not all(_is_path(library) for _, library in entries):
        raise malformed(path)
    return entries


def _is_path(text: str) -> bool:
    # isprintable() settles nearly all at once; other bytes than controls are legal in names.
    plain = text.isprintable() or not any(c < " " or c == "\x7f" for c in text)
    return text.startswith("/") and plain


def _read_library(root: DriverRoot, candidate: Candidate) -> Library | None:
    path = root.host(candidate.path)
    root.note(path)
    facts = elf.read(path)
    # A package may bring two of this one; an old variant for ancient kernels has no such note.
    if candidate.name == TLS and facts.abi != TLS_ABI:
        return None
    return Library(path=candidate.path, name=candidate.name, soname=facts.soname, bits=facts.bits)


def _find_unlisted(root: DriverRoot) -> str | None:
    """Return a libnvidia-ml.so.1 in the loader's default directories, or None."""
    machine = ARCHITECTURES.get(os.uname().machine)
    directories = ((machine.libs_dir,) if machine else ()) + LIBRARY_DIRECTORIES
    for directory in directories:
        if root.resolve(f"{directory}/{NVML_SONAME}") is not None:
            return f"{directory}/{NVML_SONAME}"
    return None


def _fail_unlisted(root: DriverRoot, cache: str) -> None:
    unlisted = _find_unlisted(root)
    if unlisted is None:
        raise no_library()
    raise DiscoveryError(
        f"library not listed: {root.host(unlisted)} is not in {root.host(cache)}: "
        "run ldconfig there",
        path=root.host(unlisted),
    )


def _fail_version(root: DriverRoot, candidates: tuple[Candidate, ...], version: str) -> None:
    found = dict.fromkeys(root.host(c.path) for c in candidates if c.name == NVML)
    raise DriverNotFoundError(
        f"nvml error: driver/library version mismatch (kernel module {version}, "
        f"but {', '.join(found)})"
    )
