# SPDX-License-Identifier: Apache-2.0
"""A simulated host whose containers are created by the native runtime, kept plans and all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import libnvc.sim
from libnvc.testing import NamespaceContainer, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

RUNTIME = "nvidia-container-runtime"
CLI = "nvidia-container-cli"
PLANS = "/run/libnvc/plans"
_INIT = "mount -t tmpfs -o mode=755 run /run && echo ready && exec cat"


class Created(NamedTuple):
    """What creating a container came to.

    Attributes:
        status, stderr: of the runtime.
        document: the configuration.
        plan: what the hook does.
        log: the engine's log, without the times.
        is_native: whether no interpreter was started; no part of the result.
    """

    status: int
    stderr: str
    document: Any
    plan: bytes
    log: list[Any]
    is_native: bool

    def result(self) -> tuple[object, ...]:
        return self[:-1]


class Given(NamedTuple):
    """What a program did to a container; without `is_native` it is the result."""

    status: int
    stderr: str
    mounts: list[tuple[object, ...]]
    tree: dict[str, tuple[object, ...]]
    is_native: bool

    def result(self) -> tuple[object, ...]:
        return self[:-1]


def until_native(start: Callable[[], Given]) -> Given:
    """Start containers until the native program does it alone; return what it did to the last."""
    for _ in range(20):  # what changed within a tick of the clock is not kept yet
        given = start()
        if given.is_native:
            return given
    raise AssertionError("nothing is kept")


class KeptHost:
    """The host: a context manager, for it has a mount namespace with a /run of its own.

    Attributes:
        root: the driver root.
        config: path of config.toml.
        bundle: where containers are made.
        bin: the installed programs, with an interpreter that leaves a mark.
        mark: that mark.
        python: the interpreter itself.
    """

    def __init__(self, directory: Path, commands: Path, profile: str) -> None:
        self.root = directory / "root"
        self.config = directory / "config.toml"
        self.bundle = directory / "bundle"
        self.bin = directory / "bin"
        self.python = sys.executable
        self.mark = directory / "mark"
        self._log = directory / "log"
        libnvc.sim.create(profile, self.root)
        (self.bundle / "rootfs/etc").mkdir(parents=True)
        self.configure()
        self.bin.mkdir()
        for name in (RUNTIME, f"{RUNTIME}-hook", CLI):
            shutil.copy(commands / name, self.bin)
        interpreter = self.bin / "python3"
        interpreter.write_text(
            f'#!/bin/sh\necho python >>{self.mark}\nexec {sys.executable} "$@"\n'
        )
        interpreter.chmod(0o755)
        (self.bin / "nvidia-ctk").write_text(f"#!{interpreter}\n")

    def configure(self, top: str = "", runtime: str = "") -> None:
        """Write config.toml."""
        self.config.write_text(
            f'{top}\n[nvidia-container-cli]\nroot = "{self.root}"\n'
            f'[nvidia-container-runtime]\nruntimes = ["/bin/true"]\n{runtime}\n'
        )

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _INIT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()

    @property
    def run(self) -> Path:
        """The host's /run/libnvc as the caller sees it."""
        return Path(f"/proc/{self._process.pid}/root/run/libnvc")

    @property
    def plans(self) -> list[Path]:
        """The kept plans."""
        found = self.run / "plans"
        return sorted(found.iterdir()) if found.exists() else []

    def on_host(
        self, *command: str | Path, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        return subprocess.run(
            ["nsenter", f"--mount=/proc/{self._process.pid}/ns/mnt", *command],
            env={
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "NVIDIA_CTK_CONFIG_FILE_PATH": str(self.config),
                **environment,
            },
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, *words: str, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run `nvidia-container-cli`, behind other words."""
        return self.on_host(*before, self.bin / CLI, f"--root={self.root}", *words)

    def create(
        self,
        *env: str,
        words: Sequence[str] = (),
        members: dict[str, Any] | None = None,
        name: str = RUNTIME,
        **environment: str,
    ) -> Created:
        """Create a container, of a bundle that is written anew."""
        document: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "process": {"env": ["PATH=/bin", *env]},
            "root": {"path": "rootfs"},
            "linux": {
                "namespaces": [{"type": "mount"}],
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            },
            **(members or {}),
        }
        config, plan = self.bundle / "config.json", self.bundle / "nvidia-container.plan"
        for path in (plan, self.mark, self._log):
            path.unlink(missing_ok=True)
        config.write_text(json.dumps(document))
        command: list[str | Path] = [self.bin / name, "--log", self._log, "--log-format", "json"]
        command += [*words, "create", "--bundle", self.bundle, "web"]
        done = self.on_host(*command, **environment)
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        messages = [{k: v for k, v in json.loads(x).items() if k != "time"} for x in lines]
        return Created(
            status=done.returncode,
            stderr=done.stderr.partition(" level=")[2],
            document=json.loads(config.read_text()),
            plan=plan.read_bytes() if plan.exists() else b"",
            log=messages,
            is_native=not self.mark.exists(),
        )

    def give(
        self,
        rootfs: Path,
        words: Callable[[int], tuple[str, ...]],
        *,
        stdin: Callable[[int], str] = lambda _: "",
        check: Callable[[NamespaceContainer], object] = lambda _: None,
        environment: Mapping[str, str],
    ) -> Given:
        """Run a command for a container that is not running yet.

        Args:
            rootfs: of the container.
            words: the command for a process of it.
            stdin: what it reads.
            check: called before the container goes.
            environment: more variables.
        """
        container = NamespaceContainer(rootfs)
        container.create()
        try:
            before = {mount.identity for mount in mounts(container.pid)}
            self.mark.unlink(missing_ok=True)
            done = self.on_host(*words(container.pid), stdin=stdin(container.pid), **environment)
            made = [mount for mount in mounts(container.pid) if mount.identity not in before]
            check(container)
            return Given(
                done.returncode,
                done.stderr,
                [(mount.path, mount.root, mount.fstype, mount.options) for mount in made],
                tree(rootfs),
                not self.mark.exists(),
            )
        finally:
            container.delete()

    def forget(self) -> None:
        """Remove what is kept, plans and answers of NVML."""
        for path in (*self.plans, self.run / "nvml"):
            path.unlink(missing_ok=True)

    def settle(self, *env: str) -> Created:
        """Create containers until the native program does it alone; return the last."""
        for _ in range(50):  # what changed within a tick of the clock is not kept yet
            created = self.create(*env)
            if created.is_native or created.status:
                return created
        raise AssertionError("nothing is kept")


def write_in_place(path: Path, content: bytes) -> None:
    """Write to a file that stays the same inode."""
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, content)
    os.close(fd)
