# SPDX-License-Identifier: Apache-2.0
"""Run a dockerd of one's own, beside any that the machine has. Needs root."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .daemon import Daemon
from .host import private_mounts
from .oci import ContainerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self


class Dockerd:
    """A dockerd that is driven by the `docker` that came with it.

    A context manager: entering starts it, leaving deletes its containers and stops it. What it
    mounts is in its mount namespace. It makes no networks: give containers `--network=none` or
    `host`.

    Attributes:
        directory: for all it keeps.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        configuration: Mapping[str, Any] | None = None,
        host: Sequence[str] = (),
        configure: Callable[[Path], None] | None = None,
    ) -> None:
        """Take a directory for all it keeps: made if missing, and short, for a socket's path.

        Args:
            directory: absolute.
            environment: of dockerd, containerd, runtimes and hooks. The first dockerd on its PATH
                is taken.
            configuration: what `daemon.json` shall say.
            host: a command to put before dockerd's (`on_host`).
            configure: is called with the path of `daemon.json` before dockerd starts.

        Raises:
            FileNotFoundError: no dockerd on that PATH.
        """
        program = shutil.which("dockerd", path=environment["PATH"])
        if program is None:
            raise FileNotFoundError(f"dockerd: not found in {environment['PATH']}")
        self.directory = directory
        self._dockerd = program
        # Another client may come first on PATH.
        self._client = Path(program).parent.with_name("bin") / "docker"
        self._socket = f"unix://{directory}/socket"
        self._environment = {**environment, "DOCKER_CONFIG": f"{directory}/client"}
        self._configuration = dict(configuration or {})
        self._host = list(host)
        self._configure = configure
        self._daemon = Daemon(directory, environment)

    def __enter__(self) -> Self:
        here = self.directory
        here.mkdir(parents=True, exist_ok=True)
        (here / "daemon.json").write_text(json.dumps(self._configuration))
        if self._configure is not None:
            self._configure(here / "daemon.json")
        self._daemon.start(
            [
                *(*private_mounts(), *self._host, self._dockerd),
                *("--config-file", here / "daemon.json", "--pidfile", here / "pid"),
                *("--data-root", here / "data", "--exec-root", here / "exec"),
                *("--host", self._socket, "--bridge=none"),
                *("--iptables=false", "--ip6tables=false"),
            ]
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if names := self.docker("ps", "--all", "--quiet").stdout.split():
            self.docker("rm", "--force", *names)
        self._daemon.stop()

    def docker(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `docker` with arguments and return what it printed and its exit status."""
        return subprocess.run(
            [self._client, "--host", self._socket, *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def load(self, archive: Path) -> None:
        """Load an image of `write_image`.

        Raises:
            ContainerFailedError: docker refused.
        """
        done = self.docker("load", "--input", archive)
        if done.returncode != 0:
            raise ContainerFailedError(done.stderr.strip())
