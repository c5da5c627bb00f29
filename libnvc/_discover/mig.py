# SPDX-License-Identifier: Apache-2.0
"""Find MIG devices and the rights to them in /proc/driver/nvidia/capabilities, and IMEX channels.

The kernel module shows each right as a file, and newer ones also as a device whose minor the
file tells: docs.nvidia.com/datacenter/tesla/mig-user-guide.
"""

from __future__ import annotations

import os

from ..model import Capability, DeviceFile, Mig, MigDevice
from .procfs import is_number, read_major
from .root import DriverRoot
from .tables import CAPS_DIRECTORY, CAPS_MODULE, IMEX_DIRECTORY, IMEX_MODULE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..model import Gpu

_DIRECTORY = "capabilities"


class Capabilities:
    """The capability files of one host, as they are found."""

    def __init__(self, root: DriverRoot, proc: str) -> None:
        self._root = root
        self._proc = proc
        self._names = self._list(_DIRECTORY) or ()
        self._major = read_major(root, proc, CAPS_MODULE) if self._names else None
        self._nodes: frozenset[str] | None = None

    def control(self, wanted: frozenset[str]) -> Mig:
        """Return what configuring and watching MIG take.

        Args:
            wanted: "config", "monitor". The file of a right that is not wanted is left alone: not
                everybody may read it.
        """
        if not wanted or "mig" not in self._names:
            return Mig()
        config, monitor = (
            self._capability(f"{_DIRECTORY}/mig/{name}") if name in wanted else None
            for name in ("config", "monitor")
        )
        return Mig(
            config=config,
            monitor=monitor,
            minors=tuple(self._minors()) if self._major is not None else (),
            major=self._major,
        )

    def add_to(self, gpu: Gpu) -> Gpu:
        """Return a GPU with its MIG devices."""
        name = f"gpu{gpu.minor}"
        directory = f"{_DIRECTORY}/{name}/mig"
        instances = self._list(directory) if name in self._names else None
        if instances is None:
            return gpu
        devices = self._devices(_numbered(directory, instances, "gi"))
        return gpu.replace(mig_capable=True, mig_devices=tuple(devices))

    def _devices(self, instances: list[tuple[int, str]]) -> Iterator[MigDevice]:
        index = 0
        for instance, path in instances:
            access = self._capability(f"{path}/access")
            for part, below in _numbered(path, self._list(path) or (), "ci"):
                compute_access = self._capability(f"{below}/access")
                if access is None or compute_access is None:
                    continue  # destroyed just now
                yield MigDevice(
                    index=index,
                    gpu_instance=instance,
                    compute_instance=part,
                    gpu_access=access,
                    compute_access=compute_access,
                )
                index += 1

    def _capability(self, path: str) -> Capability | None:
        """Return the right whose file this is, None if it is gone."""
        where = f"{self._proc}/{path}"
        if self._major is None:
            return None if self._root.note(where) is None else Capability(path=path)
        read = self._root.note_content(where)
        if read is None:
            return None
        for line in read[0].splitlines():
            name, _, value = line.partition(b":")
            minor = value.strip().decode("ascii", "replace")
            if name == b"DeviceFileMinor" and is_number(minor):
                return Capability(path=path, device=self._device(int(minor)))
        return Capability(path=path)

    def _device(self, minor: int) -> DeviceFile:
        if self._nodes is None:
            names = self._root.note_names(self._root.device(CAPS_DIRECTORY))
            self._nodes = frozenset(names or ())
        name = f"nvidia-cap{minor}"
        return DeviceFile(
            path=f"{CAPS_DIRECTORY}/{name}",
            major=self._major or 0,
            minor=minor,
            present=name in self._nodes,
        )

    def _minors(self) -> Iterator[tuple[int, int]]:
        """Yield minors of GPU and device for each right of a GPU, present or not."""
        path = os.path.dirname(self._proc) + "/nvidia-caps/mig-minors"
        read = self._root.note_content(path)
        for line in read[0].decode("ascii", "replace").splitlines() if read else ():
            name, _, minor = line.partition(" ")
            gpu = name.partition("/")[0]
            if gpu.startswith("gpu") and is_number(gpu[3:]) and is_number(minor):
                yield int(gpu[3:]), int(minor)

    def _list(self, path: str) -> tuple[str, ...] | None:
        return self._root.note_names(f"{self._proc}/{path}")


def _numbered(directory: str, names: tuple[str, ...], prefix: str) -> list[tuple[int, str]]:
    """Return number and path of those that are named by a number after a prefix."""
    numbers = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    return sorted(
        (int(number), f"{directory}/{prefix}{number}") for number in numbers if is_number(number)
    )


def find_imex_channels(root: DriverRoot, proc: str) -> tuple[DeviceFile, ...]:
    """Return the IMEX channels that the host has a node of, by number."""
    prefix = "channel"
    names = root.note_names(root.device(IMEX_DIRECTORY)) or ()
    numbers = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    channels = sorted(int(number) for number in numbers if is_number(number))
    major = read_major(root, proc, IMEX_MODULE) if channels else None
    return tuple(
        DeviceFile(path=f"{IMEX_DIRECTORY}/{prefix}{channel}", major=major, minor=channel)
        for channel in channels
        if major is not None  # without it the nodes are left over from an earlier driver
    )
