# SPDX-License-Identifier: Apache-2.0
"""What libnvc raises.

::

    NvcError
    ├── DiscoveryError          reading the driver's files on the host
    │   ├── DriverNotFoundError     no driver under the root, or its kernel module is not loaded
    │   ├── MalformedFileError      a file is not what it claims to be
    │   └── ProbeError              NVML failed, hung past its deadline, or crashed
    ├── ConfigError             config.toml does not say what it must
    ├── RequestError            the request cannot be planned
    │   ├── UnknownDeviceError      a selector or CDI name that means no device
    │   ├── MissingDeviceError      a device is known but the host has no node of it
    │   ├── MigConfigError          configuring MIG does not go with the rest of the request
    │   ├── MigMonitorError         watching MIG does not
    │   └── RequirementError        what the image requires does not hold
    ├── ApplyError              a plan could not be put into a container; everything was undone
    │   ├── ContainerError          the target: its process, namespaces, root, cgroup
    │   ├── MountError              a mount, its mount point or a device node
    │   ├── LoaderCacheError        the container's loader cache
    │   └── RollbackError           undoing did not complete: what is left is named
    └── UnsupportedKernelError  a system call this kernel does not have

``str(error)`` is one line. It names the object first, then the cause.
"""

from __future__ import annotations

_LONGEST = 500


def shown(text: str) -> str:
    """Return what others wrote in a form fit for a line of a message."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class NvcError(Exception):
    """Base of everything libnvc raises on purpose.

    Attributes:
        message: one line, no prefix.
        errno: errno of the failing system call, 0 if there was none.
        path: the path concerned, as the user knows it, or "".
        step: the failing action ("open", "move_mount", "parse"), or "".
        operation: index of the plan's operation that failed, or None.
        origin: the rule that put that operation into the plan, or "".
        code: a stable word for the cause ("module-not-loaded"; docs/errors.md has all), or "".
        hint: what was looked at and what to do, one line, or "".
    """

    def __init__(
        self,
        message: str,
        *,
        errno: int = 0,
        path: str = "",
        step: str = "",
        operation: int | None = None,
        origin: str = "",
        code: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.errno = errno
        self.path = path
        self.step = step
        self.operation = operation
        self.origin = origin
        self.code = code
        self.hint = hint


class DiscoveryError(NvcError):
    """The driver's files on the host could not be read."""


class DriverNotFoundError(DiscoveryError):
    """There is no usable driver under the root."""


class MalformedFileError(DiscoveryError):
    """A file (loader cache, ELF, proc file, plan) is not what it claims to be."""


class ProbeError(DiscoveryError):
    """NVML failed, did not answer before its deadline, or crashed."""


class ConfigError(NvcError):
    """A configuration file cannot be read, is not TOML, or holds a value that is not allowed."""


class RequestError(NvcError):
    """The request cannot be turned into a plan."""


class UnknownDeviceError(RequestError, LookupError):
    """A device selector or CDI name means no device of this host."""


class MissingDeviceError(RequestError):
    """The host has no node of a device that was asked for."""


class MigConfigError(RequestError):
    """Configuring MIG cannot be given together with what else was asked for."""


class MigMonitorError(RequestError):
    """Watching MIG cannot be given together with what else was asked for."""


class RequirementError(RequestError):
    """A requirement does not hold for this driver and these GPUs, or is none."""


class ApplyError(NvcError):
    """A plan could not be applied or undone."""


class ContainerError(ApplyError):
    """The container's process, namespaces, root or cgroup is not usable."""


class MountError(ApplyError):
    """A mount, its mount point or a device node failed."""


class LoaderCacheError(ApplyError):
    """The container's loader cache could not be updated."""


class RollbackError(ApplyError):
    """Undoing failed in part; the message names what is left."""


class UnsupportedKernelError(NvcError):
    """This kernel lacks a system call that the job needs."""
