# SPDX-License-Identifier: Apache-2.0
"""Write the debug log of `nvidia-container-cli --debug=FILE`, in the reference's line format."""

from __future__ import annotations

import os
import sys

from .container_common import CommandError, Log, os_reason
from .output import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from libnvc.model import Inventory
    from libnvc.plan import Operation

_BANNER = "\n-- WARNING, the following logs are for debugging purposes only --\n\n"


class FileLog(Log):
    """A log file."""

    def __init__(self, path: str) -> None:
        """Open a file for appending and write the banner."""
        try:
            self._fd = _open(path)
        except OSError as error:
            text = f"open failed: {path}: {os_reason(error)}"
            raise CommandError("initialization", text) from None
        self._write(_BANNER)

    def __bool__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        self.info("shutting down library context")
        os.close(self._fd)
        self._fd = -1

    def info(self, text: str) -> None:
        """Write a message."""
        self._line("I", text)

    def warn(self, text: str) -> None:
        """Write a warning."""
        self._line("W", text)

    def _line(self, level: str, text: str) -> None:
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


def _open(path: str) -> int:
    if path == "/dev/stderr":
        return os.dup(2)  # sockets, and files of other users, cannot be opened anew
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    return os.open(path, flags, 0o644)


def log_inventory(log: Log, inventory: Inventory, skip: frozenset[str]) -> None:
    """Write what discovery found, and what it did not although it looked for it."""
    for library in inventory.libraries:
        log.info(f"selecting {inventory.root}{library.path}")
    for binary in inventory.binaries:
        log.info(f"selecting {inventory.root}{binary.path}")
    for firmware in inventory.firmware:
        log.info(f"listing firmware path {firmware.target}")
    for device in inventory.control:
        if device.present:
            log.info(f"listing device {device.path}")
    for ipc in inventory.ipcs:
        log.info(f"listing ipc path {inventory.root}{ipc.path}")
    for text in _missing(inventory, skip):
        log.warn(f"missing {text}")
    log.info("requesting device information with ''")
    for gpu in inventory.gpus:
        log.info(f"listing device {gpu.device.path} ({gpu.uuid} at {gpu.pci})")
    for warning in inventory.warnings:
        log.warn(warning)


def _missing(inventory: Inventory, skip: frozenset[str]) -> Iterator[str]:
    from libnvc._discover import tables
    from libnvc._discover.libraries import NAMES

    for bits, kind in ((64, "library"), (32, "compat32 library")):
        found = {library.name for library in inventory.libraries if library.bits == bits}
        yield from (f"{kind} {name}" for name in NAMES if name not in found)
    programs = {binary.path.rpartition("/")[2] for binary in inventory.binaries}
    for group in tables.BINARIES.values():
        yield from (f"binary {name}" for name in group if name not in programs)
    yield from (f"device {device.path}" for device in inventory.control if not device.present)
    sockets = {ipc.path.rpartition("/run/")[2] for ipc in inventory.ipcs}
    for word, path in tables.SOCKETS:
        if word not in skip and path.rpartition("/run/")[2] not in sockets:
            yield f"ipc path {path}"
    if not inventory.firmware and "gsp-firmware" not in skip:
        yield f"firmware path {tables.FIRMWARE_DIRECTORY}/{inventory.driver_version}/gsp*.bin"


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
