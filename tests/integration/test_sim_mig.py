# SPDX-License-Identifier: Apache-2.0
"""MIG devices of a simulated host: they count if both their capabilities open."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import libnvc.sim
from libnvc.sim import SimMig
from libnvc.sim.machine import this_machine

pytestmark = pytest.mark.root  # device nodes, mounts, cgroups

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]

PROFILE = {profile.name: profile for profile in libnvc.sim.profiles()}["dgx-a100-mig"]
GPUS = PROFILE.gpus
FIRST, SECOND = GPUS[0].mig
THIRD = GPUS[1].mig[0]

#: Asks NVIDIA's Python bindings for the MIG devices of each GPU.
CLIENT = """
import json
from pynvml import *

def ask(function, *arguments):
    try:
        return function(*arguments)
    except NVMLError as error:
        return f"error {error.value}"

def is_mig(device):
    return nvmlDeviceIsMigDeviceHandle(device).value

def describe(mig):
    by_uuid = ask(nvmlDeviceGetHandleByUUID, nvmlDeviceGetUUID(mig).upper())
    return {
        "uuid": nvmlDeviceGetUUID(mig),
        "name": nvmlDeviceGetName(mig),
        "index": nvmlDeviceGetIndex(mig),
        "gpu": nvmlDeviceGetUUID(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)),
        "instances": [nvmlDeviceGetGpuInstanceId(mig), nvmlDeviceGetComputeInstanceId(mig)],
        "memory": nvmlDeviceGetMemoryInfo(mig).total >> 20,
        "is": is_mig(mig),
        "found": ask(nvmlDeviceGetGpuInstanceId, by_uuid),
        "processes": nvmlDeviceGetComputeRunningProcesses(mig),
        "unsupported": [ask(function, mig) for function in (nvmlDeviceGetMinorNumber,
            nvmlDeviceGetMigMode)],
    }

def walk(gpu):
    found = []
    for index in range(8):
        mig = ask(nvmlDeviceGetMigDeviceHandleByIndex, gpu, index)
        found.append(mig if isinstance(mig, str) else describe(mig))
    return {
        "mode": nvmlDeviceGetMigMode(gpu),
        "most": nvmlDeviceGetMaxMigDeviceCount(gpu),
        "is": is_mig(gpu),
        "of whole": [ask(function, gpu) for function in (nvmlDeviceGetGpuInstanceId,
            nvmlDeviceGetComputeInstanceId, nvmlDeviceGetDeviceHandleFromMigDeviceHandle)],
        "mig": found,
    }

nvmlInit()
gpus = [nvmlDeviceGetHandleByIndex(i) for i in range(nvmlDeviceGetCount())]
answer = [walk(gpu) for gpu in gpus]
mig = ask(nvmlDeviceGetMigDeviceHandleByIndex, gpus[0], 0)
nvmlShutdown()
if not isinstance(mig, str):
    answer.append([ask(function, mig) for function in (nvmlDeviceGetUUID,
        nvmlDeviceGetGpuInstanceId, is_mig)])
print(json.dumps(answer))
"""


def ask(run_in_host: Run, root: Path, dev: str = "") -> list[Any]:
    done = run_in_host(root, sys.executable, "-c", CLIENT, dev=dev)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert isinstance(answer, list)
    return answer


def described(index: int, gpu: libnvc.sim.SimGpu, mig: SimMig) -> dict[str, object]:
    return {
        "uuid": mig.uuid,
        "name": f"{gpu.name} MIG {mig.slice}",
        "index": index,
        "gpu": gpu.uuid,
        "instances": [mig.gpu_instance, mig.compute_instance],
        "memory": mig.memory_mib,
        "is": 1,
        "found": mig.gpu_instance,
        "processes": [],
        "unsupported": ["error 3"] * 2,
    }


def uuids(done: Done) -> list[str]:
    """Return the UUIDs that `nvidia-smi -L` lists."""
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition("(UUID: ")[2].rstrip(")") for line in done.stdout.splitlines()]


# --- NVML ---------------------------------------------------------------------------------------


def test_official_bindings(run_in_host: Run, dgx_a100_mig: Path) -> None:
    *gpus, after = ask(run_in_host, dgx_a100_mig)
    assert after == ["error 1"] * 3
    assert gpus == [
        {
            "mode": [int(gpu.mig_mode)] * 2,
            "most": 7 if gpu.mig_mode else 0,
            "is": 0,
            "of whole": ["error 2"] * 3,
            "mig": [
                *(described(index, gpu, mig) for index, mig in enumerate(gpu.mig)),
                *["error 6"] * (7 - len(gpu.mig)),
                "error 2",
            ],
        }
        for gpu in GPUS
    ]


def test_holes_and_old_names(run_in_host: Run, tmp_path: Path) -> None:
    uuid = f"MIG-{GPUS[0].uuid}/2/0"
    gpu = GPUS[0].replace(mig=(FIRST, SECOND.replace(uuid=uuid)), mig_holes=(0, 2))
    on = GPUS[1].replace(mig_mode=True, mig=())
    libnvc.sim.create(PROFILE.replace(gpus=(gpu, on, *GPUS[2:])), tmp_path / "root")
    answer = ask(run_in_host, tmp_path / "root")
    rows = answer[0]["mig"]
    assert rows[0] == rows[2] == "error 6"
    assert (rows[1]["uuid"], rows[1]["index"]) == (FIRST.uuid, 1)
    assert (rows[3]["uuid"], rows[3]["index"]) == (uuid, 3)
    assert rows[4:] == ["error 6", "error 6", "error 6", "error 2"]
    assert (answer[1]["mode"], answer[1]["most"]) == ([1, 1], 7)
    assert answer[1]["mig"] == ["error 6"] * 7 + ["error 2"]


# --- only what opens counts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dev", "lost"),
    [
        ("", []),
        ("rm /dev/nvidia-caps/nvidia-cap12", [FIRST]),
        ("rm /dev/nvidia-caps/nvidia-cap13", [FIRST]),
        ("rm /dev/nvidia-caps/nvidia-cap2[12]; rm /dev/nvidia-caps/nvidia-cap166", [SECOND, THIRD]),
        ("rm -r /dev/nvidia-caps", [FIRST, SECOND, THIRD]),
        ("rm /dev/nvidia-caps/nvidia-cap[12]", []),
        ("cd /dev/nvidia-caps; rm nvidia-cap21; mknod -m 444 nvidia-cap21 c 511 22", [SECOND]),
        ("cd /dev/nvidia-caps; rm nvidia-cap21; mknod -m 444 nvidia-cap21 c 195 21", [SECOND]),
        ("cd /dev/nvidia-caps; rm nvidia-cap21; touch nvidia-cap21", [SECOND]),
    ],
)
def test_capabilities_count(smi: Run, dgx_a100_mig: Path, dev: str, lost: list[SimMig]) -> None:
    expected = []
    for gpu in GPUS:
        expected.append(gpu.uuid)
        expected += [mig.uuid for mig in gpu.mig if mig not in lost]
    assert uuids(smi(dgx_a100_mig, "-L", dev=dev)) == expected


def test_no_mig_device_without_its_gpu(smi: Run, dgx_a100_mig: Path) -> None:
    listed = uuids(smi(dgx_a100_mig, "-L", dev="rm /dev/nvidia0"))
    assert listed[:2] == [GPUS[1].uuid, THIRD.uuid]
    assert FIRST.uuid not in listed


@pytest.fixture
def denied() -> Iterator[Callable[[], None]]:
    """Return what enters a device cgroup that denies a compute instance's capability."""
    group = Path(f"/sys/fs/cgroup/devices/libnvc-sim-mig-{os.getpid()}")
    group.mkdir()
    (group / "devices.deny").write_text("c 511:13 rw")

    def enter() -> None:
        (group / "cgroup.procs").write_text("0")

    yield enter
    group.rmdir()


def test_denied_capability_does_not_count(
    smi: Run, dgx_a100_mig: Path, denied: Callable[[], None]
) -> None:
    listed = uuids(smi(dgx_a100_mig, "-L", preexec=denied))
    assert listed[:2] == [GPUS[0].uuid, SECOND.uuid]


def test_ordinary_user_may_use_them(dgx_a100_mig: Path) -> None:
    """Their nodes are read-only for everybody."""
    script = (
        "import ctypes, os, sys\n"
        "os.chroot(sys.argv[1]); os.chdir('/')\n"
        "os.setgroups([]); os.setresgid(*[65534] * 3); os.setresuid(*[65534] * 3)\n"
        "nvml = ctypes.CDLL(sys.argv[2])\n"
        "gpu, mig = ctypes.c_void_p(), ctypes.c_void_p()\n"
        "print(nvml.nvmlInit_v2(), nvml.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(gpu)),\n"
        "      *(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, i, ctypes.byref(mig))\n"
        "        for i in range(3)))\n"
    )
    library = f"{this_machine().libs_dir}/libnvidia-ml.so.1"
    done = subprocess.run(
        [sys.executable, "-c", script, dgx_a100_mig, library],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("0 0 0 0 6\n", "")


FILES = """mount -t tmpfs tmpfs /proc/driver
mkdir /proc/driver/nvidia
cp -r {root}/proc/driver/nvidia/capabilities /proc/driver/nvidia/
"""


def test_module_without_capability_devices(smi: Run, tmp_path: Path) -> None:
    """There the files are the capabilities."""
    root = tmp_path / "root"
    libnvc.sim.create(PROFILE.replace(capability_devices=False), root)
    assert not (root / "dev/nvidia-caps").exists()
    assert "nvidia-caps" not in (root / "proc/devices").read_text()
    files = FILES.format(root=root)
    migs = (FIRST.uuid, SECOND.uuid, THIRD.uuid)
    listed = uuids(smi(root, "-L", dev=files))
    assert [uuid for uuid in listed if uuid in migs] == list(migs)
    files += "rm /proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access\n"
    assert FIRST.uuid not in uuids(smi(root, "-L", dev=files))


# --- nvidia-smi and CUDA ------------------------------------------------------------------------


def test_list(smi: Run, dgx_a100_mig: Path) -> None:
    done = smi(dgx_a100_mig, "-L", dev="rm /dev/nvidia[2-7]")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c)\n"
        "  MIG 3g.20gb     Device  0: (UUID: MIG-a0000000-0000-4000-8000-000001000000)\n"
        "  MIG 3g.20gb     Device  1: (UUID: MIG-a0000000-0000-4000-8000-000002000000)\n"
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23d)\n"
        "  MIG 2g.10gb     Device  0: (UUID: MIG-a0000000-0000-4000-8000-000103000000)\n"
    )


def test_query(smi: Run, dgx_a100_mig: Path) -> None:
    options = ("--query-gpu=mig.mode.current,utilization.gpu", "--format=csv,noheader")
    done = smi(dgx_a100_mig, *options, dev="rm /dev/nvidia[13-7]")
    assert done.stdout == "Enabled, [N/A]\nDisabled, 0 %\n"


def test_table(smi: Run, dgx_a100_mig: Path) -> None:
    lines = smi(dgx_a100_mig, dev="rm /dev/nvidia[1-7]").stdout.splitlines()
    assert lines[9:11] == [
        "| N/A   28C    P0              52W / 400W |      4MiB / 40960MiB |     N/A      Default |",
        "|                                         |                      |              Enabled |",
    ]


def test_cuda_uses_whole_gpus_first(cuda: Run, dgx_a100_mig: Path) -> None:
    lines = cuda(dgx_a100_mig).stdout.splitlines()
    assert lines[0] == "CUDA driver API 12.2: 6 devices"
    assert [line.split(", ")[1] for line in lines[1:]] == [gpu.uuid for gpu in GPUS[2:]]


@pytest.mark.parametrize(
    ("dev", "mig"), [("", FIRST), ("rm /dev/nvidia-caps/nvidia-cap12", SECOND)]
)
def test_cuda_uses_one_mig_device(cuda: Run, dgx_a100_mig: Path, dev: str, mig: SimMig) -> None:
    done = cuda(dgx_a100_mig, f"rm /dev/nvidia[2-7]; {dev}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "CUDA driver API 12.2: 1 device\n"
        f"device 0: NVIDIA A100-SXM4-40GB MIG 3g.20gb, {mig.uuid}, 0000:07:00.0, 19968 MiB, "
        "compute capability 8.0\n"
    )


def test_cuda_without_any(cuda: Run, dgx_a100_mig: Path) -> None:
    done = cuda(dgx_a100_mig, "rm /dev/nvidia[2-7]; rm -r /dev/nvidia-caps")
    assert done.returncode == 1
    assert done.stdout == "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n"
