# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk`: choice of the command, and the one error edge.

Some commands run at container starts: only the command that is called is loaded.
"""

from __future__ import annotations

import os
import sys

from ._flags import HELP, Flag, Given, UsageError, parse
from .output import OutputError, complain, hint_line, one_line, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

_NAME = "nvidia-ctk"
_HOOK = "hook"
_CDI_HOOK = "nvidia-cdi-hook"
_DOC = "Tools to set up GPUs in containers"

#: command, what it does, and its module: that has `FLAGS` and `run(given, log)`. A group of
#: commands has none.
COMMANDS = (
    ("cdi", "Make and check CDI files", ""),
    ("cdi check", "Tell whether CDI files are up to date", "ctk_cdi_check"),
    ("cdi generate", "Make a CDI file for this host", "ctk_cdi_generate"),
    ("cdi list", "Show the devices that CDI files describe", "ctk_cdi_list"),
    ("cdi transform", "Change CDI files", ""),
    ("cdi transform root", "Move the paths of a CDI file to another root", "ctk_cdi_transform"),
    ("config", "Show or change the configuration of the runtime and the hook", "ctk_config"),
    ("config default", "Show the default configuration", "ctk_config_default"),
    ("hook", "Run a hook of CDI files, as nvidia-cdi-hook does", ""),
    ("runtime", "Set up container engines", ""),
    ("runtime configure", "Add the NVIDIA runtime to a container engine", "ctk_runtime"),
    ("system", "Prepare the host: device nodes, links to them", ""),
    ("system create-dev-char-symlinks", "Link /dev/char to device nodes", "ctk_system_links"),
    ("system create-device-nodes", "Make the control devices' nodes", "ctk_system_nodes"),
    ("system print-ldcache", "Show what a loader cache lists", "ctk_system_ldcache"),
)
ALIASES = {
    "config create-default": "config default",
    "config generate-default": "config default",
}

_EVERYWHERE = (
    Flag(
        name="debug",
        aliases=("d",),
        kind=bool,
        doc="Write more to the log",
        variable="NVIDIA_CTK_DEBUG",
    ),
    Flag(name="quiet", kind=bool, doc="Log errors only", variable="NVIDIA_CTK_QUIET"),
)
FLAGS = (
    *_EVERYWHERE,
    Flag(
        name="config",
        doc="Configuration of the runtime and the hook",
        variable="NVIDIA_CTK_CONFIG",
    ),
    HELP,
    Flag(name="version", aliases=("v",), kind=bool, doc="Print the version"),
)
UNKNOWN_COMMAND = 3


class Log:
    """What happens, on standard error, a line each."""

    def __init__(self, *, is_quiet: bool = False, is_verbose: bool = False) -> None:
        levels = ["error"] if is_quiet else ["error", "warning", "info"]
        if is_verbose and not is_quiet:
            levels.append("debug")
        self._levels = frozenset(levels)

    def write(self, level: str, text: str) -> None:
        """Write a line of a level: "error", "warning", "info" or "debug"."""
        if level in self._levels:
            from .runtime_log import line

            complain(line(level, text))

    def error(self, text: str) -> None:
        """Write what went wrong."""
        self.write("error", text)

    def debug(self, text: str) -> None:
        """Write a line for whoever looks for a mistake."""
        self.write("debug", text)

    def info(self, text: str) -> None:
        """Write what was done."""
        self.write("info", text)

    def warning(self, text: str) -> None:
        """Write what may be wrong."""
        self.write("warning", text)


def run() -> NoReturn:
    """Be the program; what is printed is written at once, so nothing is left to the end."""
    os._exit(main())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status: 0 done, 3 no such command, 1 anything else.

    Args:
        argv: the program's name, then its words; the process's own if None.
    """
    words = list(sys.argv if argv is None else argv)[1:]
    log = Log()
    try:
        return _run(words, log)
    except UsageError as error:
        log.write("error", str(error))
    except BaseException as error:  # Ctrl-C too: never a traceback
        log.write("error", _describe(error))
        complain(hint_line(_NAME, error))
    return 1


def _describe(error: BaseException) -> str:
    from libnvc.errors import NvcError

    if isinstance(error, NvcError | OutputError):
        return one_line(str(error))
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return one_line(f"internal error: {type(error).__name__}: {error}")


def _run(words: Sequence[str], log: Log) -> int:
    given = _parse("", FLAGS, words, stops=True)
    values = given.values
    if values["version"]:
        from .ctk_version import version_text

        put(version_text("NVIDIA Container Toolkit CLI"))
        return 0
    return _dispatch("", given, values, log)


def _dispatch(command: str, given: Given, outer: dict[str, object], log: Log) -> int:
    """Go on with the word after a command, which is a command itself or the end."""
    below = _below(command)
    words = given.words
    if given.values["help"] or (not words and not _module(command)):
        put(_help(command))
        return 0
    if words and below:
        return _enter(command, words, outer, log)
    module = _load(command)
    log = Log(is_quiet=bool(outer["quiet"]), is_verbose=bool(outer["debug"]))
    for word in words:
        log.warning(f"Ignoring argument {word}")
    start: Callable[[dict[str, object], Log], int | None] = module.run
    return start({**outer, **given.values, "given": given.given}, log) or 0


def _enter(command: str, words: Sequence[str], outer: dict[str, object], log: Log) -> int:
    name = words[0]
    if name in ("help", "h"):
        return _enter_help(command, words[1:])
    if not command and name == _HOOK:
        return _become_hook(words[1:])
    full = f"{command} {name}".strip()
    full = ALIASES.get(full, full)
    if full not in _known():
        return _unknown(name)
    flags = (*_flags(full), *_EVERYWHERE, HELP)
    given = _parse(full, flags, words[1:], stops=bool(_below(full)))
    inner = {key: given.values[key] or outer[key] for key in ("debug", "quiet")}
    return _dispatch(full, given, {**outer, **inner}, log)


def _become_hook(words: Sequence[str]) -> int:
    """Become the program of hooks, which trusts no environment. Older CDI files name us for it."""
    path = f"{os.path.dirname(os.path.realpath(sys.argv[0]))}/{_CDI_HOOK}"
    try:
        os.execv(path, [_CDI_HOOK, *words])  # noqa: S606 - no shell is wanted
    except OSError as error:
        from libnvc.errors import NvcError

        why = (error.strerror or "").lower()
        raise NvcError(f"could not exec '{path}': {why}", hint="install libnvc anew") from None


def _enter_help(command: str, words: Sequence[str]) -> int:
    full = " ".join([command, *words]).strip()
    if full and full not in _known():
        return _unknown(words[0])
    put(_help(full))
    return 0


def _unknown(name: str) -> int:
    complain(f"No help topic for '{one_line(name)}'\n")
    return UNKNOWN_COMMAND


def _parse(command: str, flags: Sequence[Flag], words: Sequence[str], *, stops: bool) -> Given:
    try:
        return parse(flags, words, os.environ, stops=stops)
    except UsageError as error:
        complain(f"Incorrect Usage: {one_line(str(error))}\n\n{_help(command)}")
        raise


def _known() -> tuple[str, ...]:
    return tuple(command for command, _, _ in COMMANDS)


def _below(command: str) -> list[tuple[str, str]]:
    """Return names and sentences of the commands below one, "" for the program."""
    start = f"{command} " if command else ""
    return [
        (name.removeprefix(start), doc)
        for name, doc, _ in COMMANDS
        if name.startswith(start) and " " not in name.removeprefix(start)
    ]


def _module(command: str) -> str:
    return next((module for name, _, module in COMMANDS if name == command), "")


def _load(command: str) -> Any:
    # `importlib` costs more than most of what is loaded.
    name = _module(command)
    return getattr(__import__(__package__, fromlist=(name,)), name)


def _flags(command: str) -> tuple[Flag, ...]:
    if not _module(command):
        return ()
    flags: tuple[Flag, ...] = _load(command).FLAGS
    return flags


def _help(command: str) -> str:
    from ._flagshelp import help_text

    doc = next((doc for name, doc, _ in COMMANDS if name == command), _DOC)
    flags = (*_flags(command), *_EVERYWHERE, HELP) if command else FLAGS
    return help_text(f"{_NAME} {command}".strip(), doc, flags, _below(command))
