# SPDX-License-Identifier: Apache-2.0
"""What the kernel and its modules' files say about GPUs: for telling why a driver does not work.

Read below the driver root. Where the root has no procfs or sysfs of its own, as that of a driver
container, the host's is read. What cannot be read counts as missing: a diagnosis never fails.
"""

from __future__ import annotations

import os

from ..errors import NvcError
from .root import DriverRoot, read_file

_MODULE_DIRECTORIES = ("/lib/modules", "/usr/lib/modules")
_MODPROBE_DIRECTORIES = (
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
)
_VENDOR = "0x10de"
_DISPLAY_CLASS = "0x03"
# Distributions rename the module ("nvidia-current") and alias it.
_MODULE_NAMES = ("nvidia", "nvidia-current", "nvidia-open")


class KernelFacts:
    """A view of procfs, sysfs and the modules' files.

    Attributes:
        release: of the running kernel.
    """

    def __init__(self, root: DriverRoot) -> None:
        self._root = root
        self._proc = _owner(root, "/proc")
        self._sys = _owner(root, "/sys")
        self.release = _text(self._proc, "/proc/sys/kernel/osrelease").strip() or os.uname().release

    def proc(self, path: str) -> str:
        """Return the path on the host of a path below /proc."""
        return self._proc.host(f"/proc{path}")

    def sys(self, path: str) -> str:
        """Return the path on the host of a path below /sys."""
        return self._sys.host(f"/sys{path}")

    def gpus(self) -> dict[str, str] | None:
        """Return the kernel driver of each NVIDIA GPU by its PCI address, "" for none.

        None where sysfs shows no PCI bus at all.
        """
        directory = "/sys/bus/pci/devices"
        names = _names(self._sys, directory)
        gpus = {}
        for name in names:
            device = f"{directory}/{name}"
            vendor = _text(self._sys, f"{device}/vendor").strip()
            kind = _text(self._sys, f"{device}/class")
            if vendor == _VENDOR and kind.startswith(_DISPLAY_CLASS):
                driver = _resolve(self._sys, f"{device}/driver") or ""
                gpus[name] = driver.rpartition("/")[2]
        return gpus if names else None

    def is_loaded(self) -> bool:
        """Tell whether sysfs has the nvidia module."""
        return _resolve(self._sys, "/sys/module/nvidia") is not None

    def users(self) -> str:
        """Return how many use the loaded module, as sysfs says, or ""."""
        return _text(self._sys, "/sys/module/nvidia/refcnt").strip()

    def module_directories(self) -> tuple[str, ...]:
        """Return where modules for the running kernel belong, on the host."""
        return tuple(self._root.host(f"{place}/{self.release}") for place in _MODULE_DIRECTORIES)

    def module_file(self) -> str:
        """Return the nvidia module for the running kernel, on the host, or ""."""
        for place in _MODULE_DIRECTORIES:
            real = _resolve(self._root, f"{place}/{self.release}")
            for directory, _, names in os.walk(self._root.host(real)) if real else ():
                for name in names:
                    if name.partition(".ko")[0] in _MODULE_NAMES and ".ko" in name:
                        return f"{directory}/{name}"
        return ""

    def blacklist(self) -> str:
        """Return the file that keeps the nvidia module from being loaded, on the host, or ""."""
        if _names_module(_text(self._proc, "/proc/cmdline"), "modprobe.blacklist="):
            return self.proc("/cmdline")
        for place in _MODPROBE_DIRECTORIES:
            for name in _names(self._root, place):
                path = f"{place}/{name}"
                if name.endswith(".conf") and _blocks(_text(self._root, path)):
                    return self._root.host(path)
        return ""


def _owner(root: DriverRoot, place: str) -> DriverRoot:
    """Return the root whose procfs or sysfs counts."""
    return root if _names(root, place) else DriverRoot("/")


def _resolve(root: DriverRoot, path: str) -> str | None:
    try:
        return root.resolve(path)
    except NvcError:
        return None


def _names(root: DriverRoot, path: str) -> tuple[str, ...]:
    real = _resolve(root, path)
    try:
        return root.names(root.host(real)) if real else ()
    except NvcError:
        return ()


def _text(root: DriverRoot, path: str) -> str:
    real = _resolve(root, path)
    try:
        return read_file(root.host(real)).decode("utf-8", "replace") if real else ""
    except NvcError:
        return ""


def _names_module(text: str, option: str) -> bool:
    values = [word.removeprefix(option) for word in text.split() if word.startswith(option)]
    return any("nvidia" in value.split(",") for value in values)


def _blocks(text: str) -> bool:
    """Tell whether a file of modprobe.d blacklists the module, or replaces loading it."""
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["blacklist", "nvidia"]:
            return True
        if words[:2] == ["install", "nvidia"] and words[2:] in (["/bin/false"], ["/bin/true"]):
            return True
    return False
