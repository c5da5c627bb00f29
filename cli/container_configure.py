# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-cli configure`: give a container access to GPUs."""

from __future__ import annotations

import os

from libnvc._record import Record

from ._argp import Option, Parser, too_many_arguments
from .container_common import (
    RIGHT_OPTIONS,
    SKIP_OPTIONS,
    CommandError,
    Settings,
    checked_path,
    discover,
    events,
    imex_channels,
    mig_control,
    number,
    start,
    wants_mig,
)
from .output import complain, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libnvc.model import Target
    from libnvc.plan import Operation, Plan

    from .container_common import Log

PARSER = Parser(
    name="nvidia-container-cli configure",
    doc="Give a container access to GPUs, before its program starts. Either everything is done "
    "or nothing.",
    arguments="ROOTFS",
    options=(
        Option(
            name="pid",
            short="p",
            arg="PID",
            doc="A process of the container; without it, this is called inside the container's "
            "namespaces",
        ),
        Option(
            name="device",
            short="d",
            arg="ID",
            doc="GPUs to give, separated by commas: index, UUID, PCI address or `all'",
        ),
        Option(
            name="require",
            short="r",
            arg="EXPR",
            doc="Refuse unless EXPR holds, as in `cuda>=12.1 brand=tesla,driver>=470'; may be "
            "repeated",
        ),
        Option(
            name="ldconfig",
            short="l",
            arg="PATH",
            doc="Update the loader cache with @PATH, a program of the host",
        ),
        Option(name="compute", short="c", doc="Give what CUDA and OpenCL programs need"),
        Option(name="utility", short="u", doc="Give nvidia-smi and what it needs"),
        Option(name="video", short="v", doc="Give what coding video needs, CUDA included"),
        Option(name="graphics", short="g", doc="Give what OpenGL and Vulkan programs need"),
        Option(name="display", short="D", doc="Give what X11 displays need, graphics included"),
        Option(name="ngx", short="n", doc="Give what NGX programs need"),
        Option(name="compat32", doc="Give 32-bit libraries, too"),
        *RIGHT_OPTIONS,
        Option(name="no-cgroups", doc="Add no device-cgroup rules"),
        Option(name="no-devbind", doc="Put no device nodes into the container"),
        *SKIP_OPTIONS,
        Option(name="no-cntlibs", doc="The same as --cuda-compat-mode=disabled, and stronger"),
        Option(
            name="cuda-compat-mode",
            arg="MODE",
            doc="What becomes of CUDA compatibility libraries of the image: `mount' or `ldconfig' "
            "to prefer them where they are newer, `disabled' to leave them alone (default: "
            "`mount')",
        ),
    ),
)

_REQUIREMENTS_MAX = 32
_PID_RANGE = (-(2**31), 2**31 - 1)


class Wish(Record):
    """A command line of `configure`, read and checked.

    Attributes:
        pid: a process of the container, or 0 if it is called inside the container.
        rootfs: its root, absolute.
        flags: options without an argument, in the order given.
        devices: selectors, as typed.
        requirements: expressions, as typed.
        mig_config, mig_monitor: whether MIG may be configured or watched.
        imex_channels: numbers.
        cuda_compat_mode: what becomes of the image's CUDA compatibility libraries.
    """

    pid: int
    rootfs: str
    flags: tuple[str, ...]
    devices: tuple[str, ...]
    requirements: tuple[str, ...]
    mig_config: bool
    mig_monitor: bool
    imex_channels: tuple[int, ...]
    cuda_compat_mode: str

    def skipped(self) -> frozenset[str]:
        """Return what discovery leaves out."""
        known = {option.name for option in SKIP_OPTIONS}
        return frozenset(flag.removeprefix("no-") for flag in self.flags if flag in known)


def configure(settings: Settings, argv: Sequence[str]) -> int:
    """Discover, plan and apply."""
    wish = read_wish(argv)
    with start(settings, wish.imex_channels) as log:
        return _configure(settings, wish, log, argv)


def _configure(settings: Settings, wish: Wish, log: Log, argv: Sequence[str]) -> int:
    import libnvc

    capabilities = tuple(flag for flag in wish.flags if flag in libnvc.CAPABILITIES)
    request = libnvc.Request(
        devices=wish.devices, requirements=wish.requirements, capabilities=capabilities
    )
    found = discover(
        settings,
        log,
        request,
        channels=wish.imex_channels,
        skip=wish.skipped(),
        mig_control=mig_control(config=wish.mig_config, monitor=wish.mig_monitor),
    )
    mode = "supervised" if wish.pid else "standalone"
    log.info(f"configuring container with '{' '.join((*wish.flags, mode))}'")
    target = libnvc.Target(pid=wish.pid, rootfs=wish.rootfs)
    layout = libnvc.inspect_container(target)
    log.info(f"setting pid to {target.pid or os.getppid()}")
    log.info(f"setting rootfs to {target.rootfs}")
    log.info(f"setting bins directory to {layout.bins_dir}")
    log.info(f"setting libs directory to {layout.libs_dir}")
    request = request.replace(
        mig_config=wish.mig_config,
        mig_monitor=wish.mig_monitor,
        imex_channels=wish.imex_channels,
        cuda_compat_mode=wish.cuda_compat_mode,
        layout=layout,
        device_nodes="no-devbind" not in wish.flags,
        device_rules="no-cgroups" not in wish.flags,
    )
    plan = libnvc.make_plan(found, request)
    for warning in plan.warnings[len(found.warnings) :]:
        log.warn(warning)
    keep = _keeper(settings, target, wish, argv)
    _apply(plan, target, log, settings.ldconfig)
    if keep is not None:
        keep(plan)
    return 0


def _keeper(
    settings: Settings, target: Target, wish: Wish, argv: Sequence[str]
) -> Callable[[Plan], object] | None:
    """Return what keeps the plan once it is applied, None if nothing does."""
    if settings.keep is not None:
        return settings.keep(target)
    pid = f"--pid={wish.pid}"
    if not settings.origin or pid not in argv or argv[-1] != wish.rootfs:
        return None
    # Whether two words name the container and mean nothing else: others name another one.
    other = wish.replace(pid=2 if wish.pid == 1 else 1, rootfs=f"{wish.rootfs}/other")
    words = [f"--pid={other.pid}" if word == pid else word for word in argv[:-1]]
    if read_wish([*words, other.rootfs]) != other:
        return None
    from .container_kept import keep_applied

    return keep_applied(settings, target)


def read_wish(argv: Sequence[str]) -> Wish:
    """Read and check the command line; nothing else has been done yet."""
    flags: list[str] = []
    values: dict[str, str] = {}
    devices: list[str] = []
    requirements: list[str] = []
    rights: dict[str, list[str]] = {}
    for name, value, _ in events(PARSER, argv):
        if value is None:
            flags.append(name)
        elif name == "device":
            devices += filter(None, value.split(","))
        elif name == "require":
            if len(requirements) == _REQUIREMENTS_MAX:
                raise CommandError("input", "too many requirements")
            requirements.append(value)
        elif name == "pid":
            values[name] = str(number("parse pid", value, *_PID_RANGE))
        elif name == "ldconfig":
            checked_path(name, value)  # and not used: nothing is executed
        elif name == "cuda-compat-mode":
            values[name] = value
            flags.append(f"{name}={value}")
        elif name in ("mig-config", "mig-monitor", "imex-channel"):
            rights.setdefault(name, []).append(value)
        elif "rootfs" in values:
            raise too_many_arguments(PARSER)
        else:
            values["rootfs"] = _checked_rootfs(value)
    rootfs = values.get("rootfs") or _checked_rootfs("")
    return Wish(
        pid=max(int(values.get("pid", 0)), 0),
        rootfs=rootfs,
        flags=tuple(flags),
        devices=tuple(devices),
        requirements=tuple(requirements),
        imex_channels=imex_channels(rights.get("imex-channel", ())),
        mig_config=wants_mig("mig-config", rights.get("mig-config", ())),
        mig_monitor=wants_mig("mig-monitor", rights.get("mig-monitor", ())),
        cuda_compat_mode=_compat_mode(flags, values.get("cuda-compat-mode", "mount")),
    )


def _compat_mode(flags: Sequence[str], mode: str) -> str:
    from libnvc.model import CUDA_COMPAT_MODES

    if mode not in CUDA_COMPAT_MODES:
        raise CommandError("container", f"invalid option: cuda-compat-mode={mode}")
    return "disabled" if "no-cntlibs" in flags else mode


def _checked_rootfs(path: str) -> str:
    if not path.startswith("/") or not path.strip("/."):  # "//" and "/." are the host's root too
        raise CommandError("input", "invalid rootfs directory")
    if "\n" in path:
        raise CommandError("input", f"invalid rootfs directory: newline in the path: {path}")
    return path


def _apply(plan: Plan, target: Target, log: Log, ldconfig: str | None) -> None:
    import libnvc

    try:
        applied = libnvc.apply(plan, target, ldconfig=ldconfig)
    except libnvc.ApplyError as error:
        _log_done(log, target, plan.operations[: error.operation or 0])
        log.warn(f"undone: {error}")
        raise
    _log_done(log, target, plan.operations)
    for warning in applied.warnings[len(plan.warnings) :]:
        log.warn(warning)
        # what discovery and planning missed is for the log; this is about the container at hand
        complain(one_line(f"nvidia-container-cli: warning: {warning}") + "\n")


def _log_done(log: Log, target: Target, operations: Sequence[Operation]) -> None:
    if log:
        from ._debuglog import log_operations

        log_operations(log, target.rootfs, operations)
