# SPDX-License-Identifier: Apache-2.0
"""Read what the kernel module shows in /proc/driver/nvidia."""

from __future__ import annotations

import os
from errno import ENOENT

from .._record import Record
from ..errors import DriverNotFoundError
from ..model import DeviceFile, Gpu, ProcFile
from .root import DriverRoot, malformed, os_error
from .tables import NVIDIA_MAJOR, PROC_DIRECTORY, PROC_FILES


class GpuInformation(Record):
    """What one `gpus/<bus>/information` file says.

    Attributes:
        uuid: "" while the driver has not initialised the GPU.
        pci: domain, bus, device.
        excluded: whether the administrator took the GPU out of use.
    """

    model: str
    uuid: str
    pci: tuple[int, int, int]
    minor: int
    excluded: bool


def proc_directory(root: DriverRoot) -> str:
    """Return the directory on the host that stands for /proc/driver/nvidia, "" if there is none.

    The one place that decides: the root's own if it has one (the host, a simulated driver), else
    the host's, since a driver container's root has no procfs but its module is the host's.
    """
    own = root.resolve(PROC_DIRECTORY)
    if own is not None:
        return root.host(own)
    root.find(PROC_DIRECTORY)  # that it is missing is part of what the result rests on
    if root.prefix and os.path.isdir(PROC_DIRECTORY):
        return PROC_DIRECTORY
    return ""


def read_driver_version(root: DriverRoot, proc: str) -> str:
    """Return the version of the loaded kernel module.

    Raises:
        DriverNotFoundError: it is not loaded.
        MalformedFileError: the version file has no version.
    """
    path = proc + "/version"
    read = root.note_content(path) if proc else None
    if read is None:
        raise DriverNotFoundError("nvml error: driver not loaded", path=path)
    version = parse_version(read[0])
    if not version:
        raise malformed(path)
    return version


def parse_version(content: bytes) -> str:
    """Return the driver version in the text of the version file, "" if there is none.

    It is the first word of digits and dots in the line "NVRM version: …"; the words before it
    differ between the proprietary and the open module.
    """
    for line in content.decode("ascii", "replace").splitlines():
        if line.startswith("NVRM version:"):
            for word in line.split()[2:]:
                parts = word.split(".")
                if len(parts) > 1 and all(part.isascii() and part.isdigit() for part in parts):
                    return word
    return ""


def read_proc_files(root: DriverRoot, proc: str) -> tuple[ProcFile, ...]:
    """Read params, version and registry, those that exist."""
    files = []
    for name in PROC_FILES:
        path = f"{proc}/{name}"
        read = root.note_content(path)
        if read is not None:
            content, mode = read
            files.append(ProcFile(name=name, content=content, mode=mode & 0o777))
    return tuple(files)


def read_gpus(root: DriverRoot, proc: str) -> tuple[Gpu, ...]:
    """Return the GPUs the module drives, indexed in the order of their PCI addresses.

    Raises:
        MalformedFileError: an information file lacks a field or has a bad one.
    """
    found: list[tuple[GpuInformation, str]] = []
    for name in root.note_names(proc + "/gpus") or ():
        path = f"{proc}/gpus/{name}/information"
        read = root.note_content(path)
        if read is None:
            raise os_error("open", path, FileNotFoundError(ENOENT, ""))
        information = parse_information(read[0])
        if information is None:
            raise malformed(path)
        if not information.excluded:
            found.append((information, name))
    found.sort(key=lambda pair: pair[0].pci)
    return tuple(_gpu(root, index, *pair) for index, pair in enumerate(found))


def parse_information(content: bytes) -> GpuInformation | None:
    """Read the text of an information file; None if it is malformed."""
    fields: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip()] = value.strip()
    pci = parse_pci(fields.get("Bus Location", ""))
    minor = fields.get("Device Minor", "")
    uuid = fields.get("GPU UUID", "")
    if pci is None or not is_number(minor) or not uuid.startswith("GPU-"):
        return None
    excluded = fields.get("GPU Excluded", fields.get("Blacklisted", "No"))
    return GpuInformation(
        model=fields.get("Model", ""),
        uuid="" if "?" in uuid else uuid,
        pci=pci,
        minor=int(minor),
        excluded=excluded == "Yes",
    )


def parse_pci(text: str) -> tuple[int, int, int] | None:
    """Read "0000:07:00.0" as domain, bus, device; None if it is something else.

    The domain has 32 bits: some hypervisors number above 0xffff.
    """
    address, dot, function = text.partition(".")
    parts = address.split(":")
    widths = (8, 2, 2)
    if len(parts) != 3 or not dot or not is_number(function):
        return None
    for part, width in zip(parts, widths, strict=True):
        if not 0 < len(part) <= width or not all(c in "0123456789abcdefABCDEF" for c in part):
            return None
    domain, bus, device = (int(part, 16) for part in parts)
    return domain, bus, device


def is_number(text: str) -> bool:
    """Tell whether a text is a plain decimal number of at most nine digits."""
    return text.isascii() and text.isdigit() and len(text) < 10


def read_major(root: DriverRoot, proc: str, module: str) -> int | None:
    """Return the major number given to a module's character devices, None if it has none.

    Reads the `devices` file of the procfs that `proc` belongs to.
    """
    path = os.path.dirname(os.path.dirname(proc)) + "/devices"
    read = root.note_content(path)
    if read is None:
        return None
    characters, _, _ = read[0].decode("ascii", "replace").partition("Block devices:")
    for line in characters.splitlines():
        number, _, name = line.strip().partition(" ")
        if name == module and is_number(number):
            return int(number)
    return None


def _gpu(root: DriverRoot, index: int, information: GpuInformation, name: str) -> Gpu:
    path = f"/dev/nvidia{information.minor}"
    present = root.note(root.device(path)) is not None
    domain, bus, device = information.pci
    return Gpu(
        index=index,
        minor=information.minor,
        uuid=information.uuid,
        pci=f"{domain:08x}:{bus:02x}:{device:02x}.0",
        model=information.model,
        device=DeviceFile(path=path, major=NVIDIA_MAJOR, minor=information.minor, present=present),
        proc_dir=name,
    )
