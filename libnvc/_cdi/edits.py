# SPDX-License-Identifier: Apache-2.0
"""What devices of CDI change in a container, merged, and put into an OCI configuration.

Applying the same edits again changes nothing, so that it does not matter whether an engine has
applied them already.
"""

from __future__ import annotations

import os
import stat

from .._record import Record
from .._render.oci import (
    list_in,
    object_in,
    put_group,
    put_mount,
    put_node,
    put_rule,
    put_variable,
    sort_mounts,
)
from ..errors import MissingDeviceError, RequestError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Document = dict[str, Any]

_NODE_TYPES = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}


class Node(Record):
    """A device node.

    Attributes:
        path: in the container.
        host_path: of the host's node, "" for the same path.
        type: "c", "u" (the same as "c"), "b", "p" for a FIFO, or "" for that of the host's node.
        major, minor: numbers; where the major is 0, those of the host's node.
        mode: permission bits, None for those of the host's node.
        permissions: letters of "rwm", "" for all of them, or "none".
        uid, gid: owner, None for the process's.
    """

    path: str
    host_path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class Mount(Record):
    """A mount; an empty type is not said."""

    host_path: str
    container_path: str
    options: tuple[str, ...] = ()
    type: str = ""


class Hook(Record):
    """A program that the runtime calls at a stage ("createContainer"); timeout in seconds or None.

    An empty `env` is not said.
    """

    stage: str
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class Edits(Record):
    """What changes in a container.

    Attributes:
        env: variables, "NAME=VALUE" each.
        nodes: device nodes.
        mounts: from the host.
        hooks: at each stage in this order.
        gids: groups of the process; 0 is none.
        net_devices: names on the host and in the container.
        intel_rdt: members of `linux.intelRdt`, or None.
    """

    env: tuple[str, ...] = ()
    nodes: tuple[Node, ...] = ()
    mounts: tuple[Mount, ...] = ()
    hooks: tuple[Hook, ...] = ()
    gids: tuple[int, ...] = ()
    net_devices: tuple[tuple[str, str], ...] = ()
    intel_rdt: tuple[tuple[str, Any], ...] | None = None


class Device(Record):
    """A device of a file, and what it changes beside what all devices of the file do."""

    name: str
    edits: Edits


def merge(parts: Iterable[Edits]) -> Edits:
    """Return edits that change what each of several changes, one after the other.

    Of a variable, node, mount or network interface that is given twice the last holds.
    """
    given = tuple(parts)
    return Edits(
        env=_last((entry.partition("=")[0], entry) for edits in given for entry in edits.env),
        nodes=_last((node.path, node) for edits in given for node in edits.nodes),
        mounts=_last((mount.container_path, mount) for edits in given for mount in edits.mounts),
        hooks=tuple(hook for edits in given for hook in edits.hooks),
        gids=tuple(gid for edits in given for gid in edits.gids),
        net_devices=_last((pair[0], pair) for edits in given for pair in edits.net_devices),
        intel_rdt=next((e.intel_rdt for e in reversed(given) if e.intel_rdt is not None), None),
    )


def _last(named: Iterable[tuple[str, Any]]) -> tuple[Any, ...]:
    return tuple(dict(named).values())


def apply_edits(document: Document, edits: Edits) -> Document:
    """Return an OCI configuration with edits, such as `merge` returns them.

    Args:
        document: it is not changed; members that are not known stay.
        edits: to apply.

    Raises:
        MissingDeviceError: the host's node of a device, which says what the edits do not, is not
            there, or is none.
        RequestError: a member of the document is not what the specification says.
    """
    edited = dict(document)
    for entry in edits.env:
        name, _, value = entry.partition("=")
        put_variable(edited, name, value)
    for node in edits.nodes:
        _add_node(edited, node)
    for host, name in edits.net_devices:
        object_in(object_in(edited, "linux"), "netDevices", "linux.")[host] = {"name": name}
    for mount in edits.mounts:
        put_mount(edited, _mount(mount))
    if edits.mounts:
        sort_mounts(edited)
    for hook in edits.hooks:
        _add_hook(edited, hook)
    if edits.intel_rdt is not None:
        members = {name: _plain(value) for name, value in edits.intel_rdt}
        object_in(edited, "linux")["intelRdt"] = members
    for gid in edits.gids:
        if gid:
            put_group(edited, gid)
    return edited


def _add_node(edited: Document, node: Node) -> None:
    kind, major, minor, mode = _facts(node)
    made: Document = {"path": node.path, "type": kind}
    if kind != "p":
        made.update(major=major, minor=minor)
    if mode is not None:
        made["fileMode"] = mode
    for name, given in (("uid", node.uid), ("gid", node.gid)):
        owner = _process_user(edited, name) if given is None else given
        if owner or given is not None:
            made[name] = owner
    put_node(edited, made)
    if kind != "p" and node.permissions != "none":
        access = node.permissions or "rwm"
        put_rule(edited, "b" if kind == "b" else "c", major, minor, access)


def _facts(node: Node) -> tuple[str, int, int, int | None]:
    """Return type, major, minor and mode; what is not given is that of the host's node."""
    is_complete = bool(node.type) and (node.major > 0 or node.type == "p")
    mode = node.mode
    if not is_complete or mode is None:
        path = node.host_path or node.path
        try:
            found = os.stat(path)
        except OSError as error:
            if not is_complete:
                why = (error.strerror or "").lower()
                raise _missing(path, why, error.errno or 0) from None
            return node.type, node.major, node.minor, None
        kind = _NODE_TYPES.get(stat.S_IFMT(found.st_mode), "")
        if is_complete and not kind:
            return node.type, node.major, node.minor, None
        if not is_complete:
            node = _completed(node, path, kind, found.st_rdev)
        mode = found.st_mode if mode is None else mode
    return node.type, node.major, node.minor, mode & 0o777


def _completed(node: Node, path: str, kind: str, device: int) -> Node:
    if not kind:
        raise _missing(path, "not a device node")
    if node.type and node.type.replace("u", "c") != kind:
        raise _missing(path, f'of type "{kind}", not "{node.type}" as its CDI file says')
    if not node.major:
        node = node.replace(major=os.major(device), minor=os.minor(device))
    return node.replace(type=node.type or kind)


def _missing(path: str, why: str, errno: int = 0) -> MissingDeviceError:
    return MissingDeviceError(
        f'failed to stat CDI host device "{shown(path)}": {why}',
        errno=errno,
        path=path,
        step="stat",
        hint="the device is gone, or the CDI file is out of date: write it anew",
    )


def _process_user(document: Document, name: str) -> int:
    process = document.get("process") or {}
    user = process.get("user") if isinstance(process, dict) else None
    value = user.get(name) if isinstance(user, dict) else None
    if value is not None and type(value) is not int:
        member = f"process.user.{name}"
        raise RequestError(f"config.json: {member}: not a number", path=member)
    return max(value or 0, 0)


def _mount(mount: Mount) -> Document:
    made: Document = {"destination": mount.container_path, "source": mount.host_path}
    if mount.type:
        made["type"] = mount.type
    if mount.options:
        made["options"] = list(mount.options)
    return made


def _add_hook(edited: Document, hook: Hook) -> None:
    made: Document = {"path": hook.path}
    if hook.args:
        made["args"] = list(hook.args)
    if hook.env:
        made["env"] = list(hook.env)
    if hook.timeout is not None:
        made["timeout"] = hook.timeout
    hooks = list_in(object_in(edited, "hooks"), hook.stage, "hooks.")
    if not any(_is_same(other, made) for other in hooks):
        hooks.append(made)


def _is_same(one: object, other: Document) -> bool:
    """Tell whether two hooks call the same program in the same way."""
    if not isinstance(one, dict):
        return False
    return all((one.get(name) or []) == (other.get(name) or []) for name in ("path", "args", "env"))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
