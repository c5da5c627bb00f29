# SPDX-License-Identifier: Apache-2.0
"""Read CDI files as plain objects, to be compared or changed; they are checked as strictly."""

from __future__ import annotations

from .._oci.document import decode_unique, load
from ..errors import MalformedFileError, shown
from .spec import MAX_SIZE, check_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

_NUMBERS = frozenset(("major", "minor", "fileMode", "uid", "gid", "timeout", "additionalGids"))
_TRUTHS = frozenset(("enableMonitoring", "enableCMT", "enableMBM"))


def read_document(path: str) -> tuple[Document, str]:
    """Return a CDI file's content and its text.

    Raises:
        NvcError: it cannot be opened.
        MalformedFileError: it is no regular file, larger than `MAX_SIZE`, or no CDI file.
    """
    texts = []

    def decode(data: bytes) -> Document:
        texts.append(data.decode())
        return _decode(data)

    document = load(path, decode, what="CDI specification", limit=MAX_SIZE)
    return _checked(path, document), texts[0]


def parse_document(path: str, data: bytes) -> Document:
    """Return the content of a CDI file whose bytes are known.

    Args:
        path: for messages.
        data: JSON or YAML.

    Raises:
        MalformedFileError: it is larger than `MAX_SIZE`, or no CDI file.
    """
    try:
        if len(data) > MAX_SIZE:
            raise ValueError(f"larger than {MAX_SIZE} bytes")
        document = _decode(data)
    except ValueError as error:
        message = f"{shown(path)}: not a CDI specification: {error}"
        raise MalformedFileError(message, path=path, step="parse") from None
    return _checked(path, document)


def _decode(data: bytes) -> Document:
    if data.lstrip()[:1] == b"{":
        return decode_unique(data)
    from .yamltext import parse

    return parse(data)


def _checked(path: str, document: Document) -> Document:
    check_document(path, document)
    plain: Document = _plain("", document)
    return plain


def _plain(name: str, value: Any) -> Any:
    """Return a value of which the check says that it is right, without YAML's undecided words."""
    if isinstance(value, dict):
        members = {str(key): _plain(key, item) for key, item in value.items()}
        return {key: item for key, item in members.items() if item is not None}
    if isinstance(value, list):
        return [_plain(name, item) for item in value]
    if not isinstance(value, str):
        return value
    if name in _NUMBERS:
        return int(value, 8 if value[0] == "0" and value[1:].isdecimal() else 0)
    return value == "true" if name in _TRUTHS else str(value)
