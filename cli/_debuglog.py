# SPDX-License-Identifier: Apache-2.0
"""Write the debug log of `nvidia-container-cli --debug=FILE`, in the reference's line format."""

from __future__ import annotations

import os
import sys

from .container_common import CommandError, os_reason
from .output import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from libnvc.model import Inventory
    from libnvc.plan import Operation

_BANNER = "\n-- WARNING, the following logs are for debugging purposes only --\n\n"


class Log:
    """A log file, or nothing: without a file every method does nothing at once."""

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd

    @classmethod
    def open(cls, path: str) -> Log:
        """Open a file for appending and write the banner."""
        try:
            log = cls(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644))
        except OSError as error:
            text = f"open failed: {path}: {os_reason(error)}"
            raise CommandError("initialization", text) from None
        log._write(_BANNER)
        return log

    def info(self, text: str) -> None:
        """Write a message."""
        self._line("I", text)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self._line("W", text)

    def _line(self, level: str, text: str) -> None:
        if self._fd < 0:
            return
        import time
        from _thread import get_native_id

        now = time.time_ns() // 1000
        stamp = time.strftime("%m%d %H:%M:%S", time.gmtime(now // 1_000_000))
        caller = sys._getframe(2)
        place = f"{os.path.basename(caller.f_code.co_filename)}:{caller.f_lineno}"
        head = f"{level}{stamp}.{now % 1_000_000:06} {get_native_id()} {place}]"
        self._write(f"{head} {one_line(text)}\n")

    def _write(self, text: str) -> None:
        try:
            os.write(self._fd, os.fsencode(text))
        except OSError:
            return  # a full or closed log is no reason to leave a container without its GPU


def log_inventory(log: Log, inventory: Inventory) -> None:
    """Write what discovery found."""
    for library in inventory.libraries:
        log.info(f"selecting {inventory.root}{library.path}")
    for binary in inventory.binaries:
        log.info(f"selecting {inventory.root}{binary.path}")
    for firmware in inventory.firmware:
        log.info(f"listing firmware path {firmware.target}")
    for device in inventory.control:
        log.info(f"listing device {device.path}")
    for ipc in inventory.ipcs:
        log.info(f"listing ipc path {inventory.root}{ipc.path}")
    for gpu in inventory.gpus:
        log.info(f"listing device {gpu.device.path} ({gpu.uuid} at {gpu.pci})")
    for warning in inventory.warnings:
        log.warn(warning)


def log_operations(log: Log, rootfs: str, operations: Iterable[Operation]) -> None:
    """Write what was done to a container."""
    from libnvc import plan

    for op in operations:
        where = rootfs + op.path
        if isinstance(op, plan.BindMount):
            log.info(f"mounting {op.source} at {where}")
        elif isinstance(op, plan.DeviceNode):
            log.info(f"mounting {op.source} at {where}" if op.source else f"creating {where}")
        elif isinstance(op, plan.Tmpfs):
            log.info(f"mounting tmpfs at {where}")
        elif isinstance(op, plan.Symlink):
            log.info(f"creating symlink {where} -> {op.target}")
        elif isinstance(op, plan.DeviceAccess):
            log.info(f"allowing device {op.major}:{op.minor} {op.access}")
