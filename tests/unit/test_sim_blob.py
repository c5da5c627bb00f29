# SPDX-License-Identifier: Apache-2.0
"""The record in the simulated libraries: C and Python mean the same by it."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

import libnvc.sim
from libnvc.sim import SimMig, blob
from libnvc.sim.faults import parse_fault

SOURCES = Path(__file__).parent.parent.parent / "csrc/sim"
NATIVE = Path(libnvc.sim.__file__).parent / "_native_files"
PROFILES = {profile.name: profile for profile in libnvc.sim.profiles()}
MX150, DGX_A100 = PROFILES["mx150"], PROFILES["dgx-a100"]


def fields(name: str) -> list[str]:
    """Read the member names of a struct of the header, in order."""
    text = re.sub(r"/\*.*?\*/", "", (SOURCES / "sim_config.h").read_text(), flags=re.DOTALL)
    found = re.search(rf"struct {name} {{\n(.*?)\n}};", text, re.DOTALL)
    assert found is not None
    return re.findall(r"(\w+)(?:\[\w+\])?;", found[1])


def offsets(tmp_path: Path, name: str) -> list[tuple[str, int, int]]:
    """Ask the compiler where a struct's members are and how large."""
    members = fields(name)
    lines = "".join(
        f'printf("{member} %zu %zu\\n", offsetof(struct {name}, {member}), '
        f"sizeof ((struct {name} *)0)->{member});\n"
        for member in members
    )
    source = tmp_path / f"{name}.c"
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "sim_config.h"\n'
        f'int main(void)\n{{\n{lines}printf("total 0 %zu\\n", sizeof(struct {name}));\n}}\n'
    )
    program = tmp_path / name
    subprocess.run(["gcc", f"-I{SOURCES}", source, "-o", program], check=True)
    output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in output.splitlines()]
    return [(member, int(offset), int(size)) for member, offset, size in rows]


def python_offsets(layout: struct.Struct) -> list[tuple[int, int]]:
    found, at = [], 0
    for count, kind in re.findall(r"(\d*)([A-Za-z])", layout.format):
        items = [f"{count}{kind}"] if kind == "s" else [kind] * int(count or 1)
        for item in items:
            size = struct.calcsize("=" + item)
            found.append((at, size))
            at += size
    return found


def test_gpu_layout(tmp_path: Path) -> None:
    *members, total = offsets(tmp_path, "sim_gpu")
    assert [(offset, size) for _, offset, size in members] == python_offsets(blob.GPU)
    assert total[2] == blob.GPU.size


def test_mig_layout(tmp_path: Path) -> None:
    *members, total = offsets(tmp_path, "sim_mig")
    assert [(offset, size) for _, offset, size in members] == python_offsets(blob.MIG)
    assert total[2] == blob.MIG.size


def test_host_layout(tmp_path: Path) -> None:
    *members, gpus, migs, total = offsets(tmp_path, "sim_config")
    assert [(offset, size) for _, offset, size in members] == python_offsets(blob.HEAD)
    assert gpus == ("gpus", blob.HEAD.size, blob.MAX_GPUS * blob.GPU.size)
    assert migs == ("migs", gpus[1] + gpus[2], blob.MAX_MIGS * blob.MIG.size)
    assert total[2] == blob.SIZE


def test_member_order() -> None:
    """What Python packs in this order; the sizes alone do not tell."""
    assert fields("sim_gpu") == [
        *("memory_total", "memory_reserved", "memory_used"),
        *("pci_domain", "pci_bus", "pci_device", "pci_id", "pci_subsystem", "minor", "brand"),
        *("compute_major", "compute_minor", "mig_devices", "mig_mode", "mig_holes"),
        *("persistence", "ecc"),
        *("temperature", "power_usage", "power_limit", "performance", "display", "fan"),
        *("name", "uuid", "vbios"),
    ]
    assert fields("sim_mig") == [
        *("memory_total", "gpu", "gpu_instance", "compute_instance"),
        *("gpu_capability", "compute_capability", "reserved", "slice", "uuid"),
    ]
    assert fields("sim_config") == [
        *("magic", "version", "size", "fault", "fault_code", "cuda_version", "uvm_major"),
        *("caps_major", "gpu_count", "mig_count", "nvgpu_major"),
        *("driver_version", "nvml_version", "gpus", "migs"),
    ]


def test_constants() -> None:
    text = (SOURCES / "sim_config.h").read_text()
    assert f'#define SIM_MAGIC    "{blob.MAGIC.rstrip(bytes(1)).decode()}"' in text
    assert f"#define SIM_VERSION  {blob.VERSION}u" in text
    assert f"#define SIM_MAX_GPUS {blob.MAX_GPUS}u" in text
    assert f"#define SIM_MAX_MIGS {blob.MAX_MIGS}u" in text
    enum = re.search(r"enum sim_fault {\n(.*?)\n};", text, re.DOTALL)
    assert enum is not None
    names = [name.lower().replace("_", "-") for name in re.findall(r"SIM_FAULT_(\w+),", enum[1])]
    plain = ["" if name == "none" else name for name in names[:4]]
    assert [parse_fault(name, DGX_A100) for name in plain] == [(n, 0) for n in range(4)]
    assert names[4:] == ["nvml-error", "gpu-lost", "version-mismatch"]
    assert parse_fault("version-mismatch", DGX_A100) == (6, 0)
    assert parse_fault("nvml-error=18", DGX_A100) == (4, 18)
    assert parse_fault("gpu-lost=7", DGX_A100) == (5, 7)


@pytest.mark.parametrize("name", ["libnvidia-ml.so", "libcuda.so"])
def test_patch_changes_the_record_only(name: str) -> None:
    before = (NATIVE / name).read_bytes()
    after = blob.patch(before, DGX_A100, (0, 0))
    at = before.index(blob.MAGIC)
    assert len(after) == len(before)
    assert (after[:at], after[at + blob.SIZE :]) == (before[:at], before[at + blob.SIZE :])
    assert b"GPU-4404041a-04cf-1ccf-9e70-f139a9b1e243\0" in after[at : at + blob.SIZE]
    assert after.count(b"535.261.03") == 2


def test_patch_refuses_other_files() -> None:
    library = (NATIVE / "libcuda.so").read_bytes()
    patched = blob.patch(library, MX150, (0, 0))
    for data in (b"", library.replace(blob.MAGIC, bytes(16)), library + library, patched):
        with pytest.raises(ValueError, match="^not a simulated library"):
            blob.patch(data, MX150, (0, 0))


def test_profiles_fit() -> None:
    for profile in libnvc.sim.profiles():
        assert len(profile.gpus) <= blob.MAX_GPUS
        assert [gpu.pci for gpu in profile.gpus] == sorted(gpu.pci for gpu in profile.gpus)
        assert all(len(gpu.name) < 96 and len(gpu.uuid) == 40 for gpu in profile.gpus)
        assert sum(len(gpu.mig) for gpu in profile.gpus) <= blob.MAX_MIGS
        assert all(gpu.mig_mode for gpu in profile.gpus if gpu.mig)


def test_mig_devices_are_packed_by_gpu() -> None:
    """The oldest names are the longest, and fit."""
    profile = PROFILES["dgx-a100-mig"]
    gpu = profile.gpus[3]
    uuid = f"MIG-{gpu.uuid}/14/7"
    mig = SimMig(gpu_instance=14, compute_instance=7, uuid=uuid, slice="1c.1g.5gb", memory_mib=1)
    gpu = gpu.replace(mig_mode=True, mig=(mig,), mig_holes=(0, 2, 2))
    profile = profile.replace(gpus=(*profile.gpus[:3], gpu))
    library = blob.patch((NATIVE / "libcuda.so").read_bytes(), profile, (0, 0))
    at = library.index(blob.MAGIC)
    head = blob.HEAD.unpack_from(library, at)
    assert head[7:11] == (511, 4, 4, 0)
    at += blob.HEAD.size
    packed = blob.GPU.unpack_from(library, at + 3 * blob.GPU.size)
    assert packed[12:15] == (7, 1, 0b101)
    at += blob.MAX_GPUS * blob.GPU.size
    rows = [blob.MIG.unpack_from(library, at + i * blob.MIG.size) for i in range(5)]
    assert [(row[1:6], row[8].rstrip(bytes(1)).decode()) for row in rows] == [
        ((0, 1, 0, 12, 13), "MIG-a0000000-0000-4000-8000-000001000000"),
        ((0, 2, 0, 21, 22), "MIG-a0000000-0000-4000-8000-000002000000"),
        ((1, 3, 0, 165, 166), "MIG-a0000000-0000-4000-8000-000103000000"),
        ((3, 14, 7, 534, 542), uuid),
        ((0, 0, 0, 0, 0), ""),
    ]
