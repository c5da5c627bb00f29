# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk runtime configure`: give a container engine the NVIDIA runtime, or take it back."""

from __future__ import annotations

import os

from libnvc._engines import containerd, crio, docker, oci_hook
from libnvc._engines.runtime import Runtime
from libnvc.errors import RequestError

from ._flags import Flag
from .ctk_files import apply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from libnvc._engines.files import Change

    from .ctk import Log

_ENGINES = {"docker": docker, "containerd": containerd, "crio": crio}
_HOOK_MODES = ("oci-hook", "hook")
_FILE_MODES = ("config-file", "config")
_RUNTIME = "nvidia-container-runtime"
_HOOK = "/usr/bin/nvidia-container-runtime-hook"
_PODMAN = (
    "podman needs no entry: use CDI devices, podman --runtime PATH/nvidia-container-runtime, or a "
    "hook: nvidia-ctk runtime configure --config-mode=oci-hook "
    "--oci-hook-path=/usr/share/containers/oci/hooks.d/oci-nvidia-hook.json"
)

FLAGS = (
    Flag(name="runtime", doc="The engine: docker, containerd or crio", default="docker"),
    Flag(name="config", doc="The engine's configuration file"),
    Flag(name="drop-in-config", doc="The file that is added to it (containerd, crio)"),
    Flag(
        name="config-source",
        doc="Where the engine's configuration is read from: file, or command (containerd, crio)",
        default="file",
    ),
    Flag(name="executable-path", doc="The engine's program, for --config-source=command"),
    Flag(
        name="config-mode",
        doc="What is written: config-file, or oci-hook (a manifest for hooks.d)",
        default="config-file",
    ),
    Flag(name="oci-hook-path", doc="The manifest's file; standard output if not given"),
    Flag(name="nvidia-runtime-name", doc="Name of the runtime", default="nvidia"),
    Flag(
        name="nvidia-runtime-path",
        aliases=("runtime-path",),
        doc=f"The runtime's program (docker: {_RUNTIME}; others: /usr/bin/{_RUNTIME})",
    ),
    Flag(name="nvidia-runtime-hook-path", doc="The hook, for oci-hook", default=_HOOK),
    Flag(
        name="nvidia-set-as-default",
        aliases=("set-as-default",),
        kind=bool,
        doc="Make it the default runtime",
    ),
    Flag(
        name="cdi.enabled",
        aliases=("cdi.enable", "enable-cdi"),
        kind=bool,
        doc="Have the engine read CDI specifications (docker, containerd)",
    ),
    Flag(name="unset", kind=bool, doc="Take the runtime out again"),
    Flag(name="diff", kind=bool, doc="Show what would change and write nothing"),
    Flag(name="dry-run", kind=bool, doc="Show the files as they would be and write nothing"),
)


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command.

    Raises:
        RequestError: the flags make no sense together.
        ConfigError: a file cannot be read, understood or written; see `commit` for what is done.
    """
    mode = values["config-mode"]
    if mode in _HOOK_MODES:
        _hook(values, log)
        return
    if mode not in _FILE_MODES:
        log.warning(f"Ignoring unsupported config mode {mode}: config-file is meant")
    engine = values["runtime"]
    if engine not in _ENGINES:
        hint = _PODMAN if engine == "podman" else f"known are {', '.join(_ENGINES)}"
        raise RequestError(f"unrecognized runtime '{engine}'", hint=hint)
    _check(values, log)
    path = values["config"] or _ENGINES[engine].CONFIG
    drop_in = values["drop-in-config"] or getattr(_ENGINES[engine], "DROP_IN", "")
    if values["unset"]:
        changes = _unset(engine, path, drop_in, values["nvidia-runtime-name"])
    else:
        runtime, source = _runtime(values, log), _source(values, log)
        changes = _configure(engine, path, drop_in, runtime, source=source, log=log)
    if apply(changes, values, log):
        log.info(f"It is recommended that {engine} daemon be restarted.")


def _check(values: Mapping[str, Any], log: Log) -> None:
    engine = values["runtime"]
    drop_in = values["drop-in-config"]
    if engine == "docker":
        if drop_in:
            raise RequestError("runtime docker does not support drop-in configs")
        if values["config-source"] == "command":
            log.warning("Ignoring config-source=command for docker: its file is read")
        if values["executable-path"]:
            log.warning("Ignoring executable-path flag for docker")
    elif drop_in and not os.path.isabs(drop_in):
        raise RequestError(f'the drop-in-config path "{drop_in}" is not an absolute path')
    if values["config-source"] not in ("file", "command"):
        source = values["config-source"]
        raise RequestError(f'unrecognized config source "{source}"', hint="file or command")
    if not values["nvidia-runtime-name"]:
        raise RequestError("the NVIDIA runtime name is empty")


def _runtime(values: Mapping[str, Any], log: Log) -> Runtime:
    engine = values["runtime"]
    path = values["nvidia-runtime-path"]
    if engine == "docker":
        path = path or _RUNTIME
    else:
        path = path or f"/usr/bin/{_RUNTIME}"
        if not os.path.isabs(path):
            raise RequestError(f'the NVIDIA runtime path "{path}" is not an absolute path')
    if engine == "crio" and values["cdi.enabled"]:
        log.warning("Ignoring cdi.enabled flag for crio")
    if os.path.isabs(path) and not os.access(path, os.X_OK):
        log.warning(f"{path} is no program on this machine: see --nvidia-runtime-path")
    return Runtime(
        name=values["nvidia-runtime-name"],
        path=path,
        is_default=values["nvidia-set-as-default"],
        has_cdi=values["cdi.enabled"],
    )


def _source(values: Mapping[str, Any], log: Log) -> dict[str, Any] | None:
    """Return the configuration that the engine's program prints, None if files are to be read."""
    if values["config-source"] != "command" or values["runtime"] == "docker":
        return None
    from .ctk_source import dumped

    module = _ENGINES[values["runtime"]]
    program = values["executable-path"]
    commands = [(program or name, *words) for name, *words in module.DUMP]
    return dumped(commands[:1] if program else commands, log)


def _configure(
    engine: str,
    path: str,
    drop_in: str,
    runtime: Runtime,
    *,
    source: dict[str, Any] | None,
    log: Log,
) -> Sequence[Change]:
    if engine == "docker":
        return docker.configure(path, runtime)
    if engine == "crio":
        return crio.configure(path, drop_in, runtime, source)
    changes, warnings = containerd.configure(path, drop_in, runtime, source)
    for warning in warnings:
        log.warning(warning)
    return changes


def _unset(engine: str, path: str, drop_in: str, name: str) -> Sequence[Change]:
    if engine == "docker":
        return docker.unset(path, name)
    if engine == "crio":
        return crio.unset(drop_in, name)
    return containerd.unset(path, drop_in, name)


def _hook(values: Mapping[str, Any], log: Log) -> None:
    hook = values["nvidia-runtime-hook-path"]
    if not os.path.isabs(hook):
        raise RequestError(f'the NVIDIA runtime hook path "{hook}" is not an absolute path')
    log.warning("OCI hooks are deprecated: engines that know CDI need none")
    path = values["oci-hook-path"]
    if path:
        change = oci_hook.unset if values["unset"] else oci_hook.configure
        apply(change(path, hook), values, log)
    elif values["unset"]:
        raise RequestError("--unset needs --oci-hook-path with --config-mode=oci-hook")
    else:
        from .output import put

        put(oci_hook.manifest(hook).decode())
