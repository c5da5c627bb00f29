# SPDX-License-Identifier: Apache-2.0
"""Read the command line of a low-level runtime, as far as `create` needs it."""

from __future__ import annotations

from libnvc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Global options of runc and crun that take a value, which is not the name of a command.
_VALUED = frozenset(
    ("root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager", "config")
)
#: How the reference's messages begin.
FAILED = "failed to create NVIDIA Container Runtime: "

_COMMANDS = frozenset(
    (
        *("checkpoint", "create", "delete", "events", "exec", "features", "kill", "list", "mounts"),
        *("pause", "ps", "restore", "resume", "run", "spec", "start", "state", "update"),
    )
)


class Call(Record):
    """A command line of a low-level runtime.

    Attributes:
        is_create: whether it creates a container.
        bundle: its bundle directory, as written; "" where none is named, None where it should be
            and is not.
        container: the container's id, or "".
        log, log_format: `--log` and `--log-format`, or "".
        is_debug: whether `--debug` is given.
    """

    is_create: bool = False
    bundle: str | None = ""
    container: str = ""
    log: str = ""
    log_format: str = ""
    is_debug: bool = False


def read_call(words: Sequence[str]) -> Call:
    """Read a command line, without the program's name; what is wrong with it is left to others."""
    options, command, after = _globals(words)
    call = Call(
        log=options.get("log", ""),
        log_format=options.get("log-format", ""),
        is_debug="debug" in options,
    )
    if command not in _COMMANDS and "create" in after:
        # A global option that is not known here: look for the command as a word.
        after = after[after.index("create") + 1 :]
    elif command != "create":
        return call
    return call.replace(is_create=True, bundle=_bundle(after), container=after[-1] if after else "")


def asks_version(words: Sequence[str]) -> bool:
    """Tell whether a word asks for the version, in any of the ways that the runtimes know."""
    return any(word.lstrip("-").partition("=")[0] == "version" for word in words)


def _globals(words: Sequence[str]) -> tuple[dict[str, str], str, Sequence[str]]:
    """Return the global options, the command, and what stands after it."""
    options: dict[str, str] = {}
    place = 0
    while place < len(words) and words[place].startswith("-"):
        name, has_value, value = words[place].lstrip("-").partition("=")
        if not has_value and name in _VALUED and place + 1 < len(words):
            place += 1
            value = words[place]
        options[name] = value
        place += 1
    command = words[place] if place < len(words) else ""
    return options, command, words[place + 1 :]


def _bundle(words: Sequence[str]) -> str | None:
    bundle = ""
    for place, word in enumerate(words):
        name, has_value, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in ("b", "bundle"):
            continue
        if not has_value:
            if place + 1 == len(words):
                return None
            value = words[place + 1]
        bundle = value
    return bundle
