# SPDX-License-Identifier: Apache-2.0
"""Load the driver: its kernel modules, then its device nodes. nvidia-modprobe's job.

Where all is in place nothing is executed and nothing changed, only looked at: engines ask for
this at every start of a container.
"""

from __future__ import annotations

from .._discover.procfs import is_number
from .._discover.root import cause
from .._discover.tables import (
    CAPS_MODULE,
    IMEX_MODULE,
    MODESET,
    NVIDIA_MAJOR,
    NVIDIACTL,
    UVM,
    UVM_MODULE,
)
from ..errors import DiscoveryError, NvcError
from .host import Host
from .modules import is_loaded, load_module
from .nodes import Devices, Node, NodeParameters
from .userns import in_user_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from ..model import Identity

    class Report(Protocol):
        """Takes messages, one line each."""

        def info(self, text: str) -> None: ...
        def warn(self, text: str) -> None: ...


MODULES = ("nvidia", UVM_MODULE, "nvidia-modeset")

_TIMEOUT = 60.0  # seconds for one module: a large machine's GPUs take some to start
_FIELDS = {"DeviceFileUID": "uid", "DeviceFileGID": "gid", "DeviceFileMode": "mode"}


def load_driver(
    root: str, report: Report, *, imex_channels: tuple[int, ...] = (), timeout: float = _TIMEOUT
) -> tuple[Identity, ...]:
    """Load the modules that are not loaded, and make the device nodes that are not right.

    Whatever fails is a warning, and what follows is tried all the same: a driver that is usable
    without this stays usable. Loading needs root, making nodes CAP_MKNOD.

    Args:
        root: the driver root.
        report: takes what is done, and the warnings.
        imex_channels: numbers of the IMEX channels whose nodes are made.
        timeout: seconds for each module.

    Returns:
        What it looked at: while all of that is as it was, there is nothing to do. Empty where
        something failed, and so is worth another try.
    """
    try:
        if in_user_namespace():
            report.warn("skipping kernel modules and device nodes: this is a user namespace")
            return ()
        host = Host(root)
        gpus = host.count_gpus()
        if not gpus:
            report.warn("no GPU of NVIDIA on the PCI bus")
        devices = Devices(host.root.prefix)
    except (OSError, NvcError) as error:
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        report.warn(f"could not load the driver: {where}{_words(error)}")
        return ()
    counted = _Counted(report)
    with devices:
        for module in MODULES:
            if _load(host, module, counted, gpus=gpus, timeout=timeout):
                for node in _nodes(host, module, gpus, imex_channels, counted):
                    _note(host, node)
                    _make(devices, node, counted)
    return () if counted.warnings or not gpus else tuple(host.root.identities.values())


class _Counted:
    """A report that counts its warnings."""

    def __init__(self, report: Report) -> None:
        self.warnings = 0
        self.info = report.info
        self._report = report

    def warn(self, text: str) -> None:
        self.warnings += 1
        self._report.warn(text)


def _note(host: Host, node: Node) -> None:
    """Record a node and its link as they are before they are made: afterwards they differ."""
    device = host.root.device(f"/dev/{node.name}")
    if host.root.note(device) is not None:
        host.root.note(host.root.device(f"/dev/char/{node.major}:{node.minor}"))


def _load(host: Host, module: str, report: Report, *, gpus: int, timeout: float) -> bool:
    report.info(f"loading kernel module {module.replace('-', '_')}")
    if is_loaded(host, module):
        return True
    try:
        if not gpus:
            raise NvcError(f"could not load kernel module {module.replace('-', '_')}: no GPU")
        load_module(host, module, timeout)
    except (OSError, NvcError) as error:
        report.warn(_words(error))
        return False
    return True


def _make(devices: Devices, node: Node, report: Report) -> None:
    if not node.parameters.modify:
        report.info(f"leaving /dev/{node.name} to the administrator")
        return
    report.info(f"running mknod for /dev/{node.name}")
    for action, what in ((devices.make, ""), (devices.link, "link of ")):
        try:
            action(node)
        except OSError as error:
            report.warn(f"could not make the {what}device node /dev/{node.name}: {_words(error)}")
            return


def _nodes(
    host: Host, module: str, gpus: int, imex_channels: tuple[int, ...], report: Report
) -> Iterator[Node]:
    """Yield the nodes that can be made once a module is loaded."""
    if module == UVM_MODULE:
        major = _major(host, UVM_MODULE, report)
        if major is not None:
            yield from (Node(name=_name(path), major=major, minor=minor) for path, minor in UVM)
        return
    parameters = _parameters(host)
    if module != "nvidia":
        yield _fixed(*MODESET, parameters)
        return
    yield _fixed(*NVIDIACTL, parameters)
    for minor in range(gpus):
        yield _fixed(f"/dev/nvidia{minor}", minor, parameters)
    yield from _capabilities(host, gpus, report)
    major = _major(host, IMEX_MODULE, report) if imex_channels else None
    if major is not None:
        for channel in imex_channels:
            name = f"{IMEX_MODULE}/channel{channel}"
            yield Node(name=name, major=major, minor=channel, parameters=parameters)


def _fixed(path: str, minor: int, parameters: NodeParameters) -> Node:
    return Node(name=_name(path), major=NVIDIA_MAJOR, minor=minor, parameters=parameters)


def _name(path: str) -> str:
    return path.removeprefix("/dev/")


def _major(host: Host, name: str, report: Report) -> int | None:
    try:
        major = host.major(name)
    except DiscoveryError as error:
        report.warn(str(error))
        return None
    if major is None:
        report.warn(f"no device number: the kernel has no {name}")
    return major


def _parameters(host: Host) -> NodeParameters:
    try:
        fields = parse_fields(host.read(f"{host.driver_directory()}/params"))
    except DiscoveryError:
        return NodeParameters()
    return _as_parameters(fields, fields.get("ModifyDeviceFiles", 1))


def _as_parameters(fields: dict[str, int], modify: int) -> NodeParameters:
    known = {name: fields[field] for field, name in _FIELDS.items() if field in fields}
    known["mode"] = known.get("mode", 0o666) & 0o777
    return NodeParameters(**known, modify=modify != 0)


def parse_fields(content: bytes) -> dict[str, int]:
    """Return the numbers of a text of lines "NAME: NUMBER"; other lines are left out."""
    fields = {}
    for line in content.decode("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        number = value.strip()
        if is_number(number):
            fields[name.strip()] = int(number)
    return fields


def _capabilities(host: Host, gpus: int, report: Report) -> Iterator[Node]:
    """Yield the devices of the rights to use, configure and watch MIG.

    The rights that exist are listed; the table of all that might (mig-minors) is 135 times the
    number of GPUs.
    """
    directory = f"{host.driver_directory()}/capabilities"
    rights = list(_rights(host, directory, gpus))
    major = _major(host, CAPS_MODULE, report) if rights else None
    if major is None:
        return
    for right in rights:
        try:
            fields = parse_fields(host.read(f"{directory}/{right}"))
        except DiscoveryError as error:
            report.warn(str(error))
            continue
        if "DeviceFileMinor" not in fields:
            report.warn(f"{directory}/{right}: no DeviceFileMinor")
            continue
        minor = fields["DeviceFileMinor"]
        parameters = _as_parameters(fields, fields.get("DeviceFileModify", 1))
        yield Node(
            name=f"{CAPS_MODULE}/nvidia-cap{minor}", major=major, minor=minor, parameters=parameters
        )


def _rights(host: Host, directory: str, gpus: int) -> Iterator[str]:
    for name in _numbered(host, directory, "gpu"):
        if int(name.removeprefix("gpu")) >= gpus:
            continue
        for instance in _numbered(host, f"{directory}/{name}/mig", "gi"):
            inside = f"{name}/mig/{instance}"
            yield f"{inside}/access"
            for compute in _numbered(host, f"{directory}/{inside}", "ci"):
                yield f"{inside}/{compute}/access"
    yield from (f"mig/{n}" for n in host.names(f"{directory}/mig") if n in _GLOBAL)


_GLOBAL = ("config", "monitor")


def _numbered(host: Host, directory: str, word: str) -> list[str]:
    names = host.names(directory)
    return [name for name in names if name.startswith(word) and is_number(name[len(word) :])]


def _words(error: OSError | NvcError) -> str:
    return cause(error) if isinstance(error, OSError) else str(error)
