# SPDX-License-Identifier: Apache-2.0
"""The one line for whatever ends the runtime or the hook."""

from __future__ import annotations

from libnvc.errors import NvcError, shown

from .container_common import CommandError
from .output import OutputError


def describe(error: BaseException) -> str:
    """Return the line for an error; texts that engines and users look for are the reference's."""
    if isinstance(error, (NvcError, CommandError)):
        hint = getattr(error, "hint", "")
        return shown(f"{error} ({hint})" if hint else str(error))
    if isinstance(error, OutputError):
        return f"output error: {error}"
    if isinstance(error, OSError):
        reason = (error.strerror or str(error)).lower()
        return shown(f"{error.filename}: {reason}" if error.filename else reason)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return shown(f"internal error: {type(error).__name__}: {error}")
