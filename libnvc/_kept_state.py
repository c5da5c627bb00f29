# SPDX-License-Identifier: Apache-2.0
"""Say why the native launcher does not use what is kept (csrc/launcher/kept.c decides)."""

from __future__ import annotations

import os
from stat import S_IMODE, S_ISREG

from . import _build
from ._discover.root import read_file
from ._kept import LONGEST, PLANS
from ._native.kept import kept_hash, strings
from .errors import NvcError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._kept import Entry

_HASH = 17  # digits and a newline
_TIMES = ("device", "inode", "size", "modification time", "change time")


def objection(entry: Entry) -> str:
    """Return what stands against using a file, in a few words; "" if nothing does.

    That nobody asks for it any more, this cannot tell.
    """
    try:
        dependencies = _parse(entry.name, _read(entry.name))
    except OSError as error:
        return f"cannot be read: {(error.strerror or '').lower()}"
    except ValueError as error:
        return str(error)
    return next(filter(None, _differences(dependencies)), "")


def _read(name: str) -> bytes:
    fd = os.open(f"{PLANS}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not S_ISREG(status.st_mode):
            raise ValueError("not a plain file")
        if status.st_uid != os.geteuid():
            raise ValueError(f"belongs to user {status.st_uid}")
        if S_IMODE(status.st_mode) & 0o077:
            raise ValueError(f"its mode is {S_IMODE(status.st_mode):04o}")
        return file.read(LONGEST + 1)


def _parse(name: str, text: bytes) -> bytes:
    """Return the dependencies.

    Raises:
        ValueError: they cannot be used; says why.
    """
    body, end = text[:-_HASH], text[-_HASH:]
    if end != b"%016x\n" % kept_hash(body) or len(text) > LONGEST:
        raise ValueError("damaged")
    head, _, rest = body.partition(b"\n")
    if head != f"nvckept 1 {_build.VERSION}".encode():
        raise ValueError("of another version")
    key, rest = _section(rest)
    dependencies, _ = _section(rest)
    if f"{kept_hash(key):016x}" != name:
        raise ValueError("has the name of another")
    return dependencies


def _section(text: bytes) -> tuple[bytes, bytes]:
    size, _, rest = text.partition(b":")
    if not size.isdigit() or len(rest) < int(size):
        raise ValueError("damaged")
    return rest[: int(size)], rest[int(size) :]


def _differences(text: bytes) -> Iterator[str]:
    """Return for each dependency what is different, or ""."""
    while text:
        kind = text[:1]
        if kind == b"i":
            head, _, text = text[1:].partition(b"\0")
            *numbers, path = head.split(b" ", len(_TIMES))
            yield _changed(os.fsdecode(path), tuple(map(int, numbers)))
            continue
        head, _, rest = text[1:].partition(b"\0")
        mode, size, path = head.split(b" ", 2)
        data, text = rest[: int(size)], rest[int(size) :]
        yield _other_data(os.fsdecode(path), kind, int(mode), data)


def _changed(path: str, known: tuple[int, ...]) -> str:
    try:
        now = os.lstat(path)
    except OSError:
        return f"{shown(path)}: is gone" if any(known) else ""
    if not any(known):
        return f"{shown(path)}: is there now"
    found = (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    names = [name for name, was, is_ in zip(_TIMES, known, found, strict=True) if was != is_]
    return f"{shown(path)}: other {names[0]}" if names else ""


def _other_data(path: str, kind: bytes, mode: int, data: bytes) -> str:
    try:
        if kind == b"n":
            names = strings(sorted(os.listdir(path), key=os.fsencode))
            return "" if names == data else f"{shown(path)}: other names in it"
        if S_IMODE(os.lstat(path).st_mode) != mode:
            return f"{shown(path)}: other mode"
        return "" if read_file(path) == data else f"{shown(path)}: other content"
    except (OSError, NvcError):
        return f"{shown(path)}: is gone"
