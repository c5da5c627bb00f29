# SPDX-License-Identifier: Apache-2.0
"""Plan for the GPU of a Jetson: what its CSV files name, where the host has it. Pure."""

from __future__ import annotations

from ..errors import MissingDeviceError, UnknownDeviceError, shown
from ..plan import BindMount, DeviceAccess, DeviceNode, Group, LoaderCache, Plan, Symlink
from .operations import LOADER_CACHE, found_as, unique
from .requirements import check_requirements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .._discover.tegra import Tegra
    from ..plan import Operation

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
        check_requirements(
            requirements,
            cuda=tegra.cuda_version,
            driver=tegra.driver_version,
            gpus=((tegra.arch, ""),),
        )
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
        operations=unique(operations),
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
        if library.path in mounted and found_as(library) != name:
            path = f"{directory}/{found_as(library)}"
            yield Symlink(origin="soname", path=path, target=name, overwrite=True)


def _loader_cache(tegra: Tegra, compat: str, more: Sequence[tuple[str, str, int]]) -> Operation:
    libraries = {
        f"{library.path.rpartition('/')[0]}/{name}": name
        for library in tegra.libraries
        for name in (found_as(library),)
    }
    return LoaderCache(
        origin="loader-cache",
        path=LOADER_CACHE,
        libraries=(*((name, path, 64) for path, name in libraries.items()), *more),
        directories=(compat,) if compat else (),
    )
