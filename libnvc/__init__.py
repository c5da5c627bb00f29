# SPDX-License-Identifier: Apache-2.0
"""Give Linux containers access to NVIDIA GPUs: discover, make_plan, apply, detach.

>>> import libnvc as nvc
>>> found = nvc.discover("/")  # doctest: +SKIP
>>> request = nvc.Request(devices=("0",), capabilities=("utility", "compute"))
>>> plan = nvc.make_plan(found, request)  # doctest: +SKIP

Public names are loaded on first use: importing the package costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._apply.direct import apply, detach
    from ._discover import discover
    from ._discover.container import inspect_container, inspect_rootfs
    from ._discover.nvml import probe
    from ._planner.build import make_plan
    from ._planner.probe import needs_probe
    from ._render.text import plan_to_text
    from .errors import (
        ApplyError,
        ConfigError,
        ContainerError,
        DiscoveryError,
        DriverNotFoundError,
        LoaderCacheError,
        MalformedFileError,
        MigConfigError,
        MigMonitorError,
        MissingDeviceError,
        MountError,
        NvcError,
        ProbeError,
        RequestError,
        RequirementError,
        RollbackError,
        UnknownDeviceError,
        UnsupportedKernelError,
    )
    from .model import (
        CAPABILITIES,
        CUDA_COMPAT_MODES,
        Applied,
        Capability,
        DeviceFile,
        DriverFile,
        Extras,
        Gpu,
        Graphics,
        Identity,
        Inventory,
        Layout,
        Library,
        Link,
        Mig,
        MigDevice,
        ProcFile,
        Request,
        Target,
    )
    from .plan import (
        BindMount,
        DeviceAccess,
        DeviceNode,
        Directory,
        Env,
        Group,
        LoaderCache,
        Operation,
        Plan,
        Symlink,
        Tmpfs,
        WriteFile,
    )

__all__ = [
    "CAPABILITIES",
    "CUDA_COMPAT_MODES",
    "Applied",
    "ApplyError",
    "BindMount",
    "Capability",
    "ConfigError",
    "ContainerError",
    "DeviceAccess",
    "DeviceFile",
    "DeviceNode",
    "Directory",
    "DiscoveryError",
    "DriverFile",
    "DriverNotFoundError",
    "Env",
    "Extras",
    "Gpu",
    "Graphics",
    "Group",
    "Identity",
    "Inventory",
    "Layout",
    "Library",
    "Link",
    "LoaderCache",
    "LoaderCacheError",
    "MalformedFileError",
    "Mig",
    "MigConfigError",
    "MigDevice",
    "MigMonitorError",
    "MissingDeviceError",
    "MountError",
    "NvcError",
    "Operation",
    "Plan",
    "ProbeError",
    "ProcFile",
    "Request",
    "RequestError",
    "RequirementError",
    "RollbackError",
    "Symlink",
    "Target",
    "Tmpfs",
    "UnknownDeviceError",
    "UnsupportedKernelError",
    "WriteFile",
    "apply",
    "detach",
    "discover",
    "inspect_container",
    "inspect_rootfs",
    "make_plan",
    "needs_probe",
    "plan_to_text",
    "probe",
]

#: module -> the public names that it defines
_NAMES = {
    "_apply.direct": ("apply", "detach"),
    "_discover": ("discover",),
    "_discover.container": ("inspect_container", "inspect_rootfs"),
    "_discover.nvml": ("probe",),
    "_planner.build": ("make_plan",),
    "_planner.probe": ("needs_probe",),
    "_render.text": ("plan_to_text",),
    "errors": (
        "ApplyError",
        "ConfigError",
        "ContainerError",
        "DiscoveryError",
        "DriverNotFoundError",
        "LoaderCacheError",
        "MalformedFileError",
        "MigConfigError",
        "MigMonitorError",
        "MissingDeviceError",
        "MountError",
        "NvcError",
        "ProbeError",
        "RequestError",
        "RequirementError",
        "RollbackError",
        "UnknownDeviceError",
        "UnsupportedKernelError",
    ),
    "model": (
        "CAPABILITIES",
        "CUDA_COMPAT_MODES",
        "Applied",
        "Capability",
        "DeviceFile",
        "DriverFile",
        "Extras",
        "Gpu",
        "Graphics",
        "Identity",
        "Inventory",
        "Layout",
        "Library",
        "Link",
        "Mig",
        "MigDevice",
        "ProcFile",
        "Request",
        "Target",
    ),
    "plan": (
        "BindMount",
        "DeviceAccess",
        "DeviceNode",
        "Directory",
        "Env",
        "Group",
        "LoaderCache",
        "Operation",
        "Plan",
        "Symlink",
        "Tmpfs",
        "WriteFile",
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'libnvc' has no attribute {name!r}")
    # `importlib` costs more than all that most callers load through here.
    value: object = getattr(__import__(f"libnvc.{home}", fromlist=(name,)), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
