# SPDX-License-Identifier: Apache-2.0
"""Run a containerd of one's own, beside any that the machine has. Needs root."""

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
    from types import TracebackType
    from typing import Self

_START_SECONDS = 30
_STOP_SECONDS = 30

_CONFIG = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{directory}/socket"
"""


class Containerd:
    """A containerd that is driven by `ctr`.

    A context manager: entering starts it, leaving deletes its containers and stops it. What it
    mounts is in its mount namespace.
    """

    def __init__(
        self, directory: Path, environment: Mapping[str, str], host: Sequence[str] = ()
    ) -> None:
        """Take a directory for all it keeps: made if missing, and short, for a socket's path.

        Args:
            directory: absolute.
            environment: of containerd, ctr and so the hooks; PATH must find both.
            host: a command to put before containerd's (`on_host`).
        """
        self._directory = directory
        self._environment = dict(environment)
        self._host = list(host)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "config.toml"
        config.write_text(_CONFIG.format(directory=self._directory))
        with ExitStack() as stack:
            ready = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            ready.bind(f"{self._directory}/ready")
            log = stack.enter_context(self._log.open("wb"))
            self._process = subprocess.Popen(
                [*self._host, "containerd", "--config", config],
                env={**self._environment, "NOTIFY_SOCKET": f"{self._directory}/ready"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            self._wait(ready)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in self.ctr("containers", "list", "--quiet").stdout.split():
            self.ctr("tasks", "delete", "--force", name)
            self.ctr("containers", "delete", name)
        self._stop()

    def ctr(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `ctr` with arguments and return what it printed and its exit status."""
        return subprocess.run(
            ["ctr", "--address", f"{self._directory}/socket", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _wait(self, ready: socket.socket) -> None:
        """Wait until containerd says that it is ready.

        Raises:
            ContainerFailedError: it ended, or said nothing; the message is its log.
        """
        assert self._process is not None
        pidfd = os.pidfd_open(self._process.pid)
        try:
            happened, _, _ = select.select([ready.fileno(), pidfd], [], [], _START_SECONDS)
        finally:
            os.close(pidfd)
        if ready.fileno() not in happened:
            self._stop()
            raise ContainerFailedError(self._log.read_text(errors="replace").strip())

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
