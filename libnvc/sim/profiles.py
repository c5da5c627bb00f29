# SPDX-License-Identifier: Apache-2.0
"""The hosts that can be simulated, as plain data.

Model names, identifiers and sizes are those of the real boards; the UUIDs are made up.
"""

from __future__ import annotations

from .._record import Record


class SimulatedGpu(Record):
    """One board.

    Attributes:
        name: as NVML reports it.
        uuid: "GPU-…".
        bus: its PCI bus; domain and device are 0.
        minor: the N of /dev/nvidiaN.
        brand: number of NVML's brand.
        compute: compute capability.
        memory: bytes.
        pci_id, pci_subsystem: device << 16 | vendor.
        mig_devices: how many MIG devices it can have, 0 without MIG.
        ecc: whether it has ECC memory.
        temperature: degrees Celsius.
        power, power_limit: milliwatts, 0 where the board does not tell.
        performance: P-state.
        vbios: version.
    """

    name: str
    uuid: str
    bus: int
    minor: int
    brand: int
    compute: tuple[int, int]
    memory: int
    pci_id: int
    pci_subsystem: int
    mig_devices: int
    ecc: bool
    temperature: int
    power: int
    power_limit: int
    performance: int
    vbios: str


class Profile(Record):
    """One host.

    Attributes:
        name: what `nvc sim create --profile` takes.
        description: one line.
        driver: version of the driver.
        cuda: version of CUDA that it supports.
        gpus: by PCI address.
        firmware: names of the GSP firmware files.
        sockets: of the driver's daemons, below /run.
        only: libraries of `tables.LIBRARIES` marked for certain releases that this one has.
    """

    name: str
    description: str
    driver: str
    cuda: tuple[int, int]
    gpus: tuple[SimulatedGpu, ...]
    firmware: tuple[str, ...]
    sockets: tuple[str, ...]
    only: tuple[str, ...]


_DGX_BUSES = (0x07, 0x0F, 0x47, 0x4E, 0x87, 0x90, 0xB7, 0xBD)


def _a100(index: int, bus: int) -> SimulatedGpu:
    return SimulatedGpu(
        name="NVIDIA A100-SXM4-40GB",
        uuid=f"GPU-4404041a-04cf-1ccf-9e70-f139a9b1e2{0x3C + index:02x}",
        bus=bus,
        minor=index,
        brand=14,
        compute=(8, 0),
        memory=40 << 30,
        pci_id=0x20B0_10DE,
        pci_subsystem=0x134F_10DE,
        mig_devices=7,
        ecc=True,
        temperature=30 + index % 4,
        power=52_000 + 700 * index,
        power_limit=400_000,
        performance=0,
        vbios="92.00.45.00.03",
    )


_MX150 = SimulatedGpu(
    name="NVIDIA GeForce MX150",
    uuid="GPU-5c2e2d8f-7a37-3f14-8e0b-1d0c6f6a9b52",
    bus=0x01,
    minor=0,
    brand=5,
    compute=(6, 1),
    memory=2 << 30,
    pci_id=0x1D10_10DE,
    pci_subsystem=0x39E8_17AA,
    mig_devices=0,
    ecc=False,
    temperature=43,
    power=0,
    power_limit=0,
    performance=8,
    vbios="86.08.1C.00.1A",
)

PROFILES = (
    Profile(
        name="mx150",
        description="a laptop with one GeForce MX150",
        driver="515.86.01",
        cuda=(11, 7),
        gpus=(_MX150,),
        firmware=("gsp.bin",),
        sockets=("nvidia-persistenced",),
        only=("libnvidia-compiler.so",),
    ),
    Profile(
        name="dgx-a100",
        description="a server with eight A100, without MIG devices",
        driver="535.261.03",
        cuda=(12, 2),
        gpus=tuple(_a100(index, bus) for index, bus in enumerate(_DGX_BUSES)),
        firmware=("gsp_ga10x.bin", "gsp_tu10x.bin"),
        sockets=("nvidia-persistenced", "nvidia-fabricmanager"),
        only=("libnvidia-pkcs11-openssl3.so",),
    ),
)


def profiles() -> tuple[Profile, ...]:
    """Return all profiles, smallest host first."""
    return PROFILES
