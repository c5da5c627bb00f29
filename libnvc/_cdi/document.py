# SPDX-License-Identifier: Apache-2.0
"""Documents of CDI: edits put together and without repetition, and the version that they need."""

from __future__ import annotations

from ..errors import RequestError
from .members import SPEC, VERSIONS, Place, read_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Document = dict[str, Any]

_PATHS = {"deviceNodes": "path", "mounts": "containerPath"}


def lowest_version(document: Document) -> tuple[str, str]:
    """Return the lowest version of CDI that has all of a document, and what needs it.

    Raises:
        RequestError: the document is no CDI file.
    """
    place = Place()
    try:
        read_table({**document, "cdiVersion": VERSIONS[-1]}, place, SPEC)
    except ValueError as error:
        raise RequestError(f"invalid CDI Spec: {error}") from None
    if "." in document["kind"].partition("/")[2]:
        place.inside("kind").need("0.6.0", ", a class with a dot")
    return place.needed()


def union(several: Iterable[Document]) -> Document:
    """Return what all of several edits have, one behind the other."""
    whole: Document = {}
    for edits in several:
        for member, items in edits.items():
            whole.setdefault(member, []).extend(items)
    return whole


def simplified(edits: Document, common: Document | None = None) -> Document:
    """Return edits without what is there twice, or in what all devices get, in order."""
    simple: Document = {}
    for member, items in edits.items():
        kept: list[Any] = []
        for item in items:
            if item not in kept:
                kept.append(item)
        if member in _PATHS:
            kept = _by_depth(kept, _PATHS[member])
        elif member == "additionalGids":
            kept.sort()
        simple[member] = kept
    if common is None:
        return simple
    own = {
        member: [item for item in items if item not in common.get(member, ())]
        for member, items in simple.items()
    }
    own = {member: items for member, items in own.items() if items}
    return own or simple  # a device that changes nothing is none


def _by_depth(items: list[Document], member: str) -> list[Document]:
    """Sort by number of components, then by name, of a path."""
    return sorted(items, key=lambda item: (item[member].count("/"), item[member]))


def drop_groups(document: Document) -> bool:
    """Take additional groups out of a document; return whether there were any."""
    edits = [document["containerEdits"], *(d["containerEdits"] for d in document["devices"])]
    dropped = [part.pop("additionalGids", None) for part in edits]
    return any(dropped)
