# SPDX-License-Identifier: Apache-2.0
"""Read and write OCI documents: JSON by the interpreter's C code, without loading `json`.

The scanner and encoder are those that `json` uses; it and `re` are loaded for an error only, since
the scanner's own exception lives there.
"""

from __future__ import annotations

import os
from _json import encode_basestring, make_encoder, make_scanner
from stat import S_ISREG

from ..errors import MalformedFileError, NvcError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO, NoReturn

MAX_SIZE = 16 << 20  # bytes

_CHUNK = 1 << 20
_BLANKS = " \t\n\r"


def read(path: str) -> dict[str, Any]:
    """Return an OCI configuration; of members given twice the last holds.

    Raises:
        NvcError: it cannot be opened; errno and path are set.
        MalformedFileError: it is not a regular file, larger than `MAX_SIZE`, or not one JSON
            object in UTF-8; line and column are named.
    """
    return load(path, _decode, what="OCI configuration")


def load(
    path: str, decode: Callable[[bytes], dict[str, Any]], *, what: str, limit: int = MAX_SIZE
) -> dict[str, Any]:
    """Return what a function makes of a file's bytes.

    Args:
        path: of a regular file.
        decode: raises ValueError for bytes that are no such document.
        what: the name of such documents.
        limit: bytes that the file may have.

    Raises:
        NvcError: it cannot be opened; errno and path are set.
        MalformedFileError: it is not a regular file, larger than the limit, or not decoded.
    """
    try:
        return decode(_read_file(path, limit))
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise NvcError(
            f"{shown(path)}: {why}", errno=error.errno or 0, path=path, step="open"
        ) from error
    except ValueError as error:
        article = "an" if what[0] in "AEIO" else "a"
        message = f"{shown(path)}: not {article} {what}: {_reason(error)}"
        raise MalformedFileError(message, path=path, step="parse") from error


def read_state(stream: BinaryIO) -> dict[str, Any]:
    """Return the container state that a runtime writes to a hook's standard input.

    Raises:
        MalformedFileError: it cannot be read, is larger than `MAX_SIZE`, or not one JSON object in
            UTF-8.
    """
    try:
        return _decode(stream.read(MAX_SIZE + 1))
    except (OSError, ValueError) as error:
        message = f"could not decode container state: {_reason(error)}"
        raise MalformedFileError(message, step="parse") from error


def loads(data: bytes) -> dict[str, Any]:
    """Return one JSON object in UTF-8.

    Raises:
        MalformedFileError: it is something else.
    """
    try:
        return _decode(data)
    except ValueError as error:
        raise MalformedFileError(f"not a JSON object: {_reason(error)}", step="parse") from error


def dumps(document: dict[str, Any]) -> bytes:
    """Return a document as one line of JSON.

    Raises:
        MalformedFileError: it is nested too deeply.
        TypeError: it holds what JSON has not.
        ValueError: it holds a number that JSON has not.
    """
    encode = make_encoder(None, _refuse, encode_basestring, None, ":", ",", False, False, False)
    try:
        text = "".join(encode(document, 0))
    except RecursionError as error:
        raise MalformedFileError("OCI configuration: nested too deeply") from error
    # Half of a surrogate pair has no UTF-8; its escape in JSON is Python's.
    return text.encode(errors="backslashreplace") + b"\n"


def decode_unique(data: bytes) -> dict[str, Any]:
    """Return one JSON object in UTF-8 in which no member is given twice.

    Raises:
        ValueError: it is none.
    """
    return _decode(data, make_scanner(_UniqueContext()))  # type: ignore[arg-type]


def _read_file(path: str, limit: int) -> bytes:
    # A FIFO would let us wait for a writer for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("not a regular file")
        data = b""
        while len(data) <= limit and (more := os.read(fd, _CHUNK)):
            data += more
    finally:
        os.close(fd)
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data


def _decode(data: bytes, scan: Any = None) -> dict[str, Any]:
    if len(data) > MAX_SIZE:
        raise ValueError(f"larger than {MAX_SIZE} bytes")
    text = data.decode()
    start = len(text) - len(text.lstrip(_BLANKS))
    try:
        value, end = _scan_once(scan or _scan, text, start)
    except StopIteration as stop:
        _fail_at(text, stop.value, "expecting value")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    rest = text[end:].lstrip(_BLANKS)
    if rest:
        _fail_at(text, len(text) - len(rest), "extra data")
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _scan_once(scan: Any, text: str, start: int) -> tuple[Any, int]:
    try:
        scanned: tuple[Any, int] = scan(text, start)
    except SystemError:
        # Python 3.11 raises the exception of `json` only where that is loaded already.
        import json.decoder  # noqa: F401

        scanned = scan(text, start)
    return scanned


def _fail_at(text: str, at: int, why: str) -> NoReturn:
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    raise ValueError(f"{why} (line {line}, column {column})")


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 (byte {error.start})"
    line = getattr(error, "lineno", 0)
    if line:  # the scanner's own exception
        message: str = error.msg  # type: ignore[union-attr]
        column: int = error.colno  # type: ignore[union-attr]
        return f"{message[:1].lower()}{message[1:]} (line {line}, column {column})"
    return str(error)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _float(text: str) -> float:
    value = float(text)
    if value - value != 0:
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python limits what it converts
        raise ValueError("a number has too many digits") from None


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"{type(value).__name__} is not in JSON")


class _Context:
    """What the scanner asks for; `json.JSONDecoder` has the same names."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = staticmethod(_float)
    parse_int = staticmethod(_int)
    parse_constant = staticmethod(_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ValueError(f"{shown(twice)} is given twice")
    return members


class _UniqueContext(_Context):
    object_pairs_hook = staticmethod(_unique)  # type: ignore[assignment]


_scan: Any = make_scanner(_Context())  # type: ignore[arg-type]
