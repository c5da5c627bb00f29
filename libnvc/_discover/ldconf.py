# SPDX-License-Identifier: Apache-2.0
"""Read where the loader of an image is told to look. All of it is the image's word."""

from __future__ import annotations

import os

from .._native.path import Finder
from ..errors import NvcError
from .globs import expand, has_wildcards

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE = "/etc/ld.so.conf"
_LONGEST = 1 << 16  # bytes of a file
_FILES = 64  # real images have about ten
_NAMES = 1024


def configured_directories(rootfs: str) -> tuple[str, ...]:
    """Return the directories in `/etc/ld.so.conf` and what it includes, in order, each once.

    What cannot be read counts as empty.

    Args:
        rootfs: the container's root as the caller sees it.
    """
    try:
        image = _Image(rootfs)
    except NvcError:
        return ()
    image.read(_FILE)
    return tuple(image.directories)


class _Image:
    def __init__(self, rootfs: str) -> None:
        self.directories: dict[str, None] = {}
        self._rootfs = rootfs
        self._finder = Finder(rootfs)
        self._seen: set[str] = set()

    def read(self, path: str) -> None:
        if path in self._seen or len(self._seen) == _FILES:
            return
        self._seen.add(path)
        for line in self._text(path).splitlines():
            word, *rest = line.partition("#")[0].split() or [""]
            if word == "include":
                for pattern in rest:
                    self._include(f"{os.path.dirname(path)}/{pattern}", pattern)
            elif word != "hwcap":
                for place in line.partition("#")[0].replace(":", " ").replace(",", " ").split():
                    self._add(place.partition("=")[0])

    def _add(self, place: str) -> None:
        if place.startswith("/"):
            self.directories[os.path.normpath(f"/{place.lstrip('/')}")] = None

    def _include(self, path: str, pattern: str) -> None:
        place = pattern if pattern.startswith("/") else path
        for name in expand(place, self._names) if has_wildcards(place) else (place,):
            self.read(name)

    def _names(self, directory: str) -> Iterable[str]:
        try:
            found = self._finder.find(directory)
            return os.listdir(f"{self._rootfs}{found.path}")[:_NAMES] if found else ()
        except (NvcError, OSError):
            return ()

    def _text(self, path: str) -> str:
        try:
            file = self._finder.open(path)
        except NvcError:
            return ""
        try:
            return os.read(file, _LONGEST).decode(errors="replace")
        except OSError:
            return ""
        finally:
            os.close(file)
