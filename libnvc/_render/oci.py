# SPDX-License-Identifier: Apache-2.0
"""Say what a plan does in an OCI configuration, as far as one can, and keep the rest for a hook.

What engines and runtimes must know goes into the document: devices, since they apply their list of
them anew at any time; the environment; groups. Files, links and the loader cache do not: runtimes
take ten times as long to mount them, and make mount points in the directories that the loader's
cache is older than afterwards, so that nobody could tell any more whether it was out of date.
"""

from __future__ import annotations

import os
import stat

from ..errors import RequestError
from ..plan import DeviceAccess, DeviceNode, Env, Group, Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Document = dict[str, Any]


def edit_oci(document: Document, plan: Plan, *, nodes: bool = True) -> tuple[Document, Plan]:
    """Return an OCI configuration with what a plan gives, and the plan of what is left for a hook.

    Args:
        document: an OCI configuration; it is not changed, members that are not known stay.
        plan: for this container.
        nodes: whether the device nodes are said there. In user namespaces runtimes make no nodes,
            but mount the node of the same path of the host, which is another one where the driver
            has a root of its own.

    Raises:
        RequestError: a member of the document is not what the specification says.
    """
    edited = dict(document)
    left = []
    for operation in plan.operations:
        if isinstance(operation, DeviceAccess):
            for minor in range(operation.minor, operation.minor + operation.count):
                put_rule(edited, "c", operation.major, minor, operation.access)
        elif isinstance(operation, DeviceNode) and nodes:
            put_node(edited, _node(operation))
        elif isinstance(operation, Env):
            put_variable(edited, operation.name, operation.value)
        elif isinstance(operation, Group):
            put_group(edited, operation.gid)
        else:
            left.append(operation)
    return edited, plan.replace(operations=tuple(left))


def add_hook(document: Document, stage: str, hook: Document, *, first: bool = False) -> Document:
    """Return an OCI configuration with one hook more.

    Args:
        document: an OCI configuration; it is not changed.
        stage: "createRuntime".
        hook: path, args, env.
        first: whether it runs before the others of its stage.

    Raises:
        RequestError: a member of the document is not what the specification says.
    """
    edited = dict(document)
    hooks = list_in(object_in(edited, "hooks"), stage, "hooks.")
    hooks.insert(0 if first else len(hooks), hook)
    return edited


def remove_hooks(document: Document, stage: str, names: tuple[str, ...]) -> Document:
    """Return an OCI configuration without the hooks whose programs have certain names.

    Raises:
        RequestError: a member of the document is not what the specification says.
    """
    if not document.get("hooks"):
        return document
    edited = dict(document)
    hooks = object_in(edited, "hooks")
    if not hooks.get(stage):
        return document
    kept = [hook for hook in list_in(hooks, stage, "hooks.") if hook_name(hook) not in names]
    if kept:
        hooks[stage] = kept
    else:
        hooks.pop(stage, None)
    return edited


def hook_name(hook: object) -> str:
    """Return the name of a hook's program, "" where there is none."""
    path = hook.get("path") if isinstance(hook, dict) else None
    return path.rpartition("/")[2] if isinstance(path, str) else ""


# --- one thing more: in place, in a shallow copy of a document; what lies deeper is copied --------


def put_rule(edited: Document, kind: str, major: int, minor: int, access: str) -> None:
    """Allow a device.

    Args:
        edited: an OCI configuration, changed; only what is replaced in it, so that a shallow copy
            of another leaves that other as it is. So do the functions below.
        kind: "c" or "b".
        major: of the device.
        minor: of the device.
        access: letters of "rwm".

    Raises:
        RequestError: a member of the document is not what the specification says. All functions
            below raise it, too.
    """
    resources = object_in(object_in(edited, "linux"), "resources", "linux.")
    rules = list_in(resources, "devices", "linux.resources.")
    rule = {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}
    for other in reversed(rules):
        if other == rule:
            return
        if not isinstance(other, dict) or not other.get("allow"):
            break  # it would deny again what is allowed before it
    rules.append(rule)


def put_node(edited: Document, node: Document) -> None:
    """Add a device node in the place of others of its path."""
    linux = object_in(edited, "linux")
    devices = list_in(linux, "devices", "linux.")
    linux["devices"] = _with(devices, node, lambda other: other.get("path") == node["path"])


def put_mount(edited: Document, mount: Document) -> None:
    """Add a mount in the place of others of its destination."""
    mounts = list_in(edited, "mounts")
    at = mount_path(mount)
    edited["mounts"] = _with(mounts, mount, lambda other: mount_path(other) == at)


def sort_mounts(edited: Document) -> None:
    """Bring mounts into the order of their depth, so that none hides another."""
    list_in(edited, "mounts").sort(key=_depth)


def put_variable(edited: Document, name: str, value: str) -> None:
    """Set a variable where its last value stands, which is the one that counts."""
    variables = list_in(object_in(edited, "process"), "env", "process.")
    entry = f"{name}={value}"
    for place in range(len(variables) - 1, -1, -1):
        if str(variables[place]).partition("=")[0] == name:
            variables[place] = entry
            return
    variables.append(entry)


def put_group(edited: Document, gid: int) -> None:
    """Give the process a group, once."""
    user = object_in(object_in(edited, "process"), "user", "process.")
    groups = list_in(user, "additionalGids", "process.user.")
    if gid not in groups:
        groups.append(gid)


def mount_path(mount: object) -> str:
    """Return the destination of a mount, with one spelling for each place, "" if it has none."""
    path = mount.get("destination") if isinstance(mount, dict) else None
    if not isinstance(path, str) or not path:
        return ""
    # runtimes take what is relative as below the root
    return os.path.normpath(f"/{path.lstrip('/')}")


def _depth(mount: object) -> int:
    return mount_path(mount).rstrip("/").count("/")


def _with(items: list[Any], item: Document, same: Callable[[Document], bool]) -> list[Any]:
    """Return a list with an item at its end, unless it is there already, and none of the same."""
    others = [other for other in items if not (isinstance(other, dict) and same(other))]
    if item in items and len(others) == len(items) - 1:
        return items
    return [*others, item]


def _node(operation: DeviceNode) -> Document:
    numbers = {"type": "c", "major": operation.major, "minor": operation.minor}
    return {"path": operation.path, **numbers, **_access(operation)}


def _access(operation: DeviceNode) -> Document:
    """Return who may use a node: those who may use the host's."""
    if not operation.source:
        return {"fileMode": operation.mode}
    try:
        found = os.stat(operation.source)
    except OSError:
        return {"fileMode": operation.mode}
    access = {"fileMode": stat.S_IMODE(found.st_mode)}
    if found.st_uid or found.st_gid:
        access.update(uid=found.st_uid, gid=found.st_gid)
    return access


def object_in(parent: Document, name: str, where: str = "") -> Document:
    """Return a member of a document as a copy that is in its place, made where it is missing."""
    value = parent.get(name)
    if value is not None and not isinstance(value, dict):
        raise _malformed(where + name, "object")
    parent[name] = copy = dict(value or {})
    return copy


def list_in(parent: Document, name: str, where: str = "") -> list[Any]:
    """Return a list in the same way."""
    value = parent.get(name)
    if value is not None and not isinstance(value, list):
        raise _malformed(where + name, "list")
    parent[name] = copy = list(value or [])
    return copy


def _malformed(member: str, kind: str) -> RequestError:
    return RequestError(f"config.json: {member}: not a{'n' * (kind[0] == 'o')} {kind}", path=member)
