# SPDX-License-Identifier: Apache-2.0
"""Give a container that is about to be created what it asks for, by its OCI configuration."""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, EPERM

import libnvc
from libnvc._discover.root import DriverRoot
from libnvc._discover.tables import DEFAULT_PATH
from libnvc._native.flat import encode
from libnvc._oci.document import dumps, read
from libnvc._oci.wanted import decode, decode_devices, is_cdi_name, read_container
from libnvc._record import Record
from libnvc._render.oci import add_hook, edit_oci, remove_hooks
from libnvc._system.programs import find_program
from libnvc._system.userns import in_user_namespace
from libnvc.errors import NvcError, RequestError, shown

from .container_common import discover, mig_control, start
from .runtime_args import FAILED
from .runtime_request import ldconfig, on_tegra, read_request, read_settings, rest_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libnvc._config.settings import Config
    from libnvc._oci.wanted import Container, Wanted
    from libnvc.model import Identity
    from libnvc.plan import Plan

    from .runtime_args import Call
    from .runtime_front import Origin
    from .runtime_log import RuntimeLog

#: The hook of containers that the runtime gives nothing itself, under both of its names.
_PRESTART = ("nvidia-container-runtime-hook", "nvidia-container-toolkit")
_HOOK = _PRESTART[0]
_STAGE = "createRuntime"
_PLAN = "nvidia-container.plan"
_MODIFIER = f"{FAILED}failed to construct OCI spec modifier: "

_NOT_APPLIED = (
    "could not apply required modification to OCI specification: error modifying OCI spec"
)

#: The kind of device names for which no CDI file is looked up.
_OWN_KIND = "runtime.nvidia.com/gpu="

#: What a container's own variables switch on beside GPUs, with this value alone.
_GATED = ("NVIDIA_GDS", "NVIDIA_MOFED", "NVIDIA_NVSWITCH", "NVIDIA_GDRCOPY")
_ON = "enabled"


class _Places(Record):
    """Absolute paths: the bundle, the container's root, the programs of this installation.

    Also the host's program that updates loader caches, None where libnvc does it itself.
    """

    bundle: str
    rootfs: str
    programs: str
    ldconfig: str | None


class Made(Record):
    """What is made for a container.

    Attributes:
        edited: its configuration.
        hook: the hook in it.
        plan: what the hook does; None if it finds out itself.
        file: where that is, or "".
        rootfs: the container's root.
        dependencies: what all of this rests on; nothing is kept if there are none.
    """

    edited: dict[str, Any]
    hook: dict[str, Any]
    plan: Plan | None
    file: str
    rootfs: str
    dependencies: tuple[Identity, ...]


def create(config: Config, call: Call, origin: Origin, log: RuntimeLog) -> None:
    """Change the configuration of a container that asks for GPUs; leave all others alone.

    Args:
        config: the runtime's; its mode is the one to use.
        call: the command line.
        origin: what called this.
        log: takes what was granted and refused.

    Raises:
        NvcError, CommandError: the configuration is as it was.
    """
    bundle = _find_bundle(call)
    path = os.path.realpath(f"{bundle}/config.json")
    document = _read(path)
    container = read_container(document)
    mode, wanted, platform = _resolve(config, container)
    for key in config.unknown:
        log.warn(f"{config.path}: {key}: unknown key")
    for line in wanted.refused:
        log.warn(f"container {call.container}: {line}")
    if wanted.devices is None:
        return
    rootfs = os.path.realpath(os.path.join(bundle, container.rootfs))
    places = _Places(
        bundle=bundle,
        rootfs=rootfs,
        programs=os.path.dirname(origin.program),
        ldconfig=ldconfig(config),
    )
    made: Made | None = None
    gated = () if mode == "cdi" else _gated(container)
    given = document
    if gated:
        from .runtime_gated import with_gated

        given = with_gated(document, gated, container, config)
    if mode == "cdi":
        edited = _with_cdi(document, wanted.devices, config, log)
    else:
        if mode == "legacy":
            made = _with_prestart(given, config, places)
        elif mode == "csv":
            from .runtime_csv import plan_csv

            plan = plan_csv(container, wanted, config, rootfs, log.warn)
            made = _with_plan(given, plan, container, places, ())
        else:
            plan = _make_plan(wanted, config, rootfs, log)
            made = _with_plan(given, plan, container, places, platform)
        edited = made.edited
    log.info(
        f"container {call.container}: given by mode {mode}, asked for by its {wanted.source}: "
        f"devices '{','.join(wanted.devices)}', capabilities '{','.join(wanted.capabilities)}', "
        f"IMEX channels '{','.join(wanted.imex_channels)}'"
    )
    if edited == document:
        return
    # What an image says of CUDA on a Jetson is not among what kept plans are looked up by, and what
    # is gated is not among what they rest on.
    if made is not None and config.cache and mode != "csv" and not gated:
        from .runtime_kept import keep_made

        keep_made(made, path, config, origin, log)
    _write(path, dumps(edited))


def _gated(container: Container) -> tuple[str, ...]:
    """Return the variables that switch something on."""
    return tuple(name for name, value in container.environment if name in _GATED and value == _ON)


def _find_bundle(call: Call) -> str:
    if call.bundle is None:
        raise NvcError(
            f"{FAILED}error constructing OCI specification: error getting bundle directory: "
            "error getting bundle dir from args: bundle option requires an argument"
        )
    bundle = os.path.realpath(call.bundle or ".")
    try:
        bundle.encode()
    except UnicodeEncodeError:
        raise NvcError(
            f"{FAILED}{shown(bundle)}: the bundle's path is not UTF-8: no hook can be told it"
        ) from None
    return bundle


def _read(path: str) -> dict[str, Any]:
    try:
        return read(path)
    except NvcError as error:
        raise NvcError(f"{_MODIFIER}failed to load OCI spec: {error}") from None


def _resolve(config: Config, container: Container) -> tuple[str, Wanted, tuple[Identity, ...]]:
    """Return the mode in which a container is given what it wants, that, and what both rest on."""
    mode = config.runtime.mode
    if mode not in ("auto", "legacy", "csv", "cdi", "jit-cdi"):
        raise NvcError(f'{_MODIFIER}invalid mode "{shown(mode)}"')
    if mode in ("auto", "cdi"):
        named = decode_devices(container, config)
        names = named.devices or ()
        if mode == "cdi" or (names and all(is_cdi_name(name) for name in names)):
            return _cdi(container, config, named)
    wanted = decode(container, config, annotations=False)
    if mode in ("legacy", "csv") or wanted.devices is None:
        return mode, wanted, ()
    return _planned(config, wanted)


def _planned(config: Config, wanted: Wanted) -> tuple[str, Wanted, tuple[Identity, ...]]:
    """Return the mode of containers that get a plan of their own: what the host's driver takes."""
    is_csv, identities = on_tegra(config)
    return "csv" if is_csv else "jit-cdi", wanted, identities


def _cdi(
    container: Container, config: Config, named: Wanted
) -> tuple[str, Wanted, tuple[Identity, ...]]:
    """Complete the names; those of the runtime's own kind mean the planner."""
    if named.devices is None:
        return "cdi", named, ()
    given = (name or "none" for name in named.devices or ("none",))
    kind = config.runtime.default_kind
    names = tuple(dict.fromkeys(n if is_cdi_name(n) else f"{kind}={n}" for n in given))
    own = [name.removeprefix(_OWN_KIND) for name in names if name.startswith(_OWN_KIND)]
    if not own:
        return "cdi", named.replace(devices=names), ()
    if len(own) < len(names):
        raise RequestError(
            f"{_NOT_APPLIED}: requesting a CDI device with vendor 'runtime.nvidia.com' "
            "is not supported when requesting other CDI devices"
        )
    wanted = decode(container, config, annotations=True)
    devices = tuple(name for name in own if name != "none")
    return _planned(config, wanted.replace(devices=devices))


def _with_cdi(
    document: dict[str, Any], names: tuple[str, ...], config: Config, log: RuntimeLog
) -> dict[str, Any]:
    """Return the configuration with what CDI files say that devices are."""
    from libnvc._cdi.edits import apply_edits
    from libnvc._cdi.registry import read_registry

    registry = read_registry(config.runtime.spec_dirs)
    for warning in registry.warnings:
        log.warn(f"CDI: {warning}")
    try:
        edits = registry.find(names)
        return apply_edits(remove_hooks(document, "prestart", _PRESTART), edits)
    except RequestError as error:
        message = f"{_NOT_APPLIED}: failed to inject CDI devices: {error}"
        raise type(error)(
            message, errno=error.errno, path=error.path, step=error.step, hint=error.hint
        ) from None


def _with_prestart(document: dict[str, Any], config: Config, places: _Places) -> Made:
    """Put the prestart hook, which does everything, into the configuration unless it is there."""
    path, dependencies = _hook_path(config, places.programs)
    hook = {"path": path, "args": [_base(path), "prestart"]}
    has_one = remove_hooks(document, "prestart", _PRESTART) != document
    return Made(
        edited=document if has_one else add_hook(document, "prestart", hook),
        hook=hook,
        plan=None,
        file="",
        rootfs=places.rootfs,
        dependencies=dependencies,
    )


def _with_plan(
    document: dict[str, Any],
    plan: Plan,
    container: Container,
    places: _Places,
    platform: tuple[Identity, ...],
) -> Made:
    """Put what a plan gives into the configuration; the rest of it becomes a hook.

    `platform`: what it rests on that there is a plan.
    """
    nodes = not (container.user_namespace or in_user_namespace())
    bare = remove_hooks(remove_hooks(document, "prestart", _PRESTART), _STAGE, (_HOOK,))
    edited, rest = edit_oci(bare, plan, nodes=nodes)
    file = f"{places.bundle}/{_PLAN}"
    _replace(file, encode(rest), None)
    hook = {
        "path": f"{places.programs}/{_HOOK}",
        "args": [_HOOK, "create-runtime", file, places.rootfs, *filter(None, (places.ldconfig,))],
        "env": [f"PATH={DEFAULT_PATH}"],
    }
    return Made(
        edited=add_hook(edited, _STAGE, hook, first=True),
        hook=hook,
        plan=rest,
        file=file,
        rootfs=places.rootfs,
        dependencies=rest_on(plan.dependencies, platform),
    )


def _make_plan(wanted: Wanted, config: Config, rootfs: str, log: RuntimeLog) -> Plan:
    request = read_request(wanted, config, libnvc.inspect_rootfs(rootfs))
    settings = read_settings(config)
    with start(settings, request.imex_channels) as debug:
        found = discover(
            settings,
            debug,
            request,
            channels=request.imex_channels,
            mig_control=mig_control(config=request.mig_config, monitor=request.mig_monitor),
        )
    plan = libnvc.make_plan(found, request)
    for warning in plan.warnings:
        log.warn(warning)
    return plan


def _hook_path(config: Config, programs: str) -> tuple[str, tuple[Identity, ...]]:
    """Return the path of the prestart hook: of this installation, unless another is configured.

    And what that rests on: nothing is known of where others are looked for.
    """
    name = config.hook.path
    own = name if name.startswith("/") else f"{programs}/{name}"
    root = DriverRoot("/")
    if root.note(own) is not None or name.startswith("/"):
        return own, tuple(root.identities.values())
    return find_program(name, os.environ["PATH"]) or own, ()


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _write(path: str, content: bytes) -> None:
    """Give a configuration new content in one step; its owner and permissions stay.

    Raises:
        NvcError: that failed.
    """
    try:
        _replace(path, content, os.stat(path))
    except NvcError as error:
        # A file that cannot be replaced: a mount, or one whose owner cannot be given to another.
        if error.errno not in (EBUSY, EPERM, EINVAL):
            raise
        with open(path, "wb") as file:
            file.write(content)


def _replace(path: str, content: bytes, old: os.stat_result | None) -> None:
    """Write a file beside its place and move it there.

    Args:
        path: absolute.
        content: all of it.
        old: whose owner and permissions it gets; None: ours alone.

    Raises:
        NvcError: that failed, and nothing has changed.
    """
    new = f"{path}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        if os.path.lexists(new):
            os.unlink(new)  # of one that was killed
        file = os.open(new, flags, 0o600)
        try:
            if old is not None:
                _give(file, old)
            left = memoryview(content)
            while left:
                left = left[os.write(file, left) :]
            os.rename(new, path)
        except BaseException:
            os.unlink(new)
            raise
        finally:
            os.close(file)
    except OSError as error:
        raise NvcError(
            f"could not write {path}: {(error.strerror or '').lower()}",
            errno=error.errno or 0,
            path=path,
            step="write",
        ) from None


def _give(file: int, old: os.stat_result) -> None:
    mine = os.fstat(file)
    if (old.st_uid, old.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(file, old.st_uid, old.st_gid)
    os.fchmod(file, old.st_mode & 0o7777)
