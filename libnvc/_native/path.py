# SPDX-License-Identifier: Apache-2.0
"""Paths inside a root that somebody hostile may have filled."""

from __future__ import annotations

import os

from libnvc._core import ffi, lib

from .check import encode_path, raise_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Status:
    """What a file is: the values of one lstat that matter."""

    __slots__ = ("ctime_ns", "dev", "ino", "mode", "mtime_ns", "path", "rdev", "size")

    def __init__(self, path: str, found: Any) -> None:
        """Take the values out of a `struct nvc_found`."""
        self.path = path
        self.mode: int = found.mode
        self.rdev: int = found.rdev
        self.dev: int = found.dev
        self.ino: int = found.ino
        self.size: int = found.size
        self.mtime_ns: int = found.mtime
        self.ctime_ns: int = found.ctime


class Finder:
    """Looks paths up under one root, which stays open as long as this lives."""

    def __init__(self, root: str) -> None:
        """Take a directory on the host; "" or "/" is the host itself.

        Raises:
            DiscoveryError: it cannot be opened.
            RequestError: a NUL or newline in the path.
        """
        finder = ffi.new("struct nvc_finder *")
        err = ffi.new("struct nvc_error *")
        if lib.nvc_finder_open(finder, encode_path(root), err) < 0:
            raise_error(err, discovery=True)
        self._finder = ffi.gc(finder, lib.nvc_finder_close)
        self._found = ffi.new("struct nvc_found *")

    def find(self, path: str) -> Status | None:
        """Return what is at the end of a path, None if nothing is.

        Links are followed, absolute ones from the root again. Only search permission is needed.

        Args:
            path: absolute, under the root.

        Returns:
            Its status, with the real path: absolute, without the root and free of links.

        Raises:
            DiscoveryError: the path leaves the root by "..", or cannot be searched.
            RequestError: a NUL or newline in the path.
        """
        found = self._found
        err = ffi.new("struct nvc_error *")
        result = lib.nvc_find(self._finder, encode_path(path), found, err)
        if result < 0:
            raise_error(err, discovery=True)
        return Status(os.fsdecode(ffi.string(found.path)), found) if result else None

    def open(self, path: str) -> int:
        """Return a descriptor, for reading, of the regular file that a path leads to.

        Raises:
            DiscoveryError: it is not there, no regular file, or cannot be opened.
            RequestError: a NUL or newline in the path.
        """
        err = ffi.new("struct nvc_error *")
        fd = lib.nvc_find_open(self._finder, encode_path(path), err)
        if fd < 0:
            raise_error(err, discovery=True)
        return int(fd)


def chmod(root: str, path: str, mode: int) -> int | None:
    """Change a mode inside the root of a container that the caller is in.

    Args:
        root: the container's root, which is not the caller's yet.
        path: absolute, under the root; links are followed.
        mode: permission bits, with those for set-id and sticky.

    Returns:
        The old mode; None if nothing was changed: there is no such file, it has the mode, or it may
        not be changed.

    Raises:
        MountError: the path leaves the root by "..", or cannot be searched.
        ContainerError: there is no such root, or it is the host's.
        RequestError: no such mode; a NUL or newline in the path.
    """
    was = ffi.new("uint32_t *")
    err = ffi.new("struct nvc_error *")
    result = lib.nvc_chmod(encode_path(root), encode_path(path), mode, was, err)
    if result < 0:
        raise_error(err)
    return int(was[0]) if result else None


def resolve(root: str, path: str) -> str | None:
    """Return the real path of one path under a root, as `Finder.find` does."""
    found = Finder(root).find(path)
    return found.path if found else None
