# SPDX-License-Identifier: Apache-2.0
"""Exit codes of `nvc`; `nvidia-container-cli` knows 0 and 1 only, as the reference."""

from __future__ import annotations

from libnvc import errors

DONE = 0
FAILED = 1
USAGE = 2
NO_DRIVER = 3
OLD_KERNEL = 4

_CODES = (
    (errors.DriverNotFoundError, NO_DRIVER),
    (errors.UnsupportedKernelError, OLD_KERNEL),
)


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error that ends a command."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return FAILED
