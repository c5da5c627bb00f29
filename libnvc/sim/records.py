# SPDX-License-Identifier: Apache-2.0
"""What a simulated host is described by."""

from __future__ import annotations

from .._record import Record

#: NVML's numbers for brands.
BRAND_GEFORCE = 5
BRAND_NVIDIA = 14


class SimMig(Record):
    """A MIG device of a simulated GPU.

    Attributes:
        gpu_instance, compute_instance: their numbers, from 0 to 14 and from 0 to 7.
        uuid: "MIG-…"; drivers before 470 had "MIG-GPU-…/1/0".
        slice: what part of the GPU it is, "1g.5gb".
        memory_mib: its memory.
    """

    gpu_instance: int
    compute_instance: int
    uuid: str
    slice: str
    memory_mib: int


class SimGpu(Record):
    """A GPU of a simulated host, idle.

    Attributes:
        minor: the N of /dev/nvidiaN.
        pci: PCI domain, bus and device.
        brand: NVML's number.
        pci_id, pci_subsystem: device and vendor, `device << 16 | vendor`.
        compute: CUDA compute capability.
        memory_mib, reserved_mib, used_mib: total, the driver's own part, in use besides.
        mig_devices: how many MIG devices it can have; 0: no MIG.
        mig_mode: whether MIG is on.
        mig: its MIG devices, in NVML's order; some only where MIG is on.
        mig_holes: indices at which NVML has no MIG device, as after one was destroyed.
        ecc: whether it has ECC memory; then it is on.
        display: whether a display is connected.
        fan: speed in percent, None: it has no fan of its own.
        temperature: degrees Celsius.
        power_mw, power_limit_mw: milliwatts; 0: the board does not tell.
        performance: performance state, 0 to 15.
        irq: as the information file shows it.
    """

    minor: int
    uuid: str
    pci: tuple[int, int, int]
    name: str
    brand: int
    pci_id: int
    pci_subsystem: int
    compute: tuple[int, int]
    memory_mib: int
    reserved_mib: int
    used_mib: int
    vbios: str
    irq: int
    temperature: int
    performance: int
    mig_devices: int = 0
    mig_mode: bool = False
    mig: tuple[SimMig, ...] = ()
    mig_holes: tuple[int, ...] = ()
    persistence: bool = False
    ecc: bool = False
    display: bool = False
    fan: int | None = None
    power_mw: int = 0
    power_limit_mw: int = 0


class Profile(Record):
    """A host.

    Attributes:
        name: what `create` takes.
        title: a few words for people.
        driver_version: "535.261.03".
        built: when the kernel module was built, as the version file says.
        cuda_version: "12.2".
        firmware: files in /lib/firmware/nvidia/<driver version>.
        daemons: those whose sockets are in /run.
        gpus: by PCI address.
        capability_devices: whether the right to use MIG is a device in /dev/nvidia-caps, as it is
            by default; else it is a file of /proc alone (nv_cap_enable_devfs=0).
        imex_channels: how many IMEX channels there are, from number 0.
        libs32: whether 32-bit libraries are installed, too (on x86_64).
        open_module: whether the kernel module is the open one.
        programs: those that not every driver brings.
        jetson: release of Jetson Linux, "36.4.3", for a Jetson; "" for other hosts.
    """

    name: str
    title: str
    driver_version: str
    built: str
    cuda_version: str
    firmware: tuple[str, ...]
    daemons: tuple[str, ...]
    gpus: tuple[SimGpu, ...]
    capability_devices: bool = True
    imex_channels: int = 0
    libs32: bool = False
    open_module: bool = False
    programs: tuple[str, ...] = ()
    jetson: str = ""
