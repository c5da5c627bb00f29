# SPDX-License-Identifier: Apache-2.0
"""Run podman with a storage of its own, for root or as an ordinary user would. Needs root.

All its commands run in one mount namespace, in which an ordinary user has a name, subordinate ids
and a way to what is shown, and in one pid namespace, so that no process is left, whatever a runtime
does. Nothing of the host is changed but cgroups.
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
from typing import TYPE_CHECKING

from .host import open_ways, private_mounts
from .oci import ContainerFailedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

# Without systemd, whose journal and cgroups it would take; locks in a directory of ours.
_CONFIGURATION = """\
[containers]
default_ulimits = [{limits}]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{directory}/tmp"
"""

# Reads its own pid from the host's procfs, and ends with its standard input.
_INIT = """
read pid rest </proc/self/stat
mount -t proc proc /proc
{view}
echo "$pid"
read end || true
"""

# podman allows itself no more.
_PODMAN_PROCESSES = 32768

_FIRST_SUBORDINATE_ID = 200000
_IDS = 65536


class Podman:
    """A podman with a storage of its own, without networks.

    A context manager: leaving deletes its containers and all that it has mounted.

    Attributes:
        directory: for all it keeps.
        uid: who runs it.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        uid: int = 0,
        runtime: str = "runc",
        etc: Mapping[str, str] | None = None,
        host: Sequence[str] = (),
        shown: Sequence[Path] = (),
    ) -> None:
        """Take a directory for all it keeps.

        Args:
            directory: absolute, made if missing.
            environment: of podman. Little of it comes to runtimes and hooks: not PATH.
            uid: who runs it; other than 0: somebody that the machine does not know.
            runtime: a name or path.
            etc: what files below /etc hold, for podman, runtimes and hooks.
            host: a command to put before all (`with_cgroups`).
            shown: what an ordinary user's podman and hooks shall reach, absolute; at most six.
        """
        self.directory = directory
        self.uid = uid
        self._environment = {
            **environment,
            "CONTAINERS_CONF": f"{directory}/containers.conf",
            "HOME": f"{directory}/home",
            "XDG_RUNTIME_DIR": f"{directory}/run",
        }
        # What rootless storage is made of does not depend on what overlay can do here.
        self._podman = [
            *("podman", f"--root={directory}/storage", f"--runroot={directory}/state"),
            *(f"--storage-driver={'vfs' if uid else 'overlay'}", f"--runtime={runtime}"),
        ]
        self._etc = dict(etc or {}) | (_names(uid) if uid else {})
        self._host = list(host)
        self._shown = [directory, *shown]
        self._init = ""
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        for name in ("etc", "home", "run", "state", "storage", "tmp"):
            (self.directory / name).mkdir(parents=True)
        (self.directory / "run").chmod(0o700)
        (self.directory / "containers.conf").write_text(
            _CONFIGURATION.format(directory=self.directory, limits=_limits())
        )
        for name, text in self._etc.items():
            path = self.directory / "etc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        lower = f"lowerdir={self.directory}/etc:/etc"
        view = shlex.join(["mount", "-t", "overlay", "-o", lower, "overlay", "/etc"]) + "\n"
        if self.uid:
            for name in ("home", "run", "state", "storage", "tmp"):
                os.chown(self.directory / name, self.uid, self.uid)
            self.directory.chmod(0o755)
            view += open_ways(self._shown)
        self._process = subprocess.Popen(
            [
                *(*self._host, *private_mounts(), "--pid", "--fork", "--kill-child"),
                *("sh", "-e", "-c", _INIT.format(view=view)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._init = self._process.stdout.readline().strip()
        if not self._init:
            raise ContainerFailedError(self._process.communicate()[1].strip())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self.podman("rm", "--all", "--force", "--time=0")
        if self.uid:
            self.podman("system", "migrate")  # ends the process that keeps its user namespace
        self._process.communicate()

    def podman(
        self, *arguments: str | Path, archive: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `podman` with arguments and return what it printed and its exit status.

        Args:
            arguments: its command, and what belongs to it.
            archive: what it reads.
        """
        become = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups"]
        with (archive or self.directory / "containers.conf").open("rb") as stream:
            return subprocess.run(
                [
                    *("nsenter", f"--target={self._init}", "--mount", "--pid", "--wdns=/"),
                    *(become if self.uid else ()),
                    *self._podman,
                    *arguments,
                ],
                env=self._environment,
                stdin=stream if archive else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )

    def load(self, archive: Path) -> None:
        """Load an image of `write_image`.

        Raises:
            ContainerFailedError: podman refused.
        """
        done = self.podman("load", archive=archive)
        if done.returncode != 0:
            raise ContainerFailedError(done.stderr.strip())


def _names(uid: int) -> dict[str, str]:
    """Return the files below /etc that give a user a name and subordinate ids."""
    name = f"user{uid}"
    ids = f"{name}:{_FIRST_SUBORDINATE_ID}:{_IDS}\n"
    return {
        "passwd": f"root:x:0:0::/root:/bin/sh\n{name}:x:{uid}:{uid}::/:/bin/sh\n",
        "group": f"root:x:0:\n{name}:x:{uid}:\n",
        "subuid": ids,
        "subgid": ids,
    }


def _limits() -> str:
    """Return limits that can be had: podman's own are higher than those of a weak root."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    limits = {"nofile": files, "nproc": min(processes, _PODMAN_PROCESSES)}
    return ", ".join(f'"{name}={limit}:{limit}"' for name, limit in limits.items())
