# SPDX-License-Identifier: Apache-2.0
"""Find libraries in directories of a Jetson that come whole, where an image's loader looks."""

from __future__ import annotations

from stat import S_ISREG

from .._native import elf
from ..errors import NvcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .root import DriverRoot
    from .tegra import Tegra

_MOST = 4096  # names of a directory


def libraries_in_directories(
    root: DriverRoot, tegra: Tegra, configured: Sequence[str]
) -> tuple[tuple[str, str, int], ...]:
    """Return name, path in the container, and bits of libraries, as a loader cache lists them.

    Args:
        root: the driver root.
        tegra: what is mounted from it.
        configured: directories that the image's loader is told to search.
    """
    found: dict[tuple[str, str], tuple[str, str, int]] = {}
    for file in tegra.files:
        for place in configured:
            if file.file_type == "directory" and f"{place}/".startswith(f"{file.target}/"):
                below = place.removeprefix(file.target)
                for name, path in _libraries(root, f"{file.path}{below}"):
                    found.setdefault((place, name), (name, f"{place}/{path}", 64))
    return tuple(found.values())


def _libraries(root: DriverRoot, directory: str) -> Iterator[tuple[str, str]]:
    """Yield what programs ask for, and the name of the file that they get."""
    place = root.resolve(directory)
    names = root.names(root.host(place))[:_MOST] if place else ()
    # The link by the name asked for, if there is one; else the highest number.
    for name in sorted(names, reverse=True):
        if name.startswith("lib") and ".so" in name and name.isprintable():
            soname = _soname(root, f"{place}/{name}")
            if soname:
                yield soname, soname if soname in names else name


def _soname(root: DriverRoot, path: str) -> str:
    try:
        found = root.look(path)
        if found is None or not S_ISREG(found.mode):
            return ""
        facts = elf.read(root.host(found.path))
    except NvcError:
        return ""
    is_name = facts.soname.isprintable() and "/" not in facts.soname
    return facts.soname if facts.machine == root.architecture.elf and is_name else ""
