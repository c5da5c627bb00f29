# SPDX-License-Identifier: Apache-2.0
"""Read one file of the Container Device Interface, strictly.

A file with something unknown in it is not used: what is left out could be what keeps others away.
"""

from __future__ import annotations

from .._oci.document import decode_unique, load
from .._oci.wanted import is_cdi_kind
from .._record import Record
from ..errors import MalformedFileError, shown
from .edits import Device, Edits
from .members import SPEC, VERSIONS, Place, quoted, read_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_SIZE = 1 << 20  # bytes


class Spec(Record):
    """One CDI file.

    Attributes:
        path: of the file.
        version: of the format.
        kind: VENDOR/CLASS of its devices.
        devices: in the file's order, each name once.
        edits: what each of them changes.
    """

    path: str
    version: str
    kind: str
    devices: tuple[Device, ...]
    edits: Edits = Edits()


def read_spec(path: str) -> Spec:
    """Read a file, as YAML if its name ends in ".yaml", else as JSON.

    Raises:
        NvcError: it cannot be opened.
        MalformedFileError: it is no regular file, larger than `MAX_SIZE`, or no CDI file; the
            member is named, or line and column.
    """
    decode: Callable[[bytes], dict[str, Any]] = decode_unique
    if path.endswith(".yaml"):
        from .yamltext import parse as decode
    document = load(path, decode, what="CDI specification", limit=MAX_SIZE)
    return check_document(path, document)


def check_document(path: str, document: dict[str, Any]) -> Spec:
    """Return what a decoded file says.

    Raises:
        MalformedFileError: it is no CDI file; the member is named.
    """
    try:
        return _spec(path, document)
    except ValueError as error:
        message = f"{shown(path)}: {error}"
        raise MalformedFileError(message, path=path, step="parse") from None


def _spec(path: str, document: dict[str, Any]) -> Spec:
    place = Place()
    top = read_table(document, place, SPEC)
    version, kind = top["cdiVersion"].removeprefix("v"), top["kind"]
    if version not in VERSIONS:
        known = f"{VERSIONS[0]} to {VERSIONS[-1]}"
        place.inside("cdiVersion").fail(f"{quoted(version)}: known are {known}")
    if not is_cdi_kind(kind):
        place.inside("kind").fail(f"{quoted(kind)}: not VENDOR/CLASS")
    if "." in kind.partition("/")[2]:
        place.inside("kind").need("0.6.0", ", a class with a dot")
    devices = top["devices"]
    if not devices:
        place.inside("devices").fail("there are none")
    seen: set[str] = set()
    for index, device in enumerate(devices):
        if device.name in seen:
            here = place.inside("devices").at(index).inside("name")
            here.fail(f"{quoted(device.name)} is given twice")
        seen.add(device.name)
    place.check(version)
    edits = top["containerEdits"]
    return Spec(path=path, version=version, kind=kind, devices=devices, edits=edits)
