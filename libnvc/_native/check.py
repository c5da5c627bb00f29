# SPDX-License-Identifier: Apache-2.0
"""Turn the C core's error record into an exception, and refuse paths that C cannot take."""

from __future__ import annotations

import os

from libnvc._core import ffi, lib

from ..errors import (
    ApplyError,
    ContainerError,
    DiscoveryError,
    LoaderCacheError,
    MalformedFileError,
    MountError,
    NvcError,
    ProbeError,
    RequestError,
    UnsupportedKernelError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_CLASSES: dict[int, type[NvcError]] = {
    lib.NVC_EINTERNAL: NvcError,
    lib.NVC_EINVAL: RequestError,
    lib.NVC_EMALFORMED: MalformedFileError,
    lib.NVC_EDRIVER: ProbeError,
    lib.NVC_EPATH: MountError,
    lib.NVC_EMOUNT: MountError,
    lib.NVC_EDEVICE: MountError,
    lib.NVC_ENAMESPACE: ContainerError,
    lib.NVC_ECGROUP: ContainerError,
    lib.NVC_ELDCACHE: LoaderCacheError,
    lib.NVC_EKERNEL: UnsupportedKernelError,
    lib.NVC_ETIMEOUT: ApplyError,
    lib.NVC_ECRASH: ApplyError,
    lib.NVC_ECANCEL: ApplyError,
}

#: codes that mean something else while the host is being read
_DISCOVERY_CLASSES: dict[int, type[NvcError]] = {
    lib.NVC_EPATH: DiscoveryError,
    lib.NVC_ETIMEOUT: ProbeError,
    lib.NVC_ECRASH: ProbeError,
}


def raise_error(err: Any, *, discovery: bool = False, path: str = "") -> NoReturn:
    """Raise what the C core reported.

    Args:
        err: the `struct nvc_error *` that a failed call filled.
        discovery: whether the host was being read, rather than a container changed.
        path: what the call was about, if the C core was not told.

    Raises:
        NvcError: the subclass for the error's code, with errno, path, step and operation.
    """
    cls = _CLASSES.get(err.code, NvcError)
    if discovery:
        cls = _DISCOVERY_CLASSES.get(err.code, cls)
    step = os.fsdecode(ffi.string(err.step))
    path = os.fsdecode(ffi.string(err.path)) or path
    msg = os.fsdecode(ffi.string(err.msg))
    if err.code == lib.NVC_EDRIVER:
        msg = _lower_end(msg)
    if err.code == lib.NVC_EPATH:
        message = _path_message(msg, path, err.sys_errno)
    elif err.code == lib.NVC_ELDCACHE and step == "run":
        message = msg  # in the reference's words and ldconfig's own
    else:
        message = _message(msg, step, path, err.sys_errno)
    raise cls(
        printable(message),
        errno=err.sys_errno,
        path=path,
        step=step,
        operation=err.op_index if err.op_index >= 0 else None,
    )


def encode_path(path: str) -> bytes:
    """Return a path as the C core takes it.

    Raises:
        RequestError: a NUL, at which C would end the path, a newline, which would break files
            of one entry a line, or a character that no file name can have.
    """
    if "\0" in path:
        raise RequestError(f"invalid path: {path!r}: it contains a NUL", path=path)
    if "\n" in path:
        raise RequestError(f"invalid path: {path!r}: it contains a newline", path=path)
    try:
        return os.fsencode(path)
    except UnicodeEncodeError as error:
        raise RequestError(f"invalid path: {path!r}: it cannot be encoded", path=path) from error


def printable(message: str) -> str:
    """Return a message as one line: links of an image choose what is in its paths.

    Bytes that are no text stay, as they do in paths.
    """
    if message.isprintable():
        return message
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else ascii(c)[1:-1] for c in message
    )


def _message(msg: str, step: str, path: str, errno: int) -> str:
    """Return `<what failed>: <path>: <errno text>`, as the reference words its messages."""
    parts = [msg or f"{step} failed"]
    if path:
        parts.append(path)
    if errno:
        parts.append(os.strerror(errno).lower())
    return ": ".join(parts)


def _path_message(msg: str, path: str, errno: int) -> str:
    """Return `path error: <path> <why>`, or `path error: <path>: <errno text>`."""
    if msg:
        return f"path error: {path} {msg}"
    return f"path error: {path}: {os.strerror(errno).lower()}"


def _lower_end(msg: str) -> str:
    """Return the first line of a text of the driver or loader, its last part in lower case."""
    head, colon, end = msg.split("\n", 1)[0].rpartition(":")
    return head + colon + end.lower()
