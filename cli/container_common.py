# SPDX-License-Identifier: Apache-2.0
"""What the commands of `nvidia-container-cli` share: settings, input checks, refusals."""

from __future__ import annotations

import os

from libnvc._record import Record

from ._argp import Option, ParserExit, parse, too_many_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from libnvc.model import Inventory

    from ._argp import Event, Parser
    from ._debuglog import Log

#: Options that leave a part of the driver out of discovery, by the name `discover` has for it.
SKIP_OPTIONS = (
    Option(name="no-persistenced", doc="Leave out the socket of nvidia-persistenced"),
    Option(name="no-fabricmanager", doc="Leave out the socket of nv-fabricmanager"),
    Option(name="no-gsp-firmware", doc="Leave out the GSP firmware"),
)


class CommandError(Exception):
    """Refuse or fail with one line.

    Attributes:
        kind: the reference's error class, "input".
        text: the rest of the line.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind} error: {text}")
        self.kind = kind
        self.text = text


class Settings(Record):
    """The global options.

    Attributes:
        root: driver root on the host.
        ldcache: the loader cache, below the driver root.
        user: uid and gid that ask NVML, or None for the default.
        debug: file for the debug log, or "".
    """

    root: str = "/"
    ldcache: str = "/etc/ld.so.cache"
    user: tuple[int, int] | None = None
    debug: str = ""


def events(parser: Parser, argv: Sequence[str]) -> Iterator[Event]:
    """Yield the events of a command line; answer `--version` and words that are not taken."""
    for event in parse(parser, argv):
        if event[0] == "version":
            from ._version import version_text

            raise ParserExit(version_text(), 0)
        if not event[0] and not parser.arguments:
            raise too_many_arguments(parser)
        yield event


def start(settings: Settings) -> Log:
    """Check the settings and open the log: what comes first once the command line is read."""
    from ._debuglog import Log

    if not settings.root or not settings.ldcache:
        raise CommandError("initialization", "invalid argument")
    if not settings.debug:
        return Log()
    from ._version import libnvc_version

    log = Log.open(settings.debug)
    log.info(f"initializing library context (version={libnvc_version()})")
    log.info(f"using root {settings.root}")
    log.info(f"using ldcache {settings.ldcache}")
    return log


def discover(settings: Settings, log: Log, **options: Any) -> Inventory:
    """Call `libnvc.discover` with the settings and what the environment says, and log it."""
    import libnvc

    from ._debuglog import log_inventory

    if "PATH" not in os.environ:
        raise CommandError("detection", "environment variable PATH not found")
    options["path"] = os.environ["PATH"]
    mps_directory = os.environ.get("CUDA_MPS_PIPE_DIRECTORY")
    if mps_directory:
        options["mps_directory"] = mps_directory
    found: Inventory = libnvc.discover(settings.root, ldcache=settings.ldcache, **options)
    log_inventory(log, found)
    return found


def checked_path(option: str, path: str | None) -> str:
    """Return a path argument, refusing one that does not fit on a line."""
    path = path or ""
    if "\n" in path:
        raise CommandError("input", f"newline in the path of --{option}: {path}")
    return path


def number(action: str, text: str, low: int, high: int) -> int:
    """Return a decimal number, with the reference's wording where it is none or out of range."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise CommandError("input", f"{action} failed: invalid argument")
    # the length first: Python refuses to read thousands of digits
    if len(digits.lstrip("0")) > 20 or not low <= int(text) <= high:
        raise CommandError("input", f"{action} failed: numerical result out of range")
    return int(text)


def os_reason(error: OSError) -> str:
    """Return the system's words for an error, as they end the reference's messages."""
    return (error.strerror or "unknown error").lower()
