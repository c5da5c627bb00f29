# SPDX-License-Identifier: Apache-2.0
"""What is measured against: simulated drivers, containers, a process that uses the library."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from libnvc import sim
from libnvc._native.ldcache import parse
from libnvc.model import CAPABILITIES
from libnvc.sim.cachewriter import write_cache
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import OciContainer, configure_hook, make_rootfs

from .held import HeldContainer

if TYPE_CHECKING:
    from contextlib import ExitStack

    import libnvc
    from libnvc.sim import Profile

#: The installed commands.
_PROGRAMS = Path(sysconfig.get_path("scripts"))
CLI = str(_PROGRAMS / "nvidia-container-cli")
CTK = str(_PROGRAMS / "nvidia-ctk")
RUNTIME = str(_PROGRAMS / "nvidia-container-runtime")
HOOK = str(_PROGRAMS / "nvidia-container-runtime-hook")
CDI_HOOK = str(_PROGRAMS / "nvidia-cdi-hook")

#: By which a container asks for everything.
EVERYTHING = ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=all")

#: In an image, beside those that its few programs need.
LIBRARIES = 150


def profile(name: str) -> Profile:
    """Return a host that can be simulated."""
    return next(profile for profile in sim.profiles() if profile.name == name)


class Setting:
    """Makes what the jobs need; all ends with the exit stack."""

    def __init__(self, directory: Path, disk: Path, stack: ExitStack) -> None:
        """Take an empty directory, and one on a disk for the images that shall be there."""
        self._directory = directory
        self._disk = disk
        self._stack = stack
        self._made = 0

    def fresh(self) -> Path:
        """Return the path of a directory that does not exist yet."""
        self._made += 1
        return self._directory / str(self._made)

    def driver(self, host: Profile, entries: int = 0) -> str:
        """Create a simulated driver and return its root.

        Args:
            host: what it is the driver of.
            entries: how long its loader cache becomes, by libraries of nobody; 0: as it is.
        """
        root = self.fresh()
        sim.create(host, root)
        if entries:
            cache = root / "etc/ld.so.cache"
            own = [(e.soname, e.path, e.flags) for e in parse(cache.read_bytes(), str(cache))]
            flags = this_machine().cache_flags
            others = [
                (f"libfilling{n}.so.1", f"/usr/lib/filling/libfilling{n}.so.1", flags)
                for n in range(entries - len(own))
            ]
            cache.write_bytes(write_cache(own + others))
        return str(root)

    def rootfs(self) -> Path:
        """Make the root file system of a container."""
        return self._fill(make_rootfs(self.fresh()))

    def disk_rootfs(self) -> Path:
        """Make a root file system on a disk."""
        return self._fill(make_rootfs(self._disk / self.fresh().name))

    def _fill(self, rootfs: Path) -> Path:
        """Give a root as many libraries as a small image of a distribution has."""
        machine = this_machine()
        directory = rootfs / machine.libs_dir.lstrip("/")
        for number in range(LIBRARIES):
            soname = f"libfilling{number}.so.1"
            library = write_library(bits=64, machine=machine.elf, soname=soname)
            (directory / f"{soname}.2.3").write_bytes(library)
        subprocess.run(["ldconfig", "-r", rootfs], check=True)
        return rootfs

    def used_rootfs(self, driver: str) -> Path:
        """Make a root file system that a container with GPUs has left its mount points in."""
        rootfs = self.rootfs()
        with OciContainer(self.fresh(), rootfs, prestart=[self.hook(driver, rootfs)]):
            return rootfs

    def config(self, driver: str, runtime: str, *, keeps: bool = True) -> str:
        """Write a configuration.

        Args:
            driver: the root of the driver.
            runtime: what the runtime becomes in the end.
            keeps: whether results are kept for the next container.
        """
        directory = self.fresh()
        directory.mkdir()
        path = directory / "config.toml"
        path.write_text(
            f"cache = {str(keeps).lower()}\n"
            f'[nvidia-container-cli]\nroot = "{driver}"\nload-kmods = false\n'
            f'[nvidia-container-runtime]\nruntimes = ["{runtime}"]\n'
        )
        return str(path)

    def bundle(self, rootfs: Path, *environment: str) -> Path:
        """Write the bundle of a container that nobody runs."""
        return OciContainer(self.fresh(), rootfs, environment=environment).bundle

    def container(self, rootfs: Path, *, cgroup: str = "") -> libnvc.Target:
        """Have a container without GPUs, in its prestart hook until the end."""
        return self._stack.enter_context(HeldContainer(self.fresh(), rootfs, cgroup)).target

    def hook(self, driver: str, rootfs: Path) -> Path:
        """Write a prestart hook that gives everything."""
        script = self.fresh()
        return configure_hook(script, [CLI, f"--root={driver}", *configure_everything()], rootfs)

    def library(self, container: libnvc.Target) -> Library:
        """Start a process that uses the library for a container."""
        return self._stack.enter_context(Library(container))


class Library:
    """A process that runs `library.py`. A context manager: leaving ends it."""

    def __init__(self, container: libnvc.Target) -> None:
        script = str(Path(__file__).with_name("library.py"))
        self.command = [sys.executable, "-I", script, str(container.pid), container.rootfs]

    def __enter__(self) -> Library:
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def call(self, job: str, root: str) -> list[float]:
        """Let it do a job; return the seconds of each call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{job} {root}\n")
        self._process.stdin.flush()
        return [float(word) for word in self._process.stdout.readline().split()]


def configure_everything() -> list[str]:
    """Return the words of `configure` for all GPUs and all capabilities."""
    return ["configure", "--device=all", *(f"--{name}" for name in CAPABILITIES)]
