# SPDX-License-Identifier: Apache-2.0
"""Move the paths of a CDI file from one root to another."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Document = dict[str, Any]

#: Stages whose hooks run on the container's side: their program, and what they are told.
_INSIDE = ("startContainer",)
_TOLD_INSIDE = ("createContainer", "startContainer")


def move_root(document: Document, old: str, new: str, side: str) -> Document:
    """Return a document whose paths that begin with one root begin with another.

    Args:
        document: a CDI file; it is not changed.
        old: a directory; what has its components first is moved.
        new: a directory.
        side: "host" for paths on the host, "container" for those in containers.
    """
    if old == new:
        return document
    move = _Move(old, new, side)
    moved = dict(document)
    moved["devices"] = [
        {**device, "containerEdits": move.edits(device["containerEdits"])}
        for device in document["devices"]
    ]
    if document.get("containerEdits"):
        moved["containerEdits"] = move.edits(document["containerEdits"])
    return moved


class _Move:
    def __init__(self, old: str, new: str, side: str) -> None:
        self._old = old.rstrip("/")
        self._new = new.rstrip("/")
        self._is_host = side == "host"

    def edits(self, edits: Document) -> Document:
        readers = {"deviceNodes": self._node, "mounts": self._mount, "hooks": self._hook}
        return {
            name: [readers[name](item) for item in items] if name in readers else items
            for name, items in edits.items()
        }

    def _path(self, path: str) -> str:
        if path == self._old or path.startswith(f"{self._old}/"):
            return f"{self._new}{path[len(self._old) :]}" or "/"
        return path

    def _node(self, node: Document) -> Document:
        if not self._is_host:
            return {**node, "path": self._path(node["path"])}
        host = self._path(node.get("hostPath") or node["path"])
        rest = {name: value for name, value in node.items() if name not in ("path", "hostPath")}
        return {"path": node["path"], "hostPath": host, **rest}

    def _mount(self, mount: Document) -> Document:
        member = "hostPath" if self._is_host else "containerPath"
        return {**mount, member: self._path(mount[member])}

    def _hook(self, hook: Document) -> Document:
        moved = dict(hook)
        stage = hook["hookName"]
        if (stage in _INSIDE) != self._is_host:
            moved["path"] = self._path(hook["path"])
        if hook.get("args"):
            moved["args"] = [self._word(stage, word) for word in hook["args"]]
        return moved

    def _word(self, stage: str, word: str) -> str:
        if word.count("::") == 1:
            return "::".join(map(self._path, word.split("::")))
        return self._path(word) if (stage in _TOLD_INSIDE) != self._is_host else word
