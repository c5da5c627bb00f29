# SPDX-License-Identifier: Apache-2.0
"""A driver root, and everything that was looked at below it.

All look-ups of a discovery go through one `DriverRoot`, so that nothing outside the root is read
by accident and the plan's dependencies are complete: what was read, and what was found missing.
"""

from __future__ import annotations

import os
import sys
from errno import EACCES, ELOOP, ENOENT, ENOTDIR
from stat import S_ISDIR, S_ISREG

from .._native.path import Finder
from ..errors import DiscoveryError, DriverNotFoundError, MalformedFileError, NvcError
from ..model import Identity
from .tables import ARCHITECTURES, NVML_SONAME, OTHER_MACHINE

# hashlib brings in OpenSSL: 4 ms at container start. The interpreter's own module takes 0.3 ms;
# an interpreter built without it still has hashlib.
try:
    if sys.version_info >= (3, 12):
        from _sha2 import sha256  # type: ignore[import-not-found]
    else:
        from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:
    from hashlib import sha256

_MISSING = (ENOENT, ENOTDIR, ELOOP, EACCES)
_READ_LIMIT = 64 << 20  # bytes; real loader caches are far below
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._native.path import Status
    from .tables import Architecture


class DriverRoot:
    """One discovery's view of a driver root.

    Attributes:
        prefix: the root on the host, absolute and free of links; "" for "/".
        dev_prefix: the same for the driver's /dev.
        architecture: whose libraries are looked for.
        warnings: one line each, in the order found.
        identities: what was looked at, by path on the host.
    """

    def __init__(self, root: str, machine: str = "", dev_root: str = "") -> None:
        """Take a directory on the host.

        Args:
            root: its path.
            dev_root: path of the directory that has the driver's /dev, "" for the same.
            machine: the kernel's name of the machine whose driver it holds; "" for this one.

        Raises:
            DriverNotFoundError: there is no such directory.
            DiscoveryError: it cannot be reached.
            RequestError: a NUL or newline in the path.
        """
        if not root.startswith("/"):
            raise DiscoveryError(f"path error: {root!r}: not an absolute path", path=root)
        found = Finder("").find(root)
        if found is None:
            error = no_library()
            error.code = "empty-root"
            error.hint = f"{root}: no such directory; name the root of the driver's files"
            raise error
        if not S_ISDIR(found.mode):
            raise os_error("open", root, NotADirectoryError(ENOTDIR, ""))
        self.prefix = "" if found.path == "/" else found.path
        self.dev_prefix = _directory(dev_root) if dev_root else self.prefix
        self.architecture = architecture(machine)
        self.warnings: list[str] = []
        self.identities: dict[str, Identity] = {}
        self._finder = Finder(self.prefix)
        self._places: dict[str, str] = {}
        self._parents: dict[str, str | None] = {}
        self._absent: set[str] = set()

    def host(self, path: str) -> str:
        """Return the path on the host of a path under the root."""
        return self.prefix + path

    def device(self, path: str) -> str:
        """Return the path on the host of a path below /dev."""
        return self.dev_prefix + path

    def look(self, path: str, *, denied_is_missing: bool = True) -> Status | None:
        """Return what is at a path under the root; None if it is missing or may not be searched.

        Raises:
            DiscoveryError: the path leaves the root, or cannot be read for another reason.
        """
        try:
            found = self._finder.find(path)
        except NvcError as error:
            if error.errno in _MISSING and (denied_is_missing or error.errno != EACCES):
                return None
            raise
        if found is not None and found.path != path:
            self._note_links(path)
        return found

    def _note_links(self, path: str, left: int = 40) -> str:
        """Record the links that a path goes through; return where it leads, "" for the root.

        Args:
            path: absolute, under the root.
            left: how many more links are followed: the kernel's own limit.
        """
        if path in self._places:
            return self._places[path]
        parent, _, name = path.rstrip("/").rpartition("/")
        place = parent and self._note_links(parent, left)
        if name == "..":
            place = place.rpartition("/")[0]
        elif name not in ("", "."):
            place = self._note_link(f"{place}/{name}", left)
        self._places[path] = place
        return place

    def _note_link(self, path: str, left: int) -> str:
        try:
            target = os.readlink(self.host(path))
        except OSError:
            return path  # no link
        self.note(self.host(path))
        if not left:
            return path
        start = "" if target.startswith("/") else path.rpartition("/")[0]
        return self._note_links(f"{start}/{target}".replace("//", "/"), left - 1)

    def resolve(self, path: str) -> str | None:
        """Return the real path of what `look` finds."""
        found = self.look(path)
        return found.path if found else None

    def find(self, path: str, *, denied_is_missing: bool = True) -> Status | None:
        """Look at a path under the root and record its identity, that it is missing included."""
        if denied_is_missing and self._is_below_absent(path):
            return None
        found = self.look(path, denied_is_missing=denied_is_missing)
        if found is None:
            self._absent.add(path)
            self.note(self.host(self._missing(self._note_links(path) or "/")))
        else:
            self.record(found)
        return found

    def _missing(self, path: str) -> str:
        """Return the place, free of links up to its parent, where a missing path would appear."""
        self._absent.add(path)
        parent, name = os.path.split(path.rstrip("/"))
        if parent == "/":
            return path
        if parent not in self._parents:
            self._parents[parent] = self.resolve(parent)
        real = self._parents[parent]
        return self._missing(parent) if real is None else f"{real.rstrip('/')}/{name}"

    def _is_below_absent(self, path: str) -> bool:
        """Tell whether a path, or a directory on its way, is known to be missing: that is noted."""
        while path:
            if path in self._absent:
                return True
            path = path.rpartition("/")[0]
        return False

    def record(self, found: Status) -> None:
        """Record the identity of what `look` found."""
        path = self.host(found.path)
        self.identities[path] = Identity(
            path=path,
            dev=found.dev,
            ino=found.ino,
            size=found.size,
            mtime_ns=found.mtime_ns,
            ctime_ns=found.ctime_ns,
        )

    def note(self, path: str) -> os.stat_result | None:
        """Record the identity of a path on the host; return its status, None if it is missing."""
        try:
            status = os.lstat(path)
        except OSError as error:
            if error.errno not in _MISSING:
                raise os_error("stat", path, error) from None
            self.identities[path] = Identity(
                path=path, dev=0, ino=0, size=0, mtime_ns=0, ctime_ns=0
            )
            return None
        self.identities[path] = identify(path, status)
        return status

    def note_content(self, path: str) -> tuple[bytes, int] | None:
        """Read a file of the host whose times mean nothing (procfs), and record it by content.

        The times of such an identity are 0 and its size is that of the content.

        Returns:
            Content and mode; None if it is missing.

        Raises:
            DiscoveryError, MalformedFileError: as `read_file`.
        """
        try:
            content, status = _read(path)
        except DiscoveryError:
            if self.note(path) is None:
                return None
            raise
        self._record_content(path, content, status)
        return content, status.st_mode

    def note_names(self, path: str) -> tuple[str, ...] | None:
        """List a directory of the host whose times mean nothing, and record it by its names.

        Returns:
            The names, sorted; None if it is missing.
        """
        names = self.names(path)
        status = self.note(path)
        if status is None:
            return None
        self._record_content(path, "\0".join(names).encode(errors="surrogateescape"), status)
        return names

    def _record_content(self, path: str, content: bytes, status: os.stat_result) -> None:
        self.identities[path] = Identity(
            path=path,
            dev=status.st_dev,
            ino=status.st_ino,
            size=len(content),
            mtime_ns=0,
            ctime_ns=0,
            digest=digest(content),
        )

    def names(self, path: str) -> tuple[str, ...]:
        """List a directory of the host, sorted; empty if it is missing."""
        try:
            return tuple(sorted(os.listdir(path)))
        except OSError as error:
            if error.errno not in _MISSING:
                raise os_error("open", path, error) from None
            return ()

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)


def identify(path: str, status: os.stat_result) -> Identity:
    """Return what a status says of which file a path is."""
    return Identity(
        path=path,
        dev=status.st_dev,
        ino=status.st_ino,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )


def _directory(path: str) -> str:
    """Return the real path of a directory on the host, "" for "/"."""
    found = Finder("").find(path) if path.startswith("/") else None
    if found is None or not S_ISDIR(found.mode):
        raise DiscoveryError(f"{path}: no such directory", path=path, step="open")
    return "" if found.path == "/" else found.path


def architecture(machine: str = "") -> Architecture:
    """Return how libraries are marked on a machine, by the kernel's name of it; "" for this one."""
    return ARCHITECTURES.get(machine or os.uname().machine, OTHER_MACHINE)


def digest(content: bytes) -> str:
    """Return the hex SHA-256 of something small."""
    text: str = sha256(content).hexdigest()
    return text


def read_file(path: str) -> bytes:
    """Read a regular file of the host without waiting for anything.

    A link is refused (ELOOP): what it leads to may lie outside of a driver root.

    Raises:
        DiscoveryError: "open failed: PATH: CAUSE"; the errno is kept.
        MalformedFileError: not a regular file, or larger than 64 MiB.
    """
    return _read(path)[0]


def _read(path: str) -> tuple[bytes, os.stat_result]:
    try:
        fd = os.open(path, _READ_FLAGS)
        try:
            status = os.fstat(fd)
            if not S_ISREG(status.st_mode):
                raise malformed(path)
            content = _read_all(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise os_error("open", path, error) from None
    if len(content) > _READ_LIMIT:
        raise malformed(path)
    return content, status


def _read_all(fd: int) -> bytes:
    # A file of procfs may come in pieces, and its size says nothing.
    pieces = []
    left = _READ_LIMIT + 1
    while left > 0 and (piece := os.read(fd, min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def no_library() -> DriverNotFoundError:
    """Return the error for a root without a driver, in the loader's words."""
    return DriverNotFoundError(
        f"load library failed: {NVML_SONAME}: "
        "cannot open shared object file: no such file or directory",
        path=NVML_SONAME,
        code="userland-missing",
    )


def malformed(path: str) -> MalformedFileError:
    """Return the error for a file that is not what it claims to be."""
    return MalformedFileError(f"unsupported file format: {path}", path=path, step="parse")


def os_error(step: str, path: str, error: OSError) -> DiscoveryError:
    """Return the error for a failed system call, in the words users search for."""
    number = error.errno or 0
    return DiscoveryError(
        f"{step} failed: {path}: {cause(error)}", errno=number, path=path, step=step
    )


def cause(error: OSError) -> str:
    """Return the text of an errno in lower case, as the reference prints it."""
    return os.strerror(error.errno or 0).lower()
