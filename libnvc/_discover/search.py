# SPDX-License-Identifier: Apache-2.0
"""Look for the driver's libraries in directories.

For roots whose loader cache does not list them: a store path of Nix, images of operating systems
that keep the driver apart, hosts where nobody ran ldconfig.
"""

from __future__ import annotations

from .libraries import NAMES, Candidate, table_name
from .root import DriverRoot
from .tables import LIBRARY_DIRECTORIES


def library_directories(root: DriverRoot) -> tuple[str, ...]:
    """Return where libraries may be under a root, first match first."""
    machine = root.architecture
    places = [
        directory.replace("{libs}", libs)
        for directory in LIBRARY_DIRECTORIES
        for libs in (machine.libs_dir, machine.libs32_dir)
    ]
    return tuple(dict.fromkeys(places))


def search_directories(root: DriverRoot) -> tuple[Candidate, ...]:
    """Return the driver's libraries in the known directories, each file once.

    The best place comes last: of several files for one name the last counts.
    """
    found: dict[str, Candidate] = {}
    searched = set()
    for directory in library_directories(root):
        place = root.resolve(directory)
        if place is None:
            root.find(directory)  # that it is missing is part of what the result rests on
        if place is None or place in searched:
            continue
        searched.add(place)
        for name in root.note_names(root.host(place)) or ():
            if name.startswith(NAMES):
                _add(root, found, f"{place.rstrip('/')}/{name}", name)
    return tuple(reversed(found.values()))


def _add(root: DriverRoot, found: dict[str, Candidate], path: str, name: str) -> None:
    file = root.look(path)
    if file is not None:
        found.setdefault(file.path, Candidate(name=table_name(name), found=file))
    else:
        root.find(path)  # a link to nothing: what appears there changes the result
