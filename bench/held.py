# SPDX-License-Identifier: Apache-2.0
"""A container that stays as it is when a runtime runs its prestart hooks."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import libnvc
from libnvc.testing import OciContainer, configure_hook

if TYPE_CHECKING:
    from pathlib import Path

# $0 is our directory, $1 is --pid=PID.
_HOLD = 'echo "${1#--pid=}" >"$0/ready"; read -r _ <"$0/release"'


class HeldContainer:
    """A container whose creation waits in a hook. A context manager: leaving deletes it.

    Attributes:
        target: the container, as the hook knows it.
    """

    def __init__(self, directory: Path, rootfs: Path, cgroup: str) -> None:
        """Take a directory that does not exist, a root, and what `OciContainer` takes."""
        directory.mkdir()
        self._rootfs = rootfs
        self._pipes = [directory / name for name in ("ready", "release")]
        hook = configure_hook(directory / "hook", ["sh", "-c", _HOLD, str(directory)], rootfs)
        self._container = OciContainer(directory / "c", rootfs, prestart=[hook], cgroup=cgroup)

    def __enter__(self) -> HeldContainer:
        for pipe in self._pipes:
            os.mkfifo(pipe)
        # For both: then nobody waits for the other side to open them.
        self._ready, self._release = (os.open(pipe, os.O_RDWR) for pipe in self._pipes)
        self._pool = ThreadPoolExecutor(1)
        self._created = self._pool.submit(self._create)
        pid = os.read(self._ready, 64).strip()
        if not pid:
            self._created.result()
        self.target = libnvc.Target(pid=int(pid), rootfs=str(self._rootfs))
        return self

    def __exit__(self, *_: object) -> None:
        os.write(self._release, b"\n")
        self._pool.shutdown()
        self._container.delete()
        os.close(self._ready)
        os.close(self._release)

    def _create(self) -> None:
        try:
            self._container.create()
        finally:
            os.write(self._ready, b"\n")
