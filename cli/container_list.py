# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-cli list`: paths of the driver's files and devices."""

from __future__ import annotations

from libnvc._discover.tables import CAPS_DIRECTORY, IMEX_DIRECTORY, PROC_DIRECTORY
from libnvc._record import Record

from ._argp import Option, Parser
from .container_common import (
    RIGHT_OPTIONS,
    SKIP_OPTIONS,
    Settings,
    discover,
    events,
    imex_channels,
    mig_control,
    start,
    wants_mig,
)
from .container_kept import put_kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from libnvc.model import Capability, DeviceFile, Gpu, Inventory

PARSER = Parser(
    name="nvidia-container-cli list",
    doc="List the driver's files and devices, one path a line, without the driver root. With "
    "nothing asked for, list everything.",
    options=(
        Option(name="device", short="d", arg="ID", doc="Device nodes of these GPUs"),
        Option(name="libraries", short="l", doc="Libraries"),
        Option(name="binaries", short="b", doc="Programs"),
        Option(name="ipcs", short="i", doc="Sockets and other IPC paths"),
        Option(name="firmwares", short="f", doc="Firmware files"),
        Option(name="compat32", doc="32-bit libraries, too"),
        *RIGHT_OPTIONS,
        *SKIP_OPTIONS,
    ),
)

#: the sections after the devices, in order of output
_SECTIONS = ("binaries", "libraries", "ipcs", "firmwares")


class Question(Record):
    """A command line of `list`, read and checked.

    Attributes:
        devices: selectors of the GPUs whose nodes are listed, after the control devices; None for
            no device at all.
        sections: names of the other sections, as the options have them, and "compat32".
        skipped: what discovery leaves out.
        mig_config, mig_monitor: whether what configuring or watching MIG takes is listed.
        imex_channels: numbers.
    """

    devices: tuple[str, ...] | None = None
    sections: frozenset[str] = frozenset()
    skipped: frozenset[str] = frozenset()
    mig_config: bool = False
    mig_monitor: bool = False
    imex_channels: tuple[int, ...] = ()


def list_driver(settings: Settings, argv: Sequence[str]) -> int:
    """Print the paths that were asked for."""
    asked = read_question(argv)
    with start(settings, asked.imex_channels) as log:
        import libnvc

        found = discover(
            settings,
            log,
            libnvc.Request(devices=asked.devices or ()),
            channels=asked.imex_channels,
            skip=asked.skipped,
            mig_control=mig_control(config=asked.mig_config, monitor=asked.mig_monitor),
        )
        put_kept("".join(f"{path}\n" for path in paths(found, asked)), found, settings)
    return 0


def read_question(argv: Sequence[str]) -> Question:
    """Read and check the command line."""
    sections: set[str] = set()
    skipped: set[str] = set()
    values: dict[str, list[str]] = {}
    for name, value, _ in events(PARSER, argv):
        if value is not None:
            values.setdefault(name, []).append(value)
        elif name.startswith("no-"):
            skipped.add(name.removeprefix("no-"))
            if name == "no-gsp-firmware":
                sections.discard("firmwares")  # as the reference: only what came before
        else:
            sections.add(name)
    # "--imex-channel=0" asks for everything and a channel; "--imex-channel 0" for a channel
    if len(argv) == 1 or (len(argv) == 2 and "imex-channel" in values):
        sections = {*_SECTIONS, "compat32"}
        values["device"] = ["all"]
    channels = imex_channels(values.get("imex-channel", ()))
    return Question(
        devices=tuple(values["device"]) if "device" in values else None,
        sections=frozenset(sections),
        skipped=frozenset(skipped),
        mig_config=wants_mig("mig-config", values.get("mig-config", ())),
        mig_monitor=wants_mig("mig-monitor", values.get("mig-monitor", ())),
        imex_channels=channels,
    )


def paths(found: Inventory, asked: Question) -> list[str]:
    """Return the paths in the reference's order."""
    bits = (64, 32) if "compat32" in asked.sections else (64,)
    files = {
        "binaries": [file.path for file in found.binaries],
        "libraries": [library.path for library in found.libraries if library.bits in bits],
        "ipcs": [file.path for file in found.ipcs],
        # where drivers and containers look for it, even if /lib is a link here
        "firmwares": [file.target for file in found.firmware],
    }
    listed = list(_devices(found, asked))
    for section in _SECTIONS:
        listed += files[section] if section in asked.sections else []
    return listed


def _devices(found: Inventory, asked: Question) -> Iterator[str]:
    from libnvc._planner.select import check_mig_control, select

    selection = select(found, asked.devices or ())
    check_mig_control(selection, config=asked.mig_config, monitor=asked.mig_monitor)
    if asked.devices is not None:
        yield from (device.path for device in found.control if _is_listed(device))
    yield from (gpu.device.path for gpu in selection.gpus)
    rights = [r for r in ("mig-config", "mig-monitor") if getattr(asked, r.replace("-", "_"))]
    for _, mig in selection.mig if not rights else ():
        # files first, then devices
        accesses = (mig.gpu_access, mig.compute_access)
        yield from (f"{PROC_DIRECTORY}/{access.path}" for access in accesses)
        yield from (access.device.path for access in accesses if access.device)
    yield from (f"{IMEX_DIRECTORY}/channel{n}" for n in asked.imex_channels)
    for right in rights:
        capability = found.mig.config if right == "mig-config" else found.mig.monitor
        capable = [gpu for gpu in selection.gpus if gpu.mig_capable]
        if capability and capable:
            yield from _right(found, capability, capable)


def _right(found: Inventory, capability: Capability, gpus: list[Gpu]) -> Iterator[str]:
    """Yield what configuring or watching MIG takes."""
    yield f"{PROC_DIRECTORY}/{capability.path}"
    if capability.device:
        yield capability.device.path
    for gpu in gpus:
        yield f"{PROC_DIRECTORY}/capabilities/gpu{gpu.minor}"
        if found.mig.major is not None:
            yield CAPS_DIRECTORY
            yield from (
                f"{CAPS_DIRECTORY}/nvidia-cap{n}" for of, n in found.mig.minors if of == gpu.minor
            )


def _is_listed(device: DeviceFile) -> bool:
    # the reference looks whether the uvm nodes are there, and only those
    return device.present or not device.path.startswith("/dev/nvidia-uvm")
