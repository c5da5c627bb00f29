# SPDX-License-Identifier: Apache-2.0
"""What the commands of `nvidia-ctk system` share."""

from __future__ import annotations

import os
from errno import EPERM

from libnvc.errors import NvcError

from ._flags import Flag

DRY_RUN = Flag(name="dry-run", kind=bool, doc="Tell what would be done", variable="DRY_RUN")


def need_root(what: str) -> None:
    """Refuse to go on for an ordinary user.

    Raises:
        NvcError: it is one.
    """
    if os.geteuid() != 0:
        raise NvcError(f"only root may {what}", errno=EPERM, hint="run this as root")


def failed(step: str, path: str, error: OSError) -> NvcError:
    """Return the error for a failed system call."""
    number = error.errno or 0
    return NvcError(
        f"{step}: {path}: {os.strerror(number).lower()}", errno=number, path=path, step=step
    )
