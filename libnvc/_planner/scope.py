# SPDX-License-Identifier: Apache-2.0
"""Leave out what a container that is not known yet does not get of a driver's files.

Where the layout mirrors the host, a plan gives all libraries of the driver: nobody knows what will
be asked for. Who says it beforehand gets those of some capabilities.
"""

from __future__ import annotations

from .operations import found_as
from .policy import is_granted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from ..model import Extras, Inventory


def scoped(inventory: Inventory, capabilities: Collection[str]) -> Inventory:
    """Return an inventory whose extras are those of some capabilities.

    A library that no capability names is left out.

    Args:
        inventory: of the driver.
        capabilities: names from `CAPABILITIES`.
    """
    if inventory.extras is None:
        return inventory
    return inventory.replace(extras=_scoped(inventory.extras, capabilities))


def _scoped(extras: Extras, capabilities: Collection[str]) -> Extras:
    libraries = tuple(lib for lib in extras.libraries if is_granted(lib, capabilities))
    names = {_base(lib.path) for lib in libraries} | {found_as(lib) for lib in libraries}
    links = {link.path: link for link in extras.links if _base(link.target) in names}
    while True:  # links to links
        names |= {_base(path) for path in links}
        more = {link.path: link for link in extras.links if _base(link.target) in names}
        if len(more) == len(links):
            return extras.replace(libraries=libraries, links=tuple(links.values()))
        links = more


def _base(path: str) -> str:
    return path.rpartition("/")[2]
