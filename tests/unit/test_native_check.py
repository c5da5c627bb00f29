# SPDX-License-Identifier: Apache-2.0
"""One mapping from the C core's errors to exceptions, and the paths that C is never given."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from libnvc import errors
from libnvc._core import ffi, lib
from libnvc._native.check import encode_path, raise_error


def make_error(
    code: int, *, step: bytes = b"", path: bytes = b"", msg: bytes = b"", sys_errno: int = 0
) -> Any:
    return ffi.new(
        "struct nvc_error *",
        {
            "code": code,
            "sys_errno": sys_errno,
            "op_index": -1,
            "step": step,
            "path": path,
            "msg": msg,
        },
    )


@pytest.mark.parametrize(
    ("code", "applying", "discovering"),
    [
        ("EINTERNAL", errors.NvcError, errors.NvcError),
        ("EINVAL", errors.RequestError, errors.RequestError),
        ("EMALFORMED", errors.MalformedFileError, errors.MalformedFileError),
        ("EDRIVER", errors.ProbeError, errors.ProbeError),
        ("EPATH", errors.MountError, errors.DiscoveryError),
        ("EMOUNT", errors.MountError, errors.MountError),
        ("EDEVICE", errors.MountError, errors.MountError),
        ("ENAMESPACE", errors.ContainerError, errors.ContainerError),
        ("ECGROUP", errors.ContainerError, errors.ContainerError),
        ("ELDCACHE", errors.LoaderCacheError, errors.LoaderCacheError),
        ("EKERNEL", errors.UnsupportedKernelError, errors.UnsupportedKernelError),
        ("ETIMEOUT", errors.ApplyError, errors.ProbeError),
        ("ECRASH", errors.ApplyError, errors.ProbeError),
    ],
)
def test_class(
    code: str, applying: type[errors.NvcError], discovering: type[errors.NvcError]
) -> None:
    err = make_error(getattr(lib, f"NVC_{code}"), msg=b"broken")
    with pytest.raises(errors.NvcError) as caught:
        raise_error(err)
    assert type(caught.value) is applying
    with pytest.raises(errors.NvcError) as caught:
        raise_error(err, discovery=True)
    assert type(caught.value) is discovering


def test_system_call() -> None:
    err = make_error(lib.NVC_EMOUNT, step=b"move_mount", path=b"/a\xff/b", sys_errno=errno.EACCES)
    err.op_index = 3
    with pytest.raises(errors.MountError) as caught:
        raise_error(err)
    error = caught.value
    assert str(error) == "move_mount failed: /a\udcff/b: permission denied"
    assert (error.errno, error.path, error.step) == (errno.EACCES, "/a\udcff/b", "move_mount")
    assert error.operation == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sys_errno": errno.EACCES}, "path error: /a/b: permission denied"),
        ({"msg": b"resolves outside of /a"}, "path error: /a/b resolves outside of /a"),
    ],
)
def test_path(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(errors.DiscoveryError) as caught:
        raise_error(make_error(lib.NVC_EPATH, step=b"open", path=b"/a/b", **fields), discovery=True)
    assert str(caught.value) == message


def test_message_with_path() -> None:
    err = make_error(lib.NVC_EMALFORMED, step=b"header", msg=b"unsupported file format")
    with pytest.raises(errors.MalformedFileError) as caught:
        raise_error(err, path="/etc/ld.so.cache")
    assert str(caught.value) == "unsupported file format: /etc/ld.so.cache"
    assert (caught.value.path, caught.value.operation) == ("/etc/ld.so.cache", None)


def test_message_with_errno() -> None:
    err = make_error(
        lib.NVC_EDRIVER, msg=b"change root failed", path=b"/Root", sys_errno=errno.EPERM
    )
    with pytest.raises(errors.ProbeError) as caught:
        raise_error(err, discovery=True)
    assert str(caught.value) == "change root failed: /Root: operation not permitted"


def test_driver_text_is_one_line_and_its_end_lower_case() -> None:
    err = make_error(lib.NVC_EDRIVER, msg=b"nvml error: Driver Not Loaded\nTry This")
    with pytest.raises(errors.ProbeError) as caught:
        raise_error(err, discovery=True)
    assert str(caught.value) == "nvml error: driver not loaded"


def test_every_code_of_the_core_is_known() -> None:
    """A code that Python does not know would still be raised, but without its class."""
    known = range(lib.NVC_EINTERNAL, lib.NVC_ECRASH + 1)
    plain = []
    for code in known:
        with pytest.raises(errors.NvcError) as caught:
            raise_error(make_error(code, msg=b"x"))
        if type(caught.value) is errors.NvcError:
            plain.append(code)
    assert plain == [lib.NVC_EINTERNAL]


def test_encode_path() -> None:
    assert encode_path("/usr/lib/ä\udcff") == "/usr/lib/ä".encode() + b"\xff"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/a\0b", "it contains a NUL"),
        ("/a\nb", "it contains a newline"),
        ("/a\ud800", "it cannot be encoded"),
    ],
)
def test_encode_path_refuses(path: str, reason: str) -> None:
    with pytest.raises(errors.RequestError) as caught:
        encode_path(path)
    assert str(caught.value) == f"invalid path: {path!r}: {reason}"
    assert caught.value.path == path


def test_message_is_one_line() -> None:
    """What an image calls its files is no part of the log's format."""
    err = make_error(lib.NVC_EMOUNT, step=b"open", path=b"/a\nb\x1b[2J\xff", msg=b"")
    with pytest.raises(errors.MountError) as caught:
        raise_error(err)
    assert str(caught.value) == "open failed: /a\\nb\\x1b[2J\udcff"
    assert caught.value.path == "/a\nb\x1b[2J\udcff"
