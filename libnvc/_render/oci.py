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
            _allow(edited, operation)
        elif isinstance(operation, DeviceNode) and nodes:
            _add_node(edited, operation)
        elif isinstance(operation, Env):
            _set_variable(edited, operation)
        elif isinstance(operation, Group):
            _add_group(edited, operation)
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
    hooks = _list(_object(edited, "hooks"), stage, "hooks.")
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
    hooks = _object(edited, "hooks")
    if not hooks.get(stage):
        return document
    kept = [hook for hook in _list(hooks, stage, "hooks.") if hook_name(hook) not in names]
    if kept:
        hooks[stage] = kept
    else:
        hooks.pop(stage, None)
    return edited


def hook_name(hook: object) -> str:
    """Return the name of a hook's program, "" where there is none."""
    path = hook.get("path") if isinstance(hook, dict) else None
    return path.rpartition("/")[2] if isinstance(path, str) else ""


def _allow(document: Document, operation: DeviceAccess) -> None:
    resources = _object(_object(document, "linux"), "resources", "linux.")
    rules = _list(resources, "devices", "linux.resources.")
    for minor in range(operation.minor, operation.minor + operation.count):
        rule = {
            "allow": True,
            "type": "c",
            "major": operation.major,
            "minor": minor,
            "access": operation.access,
        }
        if rule not in rules:
            rules.append(rule)


def _add_node(document: Document, operation: DeviceNode) -> None:
    linux = _object(document, "linux")
    devices = _list(linux, "devices", "linux.")
    node = {
        "path": operation.path,
        "type": "c",
        "major": operation.major,
        "minor": operation.minor,
        **_access(operation),
    }
    linux["devices"] = [
        other
        for other in devices
        if not isinstance(other, dict) or other.get("path") != operation.path
    ] + [node]


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


def _set_variable(document: Document, operation: Env) -> None:
    """Set a variable where its last value stands, which is the one that counts."""
    variables = _list(_object(document, "process"), "env", "process.")
    entry = f"{operation.name}={operation.value}"
    for place in range(len(variables) - 1, -1, -1):
        if str(variables[place]).partition("=")[0] == operation.name:
            variables[place] = entry
            return
    variables.append(entry)


def _add_group(document: Document, operation: Group) -> None:
    user = _object(_object(document, "process"), "user", "process.")
    groups = _list(user, "additionalGids", "process.user.")
    if operation.gid not in groups:
        groups.append(operation.gid)


def _object(parent: Document, name: str, where: str = "") -> Document:
    """Return a member of a document as a copy that is in its place, made where it is missing."""
    value = parent.get(name)
    if value is not None and not isinstance(value, dict):
        raise _malformed(where + name, "object")
    parent[name] = copy = dict(value or {})
    return copy


def _list(parent: Document, name: str, where: str) -> list[Any]:
    """Return a list in the same way."""
    value = parent.get(name)
    if value is not None and not isinstance(value, list):
        raise _malformed(where + name, "list")
    parent[name] = copy = list(value or [])
    return copy


def _malformed(member: str, kind: str) -> RequestError:
    return RequestError(f"config.json: {member}: not a{'n' * (kind[0] == 'o')} {kind}", path=member)
