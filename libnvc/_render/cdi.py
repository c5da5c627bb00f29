# SPDX-License-Identifier: Apache-2.0
"""Say a plan as edits of the Container Device Interface (CDI).

What such edits cannot say is left to programs that the container's runtime calls: nvidia-cdi-hook
makes links, updates the loader cache, and writes what depends on the container.
"""

from __future__ import annotations

import os
import stat

from .._discover.tables import PROC_DIRECTORY
from .._record import Record
from ..errors import DiscoveryError, MissingDeviceError, RequestError, shown
from ..plan import (
    BindMount,
    DeviceAccess,
    DeviceNode,
    Directory,
    Env,
    Group,
    LoaderCache,
    Symlink,
    Tmpfs,
    WriteFile,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..plan import Operation, Plan

    Document = dict[str, Any]

LINKS = "create-symlinks"
COMPAT = "enable-cuda-compat"
CACHE = "update-ldcache"
NODES = "disable-device-node-modification"
PROFILE = "update-application-profile"
#: Several in one call.
_SEQUENCE, _THEN = "sequence", "then"
#: In the order in which they run.
HOOKS = (LINKS, COMPAT, CACHE, NODES, PROFILE)

_PROFILES = "/etc/nvidia"
#: What a hook makes in the container, by the directory it is in.
_MADE_BY_HOOKS = ((f"{PROC_DIRECTORY}/", NODES), (f"{_PROFILES}/", PROFILE))
_OTHERS_MAY_USE = stat.S_IROTH | stat.S_IWOTH


class HookProgram(Record):
    """How hooks are called.

    Attributes:
        path: of nvidia-cdi-hook, or of nvidia-ctk, which has the same hooks.
        ldconfig: path on the host for the loader cache's hook, "" for its own choice.
        disabled: names of hooks that are left out.
        compat: what the hook for CUDA compatibility is told, () for the driver's version.
    """

    path: str = "/usr/bin/nvidia-cdi-hook"
    ldconfig: str = ""
    disabled: frozenset[str] = frozenset()
    compat: tuple[str, ...] = ()


def cdi_edits(plan: Plan, program: HookProgram) -> Document:
    """Return `containerEdits` of a CDI file for a plan; members that would be empty are missing.

    Device nodes are looked at, for the rights that they give.

    Raises:
        RequestError: an operation cannot be said there: it is named.
        MissingDeviceError: the host's node of a device is not there.
        DiscoveryError: a path is not UTF-8.
    """
    edits = _Edits(program, plan.driver_version)
    for operation in plan.operations:
        edits.add(operation)
    edits.check_rules()
    return edits.document()


class _Edits:
    def __init__(self, program: HookProgram, version: str) -> None:
        self._program = program
        self._version = version
        self._env: list[str] = []
        self._nodes: list[Document] = []
        self._numbers: set[tuple[int, int]] = set()
        self._rules: list[DeviceAccess] = []
        self._mounts: list[Document] = []
        self._gids: set[int] = set()
        self._links: dict[bool, list[str]] = {True: [], False: []}
        self._folders: dict[str, None] | None = None
        self._wanted: set[str] = set()

    def add(self, operation: Operation) -> None:
        if isinstance(operation, Env):
            self._env.append(f"{operation.name}={operation.value}")
        elif isinstance(operation, DeviceNode):
            self._add_node(operation)
        elif isinstance(operation, DeviceAccess):
            self._rules.append(operation)
        elif isinstance(operation, Group):
            self._gids.add(operation.gid)
        elif isinstance(operation, Symlink):
            is_graphics = operation.origin == "graphics"
            self._links[is_graphics].append(f"{operation.target}::{operation.path}")
        elif isinstance(operation, LoaderCache):
            self._add_cache(operation)
        elif self._is_made_by_hook(operation):
            return
        elif isinstance(operation, BindMount):
            self._mounts.append(_mount(operation))
        else:
            _refuse(operation)

    def _is_made_by_hook(self, operation: Operation) -> bool:
        """Tell whether a hook makes what an operation does; it is called then."""
        if not isinstance(operation, Tmpfs | Directory | WriteFile | BindMount):
            return False
        for directory, hook in _MADE_BY_HOOKS:
            if f"{operation.path}/".startswith(directory):
                if not isinstance(operation, BindMount):
                    self._wanted.add(hook)
                return True
        return False

    def _add_node(self, operation: DeviceNode) -> None:
        self._numbers.add((operation.major, operation.minor))
        node: Document = {"path": operation.path}
        numbers: Document = {"major": operation.major}
        if operation.minor:
            numbers["minor"] = operation.minor
        if not operation.source:  # the runtime makes one, if it is told everything
            mode = {"fileMode": operation.mode, "permissions": "rwm"}
            self._nodes.append({**node, "type": "c", **numbers, **mode})
            return
        if operation.source != operation.path:
            node["hostPath"] = operation.source
        try:
            found = os.stat(operation.source)
        except OSError as error:
            raise MissingDeviceError(
                f"stat failed: {operation.source}: {(error.strerror or '').lower()}",
                errno=error.errno or 0,
                path=operation.source,
                step="stat",
                origin=operation.origin,
            ) from None
        node.update(numbers, fileMode=stat.S_IMODE(found.st_mode) & 0o777, permissions="rwm")
        if found.st_gid:
            node["gid"] = found.st_gid
            if found.st_mode & _OTHERS_MAY_USE != _OTHERS_MAY_USE:
                self._gids.add(found.st_gid)
        self._nodes.append(node)

    def check_rules(self) -> None:
        """Refuse rights to devices that no node gives: CDI has no such edit."""
        for rule in self._rules:
            if rule.count != 1 or (rule.major, rule.minor) not in self._numbers:
                _refuse(rule)

    def _add_cache(self, operation: LoaderCache) -> None:
        if operation.directories:
            _refuse(operation)  # of an image, and none is known here
        self._wanted |= {COMPAT, CACHE}
        places = (path.rpartition("/")[0] for _, path, _ in operation.libraries)
        self._folders = {**(self._folders or {}), **dict.fromkeys(places)}

    def document(self) -> Document:
        members = {
            "env": self._env,
            "deviceNodes": self._nodes,
            "hooks": self._hooks(),
            "mounts": self._mounts,
            "additionalGids": sorted(self._gids),
        }
        document = {name: value for name, value in members.items() if value}
        _check_text(document)
        return document

    def _hooks(self) -> list[Document]:
        folders = [word for place in self._folders or () for word in ("--folder", place)]
        ldconfig = ["--ldconfig-path", self._program.ldconfig] if self._program.ldconfig else []
        calls = [
            *((LINKS, _link_words(self._links[is_graphics])) for is_graphics in (True, False)),
            (COMPAT, list(self._program.compat) or [f"--host-driver-version={self._version}"]),
            (CACHE, [*ldconfig, *folders] if folders else []),
            (NODES, []),
            (PROFILE, []),
        ]
        wanted = [
            [name, *words]
            for name, words in calls
            if (bool(words) if name in (LINKS, CACHE) else name in self._wanted)
            and name not in self._program.disabled
        ]
        return [self._hook(call) for call in wanted]

    def _hook(self, words: list[str]) -> Document:
        path = self._program.path
        return {
            "hookName": "createContainer",
            "path": path,
            "args": [*_command(path), *words],
            "env": ["NVIDIA_CTK_DEBUG=false"],
        }


def join_hooks(edits: Document) -> Document:
    """Return `containerEdits` whose hooks, by `cdi_edits`, are one call of libnvc's program."""
    hooks = edits.get("hooks", [])
    if len(hooks) < 2:
        return edits
    first = hooks[0]
    command = _command(first["path"])
    calls = [hook["args"][len(command) :] for hook in hooks]
    rest = [word for call in calls[1:] for word in (_THEN, *call)]
    return {**edits, "hooks": [{**first, "args": [*command, _SEQUENCE, *calls[0], *rest]}]}


def _command(path: str) -> list[str]:
    program = os.path.basename(path)
    return [program, "hook"] if program == "nvidia-ctk" else [program]


def _link_words(links: list[str]) -> list[str]:
    return [word for link in sorted(set(links)) for word in ("--link", link)]


def _mount(operation: BindMount) -> Document:
    given = operation.options
    order = ("ro", "nosuid", "nodev", "rbind", "rprivate", "noexec")
    options = [word for word in order if word in (*given, "rbind", "rprivate")]
    return {
        "hostPath": operation.source,
        "containerPath": operation.path,
        "options": options,
    }


def _check_text(value: Any) -> None:
    """Refuse text that is not UTF-8, as all of a CDI file is."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_text(item)
    elif isinstance(value, str) and not value.isascii() and any(map(_is_surrogate, value)):
        raise DiscoveryError(f"{shown(value)}: not UTF-8: cannot be said in a CDI file", path=value)


def _is_surrogate(character: str) -> bool:
    return "\ud800" <= character <= "\udfff"


def _refuse(operation: Operation) -> None:
    raise RequestError(
        f"{type(operation).__name__} ({operation.origin}): cannot be said in a CDI file",
        origin=operation.origin,
    )
