# SPDX-License-Identifier: Apache-2.0
"""The flat form of a plan, which the C core takes (layout: csrc/nvc_plan.h)."""

from __future__ import annotations

from libnvc._core import lib

from ..errors import RequestError
from ..plan import (
    BindMount,
    DeviceAccess,
    DeviceNode,
    Directory,
    LoaderCache,
    Symlink,
    Tmpfs,
    WriteFile,
)
from .check import encode_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..plan import Operation, Plan

_OPTIONS = {
    "ro": lib.NVC_OP_RDONLY,
    "nodev": lib.NVC_OP_NODEV,
    "nosuid": lib.NVC_OP_NOSUID,
    "noexec": lib.NVC_OP_NOEXEC,
}
_FILE_TYPES = {"file": 0, "directory": lib.NVC_OP_IS_DIR, "socket": lib.NVC_OP_IS_SOCKET}
_ACCESS = {"r": lib.NVC_OP_READ, "w": lib.NVC_OP_WRITE, "m": lib.NVC_OP_MKNOD}


class _Text:
    """The text of a flat plan; offset 0 is the empty string."""

    def __init__(self) -> None:
        self.parts = [b"\0"]
        self.size = 1
        self.known = {b"": 0}

    def string(self, text: str) -> int:
        raw = encode_path(text)
        if raw not in self.known:
            self.known[raw] = self.blob(raw + b"\0")
        return self.known[raw]

    def blob(self, raw: bytes) -> int:
        offset = self.size
        self.parts.append(raw)
        self.size += len(raw)
        return offset


def _tmpfs(op: Tmpfs, text: _Text) -> dict[str, int]:
    return {"kind": lib.NVC_OP_TMPFS, "mode": op.mode, "arg": text.string(op.fallback)}


def _directory(op: Directory, _text: _Text) -> dict[str, int]:
    return {"kind": lib.NVC_OP_DIRECTORY, "mode": op.mode}


def _write_file(op: WriteFile, text: _Text) -> dict[str, int]:
    return {
        "kind": lib.NVC_OP_WRITE_FILE,
        "mode": op.mode,
        "data": text.blob(op.content),
        "data_len": len(op.content),
    }


def _bind_mount(op: BindMount, text: _Text) -> dict[str, int]:
    flags = _FILE_TYPES[op.file_type]
    for option in op.options:
        flags |= _OPTIONS[option]
    return {"kind": lib.NVC_OP_BIND_MOUNT, "flags": flags, "arg": text.string(op.source)}


def _device_node(op: DeviceNode, text: _Text) -> dict[str, int]:
    return {
        "kind": lib.NVC_OP_DEVICE_NODE,
        "mode": op.mode,
        "major": op.major,
        "minor": op.minor,
        "arg": text.string(op.source),
    }


def _device_access(op: DeviceAccess, _text: _Text) -> dict[str, int]:
    flags = 0
    for letter in op.access:
        flags |= _ACCESS[letter]
    return {
        "kind": lib.NVC_OP_DEVICE_ACCESS,
        "flags": flags,
        "major": op.major,
        "minor": op.minor,
        "count": op.count,
    }


def _symlink(op: Symlink, text: _Text) -> dict[str, int]:
    flags = lib.NVC_OP_REPLACE if op.overwrite else 0
    return {"kind": lib.NVC_OP_SYMLINK, "flags": flags, "arg": text.string(op.target)}


def _loader_cache(op: LoaderCache, text: _Text) -> dict[str, int]:
    strings = [
        *op.directories,
        *(field for name, path, bits in op.libraries for field in (name, path, str(bits))),
    ]
    raw = b"".join(encode_path(string) + b"\0" for string in strings)
    return {
        "kind": lib.NVC_OP_LOADER_CACHE,
        "flags": lib.NVC_OP_IN_PLACE if op.in_place else 0,
        "count": len(op.directories),
        "data": text.blob(raw),
        "data_len": len(raw),
    }


_ENCODERS: dict[type[Operation], Callable[[Any, _Text], dict[str, int]]] = {
    Tmpfs: _tmpfs,
    Directory: _directory,
    WriteFile: _write_file,
    BindMount: _bind_mount,
    DeviceNode: _device_node,
    DeviceAccess: _device_access,
    Symlink: _symlink,
    LoaderCache: _loader_cache,
}
_FIELDS = (
    "kind",
    "flags",
    "mode",
    "major",
    "minor",
    "count",
    "path",
    "arg",
    "data",
    "data_len",
    "origin",
)
_PLACES = {name: place for place, name in enumerate(_FIELDS)}


_MAGIC = b"nvcplan\0"
_WORD = 4  # bytes
_HEADER_SIZE = len(_MAGIC) + 4 * _WORD


def encode(plan: Plan) -> bytes:
    """Return the flat form.

    Raises:
        RequestError: an operation that a running process cannot be given any more (`Env`,
            `Group`), an option or type that does not exist, or a path that C cannot take.
    """
    text = _Text()
    count, width = len(plan.operations), len(_FIELDS)
    raw = bytearray(_HEADER_SIZE + count * width * _WORD)
    raw[: len(_MAGIC)] = _MAGIC
    # Not by `struct`: to import it takes longer than all of this.
    words = memoryview(raw).cast("I")
    at = _HEADER_SIZE // _WORD
    for index, operation in enumerate(plan.operations):
        for name, value in _encode_one(index, operation, text).items():
            words[at + _PLACES[name]] = value
        at += width
    header = (lib.NVC_PLAN_SCHEMA, count, width * _WORD, text.size)
    for index, value in enumerate(header, len(_MAGIC) // _WORD):
        words[index] = value
    return b"".join([raw, *text.parts])


def _encode_one(index: int, op: Operation, text: _Text) -> dict[str, int]:
    encoder = _ENCODERS.get(type(op))
    if encoder is None:
        raise RequestError(
            f"{type(op).__name__} ({op.origin}): cannot be applied to a process that exists; "
            "it belongs into the container's configuration",
            operation=index,
            origin=op.origin,
        )
    try:
        fields = encoder(op, text)
    except KeyError as error:
        raise RequestError(
            f"{op.path}: {error.args[0]!r} is not an option of {type(op).__name__}",
            path=op.path,
            operation=index,
            origin=op.origin,
        ) from error
    fields["path"] = text.string(op.path)
    fields["origin"] = text.string(op.origin)
    return fields
