# SPDX-License-Identifier: Apache-2.0
"""Run a containerd of one's own, beside any that the machine has. Needs root."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .cri import Cri
from .daemon import Daemon
from .host import private_mounts
from .oci import ContainerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_CONFIG = """\
version = 2
disabled_plugins = [{disabled}]
"""

_PLUGIN = '"io.containerd.grpc.v1.cri"'

# Without the right to lower a score of the out-of-memory killer; a weak root lacks it.
_CRI = f"""\
[plugins.{_PLUGIN}]
  restrict_oom_score_adj = true
  sandbox_image = "{{sandbox}}"
"""

_RUNTIME = f"""\
[plugins.{_PLUGIN}.containerd.runtimes.{{name}}]
  runtime_type = "io.containerd.runc.v2"
  [plugins.{_PLUGIN}.containerd.runtimes.{{name}}.options]
    BinaryName = "{{program}}"
"""


class Containerd:
    """A containerd that is driven by `ctr`, and by the Container Runtime Interface if asked for.

    A context manager: entering starts it, leaving deletes ctr's containers and stops it. What it
    mounts is in its mount namespace.

    Attributes:
        directory: for all it keeps.
        cri: its Container Runtime Interface.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        host: Sequence[str] = (),
        *,
        handlers: Mapping[str, str | Path] | None = None,
        sandbox: str = "",
        configure: Callable[[Path], None] | None = None,
        cdi: Path | None = None,
    ) -> None:
        """Take a directory for all it keeps: made if missing, and short, for a socket's path.

        Args:
            directory: absolute.
            environment: of containerd, ctr and so the hooks; PATH must find both.
            host: a command to put before containerd's (`on_host`).
            handlers: runtimes of the Container Runtime Interface, by the names that pods ask for,
                "runc" too; None: there is no such interface.
            sandbox: the image of a pod's own container.
            configure: is called with the path of `config.toml` before containerd starts.
            cdi: the directory of its CDI files, which it reads since release 1.7 if it is told to;
                with `handlers` only.
        """
        self.cri = Cri(directory / "socket")
        self.directory = directory
        self._environment = dict(environment)
        self._host = list(host)
        self._configure = configure
        self._configuration = _CONFIG.format(disabled=_PLUGIN if handlers is None else "")
        if handlers is not None:
            self._configuration += _CRI.format(sandbox=sandbox)
            if cdi is not None:
                self._configuration += f'  cdi_spec_dirs = ["{cdi}"]\n'
            for name, program in handlers.items():
                self._configuration += _RUNTIME.format(name=name, program=program)
        self._daemon = Daemon(directory, environment)

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "config.toml"
        config.write_text(self._configuration)
        if self._configure is not None:
            self._configure(config)
        here = self.directory
        self._daemon.start(
            [
                *(*private_mounts(), *self._host, "containerd", f"--config={config}"),
                *(f"--root={here}/root", f"--state={here}/state", f"--address={here}/socket"),
            ]
        )
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
            ["ctr", "--address", f"{self.directory}/socket", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(
        self,
        options: Sequence[str],
        image: str,
        name: str,
        *command: str,
        namespace: str = "default",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container of its own; return all it printed and its exit status.

        It prints into files: `ctr` may end before it has passed everything on. What `ctr` itself
        says comes first.

        Args:
            options: of `ctr run`.
            image: its name.
            name: for the container.
            command: what to run; the image has a shell.
            namespace: containerd's.
        """
        said = self.directory / "said"
        said.mkdir(exist_ok=True)
        for file in ("out", "err"):
            (said / file).write_text("")
        mount = f"--mount=type=bind,src={said},dst=/said,options=rbind:rw"
        shell = ("sh", "-c", '"$@" >/said/out 2>/said/err', "sh")
        start = ("--namespace", namespace, "run", "--rm", mount)
        done = self.ctr(*start, *options, image, name, *shell, *command)
        done.stdout += (said / "out").read_text()
        done.stderr += (said / "err").read_text()
        return done

    def load(self, archive: Path, name: str) -> None:
        """Load an image of `write_image` for pods.

        Raises:
            ContainerFailedError: containerd refused.
        """
        done = self.ctr("--namespace", "k8s.io", "images", "import", archive)
        if done.returncode != 0:
            raise ContainerFailedError(done.stderr.strip())
        self.cri.wait_for_image(name)
