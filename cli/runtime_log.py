# SPDX-License-Identifier: Apache-2.0
"""Write the log of `nvidia-container-runtime`, in the format of the low-level runtimes.

It goes into the file of the configuration and into the one that the engine names for the low-level
runtime, where engines look for what to tell their users.
"""

from __future__ import annotations

import os

from libnvc.errors import shown

from .container_common import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Each level logs what stands before it, too.
LEVELS = ("panic", "fatal", "error", "warning", "info", "debug", "trace")
#: Names of files that are none.
NOWHERE = ("", "/dev/null")
_ELSEWHERE = ("journald:", "syslog:")  # what crun takes beside files


class RuntimeLog(Log):
    """A log in files; what cannot be opened or written is left out: a log stops no container."""

    def __init__(self, files: Sequence[tuple[str, bool]], level: str) -> None:
        """Open the files for appending.

        Args:
            files: path, and whether it takes JSON.
            level: one of `LEVELS`; any other means "info".
        """
        self._level = LEVELS.index(level if level in LEVELS else "info")
        self.messages: list[tuple[str, str]] = []  # level and text of what was written so far
        self._open = [(fd, as_json) for path, as_json in files if (fd := _append(path)) >= 0]

    def __bool__(self) -> bool:
        return bool(self._open)

    def __exit__(self, *_: object) -> None:
        for fd, _as_json in self._open:
            os.close(fd)
        self._open = []

    def info(self, text: str) -> None:
        """Write a message."""
        self.write("info", text)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self.write("warning", text)

    def write(self, level: str, text: str) -> None:
        """Write a line of a level."""
        self.messages.append((level, text))
        if not self._open or LEVELS.index(level) > self._level:
            return
        for fd, as_json in self._open:
            try:
                os.write(fd, os.fsencode(line(level, text, as_json=as_json)))
            except OSError:
                continue


def line(level: str, text: str, *, as_json: bool = False) -> str:
    """Return a line of the log, its end included."""
    import time

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if as_json:
        return f'{{"level":"{level}","msg":"{escaped(text)}","time":"{now}"}}\n'
    return f'time="{now}" level={level} msg="{escaped(text)}"\n'


def escaped(text: str) -> str:
    """Return what stands for a text inside the quotes of a line."""
    from _json import encode_basestring_ascii

    return encode_basestring_ascii(shown(text))[1:-1]


def _append(path: str) -> int:
    path = path.removeprefix("file:")
    if path in NOWHERE or path.startswith(_ELSEWHERE):
        return -1
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    try:
        if not os.path.isdir(os.path.dirname(path) or "."):
            os.makedirs(os.path.dirname(path), 0o755)
        return os.open(path, flags, 0o644)
    except OSError:
        return -1
