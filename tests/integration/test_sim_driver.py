# SPDX-License-Identifier: Apache-2.0
"""The simulated driver at work: NVML, CUDA and nvidia-smi where only /dev decides.

The clients are NVIDIA's: the bindings of nvidia-ml-py, and C compiled against NVIDIA's header.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pynvml  # type: ignore[import-untyped]
import pytest

import libnvc.sim
from libnvc.sim.machine import this_machine

pytestmark = pytest.mark.root  # device nodes, mounts, cgroups

Done = subprocess.CompletedProcess[str]
Enter = Callable[[], None]
Run = Callable[..., Done]

HERE = Path(__file__).parent
#: Jetsons have another layout: tests/unit/test_sim_jetson.py.
PROFILES = {profile.name: profile for profile in libnvc.sim.profiles() if not profile.jetson}
MX150, DGX_A100 = PROFILES["mx150"], PROFILES["dgx-a100"]

#: Asks NVIDIA's Python bindings for all that they know of a host.
CLIENT = """
import json
from pynvml import *

def ask(function, *arguments):
    try:
        answer = function(*arguments)
    except NVMLError as error:
        return f"error {error.value}"
    if hasattr(answer, "_fields_"):
        return {name: getattr(answer, name) for name, _ in answer._fields_}
    return answer

def describe(gpu):
    facts = {}
    for name in '''Name UUID Brand Index MinorNumber PciInfo_v3 MemoryInfo
            CudaComputeCapability MigMode MaxMigDeviceCount UtilizationRates PowerUsage
            EnforcedPowerLimit PowerManagementLimit PerformanceState PersistenceMode ComputeMode
            DisplayMode DisplayActive EccMode FanSpeed VbiosVersion ComputeRunningProcesses
            GraphicsRunningProcesses MPSComputeRunningProcesses'''.split():
        facts[name] = ask(globals()["nvmlDeviceGet" + name], gpu)
    facts["MemoryInfo_v2"] = ask(nvmlDeviceGetMemoryInfo, gpu, nvmlMemory_v2)
    facts["Temperature"] = ask(nvmlDeviceGetTemperature, gpu, NVML_TEMPERATURE_GPU)
    facts["TotalEccErrors"] = ask(nvmlDeviceGetTotalEccErrors, gpu, 1, 0)
    facts["MigDevice"] = ask(
        lambda: nvmlDeviceGetUUID(nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0)))
    by = [nvmlDeviceGetHandleByUUID(facts["UUID"]),
          nvmlDeviceGetHandleByPciBusId(facts["PciInfo_v3"]["busId"]),
          nvmlDeviceGetHandleByPciBusId(facts["PciInfo_v3"]["busIdLegacy"].lower())]
    facts["found"] = [nvmlDeviceGetIndex(other) for other in by]
    return facts

nvmlInit()
answer = {
    "driver": nvmlSystemGetDriverVersion(),
    "nvml": nvmlSystemGetNVMLVersion(),
    "cuda": [nvmlSystemGetCudaDriverVersion(), nvmlSystemGetCudaDriverVersion_v2()],
    "gpus": [describe(nvmlDeviceGetHandleByIndex(i)) for i in range(nvmlDeviceGetCount())],
    "beyond": ask(nvmlDeviceGetHandleByIndex, nvmlDeviceGetCount()),
    "unknown": [ask(nvmlDeviceGetHandleByUUID, "GPU-00000000-0000-0000-0000-000000000000"),
                ask(nvmlDeviceGetHandleByPciBusId, "0000:ff:00.0"),
                ask(nvmlDeviceGetHandleByPciBusId, "junk")],
}
nvmlShutdown()
answer["after"] = ask(nvmlDeviceGetCount)
print(json.dumps(answer))
"""


def seen(done: Done) -> list[str]:
    """Return the last digits of the UUIDs that `nvidia-smi -L` lists, in order."""
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"GPU {i}" for i in range(len(lines))]
    return re.findall(r"\(UUID: GPU-\S+(...)\)$", done.stdout, re.MULTILINE)


ALL = [gpu.uuid[-3:] for gpu in DGX_A100.gpus]


# --- NVIDIA's own clients -----------------------------------------------------------------------


def ask_bindings(run_in_host: Run, root: Path) -> dict[str, object]:
    done = run_in_host(root, sys.executable, "-c", CLIENT)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def expected_gpu(index: int, gpu: libnvc.sim.SimGpu) -> dict[str, object]:
    domain, bus, device = gpu.pci
    mib = 1024 * 1024
    unsupported = f"error {pynvml.NVML_ERROR_NOT_SUPPORTED}"
    not_found = f"error {pynvml.NVML_ERROR_NOT_FOUND}"
    free = gpu.memory_mib - gpu.reserved_mib - gpu.used_mib
    pci = {
        "busIdLegacy": f"{domain:04X}:{bus:02X}:{device:02X}.0",
        "domain": domain,
        "bus": bus,
        "device": device,
        "pciDeviceId": gpu.pci_id,
        "pciSubSystemId": gpu.pci_subsystem,
        "busId": f"{domain:08X}:{bus:02X}:{device:02X}.0",
    }
    return {
        "Name": gpu.name,
        "UUID": gpu.uuid,
        "Brand": gpu.brand,
        "Index": index,
        "MinorNumber": gpu.minor,
        "PciInfo_v3": pci,
        "MemoryInfo": {
            "total": gpu.memory_mib * mib,
            "free": free * mib,
            "used": (gpu.reserved_mib + gpu.used_mib) * mib,
        },
        "MemoryInfo_v2": {
            "version": pynvml.nvmlMemory_v2,
            "total": gpu.memory_mib * mib,
            "reserved": gpu.reserved_mib * mib,
            "free": free * mib,
            "used": gpu.used_mib * mib,
        },
        "CudaComputeCapability": list(gpu.compute),
        "MigMode": [int(gpu.mig_mode)] * 2 if gpu.mig_devices else unsupported,
        "MaxMigDeviceCount": gpu.mig_devices if gpu.mig_mode else 0,
        "MigDevice": gpu.mig[0].uuid if gpu.mig else not_found if gpu.mig_devices else unsupported,
        "UtilizationRates": unsupported if gpu.mig_mode else {"gpu": 0, "memory": 0},
        "PowerUsage": gpu.power_mw or unsupported,
        "EnforcedPowerLimit": gpu.power_limit_mw or unsupported,
        "PowerManagementLimit": gpu.power_limit_mw or unsupported,
        "PerformanceState": gpu.performance,
        "PersistenceMode": int(gpu.persistence),
        "ComputeMode": pynvml.NVML_COMPUTEMODE_DEFAULT,
        "DisplayMode": int(gpu.display),
        "DisplayActive": int(gpu.display),
        "EccMode": [1, 1] if gpu.ecc else unsupported,
        "TotalEccErrors": 0 if gpu.ecc else unsupported,
        "FanSpeed": unsupported if gpu.fan is None else gpu.fan,
        "Temperature": gpu.temperature,
        "VbiosVersion": gpu.vbios,
        "ComputeRunningProcesses": [],
        "GraphicsRunningProcesses": [],
        "MPSComputeRunningProcesses": [],
        "found": [index] * 3,
    }


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: str(profile.name))
def test_official_bindings(
    run_in_host: Run, request: pytest.FixtureRequest, profile: libnvc.sim.Profile
) -> None:
    major, minor = (int(part) for part in profile.cuda_version.split("."))
    cuda_version = 1000 * major + 10 * minor
    answer = ask_bindings(run_in_host, request.getfixturevalue(profile.name.replace("-", "_")))
    gpus = answer.pop("gpus")
    assert gpus == [expected_gpu(index, gpu) for index, gpu in enumerate(profile.gpus)]
    assert answer == {
        "driver": profile.driver_version,
        "nvml": f"{major}.{profile.driver_version}",
        "cuda": [cuda_version, cuda_version],
        "beyond": f"error {pynvml.NVML_ERROR_INVALID_ARGUMENT}",
        "unknown": [
            f"error {pynvml.NVML_ERROR_NOT_FOUND}",
            f"error {pynvml.NVML_ERROR_NOT_FOUND}",
            f"error {pynvml.NVML_ERROR_INVALID_ARGUMENT}",
        ],
        "after": f"error {pynvml.NVML_ERROR_UNINITIALIZED}",
    }


def test_every_function_through_the_official_header(
    run_in_host: Run, c_client: Path, dgx_a100: Path, dgx_h100: Path, t4: Path, mx150: Path
) -> None:
    results = {}
    for root in (dgx_a100, dgx_h100, t4, mx150):
        done = run_in_host(root, c_client)
        assert (done.returncode, done.stderr) == (0, "")
        results[root] = {
            name: int(code) for name, code in (line.split() for line in done.stdout.splitlines())
        }
    library = (HERE.parent.parent / "csrc/sim/nvml_abi.h").read_text()
    assert set(results[dgx_a100]) == set(re.findall(r"\b(nvml[A-Z]\w+)\(", library))
    not_zero = {
        root: {name: code for name, code in results[root].items() if code} for root in results
    }
    # A GPU is no MIG device.
    whole = {
        "nvmlDeviceGetComputeInstanceId": 2,
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": 2,
        "nvmlDeviceGetGpuInstanceId": 2,
    }
    server = {**whole, "nvmlDeviceGetFanSpeed": 3, "nvmlDeviceGetMigDeviceHandleByIndex": 6}
    assert not_zero[dgx_a100] == not_zero[dgx_h100] == server
    assert not_zero[t4] == {
        **whole,
        "nvmlDeviceGetFanSpeed": 3,
        "nvmlDeviceGetMigDeviceHandleByIndex": 3,
        "nvmlDeviceGetMigMode": 3,
    }
    assert set(not_zero[mx150]) == {
        *whole,
        "nvmlDeviceGetEccMode",
        "nvmlDeviceGetEnforcedPowerLimit",
        "nvmlDeviceGetFanSpeed",
        "nvmlDeviceGetMigDeviceHandleByIndex",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetPowerManagementLimit",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetTotalEccErrors",
    }


# --- only device nodes count --------------------------------------------------------------------


def test_allowed_nodes_count(smi: Run, dgx_a100: Path) -> None:
    assert seen(smi(dgx_a100, "-L")) == ALL


def test_missing_nodes_do_not_count_and_the_rest_is_numbered_anew(
    smi: Run, cuda: Run, dgx_a100: Path
) -> None:
    dev = "rm /dev/nvidia0 /dev/nvidia5"
    assert seen(smi(dgx_a100, "-L", dev=dev)) == ALL[1:5] + ALL[6:]
    done = cuda(dgx_a100, dev)
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (0, "CUDA driver API 12.2: 6 devices")
    assert [line.partition(":")[0] for line in lines[1:]] == [f"device {i}" for i in range(6)]
    assert DGX_A100.gpus[1].uuid in lines[1]


@pytest.mark.parametrize(
    "node",
    ["mknod -m 666 N c 195 4", "mknod -m 666 N c 196 3", "mknod -m 666 N b 195 3", "touch N"],
)
def test_other_nodes_do_not_count(smi: Run, dgx_a100: Path, node: str) -> None:
    dev = f"rm /dev/nvidia3; {node.replace('N', '/dev/nvidia3')}"
    assert seen(smi(dgx_a100, "-L", dev=dev)) == ALL[:3] + ALL[4:]


@pytest.fixture
def denied() -> Iterator[Callable[[str], Enter]]:
    """Give a function that makes a device cgroup and returns what enters it."""
    made: list[Path] = []

    def make(rule: str) -> Callable[[], None]:
        group = Path(f"/sys/fs/cgroup/devices/libnvc-sim-{os.getpid()}-{len(made)}")
        group.mkdir()
        made.append(group)
        (group / "devices.deny").write_text(rule)

        def enter() -> None:
            (group / "cgroup.procs").write_text("0")

        return enter

    yield make
    for group in made:
        group.rmdir()


def test_denied_nodes_do_not_count(
    smi: Run, dgx_a100: Path, denied: Callable[[str], Enter]
) -> None:
    """EPERM from the device cgroup, though the node is there."""
    assert seen(smi(dgx_a100, "-L", preexec=denied("c 195:1 rw"))) == [ALL[0], *ALL[2:]]


def test_denied_control_device_is_the_error_that_users_know(
    smi: Run, dgx_a100: Path, denied: Callable[[str], Enter]
) -> None:
    done = smi(dgx_a100, preexec=denied("c 195:255 rw"))
    assert done.stdout == "Failed to initialize NVML: Unknown Error\n"
    assert (done.returncode, done.stderr) == (255, "")


def test_no_permission(smi: Run, dgx_a100: Path) -> None:
    done = smi(dgx_a100, dev="mount -o remount,nodev /dev")
    assert done.stdout == "Failed to initialize NVML: Insufficient Permissions\n"
    assert (done.returncode, done.stderr) == (4, "")


def test_no_control_device(smi: Run, cuda: Run, dgx_a100: Path) -> None:
    done = smi(dgx_a100, dev="rm /dev/nvidiactl")
    assert done.stdout == (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running.\n\n"
    )
    assert (done.returncode, done.stderr) == (9, "")
    done = cuda(dgx_a100, "rm /dev/nvidiactl")
    assert done.returncode == 1
    assert done.stdout == "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n"


def test_no_gpu(smi: Run, cuda: Run, mx150: Path) -> None:
    done = smi(mx150, dev="rm /dev/nvidia0")
    assert (done.returncode, done.stdout, done.stderr) == (6, "No devices were found\n", "")
    done = cuda(mx150, "rm /dev/nvidia0")
    assert done.returncode == 1
    assert done.stdout == "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n"


@pytest.mark.parametrize("dev", ["rm /dev/nvidia-uvm", "mv /dev/nvidia-uvm-tools /dev/nvidia-uvm"])
def test_cuda_needs_unified_memory(smi: Run, cuda: Run, mx150: Path, dev: str) -> None:
    assert len(seen(smi(mx150, "-L", dev=dev))) == 1
    done = cuda(mx150, dev)
    assert done.stdout == "cuInit: CUDA_ERROR_UNKNOWN (999): unknown error\n"
    assert done.returncode == 1


def test_cuda(cuda: Run, mx150: Path) -> None:
    done = cuda(mx150)
    gpu = MX150.gpus[0]
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "CUDA driver API 11.7: 1 device\n"
        f"device 0: {gpu.name}, {gpu.uuid}, 0000:01:00.0, "
        f"{gpu.memory_mib - gpu.reserved_mib} MiB, compute capability 6.1\n"
    )


def test_no_library(mx150: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [mx150 / "usr/bin/nvidia-smi"], env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 12
    assert done.stdout.startswith(
        "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system."
    )
    done = subprocess.run(
        [libnvc.sim.cuda_client()], env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.startswith("libcuda.so.1: cannot open shared object file")


# --- elsewhere ----------------------------------------------------------------------------------


def test_from_a_chroot_without_a_c_library(dgx_a100: Path) -> None:
    """As the NVML probe does: unprivileged, from a process that has its C library already."""
    script = (
        "import ctypes, os, sys\n"
        "os.chroot(sys.argv[1]); os.chdir('/')\n"
        "os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n"
        "nvml = ctypes.CDLL(sys.argv[2])\n"
        "count = ctypes.c_uint()\n"
        "print(nvml.nvmlInit_v2(), nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)), count.value)\n"
    )
    library = f"{this_machine().libs_dir}/libnvidia-ml.so.1"
    done = subprocess.run(
        [sys.executable, "-c", script, dgx_a100, library],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0 0 8\n", "")
