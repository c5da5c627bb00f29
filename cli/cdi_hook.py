# SPDX-License-Identifier: Apache-2.0
"""`nvidia-cdi-hook`: the hooks that CDI files name, called in a container that is being created.

The caller is in the container's namespaces, the host's files are still in sight, and the
environment may be the image's: a small native program of the same name cleans it before this runs.
"""

from __future__ import annotations

import gc
import os
import sys

from libnvc.errors import NvcError

from .cdi_hook_words import HOOKS, SEQUENCE, USAGE, UsageError, read_words
from .container_common import CommandError
from .output import complain, one_line, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_NAME = "nvidia-cdi-hook"


def run() -> NoReturn:
    """Be the program: the words are its own path, its name as called, and its arguments."""
    gc.disable()
    os._exit(main(*sys.argv[3:], origin=tuple(sys.argv[1:3])))


def main(*words: str, name: str = _NAME, origin: tuple[str, ...] = ()) -> int:
    """Do what the words say and return the exit status: 0 done, or nothing to do, 1 failed.

    Args:
        words: the command line behind the program's name.
        name: of the program, for messages.
        origin: the path and the name of the native program that called this, if one did.
    """
    try:
        return _run(words, name, origin)
    except UsageError as error:
        complain(f"{name}: {one_line(str(error))}\n{USAGE}")
    except BaseException as error:  # Ctrl-C too: never a traceback
        complain(f"{name}: {one_line(_describe(error))}\n")
    return 1


def _describe(error: BaseException) -> str:
    if isinstance(error, CommandError):
        return error.text
    if isinstance(error, NvcError):
        return f"{error} ({error.hint})" if error.hint else str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"internal error: {type(error).__name__}: {error}"


def _run(words: tuple[str, ...], name: str, origin: tuple[str, ...]) -> int:
    read = read_words(words, os.environ)
    if "help" in read.flags:
        put(USAGE)
        return 0
    if "version" in read.flags:
        from libnvc import _build

        put(f"NVIDIA CDI Hook version {_build.VERSION}\n")
        return 0

    def say(kind: str, text: str) -> None:
        if "quiet" not in read.flags and (kind != "debug" or "debug" in read.flags):
            complain(f"{name}: {kind}: {one_line(text)}\n")

    known = []
    for part in read.parts if read.hook == SEQUENCE else (read,):
        if part.hook in HOOKS:
            known.append(part)
        else:  # of a newer CDI file: containers are to start all the same
            named = f"Unsupported CDI hook: {part.hook}" if part.hook else "No CDI hook specified"
            say("warning", named)
    if any(part.hook != "noop" for part in known):
        from .cdi_hook_work import work

        work([part for part in known if part.hook != "noop"], say, origin)
    return 0
