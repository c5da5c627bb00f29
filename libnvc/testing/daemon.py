# SPDX-License-Identifier: Apache-2.0
"""Run a daemon of a container engine in a directory of its own, and know when it is ready."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

from .oci import ContainerFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_START_SECONDS = 60
_STOP_SECONDS = 30


class Daemon:
    """A process that tells systemd when it is ready (`sd_notify`): here it tells us.

    Attributes:
        directory: for all it keeps.
        log: what it printed.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        """Take an absolute directory, short, for a socket's path; made by `start` if missing."""
        self.directory = directory
        self.log = directory / "log"
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Sequence[str | Path]) -> None:
        """Start the daemon and wait until it says that it is ready.

        Raises:
            ContainerFailedError: it ended, or said nothing; the message is its log.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        address = self.directory / "ready"
        with ExitStack() as stack:
            ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            ready.bind(str(address))
            stack.callback(address.unlink)
            log = stack.enter_context(self.log.open("wb"))
            self._process = subprocess.Popen(
                command,
                env={**self._environment, "NOTIFY_SOCKET": str(address)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            self._wait(ready)

    def stop(self) -> None:
        """Ask the daemon to end, and kill it if it does not."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()

    def _wait(self, ready: socket.socket) -> None:
        assert self._process is not None
        pidfd = os.pidfd_open(self._process.pid)
        try:
            happened, _, _ = select.select([ready.fileno(), pidfd], [], [], _START_SECONDS)
        finally:
            os.close(pidfd)
        if ready.fileno() not in happened:
            self.stop()
            raise ContainerFailedError(self.log.read_text(errors="replace").strip())
