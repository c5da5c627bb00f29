# SPDX-License-Identifier: Apache-2.0
"""Plan for the GPU of a Jetson: what its CSV files name, where the host has it. Pure."""

from __future__ import annotations

from ..errors import MissingDeviceError, UnknownDeviceError, shown
from ..model import DeviceFile, Gpu, Inventory
from ..plan import BindMount, DeviceAccess, DeviceNode, Group, LoaderCache, Plan, Symlink
from .requirements import check_requirements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._discover.tegra import Tegra
    from ..model import Library
    from ..plan import Operation

_LOADER_CACHE = "/etc/ld.so.cache"
_INDEX = "0"  # a Jetson has one GPU


def plan_tegra(
    tegra: Tegra,
    devices: Sequence[str],
    *,
    requirements: Sequence[str] = (),
    compat: str = "",
    libraries: Sequence[tuple[str, str, int]] = (),
) -> Plan:
    """Return what gives a container the GPU of a Jetson.

    Args:
        tegra: what there is.
        devices: "0", "all", or nothing: then no device comes.
        requirements: expressions that must hold.
        compat: directory of the image with newer CUDA libraries, which the loader prefers, or "".
        libraries: what the loader shall find beside the libraries of `tegra`: name, path in the
            container, bits.

    Raises:
        UnknownDeviceError: another device is asked for.
        MissingDeviceError: the host has none of the devices.
        RequirementError: a requirement does not hold.
    """
    check_devices(devices)
    if requirements:
        check_requirements(_inventory(tegra), (_gpu(tegra),), requirements)
    if devices and not tegra.nodes:
        raise MissingDeviceError(
            "no device that the CSV files name is there",
            hint="lines of the kind dev name them; check that the GPU's kernel module is loaded",
        )
    operations = (
        *_files(tegra),
        *_links(tegra),
        *(node_operations(tegra) if devices else ()),
        _loader_cache(tegra, compat, libraries),
    )
    return Plan(
        operations=_unique(operations),
        warnings=tegra.warnings,
        dependencies=tegra.dependencies,
        driver_version=tegra.driver_version,
    )


def check_devices(devices: Sequence[str]) -> None:
    """Refuse names of devices that a Jetson does not have.

    Raises:
        UnknownDeviceError: there is one.
    """
    for name in devices:
        if name not in (_INDEX, "all"):
            raise UnknownDeviceError(
                f"unsupported device id: {shown(name)}",
                hint=f'a Jetson\'s GPU is named "{_INDEX}" or "all"',
            )


def node_operations(tegra: Tegra) -> Iterator[Operation]:
    """Yield what gives a container the devices."""
    for node in tegra.nodes:
        yield DeviceNode(
            origin="csv:dev",
            path=node.path,
            major=node.major,
            minor=node.minor,
            source=tegra.dev_root + node.real,
        )
        yield DeviceAccess(origin="csv:dev", path="", major=node.major, minor=node.minor)
    for gid in sorted({node.gid for node in tegra.nodes} - {0}):
        yield Group(origin="csv:dev", path="", gid=gid)


def _files(tegra: Tegra) -> Iterator[Operation]:
    for file in tegra.files:
        yield BindMount(
            origin=f"csv:{file.kind}",
            path=file.target,
            source=tegra.root + file.path,
            file_type=file.file_type,
        )


def _links(tegra: Tegra) -> Iterator[Operation]:
    for link in tegra.links:
        yield Symlink(origin="csv:link", path=link.path, target=link.target, overwrite=True)
    mounted = {file.target for file in tegra.files}
    for library in tegra.libraries:
        directory, _, name = library.path.rpartition("/")
        if library.path in mounted and _found_as(library) != name:
            path = f"{directory}/{_found_as(library)}"
            yield Symlink(origin="soname", path=path, target=name, overwrite=True)


def _found_as(library: Library) -> str:
    soname = library.soname
    return library.path.rpartition("/")[2] if soname in ("", ".", "..") else soname


def _loader_cache(tegra: Tegra, compat: str, more: Sequence[tuple[str, str, int]]) -> Operation:
    libraries = {
        f"{library.path.rpartition('/')[0]}/{name}": name
        for library in tegra.libraries
        for name in (_found_as(library),)
    }
    return LoaderCache(
        origin="loader-cache",
        path=_LOADER_CACHE,
        libraries=(*((name, path, 64) for path, name in libraries.items()), *more),
        directories=(compat,) if compat else (),
    )


def _unique(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Keep the first operation for each place; rules and groups have no place."""
    taken: dict[str, Operation] = {}
    return tuple(
        operation
        for operation in operations
        if not operation.path or taken.setdefault(operation.path, operation) is operation
    )


def _gpu(tegra: Tegra) -> Gpu:
    device = DeviceFile(path="/dev/nvidia0", major=195, minor=0)
    return Gpu(index=0, minor=0, uuid="", pci="", model="", device=device, arch=tegra.arch)


def _inventory(tegra: Tegra) -> Inventory:
    """Return what requirements are compared with."""
    return Inventory(
        root=tegra.root,
        proc="",
        driver_version=tegra.driver_version,
        cuda_version=tegra.cuda_version,
        gpus=(_gpu(tegra),),
        control=(),
        libraries=(),
        binaries=(),
        firmware=(),
        ipcs=(),
        proc_files=(),
    )
