# SPDX-License-Identifier: Apache-2.0
"""Load the driver's kernel modules."""

from __future__ import annotations

import os
from errno import ENOENT, EPERM
from stat import S_ISREG, S_IXUSR

from ..errors import DiscoveryError, NvcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host import Host

_DEFAULT = "/sbin/modprobe"
_ENVIRONMENT = {"PATH": "/sbin"}


def is_loaded(host: Host, name: str) -> bool:
    """Tell whether a kernel module is loaded."""
    try:
        host.read(f"{host.sys}/module/{name.replace('-', '_')}/initstate")
    except DiscoveryError:
        return False
    return True


def load_module(host: Host, name: str, timeout: float) -> None:
    """Load a kernel module by the modprobe of the driver root, chrooted there.

    Args:
        host: the driver root.
        name: "nvidia-uvm".
        timeout: seconds.

    Raises:
        NvcError: not root, no such program, it did not end in time, or the module is not loaded
            afterwards.
    """
    if os.geteuid() != 0:
        raise _failure(name, "only root may load it", EPERM)
    program = _modprobe(host)
    if program is None:
        raise _failure(name, "no modprobe in the driver root", ENOENT)
    _run(host, (program, name), timeout)
    if not is_loaded(host, name):
        raise _failure(name, f"{program} did not load it")


def _modprobe(host: Host) -> str | None:
    """Return the program that the kernel uses, under the root; None if it is none.

    It may be a link, and the program may look at the name it is called by.
    """
    try:
        named = os.fsdecode(host.read(f"{host.proc}/sys/kernel/modprobe")).rstrip("\n")
    except DiscoveryError:
        named = ""
    program = named if named.startswith("/") else _DEFAULT
    real = host.root.resolve(program)
    if real is None:
        return None
    mode = os.lstat(host.root.host(real)).st_mode
    return program if S_ISREG(mode) and mode & S_IXUSR else None


def _run(host: Host, command: tuple[str, str], timeout: float) -> None:
    import subprocess  # only here: at most starts the modules are loaded
    from contextlib import suppress

    def enter() -> None:
        os.chroot(host.root.prefix or "/")
        os.chdir("/")

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            start_new_session=True,
            preexec_fn=enter,  # noqa: PLW1509  (two system calls, no lock)
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _failure(command[1], f"{command[0]}: {error}") from error
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        with suppress(subprocess.TimeoutExpired):  # stuck in the kernel: nobody can end it
            process.wait(1)
        raise _failure(command[1], f"{command[0]} did not end in {timeout:g} s") from None


def _failure(name: str, cause: str, number: int = 0) -> NvcError:
    module = name.replace("-", "_")
    return NvcError(f"could not load kernel module {module}: {cause}", errno=number, step="load")
