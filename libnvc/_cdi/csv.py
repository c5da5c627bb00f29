# SPDX-License-Identifier: Apache-2.0
"""The GPU of a Jetson as a CDI device: what all devices of the file get, and what it alone."""

from __future__ import annotations

from .._discover.tegra import find_tegra
from .._planner.tegra import check_devices, node_operations, plan_tegra
from .._render.cdi import COMPAT
from ..errors import MissingDeviceError, RequestError
from ..plan import Plan
from .generate import below

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._discover.root import DriverRoot
    from .._render.cdi import HookProgram
    from .options import Options


class CsvDevices:
    """The devices of mode csv: one, as a Jetson has one GPU.

    Raises:
        UnknownDeviceError: another one is asked for.
        DriverNotFoundError: CSV files name nothing that is there.
    """

    def __init__(self, options: Options, root: DriverRoot) -> None:
        if "none" not in options.device_id:
            check_devices(options.device_id)
        self._options = options
        self._tegra = find_tegra(
            root,
            options.csv_file,
            ignored=options.csv_ignore_pattern,
            search=below(options.driver_root, options.library_search_path),
        )

    def program(self, program: HookProgram) -> HookProgram:
        """Return how hooks are called: the one for CUDA compatibility is told CUDA's version."""
        version = self._tegra.cuda_version
        if not version:
            return program.replace(disabled=program.disabled | {COMPAT})
        place = self._options.csv_compat_container_root or self._tegra.compat_directory
        words = [f"--host-cuda-version={version}"]
        words += [f"--cuda-compat-container-root={place}"] if place else []
        return program.replace(compat=tuple(words))

    def common(self) -> Plan:
        """Return what all devices get."""
        return plan_tegra(self._tegra, ())

    def device(self) -> Plan:
        """Return what the device gets.

        Raises:
            MissingDeviceError: the host has no node of it.
        """
        operations = tuple(node_operations(self._tegra))
        if not operations:
            raise MissingDeviceError(
                'invalid CDI Spec: failed add device "0": invalid device, empty device edits',
                hint="mode csv: no device that CSV files name with dev is there: check that the "
                "GPU's kernel module is loaded",
            )
        return Plan(operations=operations)

    def names(self) -> Iterator[str]:
        """Yield the names of the device: it has an index, and no UUID.

        Raises:
            RequestError: it is to have no other name.
        """
        strategies = self._options.device_name_strategy
        if set(strategies) == {"uuid"}:
            raise RequestError(
                "mode csv: devices have no UUID",
                hint="add index or type-index to --device-name-strategy",
            )
        yield from ("gpu0" if s == "type-index" else "0" for s in strategies if s != "uuid")
