# SPDX-License-Identifier: Apache-2.0
"""What the kernel shows of a simulated host: files of /proc and /sys, numbers of devices."""

from __future__ import annotations

import struct

from .._record import Record
from .capabilities import capability_devices
from .faults import NOT_LOADED, UVM_MISSING, VERSION_MISMATCH, older_version
from .records import Profile, SimGpu

NVIDIA_MAJOR = 195
UVM_MAJOR = 510
CAPS_MAJOR = 511
DRM_MAJOR = 226
IMEX_MAJOR = 509
NVGPU_MAJOR = 505

_PARAMS = """\
ResmanDebugLevel: 4294967295
RmLogonRC: 1
ModifyDeviceFiles: 1
DeviceFileUID: 0
DeviceFileGID: 0
DeviceFileMode: 438
InitializeSystemMemoryAllocations: 1
UsePageAttributeTable: 4294967295
EnableMSI: 1
EnablePCIeGen3: 0
MemoryPoolSize: 0
KMallocHeapMaxSize: 0
VMallocHeapMaxSize: 0
IgnoreMMIOCheck: 0
TCEBypassMode: 0
EnableStreamMemOPs: 0
EnableUserNUMAManagement: 1
NvLinkDisable: 0
RmProfilingAdminOnly: 1
PreserveVideoMemoryAllocations: 0
EnableS0ixPowerManagement: 0
S0ixPowerManagementVideoMemoryThreshold: 256
DynamicPowerManagement: 3
DynamicPowerManagementVideoMemoryThreshold: 200
RegisterPCIDriver: 1
EnablePCIERelaxedOrderingMode: 0
EnableResizableBar: 0
EnableGpuFirmware: 18
EnableGpuFirmwareLogs: 2
EnableDbgBreakpoint: 0
OpenRmEnableUnsupportedGpus: 0
DmaRemapPeerMmio: 1
RegistryDwords: ""
RegistryDwordsPerDevice: ""
RmMsg: ""
GpuBlacklist: ""
TemporaryFilePath: ""
ExcludedGpus: ""
"""

_POWER = """\
Runtime D3 status:          Disabled by default
Video Memory:               Active

GPU Hardware Support:
 Video Memory Self Refresh: Not Supported
 Video Memory Off:          Not Supported

S0ix Power Management:
 Platform Support:          Not Supported
 Status:                    Disabled
"""

_VIDEO = 44  # the group of that name on Debian

_MODULES = ("nvidia", "nvidia_uvm", "nvidia_modeset")
_REGISTRY = 'Binary: ""\n'

_DEVICES = """\
Character devices:
  1 mem
  5 /dev/tty
  5 /dev/console
  5 /dev/ptmx
 10 misc
136 pts
{drivers}
Block devices:
  8 sd
259 blkext
"""


class SimNode(Record):
    """A device node.

    Attributes:
        name: in /dev.
        major, minor: its number.
        mode: its permissions.
        gid: its group.
    """

    name: str
    major: int
    minor: int
    mode: int = 0o666
    gid: int = 0


def nodes(profile: Profile, fault: str) -> tuple[SimNode, ...]:
    """Return the driver's devices."""
    if fault == NOT_LOADED:
        return ()
    uvm = () if fault == UVM_MISSING else ("nvidia-uvm", "nvidia-uvm-tools")
    return (
        SimNode(name="nvidiactl", major=NVIDIA_MAJOR, minor=255),
        SimNode(name="nvidia-modeset", major=NVIDIA_MAJOR, minor=254),
        *(
            SimNode(name=f"nvidia{gpu.minor}", major=NVIDIA_MAJOR, minor=gpu.minor)
            for gpu in profile.gpus
        ),
        *(
            SimNode(name=f"dri/{name}", major=DRM_MAJOR, minor=minor, mode=0o660, gid=_VIDEO)
            for gpu in profile.gpus
            for name, minor in _drm_nodes(gpu)
        ),
        *(SimNode(name=name, major=UVM_MAJOR, minor=minor) for minor, name in enumerate(uvm)),
        *(
            SimNode(
                name=f"nvidia-caps/nvidia-cap{right.minor}",
                major=CAPS_MAJOR,
                minor=right.minor,
                mode=right.mode,
            )
            for right in capability_devices(profile)
        ),
        *(
            SimNode(
                name=f"nvidia-caps-imex-channels/channel{channel}", major=IMEX_MAJOR, minor=channel
            )
            for channel in range(profile.imex_channels)
        ),
    )


def proc_files(profile: Profile, machine: str, fault: str) -> dict[str, str]:
    """Return the files of /proc by path, capabilities apart."""
    files = {"/proc/devices": _devices(profile, fault)}
    if fault == NOT_LOADED:
        return files
    files |= {
        "/proc/driver/nvidia/version": _version(profile, machine, fault),
        "/proc/driver/nvidia/params": _PARAMS,
        "/proc/driver/nvidia/registry": _REGISTRY,
    }
    for gpu in profile.gpus:
        directory = f"/proc/driver/nvidia/gpus/{pci_address(gpu)}"
        files[f"{directory}/information"] = _information(gpu)
        files[f"{directory}/power"] = _POWER
        files[f"{directory}/registry"] = _REGISTRY
    return files


def sys_files(profile: Profile, fault: str) -> dict[str, bytes]:
    """Return the files of /sys by path: the GPUs as PCI devices, and the modules."""
    modules = () if fault == NOT_LOADED else _MODULES
    files = {f"/sys/module/{name}/initstate": b"live\n" for name in modules}
    for gpu in profile.gpus:
        directory = f"/sys/bus/pci/devices/{pci_address(gpu)}"
        files[f"{directory}/vendor"] = f"0x{gpu.pci_id & 0xFFFF:04x}\n".encode("ascii")
        files[f"{directory}/device"] = f"0x{gpu.pci_id >> 16:04x}\n".encode("ascii")
        files[f"{directory}/class"] = f"0x{_pci_class(gpu):04x}00\n".encode("ascii")
        files[f"{directory}/config"] = _pci_config(gpu)
        for name, minor in () if fault == NOT_LOADED else _drm_nodes(gpu):
            files[f"{directory}/drm/{name}/dev"] = f"{DRM_MAJOR}:{minor}\n".encode("ascii")
    return files


def dev_links(profile: Profile, fault: str) -> dict[str, str]:
    """Return the links in /dev that udev makes: path and target."""
    return {
        f"/dev/dri/by-path/pci-{pci_address(gpu)}-{kind}": f"../{name}"
        for gpu in profile.gpus
        if fault != NOT_LOADED
        for kind, (name, _) in zip(("card", "render"), _drm_nodes(gpu), strict=False)
    }


def _drm_nodes(gpu: SimGpu) -> tuple[tuple[str, int], ...]:
    """Return the DRM nodes of a GPU with a display, and their minors."""
    if not gpu.display:
        return ()
    return (f"card{gpu.minor}", gpu.minor), (f"renderD{128 + gpu.minor}", 128 + gpu.minor)


def pci_address(gpu: SimGpu) -> str:
    """Return the PCI address as the kernel writes it: "0000:07:00.0"."""
    domain, bus, device = gpu.pci
    return f"{domain:04x}:{bus:02x}:{device:02x}.0"


def _version(profile: Profile, machine: str, fault: str) -> str:
    version = profile.driver_version
    if fault == VERSION_MISMATCH:
        version = older_version(version)
    if profile.open_module:
        module = f"Open Kernel Module for {machine}  {version}  Release Build  (root@localhost)"
    else:
        module = f"{machine} Kernel Module  {version}"
    return (
        f"NVRM version: NVIDIA UNIX {module}  {profile.built}\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14+deb12u1) \n"
    )


def _devices(profile: Profile, fault: str) -> str:
    # Release 550 gave up the common front end of its modules.
    release = int(profile.driver_version.partition(".")[0])
    names = ("nvidia", "nvidia-modeset", "nvidiactl") if release >= 550 else ("nvidia-frontend",)
    lines = [f"{NVIDIA_MAJOR} {name}\n" for name in names]
    if profile.imex_channels:
        lines.append(f"{IMEX_MAJOR} nvidia-caps-imex-channels\n")
    if fault != UVM_MISSING:
        lines.append(f"{UVM_MAJOR} nvidia-uvm\n")
    if profile.capability_devices:
        lines.append(f"{CAPS_MAJOR} nvidia-caps\n")
    return _DEVICES.format(drivers="" if fault == NOT_LOADED else "".join(lines))


def _information(gpu: SimGpu) -> str:
    return (
        f"Model: \t\t {gpu.name}\n"
        f"IRQ:   \t\t {gpu.irq}\n"
        f"GPU UUID: \t {gpu.uuid}\n"
        f"Video BIOS: \t {gpu.vbios}\n"
        "Bus Type: \t PCIe\n"
        "DMA Size: \t 47 bits\n"
        "DMA Mask: \t 0x7fffffffffff\n"
        f"Bus Location: \t {pci_address(gpu)}\n"
        f"Device Minor: \t {gpu.minor}\n"
        "GPU Firmware: \t N/A\n"
        "GPU Excluded:\t No\n"
    )


def _pci_class(gpu: SimGpu) -> int:
    """Return "VGA controller" or "3D controller"."""
    return 0x0300 if gpu.display else 0x0302


def _pci_config(gpu: SimGpu) -> bytes:
    """Return PCI configuration space: identity, class, no capabilities."""
    identity = struct.pack(
        "<HHHHBBH", gpu.pci_id & 0xFFFF, gpu.pci_id >> 16, 0x0406, 0, 0xA1, 0, _pci_class(gpu)
    )
    subsystem = struct.pack("<HH", gpu.pci_subsystem & 0xFFFF, gpu.pci_subsystem >> 16)
    return (identity.ljust(0x2C, b"\0") + subsystem).ljust(256, b"\0")
