# SPDX-License-Identifier: Apache-2.0
"""Find out where a container keeps programs and libraries.

Only the existence of a few paths is looked at, each resolved inside the container's root.
"""

from __future__ import annotations

import os
from errno import EACCES

from .._native.path import resolve
from ..errors import ContainerError, NvcError
from ..model import Layout, Target
from .compat import find_cuda_compat
from .root import architecture, cause

_DEBIAN = "/etc/debian_version"
_NOT_PERMITTED = (
    "only root, or the user who made the container's user namespace, may look into the container: "
    "run this as root"
)


def inspect_container(target: Target) -> Layout:
    """Return the directories of a container that a process lives in.

    Privilege: that of reading `/proc/PID/root` (the same user, or CAP_SYS_PTRACE).

    Raises:
        ContainerError: no such process, no such root directory, or no permission to look.
    """
    process = f"/proc/{target.pid or 'self'}"
    try:
        os.stat(process)
    except OSError as error:
        raise _failed("stat", process, error) from None
    base = f"{process}/root"
    if target.rootfs in ("", "/"):
        return inspect_rootfs(base)
    asked = base + target.rootfs
    try:
        real = resolve(base, target.rootfs)
    except NvcError as error:
        failure = ContainerError(error.message, errno=error.errno, path=asked, step=error.step)
        if error.errno == EACCES:
            failure.code, failure.hint = "not-permitted", _NOT_PERMITTED
        raise failure from None
    if real is None:
        raise _failed("open", asked, FileNotFoundError(2, ""))
    return inspect_rootfs(base + real)


def inspect_rootfs(rootfs: str) -> Layout:
    """Return the directories of a container whose root is a directory of the host.

    Raises:
        ContainerError: there is no such directory, or no permission to look.
    """
    try:
        os.stat(rootfs + "/.")  # the "." refuses what is not a directory
        if resolve(rootfs, _DEBIAN) is not None:
            layout = _multiarch()
        else:
            layout = Layout(libs32_dir=_libs32_dir(rootfs))
        return layout.replace(cuda_compat=find_cuda_compat(rootfs))
    except OSError as error:
        raise _failed("open", rootfs, error) from None
    except NvcError as error:
        raise ContainerError(
            error.message, errno=error.errno, path=error.path, step=error.step
        ) from None


def _multiarch() -> Layout:
    machine = architecture()
    return Layout(libs_dir=machine.libs_dir, libs32_dir=machine.libs32_dir)


def _libs32_dir(rootfs: str) -> str:
    """Return /usr/lib on distributions that keep 32-bit libraries there, else /usr/lib32."""
    if resolve(rootfs, "/usr/lib32") is not None:
        return "/usr/lib32"
    plain = resolve(rootfs, "/usr/lib")
    if plain is not None and plain != resolve(rootfs, "/usr/lib64"):
        return "/usr/lib"
    return "/usr/lib32"


def _failed(step: str, path: str, error: OSError) -> ContainerError:
    return ContainerError(
        f"{step} failed: {path}: {cause(error)}", errno=error.errno or 0, path=path, step=step
    )
