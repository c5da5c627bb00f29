# SPDX-License-Identifier: Apache-2.0
"""Run a container with a real OCI runtime (runc, crun), for tests and the demo. Needs root."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from .host import with_cgroups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Any, Self

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Environment of what runs in a container.
CONTAINER_ENVIRONMENT = (_PATH, "LC_ALL=C")

#: Who root is in a container with a user namespace: uid and gid.
MAPPED = 100000

_CAPABILITIES = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
]


class ContainerFailedError(RuntimeError):
    """The runtime refused; the message is what it printed, a failed hook's output included."""


class OciContainer:
    """A container in a bundle directory of its own, running `sleep` until it is deleted.

    A context manager: entering creates and starts it, leaving deletes it whatever happened.

    Attributes:
        name: the runtime's id for it, unique.
        bundle: its bundle directory.
        rootfs: its root file system, on the host.
    """

    def __init__(
        self,
        directory: Path,
        rootfs: Path,
        *,
        prestart: Sequence[Path] = (),
        readonly: bool = False,
        runtime: str = "runc",
        cgroup: str = "",
        environment: Sequence[str] = (),
        user_namespace: bool = False,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Write the bundle.

        Args:
            directory: for the bundle and the runtime's state; made if missing, absolute.
            rootfs: an absolute path.
            prestart: hook programs, absolute paths.
            readonly: whether the container sees its root read-only.
            runtime: runc, or a command with the same command line.
            cgroup: "v1" or "v2", whatever else this machine has mounted; "" for what it has.
            environment: more of it, "NAME=VALUE" each.
            user_namespace: whether it has one; then its root must belong to `MAPPED`.
            change: changes the configuration before it is written.
        """
        self.name = f"libnvc-{uuid.uuid4().hex[:12]}"
        self.bundle = directory / "bundle"
        self.rootfs = rootfs
        self._state = directory / "state"
        view = with_cgroups(cgroup) if cgroup else []
        self._runtime = [*view, runtime, "--root", str(self._state)]
        self.bundle.mkdir(parents=True)
        # Empty. Not /dev/null: crun gives what it gets to the container's root.
        self._input = self.bundle / "input"
        self._input.touch()
        specification = _specification(self.name, rootfs, prestart, readonly)
        specification["process"]["env"] += environment
        if user_namespace:
            _add_user_namespace(specification)
        if change is not None:
            change(specification)
        (self.bundle / "config.json").write_text(json.dumps(specification))

    def __enter__(self) -> Self:
        try:
            self.create()
            self.start()
        except BaseException:
            self.delete()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.delete()

    @property
    def pid(self) -> int:
        """The container's first process, in the caller's pid namespace."""
        return int((self.bundle / "pid").read_text())

    def create(self) -> None:
        """Set the container up and run its prestart hooks.

        Raises:
            ContainerFailedError: the runtime or a hook failed.
        """
        self._call(
            "create", "--bundle", f"{self.bundle}", "--pid-file", f"{self.bundle}/pid", self.name
        )

    def start(self) -> None:
        """Run the container's program."""
        self._call("start", self.name)

    def command(self, *words: str) -> list[str]:
        """Return a command line of the runtime."""
        return [*self._runtime, *words]

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container and return what it printed and its exit status."""
        with self._input.open() as nothing:
            return subprocess.run(
                self.command("exec", self.name, *command),
                stdin=nothing,
                capture_output=True,
                text=True,
                check=False,
            )

    def state(self) -> dict[str, Any]:
        """Return the runtime's state document."""
        run = subprocess.run(
            self.command("state", self.name), capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            raise ContainerFailedError(run.stderr.strip())
        document: dict[str, Any] = json.loads(run.stdout)
        return document

    def delete(self) -> None:
        """Kill and remove the container; quiet when it does not exist."""
        subprocess.run(
            self.command("delete", "--force", self.name), capture_output=True, check=False
        )
        shutil.rmtree(self._state, ignore_errors=True)

    def _call(self, *arguments: str) -> None:
        # Into a file, not a pipe: the container's own process inherits it and stays.
        log = self.bundle / "output"
        with log.open("w") as output, self._input.open() as nothing:
            status = subprocess.run(
                self.command(*arguments),
                stdin=nothing,
                stdout=output,
                stderr=output,
                check=False,
            ).returncode
        if status != 0:
            raise ContainerFailedError(log.read_text().strip())


def configure_hook(script: Path, command: Sequence[str], rootfs: Path) -> Path:
    """Write a prestart hook that calls `COMMAND --pid=PID ROOTFS` with the container's pid.

    Args:
        script: where to write it, absolute.
        command: `nvidia-container-cli … configure …`, the program as an absolute path.
        rootfs: absolute, as the runtime sees it.
    """
    script.write_text(
        "#!/bin/sh\n"
        "# The runtime gives the container's state as JSON on stdin.\n"
        """pid=$(sed -n 's/.*"pid": *\\([0-9][0-9]*\\).*/\\1/p')\n"""
        f'exec {shlex.join(command)} --pid="$pid" {shlex.quote(str(rootfs))}\n'
    )
    script.chmod(0o755)
    return script


def _specification(
    name: str, rootfs: Path, prestart: Sequence[Path], readonly: bool
) -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "hostname": name[:12],
        "root": {"path": str(rootfs), "readonly": readonly},
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sleep", "1000000"],
            "env": list(CONTAINER_ENVIRONMENT),
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
            "noNewPrivileges": True,
        },
        "mounts": _mounts(),
        "hooks": {
            "prestart": [
                {"path": str(hook), "args": [hook.name], "env": [_PATH]} for hook in prestart
            ]
        },
        "linux": {
            "cgroupsPath": f"/{name}",
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        },
    }


def _add_user_namespace(specification: dict[str, Any]) -> None:
    linux = specification["linux"]
    linux["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": MAPPED, "size": 65536}]
    linux.update(uidMappings=mapping, gidMappings=mapping)


def _mounts() -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    return [
        _mount("/proc", "proc", quiet),
        _mount("/dev", "tmpfs", ["nosuid", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666"]),
        _mount("/dev/shm", "tmpfs", [*quiet, "mode=1777", "size=65536k"]),
        _mount("/dev/mqueue", "mqueue", quiet),
        _mount("/sys", "sysfs", [*quiet, "ro"]),
    ]


def _mount(destination: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": kind, "options": options}
