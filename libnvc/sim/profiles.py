# SPDX-License-Identifier: Apache-2.0
"""The hosts that can be simulated: plain data."""

from __future__ import annotations

from .records import BRAND_GEFORCE, BRAND_NVIDIA, Profile, SimGpu, SimMig

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

_RTX_4080 = SimGpu(
    minor=0,
    uuid="GPU-774c1e0f-52d8-9ab3-8f46-0c9be27d51a6",
    pci=(0, 0x01, 0),
    name="NVIDIA GeForce RTX 4080",
    brand=BRAND_GEFORCE,
    pci_id=0x270410DE,
    pci_subsystem=0x16A510DE,
    compute=(8, 9),
    memory_mib=16376,
    reserved_mib=372,
    used_mib=214,
    vbios="95.03.0e.00.0b",
    irq=157,
    temperature=41,
    performance=8,
    display=True,
    fan=0,
    power_mw=17840,
    power_limit_mw=320000,
)

_GB200 = SimGpu(
    minor=0,
    uuid="",
    pci=(0, 0, 0),
    name="NVIDIA GB200",
    brand=BRAND_NVIDIA,
    pci_id=0x294110DE,
    pci_subsystem=0x204610DE,
    compute=(10, 0),
    memory_mib=189471,
    reserved_mib=628,
    used_mib=0,
    vbios="97.00.B9.00.76",
    irq=0,
    temperature=37,
    performance=0,
    mig_devices=7,
    persistence=True,
    ecc=True,
    power_mw=166310,
    power_limit_mw=1200000,
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


_ORIN = SimGpu(
    minor=0,
    uuid="GPU-ddf120c5-6b1e-5f0b-9d3e-4a7c8e21f6b0",
    pci=(0, 0, 0),
    name="Orin (nvgpu)",
    brand=BRAND_NVIDIA,
    pci_id=0,
    pci_subsystem=0,
    compute=(8, 7),
    memory_mib=62841,
    reserved_mib=0,
    used_mib=0,
    vbios="N/A",
    irq=0,
    temperature=43,
    performance=0,
)


def _mig(gpu: int, instance: int, part: str, memory_mib: int) -> SimMig:
    return SimMig(
        gpu_instance=instance,
        compute_instance=0,
        uuid=f"MIG-a0000000-0000-4000-8000-{gpu:04d}{instance:02d}000000",
        slice=part,
        memory_mib=memory_mib,
    )


#: MIG devices by GPU. Which part of a GPU an instance is follows from its number.
_DGX_A100_MIG = {
    0: (_mig(0, 1, "3g.20gb", 19968), _mig(0, 2, "3g.20gb", 19968)),
    1: (_mig(1, 3, "2g.10gb", 9856),),
}

_DGX_A100_BUSES = (0x07, 0x0F, 0x47, 0x4E, 0x87, 0x90, 0xB7, 0xBD)
_GB200_DOMAINS = (0x08, 0x09, 0x18, 0x19)
_RACK_GPUS = 128
_DGX_H100_BUSES = (0x1B, 0x43, 0x52, 0x61, 0x9D, 0xC3, 0xD1, 0xDF)

_DGX_A100 = Profile(
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
)

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
    _DGX_A100,
    _DGX_A100.replace(
        name="dgx-a100-mig",
        title="server, 8 A100-SXM4-40GB, 2 of them divided (MIG)",
        gpus=tuple(
            gpu.replace(mig_mode=gpu.minor in _DGX_A100_MIG, mig=_DGX_A100_MIG.get(gpu.minor, ()))
            for gpu in _DGX_A100.gpus
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
    Profile(
        name="gb200",
        title="server, 4 GB200, IMEX channels",
        driver_version="580.65.06",
        built="Sun Jul 27 06:54:38 UTC 2025",
        cuda_version="13.0",
        firmware=("gsp_ga10x.bin", "gsp_tu10x.bin"),
        daemons=("nvidia-persistenced",),
        gpus=tuple(
            _GB200.replace(
                minor=index,
                uuid=f"GPU-2f9c40d7-8e15-5b63-a7f0-3d61c8e504{0x20 + index:02x}",
                pci=(domain, 0x01, 0),
                irq=98 + 6 * index,
                temperature=37 + index % 2,
                power_mw=166310 + 1204 * index,
            )
            for index, domain in enumerate(_GB200_DOMAINS)
        ),
        imex_channels=4,
        open_module=True,
        programs=("nvidia-imex", "nvidia-imex-ctl"),
    ),
    Profile(
        name="workstation",
        title="desktop, 1 GeForce RTX 4080, 32-bit libraries",
        driver_version="550.90.07",
        built="Fri May 31 09:35:42 UTC 2024",
        cuda_version="12.4",
        firmware=("gsp_ga10x.bin", "gsp_tu10x.bin"),
        daemons=("nvidia-persistenced",),
        gpus=(_RTX_4080,),
        libs32=True,
    ),
    Profile(
        name="jetson-orin",
        title="Jetson AGX Orin, Jetson Linux 36.4.3 (JetPack 6.2)",
        driver_version="540.4.0",
        built="Wed Jan  8 01:26:20 UTC 2025",
        cuda_version="12.6",
        firmware=(),
        daemons=(),
        gpus=(_ORIN,),
        capability_devices=False,
        open_module=True,
        jetson="36.4.3",
    ),
    Profile(
        name="rack-128",
        title="no such machine: 128 Tesla T4, minor numbers shuffled",
        driver_version="550.54.15",
        built="Tue Mar  5 22:23:56 UTC 2024",
        cuda_version="12.4",
        firmware=("gsp_ga10x.bin", "gsp_tu10x.bin"),
        daemons=("nvidia-persistenced",),
        gpus=tuple(
            _T4.replace(
                minor=(37 * index + 11) % _RACK_GPUS,
                uuid=f"GPU-c3a81f5d-6b07-5e92-94d1-7be0263f{index:04x}",
                pci=(index // 16, 0x10 + index % 16, 0),
                irq=40 + index,
            )
            for index in range(_RACK_GPUS)
        ),
    ),
)


def profiles() -> tuple[Profile, ...]:
    """Return the hosts that can be simulated."""
    return _PROFILES
