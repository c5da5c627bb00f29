# SPDX-License-Identifier: Apache-2.0
"""Plan for containers on a Jetson, whose driver CSV files describe."""

from __future__ import annotations

from libnvc._discover.csvfiles import csv_files
from libnvc._discover.root import DriverRoot
from libnvc._discover.tegra import ORIN, find_tegra
from libnvc._planner.policy import needs_cuda
from libnvc._planner.tegra import plan_tegra
from libnvc.plan import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libnvc._config.settings import Config
    from libnvc._discover.tegra import Tegra
    from libnvc._oci.wanted import Container, Wanted
    from libnvc.plan import Plan

    from .runtime_log import RuntimeLog

#: Where images for Orin have CUDA compatibility libraries, and where others do.
_ORIN_COMPAT = "/usr/local/cuda/compat_orin"
_COMPAT = "/usr/local/cuda/compat"
_NO_GROUPS = "no-additional-gids-for-device-nodes"


def plan_csv(
    container: Container, wanted: Wanted, config: Config, rootfs: str, log: RuntimeLog
) -> Plan:
    """Return what gives a container what it wants.

    Args:
        container: what is known of it.
        wanted: what it shall get.
        config: the runtime's.
        rootfs: its root.
        log: takes what is left out.

    Raises:
        NvcError: another device is asked for, a requirement does not hold, or CSV files name
            nothing that is there.
    """
    root = DriverRoot(config.cli.root or "/")
    every = dict(container.environment).get("NVIDIA_REQUIRE_JETPACK") == "csv-mounts=all"
    tegra = find_tegra(root, csv_files(root, config.runtime.csv_path, every=every))
    plan = plan_tegra(
        tegra,
        wanted.devices or (),
        requirements=wanted.requirements,
        compat=_compat(tegra, wanted, config, rootfs, log),
    )
    for warning in plan.warnings:
        log.warn(warning)
    if _NO_GROUPS in config.features:
        kept = tuple(op for op in plan.operations if not isinstance(op, Group))
        plan = plan.replace(operations=kept)
    return plan


def _compat(tegra: Tegra, wanted: Wanted, config: Config, rootfs: str, log: RuntimeLog) -> str:
    """Return the image's directory of CUDA compatibility libraries if they are newer, else ""."""
    is_off = config.runtime.cuda_compat_mode == "disabled"
    if is_off or not tegra.cuda_version or not needs_cuda(wanted.capabilities):
        return ""
    from .cdi_hook_work import newer_compat

    usual = _ORIN_COMPAT if tegra.chip == ORIN else _COMPAT
    place = config.runtime.csv_compat_root or usual
    return newer_compat(
        rootfs, place, host_cuda=tegra.cuda_version, say=lambda _, text: log.warn(text)
    )
