# SPDX-License-Identifier: Apache-2.0
"""The hosts that can be simulated: plain data."""

from __future__ import annotations

from .._record import Record

#: NVML's numbers for brands.
BRAND_GEFORCE = 5
BRAND_NVIDIA = 14


class SimGpu(Record):
    """A GPU of a simulated host, idle.

    Attributes:
        minor: the N of /dev/nvidiaN.
        pci: PCI domain, bus and device.
        brand: NVML's number.
        pci_id, pci_subsystem: device and vendor, `device << 16 | vendor`.
        compute: CUDA compute capability.
        memory_mib, reserved_mib, used_mib: total, the driver's own part, in use besides.
        mig_devices: how many MIG devices it can have; 0: no MIG. MIG is off.
        ecc: whether it has ECC memory; then it is on.
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
    persistence: bool = False
    ecc: bool = False
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
    """

    name: str
    title: str
    driver_version: str
    built: str
    cuda_version: str
    firmware: tuple[str, ...]
    daemons: tuple[str, ...]
    gpus: tuple[SimGpu, ...]


_MX150 = SimGpu(
    minor=0,
    uuid="GPU-5c2e2d8f-7a37-3f14-8e0b-1d0c6f6a9b52",
    pci=(0, 0x01, 0),
    name="NVIDIA GeForce MX150",
    brand=BRAND_GEFORCE,
    pci_id=0x1D1010DE,
    pci_subsystem=0x39F917AA,
    compute=(6, 1),
    memory_mib=2048,
    reserved_mib=46,
    used_mib=4,
    vbios="86.08.1b.00.23",
    irq=131,
    temperature=45,
    performance=8,
)

_A100 = SimGpu(
    minor=0,
    uuid="",
    pci=(0, 0, 0),
    name="NVIDIA A100-SXM4-40GB",
    brand=BRAND_NVIDIA,
    pci_id=0x20B010DE,
    pci_subsystem=0x134F10DE,
    compute=(8, 0),
    memory_mib=40960,
    reserved_mib=569,
    used_mib=4,
    vbios="92.00.45.00.03",
    irq=0,
    temperature=28,
    performance=0,
    mig_devices=7,
    persistence=True,
    ecc=True,
    power_mw=52310,
    power_limit_mw=400000,
)

_T4 = SimGpu(
    minor=0,
    uuid="GPU-b1f0c2a7-64d9-9e35-7c18-20de5a43f8b6",
    pci=(0, 0, 0x1E),
    name="Tesla T4",
    brand=BRAND_NVIDIA,
    pci_id=0x1EB810DE,
    pci_subsystem=0x12A210DE,
    compute=(7, 5),
    memory_mib=15360,
    reserved_mib=393,
    used_mib=0,
    vbios="90.04.38.00.03",
    irq=35,
    temperature=36,
    performance=8,
    ecc=True,
    power_mw=9240,
    power_limit_mw=70000,
)

_H100 = SimGpu(
    minor=0,
    uuid="",
    pci=(0, 0, 0),
    name="NVIDIA H100 80GB HBM3",
    brand=BRAND_NVIDIA,
    pci_id=0x233010DE,
    pci_subsystem=0x16C110DE,
    compute=(9, 0),
    memory_mib=81559,
    reserved_mib=328,
    used_mib=2,
    vbios="96.00.74.00.01",
    irq=0,
    temperature=31,
    performance=0,
    mig_devices=7,
    persistence=True,
    ecc=True,
    power_mw=70210,
    power_limit_mw=700000,
)

_DGX_A100_BUSES = (0x07, 0x0F, 0x47, 0x4E, 0x87, 0x90, 0xB7, 0xBD)
_DGX_H100_BUSES = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)

_PROFILES = (
    Profile(
        name="mx150",
        title="laptop, 1 GeForce MX150",
        driver_version="515.86.01",
        built="Wed Oct 26 09:12:38 UTC 2022",
        cuda_version="11.7",
        firmware=("gsp.bin",),
        daemons=("nvidia-persistenced",),
        gpus=(_MX150,),
    ),
    Profile(
        name="t4",
        title="cloud server, 1 Tesla T4",
        driver_version="550.54.15",
        built="Tue Mar  5 22:23:56 UTC 2024",
        cuda_version="12.4",
        firmware=("gsp_ga10x.bin", "gsp_tu10x.bin"),
        daemons=("nvidia-persistenced",),
        gpus=(_T4,),
    ),
    Profile(
        name="dgx-a100",
        title="server, 8 A100-SXM4-40GB",
        driver_version="535.261.03",
        built="Tue Jun 24 22:54:10 UTC 2025",
        cuda_version="12.2",
        firmware=("gsp_ga10x.bin", "gsp_tu10x.bin"),
        daemons=("nvidia-persistenced", "nvidia-fabricmanager"),
        gpus=tuple(
            _A100.replace(
                minor=index,
                uuid=f"GPU-4404041a-04cf-1ccf-9e70-f139a9b1e2{0x3C + index:02x}",
                pci=(0, bus, 0),
                irq=271 + 4 * index,
                temperature=28 + index % 4,
                power_mw=52310 + 731 * index,
            )
            for index, bus in enumerate(_DGX_A100_BUSES)
        ),
    ),
    Profile(
        name="dgx-h100",
        title="server, 8 H100 80GB HBM3",
        driver_version="535.261.03",
        built="Tue Jun 24 22:54:10 UTC 2025",
        cuda_version="12.2",
        firmware=("gsp_ga10x.bin", "gsp_tu10x.bin"),
        daemons=("nvidia-persistenced", "nvidia-fabricmanager"),
        gpus=tuple(
            _H100.replace(
                minor=index,
                uuid=f"GPU-8d1b5f62-3c0e-5a97-b4d8-61f2ac7e09{0x10 + index:02x}",
                pci=(0, bus, 0),
                irq=312 + 4 * index,
                temperature=31 + index % 4,
                power_mw=70210 + 417 * index,
            )
            for index, bus in enumerate(_DGX_H100_BUSES)
        ),
    ),
)


def profiles() -> tuple[Profile, ...]:
    """Return the hosts that can be simulated."""
    return _PROFILES
