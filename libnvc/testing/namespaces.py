# SPDX-License-Identifier: Apache-2.0
"""A container without a runtime: namespaces made by `unshare`, entered by `nsenter`.

Needs CAP_SYS_ADMIN where it runs: root, or "root" of a user namespace; a container with a user
namespace of its own needs root. It keeps its process in
the root by chroot alone, so it is for programs that one trusts: tests and the demo.
"""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from .oci import CONTAINER_ENVIRONMENT, ContainerFailedError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

# Reads its own pid from the host's procfs, so it is the one that the caller knows it by.
_INIT = """
set -e
PATH=$PATH:/usr/sbin:/sbin
mount --bind "$0" "$0"
cd "$0"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t tmpfs -o nosuid,mode=755 tmpfs dev
for name in full null random urandom zero; do
    : >dev/$name
    mount --bind /dev/$name dev/$name
done
read pid rest </proc/self/stat
echo "$pid"
read start
# What it says is said by a program that is loaded: the loader's cache may be changed from then on.
exec chroot . sh -c 'echo started; read end'
"""


class NamespaceContainer:
    """A container with mount, pid, ipc and uts namespaces of its own, running a shell that waits.

    A context manager: entering creates it, leaving deletes it whatever happened. Between
    `create` and `start` its process still sees the host's tree, as at a prestart hook.

    Attributes:
        rootfs: its root file system, on the host.
        pid: its process, in the caller's pid namespace; set by `create`.
        owner: who made its user namespace and is root there; 0: it has none of its own.
    """

    def __init__(self, rootfs: Path, owner: int = 0) -> None:
        """Take an absolute directory that has sh, and empty /dev and /proc.

        It must be the owner's, and lie where the owner may go.
        """
        self.rootfs = rootfs
        self.owner = owner
        self.pid = 0
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.create()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.delete()

    def create(self) -> None:
        """Make the namespaces and the mounts that every container has.

        Raises:
            ContainerFailedError: not allowed here; the message is what `unshare` or `mount` said.
        """
        namespaces = ["--mount", "--propagation", "private", "--pid", "--ipc", "--uts"]
        become: list[str] = []
        if self.owner:
            become = ["setpriv", f"--reuid={self.owner}", f"--regid={self.owner}", "--clear-groups"]
            namespaces += ["--user", "--map-root-user"]
        unshare = ["unshare", *namespaces, "--fork", "--kill-child"]
        self._process = process = subprocess.Popen(
            [*become, *unshare, "sh", "-c", _INIT, self.rootfs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = int(self._answer(process))

    def start(self) -> None:
        """Change into the root file system and run the container's program.

        Raises:
            ContainerFailedError: the program is not there.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        self._answer(self._process)

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container and return what it printed and its exit status."""
        namespaces = ["--mount", "--pid", "--ipc", "--uts", "--root", "--wd"]
        if self.owner:
            namespaces.append("--user")
        enter = ["nsenter", f"--target={self.pid}", *namespaces]
        return subprocess.run(
            [*enter, "env", "-i", *CONTAINER_ENVIRONMENT, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def delete(self) -> None:
        """Kill the container's processes; its mounts go with its namespace."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            _, errors = process.communicate()
            raise ContainerFailedError(errors.strip())
        return line
