# SPDX-License-Identifier: Apache-2.0
"""Write what the commands print: data to standard output, one-line messages to standard error."""

from __future__ import annotations

import os


class OutputError(Exception):
    """Standard output takes no more: closed pipe, full disk."""


def put(text: str) -> None:
    """Write all of text to standard output, unbuffered, so that nothing can fail at exit.

    Raises:
        OutputError: it could not be written.
    """
    try:
        _write(1, text)
    except OSError as error:
        raise OutputError(f"write failed: {(error.strerror or '').lower()}") from None


def complain(text: str) -> None:
    """Write text to standard error; that nobody may read it is no error."""
    try:
        _write(2, text)
    except OSError:
        return


def one_line(text: str) -> str:
    """Return text with everything escaped that could end the line or steer a terminal."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def hint_line(program: str, error: BaseException) -> str:
    """Return the line with the hint of an error, "" if it has none."""
    hint = getattr(error, "hint", "")
    return f"{program}: hint: {one_line(hint)}\n" if hint else ""


def _escape(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, as os.fsdecode keeps it
        return f"\\x{number - 0xDC00:02x}"
    return ascii(character)[1:-1]


def _write(fd: int, text: str) -> None:
    data = memoryview(os.fsencode(text))
    while data:
        data = data[os.write(fd, data) :]
