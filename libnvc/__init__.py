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
    from ._api import (
        apply,
        detach,
        discover,
        inspect_container,
        inspect_rootfs,
        make_plan,
        plan_to_text,
    )
    from .errors import (
        ApplyError,
        ContainerError,
        DiscoveryError,
        DriverNotFoundError,
        LoaderCacheError,
        MalformedFileError,
        MountError,
        NvcError,
        ProbeError,
        RequestError,
        RollbackError,
        UnknownDeviceError,
        UnsupportedKernelError,
    )
    from .model import (
        CAPABILITIES,
        Applied,
        DeviceFile,
        DriverFile,
        Gpu,
        Identity,
        Inventory,
        Layout,
        Library,
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

#: public name -> module that defines it
_HOME = {
    name: module
    for module, names in {
        "_api": "apply detach discover inspect_container inspect_rootfs make_plan plan_to_text",
        "errors": "ApplyError ContainerError DiscoveryError DriverNotFoundError LoaderCacheError "
        "MalformedFileError MountError NvcError ProbeError RequestError RollbackError "
        "UnknownDeviceError UnsupportedKernelError",
        "model": "Applied CAPABILITIES DeviceFile DriverFile Gpu Identity Inventory Layout "
        "Library ProcFile Request Target",
        "plan": "BindMount DeviceAccess DeviceNode Directory Env Group LoaderCache Operation "
        "Plan Symlink Tmpfs WriteFile",
    }.items()
    for name in names.split()
}

__all__ = [  # noqa: PLE0604 - computed from the table above
    *sorted(_HOME),
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'libnvc' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"libnvc.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
