# SPDX-License-Identifier: Apache-2.0
"""What the commands of `nvidia-container-cli` share: settings, input checks, refusals."""

from __future__ import annotations

import os

from libnvc._record import Record

from ._argp import Option, ParserExit, parse, too_many_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Self

    from libnvc.model import Identity, Inventory, Request, Target
    from libnvc.plan import Plan

    from ._argp import Event, Parser

    #: Looks at a container before it is changed; what it returns keeps the plan that was applied.
    Keeper = Callable[[Target], Callable[[Plan], object] | None]

#: Options that leave a part of the driver out of discovery, by the name `discover` has for it.
SKIP_OPTIONS = (
    Option(name="no-persistenced", doc="Leave out the socket of nvidia-persistenced"),
    Option(name="no-fabricmanager", doc="Leave out the socket of nv-fabricmanager"),
    Option(name="no-gsp-firmware", doc="Leave out the GSP firmware"),
)

#: Options that name rights beside those to use GPUs.
RIGHT_OPTIONS = (
    Option(name="mig-config", arg="ID", doc="What configuring MIG takes; only `all' is an ID"),
    Option(name="mig-monitor", arg="ID", doc="What watching MIG takes; only `all' is an ID"),
    Option(name="imex-channel", arg="CHANNEL", doc="IMEX channels, by number"),
)

_IMEX_CHANNELS_MAX = 1 << 20  # minor numbers have 20 bits


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


class ImexError(CommandError):
    """A channel that cannot exist. The reference's line for it names no class."""

    def __str__(self) -> str:
        return f"error parsing IMEX info: {self.text}"


class Settings(Record):
    """The global options.

    Attributes:
        root: driver root on the host.
        ldcache: the loader cache, below the driver root.
        user: uid and gid that ask NVML, or None for the default.
        debug: file for the debug log, or "".
        load_kmods: whether kernel modules are loaded and device nodes made first.
        no_create_imex_channels: whether those of IMEX channels are left out.
        no_pivot: without effect: what it asks for happens where it is needed.
        ldconfig: the host's program that updates loader caches, or None: libnvc does it itself. No
            option: only `config.toml` decides this.
        origin: path of the native program that called, its name as called, and its words; () where
            none did.
        no_cache: whether nothing is kept.
        keep: called with a container before it is changed; returns what is then called with the
            plan that was applied to it, or None. None: only the words decide what is kept.
        graphics: whether capabilities of graphics bring files that no library's name covers, and
            DRM nodes. No option either: who calls the command knows it without.
    """

    root: str = "/"
    ldcache: str = "/etc/ld.so.cache"
    user: tuple[int, int] | None = None
    debug: str = ""
    load_kmods: bool = False
    no_create_imex_channels: bool = False
    no_pivot: bool = False
    ldconfig: str | None = None
    origin: tuple[str, ...] = ()
    no_cache: bool = False
    keep: Keeper | None = None
    graphics: bool = False


class Log:
    """Where the debug log goes: nowhere, and then it is false; see `_debuglog` for a file.

    A context manager: leaving it ends the log.
    """

    def __bool__(self) -> bool:
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the log."""

    def info(self, text: str) -> None:
        """Write a message."""

    def warn(self, text: str) -> None:
        """Write a warning."""


def events(parser: Parser, argv: Sequence[str]) -> Iterator[Event]:
    """Yield the events of a command line; answer `--version` and words that are not taken."""
    for event in parse(parser, argv):
        if event[0] == "version":
            from ._version import version_text

            raise ParserExit(version_text(), 0)
        if not event[0] and not parser.arguments:
            raise too_many_arguments(parser)
        yield event


def start(settings: Settings, channels: Sequence[int] = ()) -> Log:
    """Open the log: what comes first once the command line is read.

    Args:
        settings: the global options.
        channels: numbers of IMEX channels.
    """
    if not settings.root or not settings.ldcache:
        raise CommandError("initialization", "invalid argument")
    log = Log()
    if settings.debug:
        from ._debuglog import FileLog

        log = FileLog(settings.debug)
        _log_start(settings, log, channels)
    return log


def _log_start(settings: Settings, log: Log, channels: Sequence[int]) -> None:
    from libnvc import _build

    from ._version import build_revision
    from .container_user import default_user

    build = f"version={_build.VERSION}, build={build_revision()}"
    log.info(f"initializing library context ({build})")
    log.info(f"using root {settings.root}")
    log.info(f"using ldcache {settings.ldcache}")
    uid, gid = settings.user or default_user()
    log.info(f"using unprivileged user {uid}:{gid}")
    for channel in channels:
        log.info(f"using IMEX channel {channel}")
    if os.geteuid() == 0:
        _log_kept(log)


def _log_kept(log: Log) -> None:
    """Say which kept results calls without a log do not use, and why; with one, none is used."""
    from libnvc._kept import PLANS, entries
    from libnvc._kept_state import objection
    from libnvc.errors import NvcError

    try:
        found = [(entry.name, objection(entry)) for entry in entries()]
    except NvcError as error:
        log.info(f"not using what is kept: {error}")
        return
    for name, why in found:
        if why:
            log.info(f"not using what is kept in {PLANS}/{name}: {why}")


def discover(
    settings: Settings,
    log: Log,
    request: Request | None,
    *,
    channels: Sequence[int] = (),
    skip: frozenset[str] = frozenset(),
    mig_control: frozenset[str] = frozenset(),
) -> Inventory:
    """Prepare the host, read what the driver has, and log it.

    The settings and what the environment says count. Where preparing the host failed in part, the
    inventory has no dependencies: next time it may be another.

    Args:
        settings: the global options.
        log: the debug log.
        request: for what; NVML is asked if that needs it. None: it is asked in any case.
        channels: numbers of the IMEX channels whose nodes are made.
        skip: what `libnvc.discover` leaves out.
        mig_control: rights to control MIG that it looks for.
    """
    import libnvc

    loaded = _load(settings, log, channels)
    if "PATH" not in os.environ:
        raise CommandError("detection", "environment variable PATH not found")
    options: dict[str, Any] = {}
    mps_directory = os.environ.get("CUDA_MPS_PIPE_DIRECTORY")
    if mps_directory:
        options["mps_directory"] = mps_directory
    if settings.graphics and request is not None:
        from libnvc._planner.policy import shows_pictures

        options["graphics"] = () if shows_pictures(request.capabilities) else None
    words = " ".join(f"no-{word}" for word in sorted(skip))
    log.info(f"requesting driver information with '{words}'")
    found = libnvc.discover(
        settings.root,
        ldcache=settings.ldcache,
        path=os.environ["PATH"],
        skip=skip,
        mig_control=mig_control,
        **options,
    )
    if request is None or libnvc.needs_probe(request, found):
        from .container_user import default_user

        uid, gid = settings.user or default_user()
        found = libnvc.probe(found, uid=uid, gid=gid, fresh=request is None)
    if log:
        from ._debuglog import log_inventory

        log_inventory(log, found, skip)
    if loaded is None or not found.dependencies:
        return found.replace(dependencies=())
    return found.replace(dependencies=(*found.dependencies, *loaded))


def _load(settings: Settings, log: Log, channels: Sequence[int]) -> tuple[Identity, ...] | None:
    """Load the driver if that is asked for; return what that rests on, None if it failed."""
    if not settings.load_kmods:
        return ()
    from libnvc._system.load import load_driver

    made = () if settings.no_create_imex_channels else tuple(channels)
    return load_driver(settings.root, log, imex_channels=made) or None


def mig_control(*, config: bool, monitor: bool) -> frozenset[str]:
    """Return which rights to control MIG discovery looks for."""
    return frozenset(name for name, on in (("config", config), ("monitor", monitor)) if on)


def wants_mig(right: str, values: Sequence[str]) -> bool:
    """Tell whether `--mig-config` or `--mig-monitor` asks for something.

    Args:
        right: "mig-config" or "mig-monitor".
        values: as typed, one for each time that the option was given.
    """
    tokens = _tokens(values)
    for token in tokens:
        if token.lower() != "all":
            raise CommandError(right, f"{token}: only 'all' devices are currently supported")
    return bool(tokens)


def imex_channels(values: Sequence[str]) -> tuple[int, ...]:
    """Return the channels of `--imex-channel`, in the order given."""
    channels = []
    for token in _tokens(values):
        digits = token.lstrip("0") or "0"
        is_number = token.isascii() and token.isdigit()
        # the length first: Python refuses to read thousands of digits
        if not is_number or len(digits) > 7 or int(digits) >= _IMEX_CHANNELS_MAX:
            raise ImexError("imex", f"unsupported IMEX channel value: {token}")
        channels.append(int(digits))
    return tuple(channels)


def _tokens(values: Sequence[str]) -> list[str]:
    return [token for value in values for token in value.split(",") if token]


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
