# SPDX-License-Identifier: Apache-2.0
"""Paths inside a root that somebody hostile may have filled."""

from __future__ import annotations

import os

from libnvc._core import ffi, lib

from .check import encode_path, raise_error

_SIZE = 4096  # PATH_MAX


def resolve(root: str, path: str) -> str | None:
    """Return the real path of `path` under `root`.

    Links are followed, absolute ones from the root again. Only search permission is needed.

    Args:
        root: directory on the host; "" or "/" is the host itself.
        path: absolute, under the root.

    Returns:
        Absolute, without the root and free of links; None if nothing is there.

    Raises:
        DiscoveryError: the path leaves the root by "..", or cannot be searched.
        RequestError: a NUL or newline in the path.
    """
    out = ffi.new("char[]", _SIZE)
    found = ffi.new("bool *")
    err = ffi.new("struct nvc_error *")
    if lib.nvc_path_resolve(encode_path(root), encode_path(path), out, _SIZE, found, err) < 0:
        raise_error(err, discovery=True)
    return os.fsdecode(ffi.string(out)) if found[0] else None
