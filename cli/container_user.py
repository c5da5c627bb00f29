# SPDX-License-Identifier: Apache-2.0
"""Who asks NVML: read `--user`, or find the default."""

from __future__ import annotations

import os

from .container_common import CommandError, number, os_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ACTION = "parse user/group"
_LARGEST = 2**32 - 2  # the last one means "unchanged" to the system calls


def parse_user(text: str | None) -> tuple[int, int]:
    """Return uid and gid of `[UID[:GID]]`; None stands for the caller's own."""
    if text is None:
        return os.geteuid(), os.getegid()
    import pwd

    user, _, group = text.partition(":")
    entry = None
    if not _numeric(user):
        entry = _known(pwd.getpwnam, user)
    uid = entry.pw_uid if entry else number(_ACTION, user, 0, _LARGEST)
    if group:
        return uid, _group(group)
    entry = entry or _known(pwd.getpwuid, uid)
    return uid, entry.pw_gid


def default_user() -> tuple[int, int]:
    """Return the kernel's overflow ids for root, the caller's own ids for anyone else."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    return _overflow("overflowuid"), _overflow("overflowgid")


def _group(text: str) -> int:
    if _numeric(text):
        return number(_ACTION, text, 0, _LARGEST)
    import grp

    gid: int = _known(grp.getgrnam, text).gr_gid
    return gid


def _numeric(text: str) -> bool:
    return text[:1] in tuple("+-0123456789")


def _known(look_up: Callable[[Any], Any], key: str | int) -> Any:
    try:
        return look_up(key)
    except KeyError:
        raise CommandError("input", f"{_ACTION} failed: no such file or directory") from None


def _overflow(name: str) -> int:
    path = f"/proc/sys/kernel/{name}"
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except OSError as error:
        raise CommandError("initialization", f"open failed: {path}: {os_reason(error)}") from None
    except ValueError:
        raise CommandError("initialization", f"file read error: {path}") from None
