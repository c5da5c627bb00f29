# SPDX-License-Identifier: Apache-2.0
"""Run a containerd of one's own, beside any that the machine has. Needs root."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .daemon import Daemon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

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
        self._daemon = Daemon(directory, environment)

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "config.toml"
        config.write_text(_CONFIG.format(directory=self._directory))
        self._daemon.start([*self._host, "containerd", "--config", config])
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
        self._daemon.stop()

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
