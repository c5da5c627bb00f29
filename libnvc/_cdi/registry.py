# SPDX-License-Identifier: Apache-2.0
"""All devices that the files of some directories describe, found by their full names."""

from __future__ import annotations

import os

from .._record import Record
from ..errors import NvcError, UnknownDeviceError, shown
from .edits import merge
from .spec import read_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .edits import Device, Edits
    from .spec import Spec

_SUFFIXES = (".json", ".yaml")
_MOST = 5  # things of a kind that a message names


class Registry(Record):
    """What was found.

    Attributes:
        directories: that were read, in their order; later ones win.
        specs: all valid files.
        devices: full name -> file and device.
        conflicts: full name of a device that cannot be used -> the files of one directory that
            describe it.
        warnings: what could not be used, and why; one line each, the path first.
    """

    directories: tuple[str, ...]
    specs: tuple[Spec, ...] = ()
    devices: dict[str, tuple[Spec, Device]]
    conflicts: dict[str, tuple[str, ...]]
    warnings: tuple[str, ...] = ()

    def find(self, names: Sequence[str]) -> Edits:
        """Return what devices change, in the order of their names.

        Raises:
            UnknownDeviceError: devices are not known, or cannot be used; the message names all.
        """
        unknown = [name for name in names if name not in self.devices]
        if unknown:
            listed = ", ".join(shown(name) for name in unknown)
            raise UnknownDeviceError(
                f"unresolvable CDI devices {listed}", hint=self._hint(unknown[0])
            )
        parts: list[Edits] = []
        seen: set[str] = set()
        for name in names:
            spec, device = self.devices[name]
            if spec.path not in seen:
                seen.add(spec.path)
                parts.append(spec.edits)
            parts.append(device.edits)
        return merge(parts)

    def _hint(self, name: str) -> str:
        """Say why a device is not known, and what to do."""
        where = f"read: {_some(self.directories, ', ') or 'no directory'}"
        broken = "; ".join(("", *self.warnings[:_MOST]))
        return f"{self._why(name)}; {where}{broken}"

    def _why(self, name: str) -> str:
        kind, _, device = name.partition("=")
        if name in self.conflicts:
            files = " and ".join(shown(path) for path in self.conflicts[name])
            return f"{shown(name)} is in {files}: remove it from all but one"
        others = [other.name for spec in self.specs if spec.kind == kind for other in spec.devices]
        if others:
            return f"{shown(kind)} has {_some(dict.fromkeys(others), ', ')}: ask for one of these"
        if self.warnings:
            return f"no file describes {shown(kind)}: correct those that could not be used"
        if kind == "nvidia.com/gpu":
            own = f"runtime.nvidia.com/gpu={shown(device)}"
            return f"no file describes {kind}: ask for {own}, which needs none"
        return f"no file describes {shown(kind)}: install the CDI file of its vendor"


def read_registry(directories: Sequence[str]) -> Registry:
    """Read all files of directories that are named *.json or *.yaml.

    Of a device that several directories have, the last directory's counts; one that two files of
    one directory have cannot be used. A directory that is not there is empty. What cannot be read
    spoils nothing else.
    """
    warnings: list[str] = []
    specs: list[Spec] = []
    devices: dict[str, tuple[Spec, Device]] = {}
    conflicts: dict[str, tuple[str, ...]] = {}
    for directory in directories:
        own = list(_read_directory(directory, warnings))
        specs += own
        users: dict[str, list[tuple[Spec, Device]]] = {}
        for spec in own:
            for device in spec.devices:
                users.setdefault(f"{spec.kind}={device.name}", []).append((spec, device))
        for name, found in users.items():
            devices.pop(name, None)
            conflicts.pop(name, None)
            if len(found) == 1:
                devices[name] = found[0]
            else:
                conflicts[name] = tuple(spec.path for spec, _ in found)
                files = ", ".join(shown(path) for path in conflicts[name])
                warnings.append(f"{files}: conflicting device {name}")
    return Registry(
        directories=tuple(directories),
        specs=tuple(specs),
        devices=devices,
        conflicts=conflicts,
        warnings=tuple(warnings),
    )


def _read_directory(directory: str, warnings: list[str]) -> Iterator[Spec]:
    try:
        with os.scandir(directory) as entries:
            names = sorted(
                entry.name
                for entry in entries
                if entry.name.endswith(_SUFFIXES) and not entry.is_dir(follow_symlinks=False)
            )
    except (FileNotFoundError, ValueError):  # ValueError: no path has such a character
        return
    except OSError as error:
        warnings.append(f"{shown(directory)}: {(error.strerror or '').lower()}")
        return
    for name in names:
        try:
            yield read_spec(os.path.join(directory, name))
        except NvcError as error:
            warnings.append(error.message)


def _some(names: Iterable[str], between: str) -> str:
    """Return the first names of several, and that there are more."""
    listed = [shown(name) for name in names]
    more = [f"{len(listed) - _MOST} more"] if len(listed) > _MOST else []
    return between.join(listed[:_MOST] + more)
