# SPDX-License-Identifier: Apache-2.0
"""Run a container with LXC, unprivileged unless asked otherwise, for tests. Needs root.

A container is started in a mount namespace of its own, in which root has subordinate ids, and
nothing that the container's root must reach lies in a directory that is closed to others. Nothing
of the host is changed but cgroups.
"""

from __future__ import annotations

import shlex
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from .host import open_ways

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The hook that comes with LXC and gives unprivileged containers GPUs.
NVIDIA_HOOK = Path("/usr/share/lxc/hooks/nvidia")

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class LxcContainer:
    """A container that runs one command.

    Attributes:
        name: LXC's name for it, unique.
        directory: for the configuration, LXC's state and log.
    """

    #: Who root of an unprivileged container is on the host, and how many ids the container has.
    FIRST_ID = 100000
    IDS = 65536

    _UNPRIVILEGED = (
        "lxc.include = /usr/share/lxc/config/userns.conf",
        f"lxc.idmap = u 0 {FIRST_ID} {IDS}",
        f"lxc.idmap = g 0 {FIRST_ID} {IDS}",
    )

    def __init__(
        self,
        directory: Path,
        rootfs: Path,
        *,
        mount_hooks: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
        programs: Path | None = None,
        shown: Sequence[Path] = (),
        privileged: bool = False,
        more: Sequence[str] = (),
    ) -> None:
        """Write the configuration.

        Args:
            directory: for the configuration and LXC's state; made if missing, absolute.
            rootfs: an absolute path; FIRST_ID's if unprivileged, or mapped by an option in `more`.
            mount_hooks: programs that LXC runs inside the container's namespaces, before the
                container's root becomes theirs.
            environment: of the hooks and of what runs in the container.
            programs: a directory for the front of the hooks' PATH.
            shown: directories that hooks read, absolute; at most four.
            privileged: whether root inside is root of the host.
            more: lines of LXC's configuration.
        """
        self.name = f"libnvc-{uuid.uuid4().hex[:12]}"
        self.directory = directory
        self._shown = [rootfs, directory, *([programs] if programs else ()), *shown]
        self._path = f"{programs}:{_PATH}" if programs else _PATH
        directory.mkdir(parents=True, exist_ok=True)
        lines = [
            "lxc.include = /usr/share/lxc/config/common.conf",
            f"lxc.rootfs.path = dir:{rootfs}",
            f"lxc.uts.name = {self.name}",
            "lxc.net.0.type = empty",
            "lxc.apparmor.profile = unconfined",
            *(f"lxc.environment = {name}={value}" for name, value in (environment or {}).items()),
            *(f"lxc.hook.mount = {hook}" for hook in mount_hooks),
            *(() if privileged else self._UNPRIVILEGED),
            *more,
        ]
        (directory / "config").write_text("\n".join([*lines, ""]))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Start the container, run a command in it to its end, and return what it printed.

        The exit status is 1, with what LXC says on standard error, where the container does not
        start.
        """
        here = str(self.directory)
        execute = [
            *("lxc-execute", "-P", f"{here}/state", "-n", self.name),
            *("-f", f"{here}/config", "-o", f"{here}/log", "-l", "DEBUG"),
        ]
        (self.directory / "state").mkdir(exist_ok=True)
        return subprocess.run(
            [
                *("unshare", "--mount", "--propagation", "private"),
                *("sh", "-e", "-c", f'{self._view()}exec "$@"', "sh", *execute, "--", *command),
            ],
            env={"PATH": self._path, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def _view(self) -> str:
        """Return shell that gives root subordinate ids, and opens the way to what is shown."""
        ids = self.directory / "ids"
        ids.write_text(f"root:{self.FIRST_ID}:{self.IDS}\n")
        lines = [shlex.join(["mount", "--bind", f"{ids}", f"/etc/sub{k}"]) for k in ("uid", "gid")]
        return "\n".join([*lines, ""]) + open_ways(self._shown)
