# SPDX-License-Identifier: Apache-2.0
"""The rights that the kernel module gives out one by one: configuring MIG, each MIG device, IMEX.

The module numbers them once and for all, whether there are such GPUs and instances or not. Each
that exists has a file in /proc and, unless devices are switched off, a device of that number.
"""

from __future__ import annotations

from .._record import Record
from .records import Profile

_FABRIC_MINOR, _CONFIG_MINOR, _MONITOR_MINOR = 0, 1, 2
_GPUS, _GPU_INSTANCES, _COMPUTE_INSTANCES = 32, 15, 8
_PROC = "/proc/driver/nvidia/capabilities"


class SimCapability(Record):
    """A right that can be had.

    Attributes:
        path: its file in /proc.
        minor: of its device.
        mode: of file and device.
    """

    path: str
    minor: int
    mode: int = 0o444

    @property
    def text(self) -> str:
        """What the file says."""
        return f"DeviceFileMinor: {self.minor}\nDeviceFileMode: {self.mode}\nDeviceFileModify: 1\n"


def instance_minor(gpu: int, instance: int) -> int:
    """Return the number of a GPU instance's capability; `gpu` is the N of /dev/nvidiaN."""
    return 3 + (gpu * _GPU_INSTANCES + instance) * (1 + _COMPUTE_INSTANCES)


def compute_minor(gpu: int, instance: int, compute: int) -> int:
    """Return the number of a compute instance's capability."""
    return instance_minor(gpu, instance) + 1 + compute


def mig_capabilities(profile: Profile) -> tuple[SimCapability, ...]:
    """Return the rights to configure and watch MIG and to use each instance that exists."""
    found = [
        SimCapability(path=f"{_PROC}/mig/config", minor=_CONFIG_MINOR, mode=0o400),
        SimCapability(path=f"{_PROC}/mig/monitor", minor=_MONITOR_MINOR),
    ]
    for gpu in profile.gpus:
        # Several compute instances may share a GPU instance.
        for instance in sorted({mig.gpu_instance for mig in gpu.mig}):
            path = f"{_PROC}/gpu{gpu.minor}/mig/gi{instance}/access"
            found.append(SimCapability(path=path, minor=instance_minor(gpu.minor, instance)))
        for mig in gpu.mig:
            instance, compute = mig.gpu_instance, mig.compute_instance
            path = f"{_PROC}/gpu{gpu.minor}/mig/gi{instance}/ci{compute}/access"
            minor = compute_minor(gpu.minor, instance, compute)
            found.append(SimCapability(path=path, minor=minor))
    return tuple(found)


def capability_files(profile: Profile) -> tuple[SimCapability, ...]:
    """Return all rights that have a file."""
    fabric = SimCapability(path=_fabric(profile)[1], minor=_FABRIC_MINOR, mode=0o400)
    return (fabric, *mig_capabilities(profile))


def capability_devices(profile: Profile) -> tuple[SimCapability, ...]:
    """Return the rights that have a device: those for MIG, where a GPU can be divided."""
    if not profile.capability_devices or not any(gpu.mig_devices for gpu in profile.gpus):
        return ()
    return mig_capabilities(profile)


def capability_directories(profile: Profile) -> tuple[str, ...]:
    """Return the directories that are there even where they are empty."""
    return tuple(f"{_PROC}/gpu{gpu.minor}/mig" for gpu in profile.gpus if gpu.mig_devices)


def minor_files(profile: Profile) -> dict[str, str]:
    """Return the files of all numbers, those of rights that nobody has included."""
    lines = [f"config {_CONFIG_MINOR}\n", f"monitor {_MONITOR_MINOR}\n"]
    for gpu in range(_GPUS):
        for instance in range(_GPU_INSTANCES):
            path = f"gpu{gpu}/gi{instance}"
            lines.append(f"{path}/access {instance_minor(gpu, instance)}\n")
            lines += [
                f"{path}/ci{compute}/access {compute_minor(gpu, instance, compute)}\n"
                for compute in range(_COMPUTE_INSTANCES)
            ]
    minors, path = _fabric(profile)
    return {
        "/proc/driver/nvidia-caps/mig-minors": "".join(lines),
        f"/proc/driver/nvidia-caps/{minors}": f"{path.rpartition('/')[2]} {_FABRIC_MINOR}\n",
    }


def _fabric(profile: Profile) -> tuple[str, str]:
    """Return the name of the file of other numbers, and the file of the only such right."""
    release = int(profile.driver_version.partition(".")[0])
    if release < 525:
        return "nvlink-minors", "/proc/driver/nvidia-nvlink/capabilities/fabric-mgmt"
    return "sys-minors", f"{_PROC}/fabric-imex-mgmt"
