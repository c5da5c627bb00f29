# SPDX-License-Identifier: Apache-2.0
"""Generate CDI files: what every device of a file gets, and what each of them gets beside that.

Both are plans: that for no device, and that for each, without what all have.
"""

from __future__ import annotations

import os

from .._discover import discover
from .._discover.nodes import find_nodes
from .._discover.platform import is_tegra
from .._discover.root import DriverRoot
from .._discover.tables import CAPS_DIRECTORY, IMEX_DIRECTORY, MPS_DIRECTORY
from .._oci.wanted import is_cdi_kind
from .._planner.build import make_plan
from .._planner.nodes import plan_nodes
from .._planner.scope import scoped
from .._planner.select import select
from .._record import Record
from .._render.cdi import HOOKS, NODES, HookProgram, cdi_edits, join_hooks
from .._system.programs import is_own
from ..errors import MissingDeviceError, ProbeError, RequestError, UnknownDeviceError, shown
from ..model import CAPABILITIES, DriverFile, Inventory, Layout, Request
from ..plan import Env, Plan
from .document import drop_groups, lowest_version, simplified, union
from .members import VERSIONS
from .options import MODES, STRATEGIES, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from ..model import DeviceFile, Gpu, MigDevice
    from ..plan import Operation

    Document = dict[str, Any]

#: Device nodes and files of modes that know no GPUs.
_NODES = {
    "gds": ("/dev/nvidia-fs*",),
    "mofed": ("/dev/infiniband/uverbs*", "/dev/infiniband/rdma_cm"),
    "gdrcopy": ("/dev/gdrdrv",),
    "nvswitch": ("/dev/nvidia-nvswitchctl", "/dev/nvidia-nvswitch*"),
}
_FILES = {"gds": (("/run/udev", "directory"), ("/etc/cufile.json", "file"))}
_MANAGEMENT = (
    "/dev/nvidia*",
    f"{CAPS_DIRECTORY}/nvidia-cap*",
    f"{IMEX_DIRECTORY}/channel*",
)
_OTHER_MODES = ("nvidia-fs", "nvidia-nvswitch", "nvidia-nvlink")

_EVERYTHING = tuple(name for name in CAPABILITIES if name != "compat32")
#: Whose files devices come with, by the mode; none in others.
_CAPABILITIES = {
    "nvml": _EVERYTHING,
    "management": tuple(name for name in _EVERYTHING if name not in ("graphics", "display")),
}
_DISPLAYS = ("DGX Display", "NVIDIA DGX Display")
_CHANNELS = 1 << 20

_VOID = Env(origin="driver", path="", name="NVIDIA_VISIBLE_DEVICES", value="void")
_EMPTY = {"env": ["NVCT_EMPTY_DEVICE="]}


class Generated(Record):
    """A CDI file.

    Attributes:
        document: its content.
        driver_version: of the driver it is for, "" where none is needed.
        warnings: one line each.
    """

    document: Document
    driver_version: str = ""
    warnings: tuple[str, ...] = ()


def generate(options: Options) -> Generated:
    """Return the CDI file of this host.

    Raises:
        RequestError: an option has no meaning, a device is not known, or readers of the version
            that is asked for could not read the file.
        MissingDeviceError: the host has no node of a device.
        DiscoveryError: there is no usable driver.
        ProbeError: NVML must be asked for MIG devices, and does not answer.
    """
    _check(options)
    mode = _mode(options)
    if mode == "wsl":
        what = "the Windows Subsystem for Linux"
        raise RequestError(f"discovery mode {mode}: not supported: drivers of {what}")
    _check_capabilities(options, mode)
    file = _File(options)
    if options.library_search_path and mode != "csv":
        file.warn("Ignoring library-search-path: the driver's libraries are found by themselves")
    if mode == "nvml":
        file.add_gpus()
    elif mode == "csv":
        file.add_csv()
    elif mode == "management":
        file.add_management()
    elif mode == "imex":
        file.add_channels()
    else:
        file.add_nodes(mode)
    return file.generated()


def _check(options: Options) -> None:
    if options.mode not in MODES:
        raise RequestError(
            f"invalid discovery mode: {shown(options.mode)}", hint=f"known are {', '.join(MODES)}"
        )
    for strategy in options.device_name_strategy:
        if strategy not in STRATEGIES:
            known = ", ".join(STRATEGIES)
            raise RequestError(
                f"invalid device name strategy: {shown(strategy)}", hint=f"known are {known}"
            )
    for name, value, kind in (
        ("vendor", options.vendor, f"{options.vendor}/gpu"),
        ("class", options.device_class, f"nvidia.com/{options.device_class}"),
    ):
        if not is_cdi_kind(kind):
            raise RequestError(f"invalid CDI {name} name: {shown(value)}")
    if options.max_cdi_version and options.max_cdi_version not in VERSIONS:
        raise RequestError(
            f"unknown CDI version: {shown(options.max_cdi_version)}",
            hint=f"known are {', '.join(VERSIONS)}",
        )
    if not options.device_id or not options.device_name_strategy:
        raise RequestError("no device is asked for, or no name for devices")


def _check_capabilities(options: Options, mode: str) -> None:
    known = _CAPABILITIES.get(mode, ())
    for capability in options.capabilities:
        if capability not in known:
            raise RequestError(
                f"discovery mode {mode}: unsupported driver capability: {shown(capability)}",
                hint=f"known are {', '.join(known)}"
                if known
                else f"devices of the mode {mode} come with no files of capabilities",
            )


def _mode(options: Options) -> str:
    if options.mode != "auto":
        return options.mode
    root = DriverRoot(options.driver_root)
    if root.resolve("/usr/lib/wsl/lib/libdxcore.so"):
        return "wsl"
    return "csv" if is_tegra(root) else "nvml"


class _File:
    """A file in the making."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._program = HookProgram(
            path=options.nvidia_cdi_hook_path,
            ldconfig=options.ldconfig_path,
            disabled=_disabled(options),
        )
        self._common = Plan(operations=(_VOID,))
        self._shared: frozenset[Operation] = frozenset()
        self._devices: dict[str, Document] = {}
        self._warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self._warnings.append(text)

    # --- what is in it ---------------------------------------------------------------------------

    def add_gpus(self) -> None:
        """Add GPUs and MIG devices."""
        inventory = self._probed(self._discover())
        request = Request(capabilities=self._capabilities("nvml"), layout=Layout(mirrors_host=True))
        self._set_common(make_plan(inventory, request))
        if "none" in self._options.device_id:
            self._devices["none"] = _EMPTY
            return
        bare = _without_common(inventory)
        for gpu, mig in self._chosen(inventory):
            selector = f"{gpu.index}:{mig.index}" if mig else str(gpu.index)
            own = request.replace(devices=(selector,), loader_cache=False)
            edits = self._edits(make_plan(bare.replace(gpus=(gpu,)), own))
            for name in _names(gpu, mig, self._options.device_name_strategy):
                self._add(name, edits)

    def _probed(self, inventory: Inventory) -> Inventory:
        """Ask NVML where GPUs are divided, or may be: then they are no devices."""
        if not any(gpu.mig_capable or not gpu.uuid for gpu in inventory.gpus):
            return inventory
        from .._discover.nvml import probe

        try:
            return probe(inventory)
        except ProbeError as error:
            if any(gpu.mig_devices or not gpu.uuid for gpu in inventory.gpus):
                raise
            self._warnings.append(f"GPUs are taken to be without MIG: {error}")
            return inventory

    def _chosen(self, inventory: Inventory) -> Iterator[tuple[Gpu, MigDevice | None]]:
        if "all" not in self._options.device_id:
            for selector in self._options.device_id:
                yield from _selected(inventory, selector)
            return
        for gpu in inventory.gpus:
            if gpu.mig_devices or gpu.mig_enabled:
                for mig in gpu.mig_devices:
                    yield gpu, mig
            elif gpu.model not in _DISPLAYS:
                yield gpu, None

    def add_csv(self) -> None:
        """Add the GPU of a Jetson."""
        from .csv import CsvDevices

        devices = CsvDevices(self._options, self._root())
        self._program = devices.program(self._program)
        common = devices.common()
        self._set_common(common.replace(operations=(*common.operations, _VOID)))
        if "none" in self._options.device_id:
            self._devices["none"] = _EMPTY
            return
        edits = self._said(devices.device())
        for name in devices.names():
            self._add(name, edits)

    def add_management(self) -> None:
        """Add all of the driver as one device."""
        self._program = self._program.replace(disabled=self._program.disabled | {NODES})
        inventory = self._discover()
        request = Request(
            capabilities=self._capabilities("management"),
            layout=Layout(mirrors_host=True),
            device_nodes=False,
            device_rules=False,
        )
        self._set_common(make_plan(inventory, request))
        found = find_nodes(self._root(), _MANAGEMENT, without=_OTHER_MODES)
        if not found:
            raise MissingDeviceError("no NVIDIA device nodes found")
        self._add("all", self._node_edits("management", found))

    def add_nodes(self, mode: str) -> None:
        """Add the devices of a mode that knows no GPUs as one device."""
        root = self._root()
        found = find_nodes(root, _NODES[mode])
        if not found:
            raise MissingDeviceError(
                'invalid CDI Spec: failed add device "all": invalid device, empty device edits',
                hint=f"mode {mode}: this host has no {root.device(_NODES[mode][0])}",
            )
        files = [
            DriverFile(path=file.path, kind=mode, file_type=kind, target=path)
            for path, kind in _FILES.get(mode, ())
            if (file := root.find(path)) is not None
        ]
        self._add("all", self._node_edits(mode, found, files))

    def add_channels(self) -> None:
        """Add IMEX channels, a device each."""
        found = {
            _number(device.path): device
            for device in find_nodes(self._root(), (f"{IMEX_DIRECTORY}/channel*",))
        }
        wanted = sorted(found) if "all" in self._options.device_id else self._numbers()
        if not wanted:
            raise MissingDeviceError(
                'invalid CDI Spec: failed add device "all": invalid device, empty device edits',
                hint=f"mode imex: this host has no {IMEX_DIRECTORY}/channel*",
            )
        for number in wanted:
            if number not in found:
                path = self._root().device(f"{IMEX_DIRECTORY}/channel{number}")
                raise MissingDeviceError(
                    f"stat failed: {path}: no such file or directory", path=path, step="stat"
                )
            self._add(str(number), self._node_edits("imex", (found[number],)))

    def _numbers(self) -> list[int]:
        numbers = []
        for text in self._options.device_id:
            digits = text.removeprefix("channel")
            if not (digits.isascii() and digits.isdigit() and int(digits[:9]) < _CHANNELS):
                raise RequestError(f'invalid IMEX channel: "{shown(text)}"')
            numbers.append(int(digits))
        return numbers

    # --- parts -----------------------------------------------------------------------------------

    def _root(self) -> DriverRoot:
        return DriverRoot(self._options.driver_root, dev_root=self._options.dev_root)

    def _discover(self) -> Inventory:
        options = self._options
        found = discover(
            options.driver_root,
            dev_root=options.dev_root,
            extras=True,
            graphics=below(options.driver_root, options.config_search_path),
            skip=frozenset(("persistenced", "fabricmanager") if options.no_ipc else ()),
            mps_directory="" if options.no_ipc else MPS_DIRECTORY,
        )
        return scoped(found, options.capabilities) if options.capabilities else found

    def _capabilities(self, mode: str) -> tuple[str, ...]:
        return self._options.capabilities or _CAPABILITIES[mode]

    def _set_common(self, plan: Plan) -> None:
        self._common = plan
        self._shared = frozenset(plan.operations)
        self._warnings += plan.warnings

    def _edits(self, plan: Plan) -> Document:
        own = tuple(operation for operation in plan.operations if operation not in self._shared)
        return self._said(plan.replace(operations=own))

    def _node_edits(
        self, origin: str, devices: Iterable[DeviceFile], files: Iterable[DriverFile] = ()
    ) -> Document:
        root = self._root()
        plan = plan_nodes(
            origin, tuple(devices), tuple(files), root=root.prefix, dev_root=root.dev_prefix
        )
        return self._said(plan)

    def _said(self, plan: Plan) -> Document:
        edits = cdi_edits(plan, self._program)
        if self._options.no_additional_gids:
            edits.pop("additionalGids", None)
        return edits

    def _add(self, name: str, edits: Document) -> None:
        if not edits:
            raise RequestError(
                f'invalid CDI Spec: failed add device "{shown(name)}": '
                "invalid device, empty device edits"
            )
        self._devices.setdefault(name, edits)

    # --- the whole -------------------------------------------------------------------------------

    def generated(self) -> Generated:
        """Return the file.

        Raises:
            RequestError: a version is asked for that cannot say it.
        """
        common = simplified(self._said(self._common))
        devices = dict(self._devices)
        if not devices:
            raise MissingDeviceError(
                "no devices found: the driver shows no GPU that containers can use"
            )
        is_dummy = "none" in self._options.device_id
        if not (self._options.no_all_device or is_dummy):
            devices.setdefault("all", union(devices.values()))
        # Another program may not know how to be several hooks in one call.
        finish = join_hooks if is_own(self._program.path) else lambda edits: edits
        own = {id(edits): finish(simplified(edits, common)) for edits in devices.values()}
        document = {
            "cdiVersion": "",
            "kind": f"{self._options.vendor}/{self._options.device_class}",
            "devices": [
                {"name": name, "containerEdits": own[id(devices[name])]} for name in sorted(devices)
            ],
            "containerEdits": finish(common),
        }
        self._set_version(document)
        return Generated(
            document=document,
            driver_version=self._common.driver_version,
            warnings=tuple(self._warnings),
        )

    def _set_version(self, document: Document) -> None:
        highest = self._options.max_cdi_version or VERSIONS[-1]
        version, why = lowest_version(document)
        if VERSIONS.index(version) > VERSIONS.index(highest) and drop_groups(document):
            self._warnings.append(
                f"additionalGids are left out: CDI {highest} does not have them; users in "
                "containers who are not root may be denied device nodes"
            )
            version, why = lowest_version(document)
        if VERSIONS.index(version) > VERSIONS.index(highest):
            raise RequestError(
                f"CDI {highest} cannot say this: {why} needs {version}",
                hint="--device-name-strategy=uuid or type-index makes names that begin with a "
                "letter; a driver root of its own needs 0.5.0",
            )
        document["cdiVersion"] = version


def _disabled(options: Options) -> frozenset[str]:
    disabled = set(HOOKS) if "all" in options.disable_hook else set(options.disable_hook)
    return frozenset(disabled - set(options.enable_hook))


def below(root: str, directories: tuple[str, ...]) -> tuple[str, ...]:
    """Return directories on the host as they are under a driver root."""
    prefix = os.path.normpath(root)
    if prefix == "/":
        return directories
    for directory in directories:
        if not f"{directory}/".startswith(f"{prefix}/"):
            raise RequestError(f"{shown(directory)}: not below the driver root {shown(root)}")
    return tuple(directory[len(prefix) :] or "/" for directory in directories)


def _without_common(inventory: Inventory) -> Inventory:
    """Return an inventory without GPUs, and without what all devices get.

    What is planned with one GPU is that GPU's, in a time that does not depend on all the others.
    """
    return inventory.replace(
        gpus=(),
        control=(),
        imex_channels=(),
        proc_files=(),
        libraries=(),
        binaries=(),
        firmware=(),
        ipcs=(),
        extras=None,
        graphics=None,
        dependencies=(),
    )


def _selected(inventory: Inventory, selector: str) -> Iterator[tuple[Gpu, MigDevice | None]]:
    try:
        found = select(inventory, (selector,))
    except UnknownDeviceError:
        is_name = selector[:4].upper() in ("GPU-", "MIG-") or selector[:1].isdigit()
        if is_name:
            raise
        message = f'identifier is not a valid UUID or index: "{shown(selector)}"'
        raise UnknownDeviceError(message) from None
    if found.mig:
        yield from found.mig
    else:
        yield from ((gpu, None) for gpu in found.gpus)


def _names(gpu: Gpu, mig: MigDevice | None, strategies: tuple[str, ...]) -> Iterator[str]:
    for strategy in strategies:
        if strategy == "uuid":
            name = mig.uuid if mig else gpu.uuid
            if not name:
                raise RequestError(
                    f"GPU {gpu.index} ({gpu.pci}): no UUID is known: "
                    "run nvidia-smi on the host, or leave out the strategy uuid"
                )
            yield name
        else:
            number = f"{gpu.index}:{mig.index}" if mig else str(gpu.index)
            kind = "mig" if mig else "gpu"
            yield f"{kind}{number}" if strategy == "type-index" else number


def _number(path: str) -> int:
    digits = path.rpartition("/channel")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 8 else -1
