# SPDX-License-Identifier: Apache-2.0
"""Find MIG devices and the rights to them in /proc/driver/nvidia/capabilities, and IMEX channels.

The kernel module shows each right as a file, and newer ones also as a device whose minor the
file tells: docs.nvidia.com/datacenter/tesla/mig-user-guide.
"""

from __future__ import annotations

import os

from ..model import Capability, DeviceFile, Mig, MigDevice
from .procfs import is_number, read_major
from .root import DriverRoot, read_file
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
        self._names = self._list(_DIRECTORY)
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
        if name not in self._names or "mig" not in self._list(f"{_DIRECTORY}/{name}"):
            return gpu
        devices = self._devices(f"{_DIRECTORY}/{name}/mig")
        return gpu.replace(mig_capable=True, mig_devices=tuple(devices))

    def _devices(self, directory: str) -> Iterator[MigDevice]:
        index = 0
        for instance, path in self._instances(directory, "gi"):
            access = self._capability(f"{path}/access")
            for part, below in self._instances(path, "ci"):
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

    def _instances(self, directory: str, prefix: str) -> list[tuple[int, str]]:
        numbers = (
            name.removeprefix(prefix) for name in self._list(directory) if name.startswith(prefix)
        )
        return sorted(
            (int(number), f"{directory}/{prefix}{number}")
            for number in numbers
            if is_number(number)
        )

    def _capability(self, path: str) -> Capability | None:
        """Return the right whose file this is, None if it is gone."""
        where = f"{self._proc}/{path}"
        if self._root.note(where) is None:
            return None
        if self._major is None:
            return Capability(path=path)
        content = read_file(where)
        self._root.note_content(where, content)
        for line in content.splitlines():
            name, _, value = line.partition(b":")
            minor = value.strip().decode("ascii", "replace")
            if name == b"DeviceFileMinor" and is_number(minor):
                return Capability(path=path, device=self._device(int(minor)))
        return Capability(path=path)

    def _device(self, minor: int) -> DeviceFile:
        if self._nodes is None:
            self._nodes = frozenset(_list_noted(self._root, self._root.host(CAPS_DIRECTORY)))
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
        if self._root.note(path) is None:
            return
        content = read_file(path)
        self._root.note_content(path, content)
        for line in content.decode("ascii", "replace").splitlines():
            name, _, minor = line.partition(" ")
            gpu = name.partition("/")[0]
            if gpu.startswith("gpu") and is_number(gpu[3:]) and is_number(minor):
                yield int(gpu[3:]), int(minor)

    def _list(self, path: str) -> tuple[str, ...]:
        return _list_noted(self._root, f"{self._proc}/{path}")


def find_imex_channels(root: DriverRoot, proc: str) -> tuple[DeviceFile, ...]:
    """Return the IMEX channels that the host has a node of, by number."""
    prefix = "channel"
    names = _list_noted(root, root.host(IMEX_DIRECTORY))
    numbers = (name.removeprefix(prefix) for name in names if name.startswith(prefix))
    channels = sorted(int(number) for number in numbers if is_number(number))
    major = read_major(root, proc, IMEX_MODULE) if channels else None
    return tuple(
        DeviceFile(path=f"{IMEX_DIRECTORY}/{prefix}{channel}", major=major, minor=channel)
        for channel in channels
        if major is not None  # without it the nodes are left over from an earlier driver
    )


def _list_noted(root: DriverRoot, path: str) -> tuple[str, ...]:
    names = root.names(path)
    root.note_names(path, names)
    return names
