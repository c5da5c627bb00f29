# SPDX-License-Identifier: Apache-2.0
"""A simulated host on which a GPU fell off the bus."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import libnvc
import libnvc.sim
from libnvc.testing import NamespaceContainer

pytestmark = pytest.mark.root  # device nodes, mounts

Done = subprocess.CompletedProcess[str]
Run = Callable[..., Done]

DATA = Path(__file__).parent.parent / "data"
GPUS = {profile.name: profile for profile in libnvc.sim.profiles()}["dgx-a100"].gpus
LOST = 3
MESSAGE = (
    "Unable to determine the device handle for {}: "
    "GPU is lost.  Reboot the system to recover this GPU\n"
)

CLIENT = """
import json, sys
from pynvml import *

def ask(function, argument):
    try:
        return nvmlDeviceGetIndex(function(argument))
    except NVMLError as error:
        return f"error {error.value}"

nvmlInit()
count = nvmlDeviceGetCount()
print(json.dumps({
    "index": [ask(nvmlDeviceGetHandleByIndex, i) for i in range(count)],
    "uuid": [ask(nvmlDeviceGetHandleByUUID, uuid) for uuid in sys.argv[1:]],
    "pci": [ask(nvmlDeviceGetHandleByPciBusId, f"0000:{bus}:00.0")
            for bus in "07 0f 47 4e 87 90 b7 bd".split()],
}))
"""


@pytest.fixture(scope="module")
def root(faulty: Callable[..., Path]) -> Path:
    """Return the root of a simulated DGX A100 that lost a GPU."""
    return faulty(f"gpu-lost={LOST}", "dgx-a100")


# --- NVML and CUDA ------------------------------------------------------------------------------


def test_nvml_has_no_handle_for_it(run_in_host: Run, root: Path) -> None:
    """It counts: the others keep their index."""
    done = run_in_host(root, sys.executable, "-c", CLIENT, *(gpu.uuid for gpu in GPUS))
    assert (done.returncode, done.stderr) == (0, "")
    expected = [0, 1, 2, "error 15", 4, 5, 6, 7]
    assert json.loads(done.stdout) == dict.fromkeys(["index", "uuid", "pci"], expected)


def test_nvml_answers_nothing_about_it(
    run_in_host: Run, c_client: Path, faulty: Callable[..., Path]
) -> None:
    """Not even a client that ignores the error; but where it was is known."""
    done = run_in_host(faulty("gpu-lost=0"), c_client)
    assert (done.returncode, done.stderr) == (0, "")
    results = dict(line.split() for line in done.stdout.splitlines())
    assert results.pop("nvmlDeviceGetHandleByUUID") == "6"  # the client did not get to know it
    for name in ("GpuInstanceId", "ComputeInstanceId", "DeviceHandleFromMigDeviceHandle"):
        assert results.pop(f"nvmlDeviceGet{name}") == "2"  # it is no MIG device, lost or not
    good = {name for name, code in results.items() if code == "0"}
    assert {code for name, code in results.items() if name not in good} == {"15"}
    assert {name for name in good if name.startswith("nvmlDevice")} == {
        *("nvmlDeviceGetCount", "nvmlDeviceGetCount_v2"),
        *("nvmlDeviceGetPciInfo", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo_v3"),
    }


def test_cuda_goes_on_with_the_others(cuda: Run, root: Path) -> None:
    done = cuda(root)
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0]) == (0, "CUDA driver API 12.2: 7 devices")
    uuids = [gpu.uuid for gpu in GPUS if gpu is not GPUS[LOST]]
    assert [line.split(", ")[1] for line in lines[1:]] == uuids


def test_cuda_without_another(cuda: Run, faulty: Callable[..., Path]) -> None:
    done = cuda(faulty("gpu-lost=0", "t4"))
    assert done.returncode == 1
    assert done.stdout == "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n"


# --- nvidia-smi ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "fault", "gpu"),
    [
        ("mx150", "gpu-lost=0", "GPU 0000:01:00.0"),
        ("dgx-a100", "gpu-lost=3", "GPU0000:4E:00.0"),
        ("t4", "gpu-lost=0", "GPU0000:00:1E.0"),
    ],
)
def test_no_table(
    smi: Run, faulty: Callable[..., Path], profile: str, fault: str, gpu: str
) -> None:
    """Releases differ in a space."""
    done = smi(faulty(fault, profile))
    assert (done.returncode, done.stdout, done.stderr) == (15, MESSAGE.format(gpu), "")


def test_list_has_the_message_in_its_place(smi: Run, root: Path) -> None:
    done = smi(root, "-L")
    lines = [f"GPU {i}: {gpu.name} (UUID: {gpu.uuid})\n" for i, gpu in enumerate(GPUS)]
    lines[LOST] = MESSAGE.format("gpu 0000:4E:00.0")
    assert (done.returncode, done.stdout, done.stderr) == (15, "".join(lines), "")


def test_query_has_the_message_in_its_place(smi: Run, root: Path) -> None:
    done = smi(root, "--query-gpu=index,uuid", "--format=csv")
    lines = [f"{i}, {gpu.uuid}\n" for i, gpu in enumerate(GPUS)]
    lines[LOST] = MESSAGE.format("GPU0000:4E:00.0")
    expected = "index, uuid\n" + "".join(lines)
    assert (done.returncode, done.stdout, done.stderr) == (15, expected, "")


def test_nothing_is_lost_where_it_was_not_given(smi: Run, root: Path) -> None:
    done = smi(root, "-L", dev=f"rm /dev/nvidia{LOST}")
    assert (done.returncode, done.stdout.count("UUID: ")) == (0, 7)
    assert "Unable" not in done.stdout
    assert smi(root, dev=f"rm /dev/nvidia{LOST}").returncode == 0


# --- libnvc -------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [(), ("--csv",)])
def test_info_says_so(container_cli: Run, root: Path, option: tuple[str, ...]) -> None:
    done = container_cli(f"--root={root}", "info", *option)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "nvidia-container-cli: detection error: nvml error: gpu is lost",
        "nvidia-container-cli: hint: NVML refused at nvmlDeviceGetHandleByIndex_v2: the kernel's "
        "log (dmesg, NVRM and Xid) says what is wrong with the driver or a GPU",
    ]


def test_list_does_not_ask_nvml(container_cli: Run, root: Path) -> None:
    done = container_cli(f"--root={root}", "list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (DATA / "dgx-a100.list").read_text()


def test_plan_is_that_of_a_sound_host(root: Path, dgx_a100: Path) -> None:
    request = libnvc.Request(devices=("0", str(LOST)), capabilities=("utility", "compute"))
    texts = []
    for driver in (root, dgx_a100):
        plan = libnvc.make_plan(libnvc.discover(str(driver)), request).replace(dependencies=())
        texts.append(plan.to_json().replace(str(driver), "ROOT"))
    assert texts[0] == texts[1]


def test_container_with_another_gpu(container_cli: Run, root: Path, rootfs: Path) -> None:
    with NamespaceContainer(rootfs) as container:
        words = ("--device=0", "--utility", "--no-cgroups", f"--pid={container.pid}")
        done = container_cli(f"--root={root}", "configure", *words, rootfs)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        listed = subprocess.run(
            ["nsenter", f"--mount=/proc/{container.pid}/ns/mnt", "ls", rootfs / "dev"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert {"nvidiactl", "nvidia0"} <= set(listed.stdout.split())
    assert f"nvidia{LOST}" not in listed.stdout.split()
