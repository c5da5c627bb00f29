# SPDX-License-Identifier: Apache-2.0
"""Read what a driver root holds. Nothing is written, and no privilege is needed."""

from __future__ import annotations

from ..errors import DiscoveryError
from ..model import Inventory
from . import tables
from .cudaversions import cuda_version
from .devices import find_control
from .files import find_binaries, find_firmware, find_ipcs
from .libraries import choose_libraries, read_candidates
from .mig import Capabilities, find_imex_channels
from .procfs import proc_directory, read_driver_version, read_gpus, read_proc_files
from .root import DriverRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def discover(
    root: str = "/",
    *,
    ldcache: str = "/etc/ld.so.cache",
    path: str = tables.DEFAULT_PATH,
    mps_directory: str = tables.MPS_DIRECTORY,
    skip: frozenset[str] = frozenset(),
    mig_control: frozenset[str] = frozenset(),
    dev_root: str = "",
    extras: bool = False,
    graphics: Sequence[str] | None = None,
) -> Inventory:
    """Return the driver's files and GPUs under a driver root.

    Reads files only, all of them below the root (but see `Inventory.proc`): nothing of the driver
    is executed, no device is opened. What only NVML knows, `libnvc.probe` adds.

    Args:
        root: directory on the host that holds the driver.
        ldcache: the loader cache, under the root.
        path: where programs are looked for, under the root, separated by colons. The library
            does not read its own environment; a command passes its PATH.
        mps_directory: the MPS pipe directory, under the root (CUDA_MPS_PIPE_DIRECTORY).
        skip: what is left out, of "persistenced", "fabricmanager", "gsp-firmware".
        mig_control: for which rights `Inventory.mig` is filled, of "config" and "monitor", which
            only configuring and watching MIG need. Root alone may read what "config" takes.
        dev_root: directory on the host that has the driver's /dev, "" for the root.
        extras: whether `Inventory.extras` are looked for, which CDI files have.
        graphics: whether `Inventory.graphics` and DRM nodes are looked for: None for no, else
            directories under the root where configuration files are; () for the usual ones.

    Raises:
        DriverNotFoundError: no driver is installed under the root, its kernel module is not
            loaded, or the two have different versions.
        DiscoveryError: a file cannot be read.
        MalformedFileError: a loader cache, library or procfs file is not what it should be.

    Where the cause is known, the error has a code and a hint.
    """
    driver = DriverRoot(root, dev_root=dev_root)
    cache = f"/{ldcache.lstrip('/')}"
    try:
        inventory = _read(driver, cache, path, mps_directory, skip)
        inventory = _add_capabilities(driver, inventory, mig_control)
        if extras:
            from .extras import find_extras

            inventory = inventory.replace(extras=find_extras(driver, inventory))
        if graphics is not None:
            from .graphics import add_graphics

            inventory = add_graphics(driver, inventory, path, graphics)
    except DiscoveryError as error:
        from .diagnose import explain

        explain(driver, cache, error)
        raise
    _warn_uuids(driver, inventory)
    return inventory.replace(
        warnings=tuple(driver.warnings),
        dependencies=tuple(driver.identities[path] for path in sorted(driver.identities)),
    )


def _read(
    driver: DriverRoot, cache: str, path: str, mps_directory: str, skip: frozenset[str]
) -> Inventory:
    # The order is that of the diagnosis: first whether there is a driver, then whether its
    # module is loaded, then whether the two belong together.
    candidates = read_candidates(driver, cache)
    proc = proc_directory(driver)
    version = read_driver_version(driver, proc)
    libraries = choose_libraries(driver, candidates, version)
    firmware = () if "gsp-firmware" in skip else find_firmware(driver, version)
    return Inventory(
        root=driver.prefix,
        dev_root=driver.dev_prefix if driver.dev_prefix != driver.prefix else None,
        proc=proc,
        driver_version=version,
        cuda_version=cuda_version(version),
        libraries=libraries,
        binaries=find_binaries(driver, path, libraries),
        firmware=firmware,
        control=find_control(driver, proc),
        ipcs=find_ipcs(driver, mps_directory, skip),
        gpus=read_gpus(driver, proc),
        proc_files=read_proc_files(driver, proc),
    )


def _add_capabilities(
    driver: DriverRoot, inventory: Inventory, mig_control: frozenset[str]
) -> Inventory:
    capabilities = Capabilities(driver, inventory.proc)
    return inventory.replace(
        gpus=tuple(capabilities.add_to(gpu) for gpu in inventory.gpus),
        mig=capabilities.control(mig_control),
        imex_channels=find_imex_channels(driver, inventory.proc),
    )


def _warn_uuids(driver: DriverRoot, inventory: Inventory) -> None:
    for gpu in inventory.gpus:
        if not gpu.uuid:
            driver.warn(
                f"GPU {gpu.index} ({gpu.pci}) has no UUID until the driver initialises it: "
                "run nvidia-smi or nvidia-persistenced on the host"
            )
