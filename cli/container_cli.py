# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-cli`: global options, choice of the command, and the one error edge.

A small native program of the same name calls this where nothing is kept (`container_kept`).
"""

from __future__ import annotations

import gc
import os
import sys

from ._argp import Option, Parser, ParserExit, usage_error
from .container_common import CommandError, Settings, checked_path, events
from .output import OutputError, complain, hint_line, one_line, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from .container_common import Keeper

_NAME = "nvidia-container-cli"

PARSER = Parser(
    name=_NAME,
    doc="Show the NVIDIA driver of this machine, and give containers access to its GPUs.",
    arguments="COMMAND [ARG...]",
    options=(
        Option(name="debug", short="d", arg="FILE", doc="Append a log to FILE"),
        Option(
            name="load-kmods",
            short="k",
            doc="Load the driver's kernel modules and make its device nodes first",
        ),
        Option(name="no-pivot", short="n", doc="Accepted, and never needed"),
        Option(name="user", short="u", arg="UID[:GID]", optional=True, doc="Ask NVML as this user"),
        Option(name="root", short="r", arg="PATH", doc="Find the driver below PATH (default: /)"),
        Option(
            name="ldcache",
            short="l",
            arg="FILE",
            doc="Loader cache, below the driver root (default: /etc/ld.so.cache)",
        ),
        Option(
            name="no-create-imex-channels",
            doc="With --load-kmods, make no device nodes of IMEX channels",
        ),
        Option(name="no-cache", doc="Use nothing that was kept, and keep nothing"),
    ),
    commands=(
        ("info", "Show the driver's version and its GPUs"),
        ("list", "List the driver's files and devices"),
        ("configure", "Give a container access to GPUs"),
    ),
)

_SWITCHES = tuple(option.name for option in PARSER.options if not option.arg)

#: libnvc's exceptions and the reference's error classes; the first that fits counts
ERROR_CLASSES = (
    ("UnknownDeviceError", "device"),
    ("MissingDeviceError", "mount"),
    ("MigConfigError", "mig-config"),
    ("MigMonitorError", "mig-monitor"),
    ("RequirementError", "requirement"),
    ("RequestError", "input"),
    ("DriverNotFoundError", "initialization"),
    ("ProbeError", "initialization"),
    ("DiscoveryError", "detection"),
    ("ContainerError", "container"),
    ("LoaderCacheError", "ldcache"),
    ("NvcError", "mount"),
)


def run() -> NoReturn:
    """Be the program: a command lives for milliseconds, and a good part of them can be saved.

    Nothing is left to the end: what is printed is written at once, and the kernel takes back all
    else faster than the interpreter would.
    """
    gc.disable()
    program, *argv = sys.argv[1:]
    os._exit(main(argv, program=program))


def main(
    argv: Sequence[str],
    *,
    program: str = "",
    ldconfig: str | None = None,
    keep: Keeper | None = None,
    graphics: bool = False,
) -> int:
    """Run the command and return the exit status: 0 done, 1 anything else.

    Args:
        argv: the program's name as called, then its words.
        program: the path of the native program, "" if it is not that which calls.
        ldconfig: as in `Settings`.
        keep: as in `Settings`.
        graphics: as in `Settings`.
    """
    origin = (program, *argv) if program else ()
    try:
        given = {"ldconfig": ldconfig, "origin": origin, "keep": keep, "graphics": graphics}
        return _run(argv, given)
    except BaseException as error:  # Ctrl-C too: never a traceback
        complain(f"{_NAME}: {one_line(describe(error))}\n{hint_line(_NAME, error)}")
        return 1


def _run(argv: Sequence[str], given: dict[str, Any]) -> int:
    try:
        return _read_globals(argv, given)
    except ParserExit as end:
        if end.status:
            complain(end.text)
        else:
            put(end.text)
        return end.status


def _read_globals(argv: Sequence[str], given: dict[str, Any]) -> int:
    for name, value, after in events(PARSER, argv):
        if not name:
            return _run_command(str(value), Settings(**given), argv[after:])
        given[name.replace("-", "_")] = _setting(name, value)
    raise usage_error(PARSER)


def _setting(name: str, value: str | None) -> Any:
    if name == "user":
        from .container_user import parse_user

        return parse_user(value)
    if name in _SWITCHES:
        return True
    return checked_path(name, value)


def _run_command(name: str, settings: Settings, words: Sequence[str]) -> int:
    # Only the command that is called is loaded: start-up counts.
    argv = [f"{_NAME} {name}", *words]
    if name == "info":
        from .container_info import info

        return info(settings, argv)
    if name == "list":
        from .container_list import list_driver

        return list_driver(settings, argv)
    if name == "configure":
        from .container_configure import configure

        return configure(settings, argv)
    raise usage_error(PARSER)


def describe(error: BaseException) -> str:
    """Return the line for an error, without the program's name."""
    from libnvc import errors

    if isinstance(error, CommandError):
        return str(error)
    if isinstance(error, OutputError):
        return f"output error: {error}"
    # NVML is there, but does not tell what it is asked.
    if isinstance(error, errors.ProbeError) and error.step.startswith(("nvmlSystem", "nvmlDevice")):
        return f"detection error: {error}"
    for name, kind in ERROR_CLASSES:
        if isinstance(error, getattr(errors, name)):
            return f"{kind} error: {error}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"internal error: {type(error).__name__}: {error}"
