# SPDX-License-Identifier: Apache-2.0
"""What the kernel says, seen from a driver root."""

from __future__ import annotations

import os
from errno import ENOENT

from .._discover.procfs import proc_directory, read_major
from .._discover.root import DriverRoot, os_error, read_file
from ..errors import DiscoveryError

_NVIDIA = b"0x10de"
_DISPLAY = b"0x03"


class Host:
    """A driver root with the procfs and sysfs that belong to it.

    They are the root's own if it has them (the host, a simulated driver), else the host's: the
    root of a driver container may have none.

    Attributes:
        root: the driver root.
        proc: directory on the host that stands for /proc.
        sys: directory on the host that stands for /sys.
    """

    def __init__(self, root: str) -> None:
        """Take a directory on the host.

        Raises:
            DiscoveryError: there is no such directory, or it cannot be searched.
        """
        self.root = DriverRoot(root)
        self.proc = self._directory("/proc", "devices")
        self.sys = self._directory("/sys", "bus")

    def _directory(self, path: str, mark: str) -> str:
        own = self.root.resolve(f"{path}/{mark}")
        return path if own is None else self.root.host(os.path.dirname(own))

    def driver_directory(self) -> str:
        """Return the directory that stands for /proc/driver/nvidia; "" before the module loads."""
        return proc_directory(self.root)

    def major(self, name: str) -> int | None:
        """Return the major number that the kernel has given to character devices of a name."""
        return read_major(self.root, f"{self.proc}/driver/nvidia", name)

    def count_gpus(self) -> int:
        """Return how many display controllers of NVIDIA are on the PCI bus.

        The kernel's own notes are read and not the configuration space: that wakes a GPU that
        sleeps.
        """
        bus = f"{self.sys}/bus/pci/devices"
        return sum(self._is_gpu(f"{bus}/{name}") for name in self.names(bus))

    def read(self, path: str) -> bytes:
        """Read a file of procfs or sysfs, without leaving the root that they belong to.

        Its content becomes one of the identities of `root`.

        Raises:
            DiscoveryError: it is missing, or cannot be read.
        """
        real = self._real(path)
        read = None if real is None else self.root.note_content(real)
        if read is None:
            raise os_error("open", path, FileNotFoundError(ENOENT, ""))
        return read[0]

    def names(self, path: str) -> tuple[str, ...]:
        """List a directory of procfs or sysfs, and note that; empty if it is missing."""
        real = self._real(path)
        return () if real is None else self.root.note_names(real) or ()

    def _real(self, path: str) -> str | None:
        """Return the path on the host without links, where the root may have put some."""
        prefix = self.root.prefix
        if not prefix or not path.startswith(f"{prefix}/"):
            return path
        inside = self.root.resolve(path.removeprefix(prefix))
        return None if inside is None else self.root.host(inside)

    def _is_gpu(self, device: str) -> bool:
        # The others are many; one in whose place a GPU is put gives the driver another GPU, too.
        vendor = self._real(f"{device}/vendor")
        try:
            is_ours = vendor is not None and read_file(vendor).rstrip() == _NVIDIA
            return is_ours and self.read(f"{device}/class").startswith(_DISPLAY)
        except DiscoveryError:
            return False  # unplugged meanwhile
