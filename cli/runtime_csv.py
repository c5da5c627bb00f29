# SPDX-License-Identifier: Apache-2.0
"""Plan for containers on a Jetson, whose driver CSV files describe."""

from __future__ import annotations

from libnvc._discover.csvfiles import csv_files
from libnvc._discover.root import DriverRoot
from libnvc._discover.tegra import find_tegra
from libnvc._planner.policy import needs_cuda
from libnvc._planner.tegra import plan_tegra
from libnvc._system.userns import in_user_namespace
from libnvc.plan import DeviceAccess, Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from libnvc._config.settings import Config
    from libnvc._discover.tegra import Tegra
    from libnvc._oci.wanted import Container, Wanted
    from libnvc.model import Target
    from libnvc.plan import Operation, Plan

_NO_GROUPS = "no-additional-gids-for-device-nodes"


def plan_csv(
    container: Container, wanted: Wanted, config: Config, rootfs: str, warn: Callable[[str], None]
) -> Plan:
    """Return what gives a container what it wants.

    Args:
        container: what is known of it.
        wanted: what it shall get.
        config: the runtime's.
        rootfs: its root.
        warn: takes what is left out.

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
        compat=_compat(tegra, wanted, config, rootfs, warn),
        libraries=_in_directories(root, tegra, rootfs),
    )
    for warning in plan.warnings:
        warn(warning)
    # In a user namespace the host's groups are others, and runtimes refuse what they cannot give.
    if _NO_GROUPS in config.features or container.user_namespace or in_user_namespace():
        return _without(plan, Group)
    return plan


def _in_directories(
    root: DriverRoot, tegra: Tegra, rootfs: str
) -> tuple[tuple[str, str, int], ...]:
    """Return libraries in directories that come whole, which the loader's cache would not see."""
    if not any(file.file_type == "directory" for file in tegra.files):
        return ()
    from libnvc._discover.ldconf import configured_directories
    from libnvc._discover.tegradirs import libraries_in_directories

    return libraries_in_directories(root, tegra, configured_directories(rootfs))


def apply_csv(container: Container, wanted: Wanted, config: Config, target: Target) -> None:
    """Give a container that exists what it wants, but for groups of its process.

    Args:
        container: what is known of it.
        wanted: what it shall get.
        config: the hook's.
        target: the container, which still shows the host's files.

    Raises:
        NvcError: as `plan_csv`; or the plan cannot be put into the container.
    """
    from libnvc import apply

    from .output import complain, one_line
    from .runtime_request import ldconfig

    rootfs = f"/proc/{target.pid}/root{target.rootfs}"
    plan = _without(plan_csv(container, wanted, config, rootfs, lambda _: None), Group)
    if config.cli.no_cgroups or in_user_namespace():
        plan = _without(plan, DeviceAccess)
    applied = apply(plan, target, ldconfig=ldconfig(config))
    for warning in applied.warnings[len(plan.warnings) :]:
        complain(one_line(f"nvidia-container-runtime-hook: warning: {warning}") + "\n")


def _without(plan: Plan, kind: type[Operation]) -> Plan:
    return plan.replace(operations=tuple(op for op in plan.operations if not isinstance(op, kind)))


def _compat(
    tegra: Tegra, wanted: Wanted, config: Config, rootfs: str, warn: Callable[[str], None]
) -> str:
    """Return the image's directory of CUDA compatibility libraries if they are newer, else ""."""
    is_off = config.runtime.cuda_compat_mode == "disabled"
    if is_off or not tegra.cuda_version or not needs_cuda(wanted.capabilities):
        return ""
    from .cdi_hook_work import COMPAT, newer_compat

    place = config.runtime.csv_compat_root or tegra.compat_directory or COMPAT
    return newer_compat(rootfs, place, host_cuda=tegra.cuda_version, say=lambda _, text: warn(text))
