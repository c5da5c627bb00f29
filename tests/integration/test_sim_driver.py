# SPDX-License-Identifier: Apache-2.0
"""The simulated driver at work: NVML, CUDA and nvidia-smi where only /dev decides.

The clients are NVIDIA's: the bindings of nvidia-ml-py, and C compiled against NVIDIA's header.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
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

HERE = Path(__file__).parent
PROFILES = {profile.name: profile for profile in libnvc.sim.profiles()}
MX150, DGX_A100 = PROFILES["mx150"], PROFILES["dgx-a100"]

#: Makes the simulated host's /dev of the given root, alters it, runs a command.
HOST = """
set -e
mount -t tmpfs -o mode=755 tmpfs /dev
cp -a "$1"/dev/. /dev
mknod -m 666 /dev/null c 1 3
eval "$2"
shift 2
exec "$@"
"""

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
    facts["MigDevice"] = ask(nvmlDeviceGetMigDeviceHandleByIndex, gpu, 0)
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


def run_in_host(
    root: Path, *command: str | Path, dev: str = "", preexec: Enter | None = None
) -> Done:
    """Run a command in a mount namespace whose /dev is that of a simulated host.

    `dev` is shell that alters that /dev first.
    """
    return subprocess.run(
        [
            *("unshare", "--mount", "--propagation", "private"),
            *("sh", "-c", HOST, "sh", root, dev, *command),
        ],
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": f"{root}{this_machine().libs_dir}",
            "LC_ALL": "C",
            "TZ": "UTC",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=preexec,
    )


def smi(root: Path, *options: str, dev: str = "", preexec: Enter | None = None) -> Done:
    return run_in_host(root, root / "usr/bin/nvidia-smi", *options, dev=dev, preexec=preexec)


def cuda(root: Path, dev: str = "") -> Done:
    return run_in_host(root, libnvc.sim.cuda_client(), dev=dev)


def seen(done: Done) -> list[str]:
    """Return the last digits of the UUIDs that `nvidia-smi -L` lists, in order."""
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"GPU {i}" for i in range(len(lines))]
    return re.findall(r"\(UUID: GPU-\S+(...)\)$", done.stdout, re.MULTILINE)


ALL = [gpu.uuid[-3:] for gpu in DGX_A100.gpus]


# --- NVIDIA's own clients -----------------------------------------------------------------------


def ask_bindings(root: Path) -> dict[str, object]:
    done = run_in_host(root, sys.executable, "-c", CLIENT)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def expected_gpu(index: int, gpu: libnvc.sim.SimGpu) -> dict[str, object]:
    domain, bus, device = gpu.pci
    mib = 1024 * 1024
    unsupported = f"error {pynvml.NVML_ERROR_NOT_SUPPORTED}"
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
        "MigMode": [0, 0] if gpu.mig_devices else unsupported,
        "MaxMigDeviceCount": gpu.mig_devices,
        "MigDevice": f"error {pynvml.NVML_ERROR_NOT_FOUND}" if gpu.mig_devices else unsupported,
        "UtilizationRates": {"gpu": 0, "memory": 0},
        "PowerUsage": gpu.power_mw or unsupported,
        "EnforcedPowerLimit": gpu.power_limit_mw or unsupported,
        "PowerManagementLimit": gpu.power_limit_mw or unsupported,
        "PerformanceState": gpu.performance,
        "PersistenceMode": int(gpu.persistence),
        "ComputeMode": pynvml.NVML_COMPUTEMODE_DEFAULT,
        "DisplayMode": 0,
        "DisplayActive": 0,
        "EccMode": [1, 1] if gpu.ecc else unsupported,
        "TotalEccErrors": 0 if gpu.ecc else unsupported,
        "FanSpeed": unsupported,
        "Temperature": gpu.temperature,
        "VbiosVersion": gpu.vbios,
        "ComputeRunningProcesses": [],
        "GraphicsRunningProcesses": [],
        "MPSComputeRunningProcesses": [],
        "found": [index] * 3,
    }


@pytest.mark.parametrize("profile", PROFILES.values(), ids=lambda profile: str(profile.name))
def test_official_bindings(request: pytest.FixtureRequest, profile: libnvc.sim.Profile) -> None:
    major, minor = (int(part) for part in profile.cuda_version.split("."))
    cuda_version = 1000 * major + 10 * minor
    answer = ask_bindings(request.getfixturevalue(profile.name.replace("-", "_")))
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


@pytest.fixture(scope="module")
def c_client(tmp_path_factory: pytest.TempPathFactory, dgx_a100: Path) -> Path:
    files = importlib.metadata.files("nvidia-nvml-dev")
    assert files is not None
    (header,) = [file for file in files if file.name == "nvml.h"]
    program = tmp_path_factory.mktemp("client") / "client"
    subprocess.run(
        [
            *("gcc", "-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"),
            f"-isystem{Path(str(header.locate())).parent}",
            HERE.parent / "c/sim_client.c",
            *("-o", program, f"-L{dgx_a100}{this_machine().libs_dir}", "-lnvidia-ml"),
        ],
        check=True,
    )
    return program


def test_every_function_through_the_official_header(
    c_client: Path, dgx_a100: Path, mx150: Path
) -> None:
    results = {}
    for root in (dgx_a100, mx150):
        done = run_in_host(root, c_client)
        assert (done.returncode, done.stderr) == (0, "")
        results[root] = {
            name: int(code) for name, code in (line.split() for line in done.stdout.splitlines())
        }
    library = (HERE.parent.parent / "csrc/sim/nvml_abi.h").read_text()
    assert set(results[dgx_a100]) == set(re.findall(r"\b(nvml[A-Z]\w+)\(", library))
    not_zero = {name: code for name, code in results[dgx_a100].items() if code}
    assert not_zero == {"nvmlDeviceGetFanSpeed": 3, "nvmlDeviceGetMigDeviceHandleByIndex": 6}
    assert {name for name, code in results[mx150].items() if code} == {
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


def test_allowed_nodes_count(dgx_a100: Path) -> None:
    assert seen(smi(dgx_a100, "-L")) == ALL


def test_missing_nodes_do_not_count_and_the_rest_is_numbered_anew(dgx_a100: Path) -> None:
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
def test_other_nodes_do_not_count(dgx_a100: Path, node: str) -> None:
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


def test_denied_nodes_do_not_count(dgx_a100: Path, denied: Callable[[str], Enter]) -> None:
    """EPERM from the device cgroup, though the node is there."""
    assert seen(smi(dgx_a100, "-L", preexec=denied("c 195:1 rw"))) == [ALL[0], *ALL[2:]]


def test_denied_control_device_is_the_error_that_users_know(
    dgx_a100: Path, denied: Callable[[str], Enter]
) -> None:
    done = smi(dgx_a100, preexec=denied("c 195:255 rw"))
    assert done.stdout == "Failed to initialize NVML: Unknown Error\n"
    assert (done.returncode, done.stderr) == (255, "")


def test_no_permission(dgx_a100: Path) -> None:
    done = smi(dgx_a100, dev="mount -o remount,nodev /dev")
    assert done.stdout == "Failed to initialize NVML: Insufficient Permissions\n"
    assert (done.returncode, done.stderr) == (4, "")


def test_no_control_device(dgx_a100: Path) -> None:
    done = smi(dgx_a100, dev="rm /dev/nvidiactl")
    assert done.stdout == (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running.\n\n"
    )
    assert (done.returncode, done.stderr) == (9, "")
    done = cuda(dgx_a100, "rm /dev/nvidiactl")
    assert done.returncode == 1
    assert done.stdout == "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n"


def test_no_gpu(mx150: Path) -> None:
    done = smi(mx150, dev="rm /dev/nvidia0")
    assert (done.returncode, done.stdout, done.stderr) == (6, "No devices were found\n", "")
    done = cuda(mx150, "rm /dev/nvidia0")
    assert done.returncode == 1
    assert done.stdout == "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n"


@pytest.mark.parametrize("dev", ["rm /dev/nvidia-uvm", "mv /dev/nvidia-uvm-tools /dev/nvidia-uvm"])
def test_cuda_needs_unified_memory(mx150: Path, dev: str) -> None:
    assert len(seen(smi(mx150, "-L", dev=dev))) == 1
    done = cuda(mx150, dev)
    assert done.stdout == "cuInit: CUDA_ERROR_UNKNOWN (999): unknown error\n"
    assert done.returncode == 1


def test_cuda(mx150: Path) -> None:
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


# --- nvidia-smi ---------------------------------------------------------------------------------

OLD_TABLE = """\
+-----------------------------------------------------------------------------+
| NVIDIA-SMI 515.86.01    Driver Version: 515.86.01    CUDA Version: 11.7     |
|-------------------------------+----------------------+----------------------+
| GPU  Name        Persistence-M| Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp  Perf  Pwr:Usage/Cap|         Memory-Usage | GPU-Util  Compute M. |
|                               |                      |               MIG M. |
|===============================+======================+======================|
|   0  NVIDIA GeForce ...  Off  | 00000000:01:00.0 Off |                  N/A |
| N/A   45C    P8    N/A /  N/A |      4MiB /  2048MiB |      0%      Default |
|                               |                      |                  N/A |
+-------------------------------+----------------------+----------------------+
{blank}
+-----------------------------------------------------------------------------+
| Processes:                                                                  |
|  GPU   GI   CI        PID   Type   Process name                  GPU Memory |
|        ID   ID                                                   Usage      |
|=============================================================================|
|  No running processes found                                                 |
+-----------------------------------------------------------------------------+
"""

WIDE_TABLE = """\
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 535.261.03             Driver Version: 535.261.03   CUDA Version: 12.2     |
|-----------------------------------------+----------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |         Memory-Usage | GPU-Util  Compute M. |
|                                         |                      |               MIG M. |
|=========================================+======================+======================|
|   0  NVIDIA A100-SXM4-40GB          On  | 00000000:07:00.0 Off |                    0 |
| N/A   28C    P0              52W / 400W |      4MiB / 40960MiB |      0%      Default |
|                                         |                      |             Disabled |
+-----------------------------------------+----------------------+----------------------+
|   1  NVIDIA A100-SXM4-40GB          On  | 00000000:BD:00.0 Off |                    0 |
| N/A   31C    P0              57W / 400W |      4MiB / 40960MiB |      0%      Default |
|                                         |                      |             Disabled |
+-----------------------------------------+----------------------+----------------------+
{blank}
+---------------------------------------------------------------------------------------+
| Processes:                                                                            |
|  GPU   GI   CI        PID   Type   Process name                            GPU Memory |
|        ID   ID                                                             Usage      |
|=======================================================================================|
|  No running processes found                                                           |
+---------------------------------------------------------------------------------------+
"""

#: As release 550.54.15 printed it for a T4, but for that GPU's PCI address.
WIDER_TABLE = """\
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 550.54.15              Driver Version: 550.54.15      CUDA Version: 12.4     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|
|   0  Tesla T4                       Off |   00000000:00:1E.0 Off |                    0 |
| N/A   36C    P8              9W /   70W |       0MiB /  15360MiB |      0%      Default |
|                                         |                        |                  N/A |
+-----------------------------------------+------------------------+----------------------+
{blank}
+-----------------------------------------------------------------------------------------+
| Processes:                                                                              |
|  GPU   GI   CI        PID   Type   Process name                              GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|  No running processes found                                                             |
+-----------------------------------------------------------------------------------------+
"""


@pytest.mark.parametrize(
    ("profile", "dev", "table", "width"),
    [
        ("mx150", "", OLD_TABLE, 79),
        ("dgx_a100", "rm /dev/nvidia[1-6]", WIDE_TABLE, 89),
        ("t4", "", WIDER_TABLE, 91),
    ],
)
def test_table(
    request: pytest.FixtureRequest, profile: str, dev: str, table: str, width: int
) -> None:
    done = smi(request.getfixturevalue(profile), dev=dev)
    assert (done.returncode, done.stderr) == (0, "")
    date, _, rest = done.stdout.partition("\n")
    assert re.fullmatch(r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4} {7}", date)
    assert rest == table.format(blank=" " * width)


FIELDS = (
    "index,gpu_name,uuid,pci.bus_id,driver_version,memory.total,memory.used,memory.free,"
    "utilization.gpu,temperature.gpu,compute_cap,mig.mode.current,power.draw,power.limit"
)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            "csv",
            "index, name, uuid, pci.bus_id, driver_version, memory.total [MiB], "
            "memory.used [MiB], memory.free [MiB], utilization.gpu [%], temperature.gpu, "
            "compute_cap, mig.mode.current, power.draw [W], power.limit [W]\n"
            "0, NVIDIA A100-SXM4-40GB, GPU-4404041a-04cf-1ccf-9e70-f139a9b1e240, "
            "00000000:87:00.0, 535.261.03, 40960 MiB, 4 MiB, 40387 MiB, 0 %, 28, 8.0, Disabled, "
            "55.23 W, 400.00 W\n",
        ),
        (
            "csv,noheader,nounits",
            "0, NVIDIA A100-SXM4-40GB, GPU-4404041a-04cf-1ccf-9e70-f139a9b1e240, "
            "00000000:87:00.0, 535.261.03, 40960, 4, 40387, 0, 28, 8.0, Disabled, "
            "55.23, 400.00\n",
        ),
    ],
)
def test_query(dgx_a100: Path, form: str, expected: str) -> None:
    dev = "rm /dev/nvidia[0-35-7]"
    done = smi(dgx_a100, f"--query-gpu={FIELDS}", f"--format={form}", dev=dev)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_query_of_what_a_board_does_not_have(mx150: Path) -> None:
    fields = "name,power.draw,mig.mode.current,ecc.mode.current,fan.speed"
    done = smi(mx150, f"--query-gpu={fields}", "--format=csv,noheader")
    assert done.stdout == "NVIDIA GeForce MX150, [N/A], [N/A], [N/A], [N/A]\n"


BAD_USAGE = "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n\n"


@pytest.mark.parametrize(
    ("options", "status", "output"),
    [
        (("--nope",), 1, BAD_USAGE),
        (("extra",), 1, BAD_USAGE),
        (("--query-gpu=name",), 1, BAD_USAGE),
        (("--format=csv",), 1, BAD_USAGE),
        (("--query-gpu=name", "--format=xml"), 1, BAD_USAGE),
        (("-L", "--query-gpu=name", "--format=csv"), 1, BAD_USAGE),
        (
            ("--query-gpu=name,nope,index", "--format=csv"),
            2,
            'Field "nope" is not a valid field to query.\n\n',
        ),
        (("--query-gpu=", "--format=csv"), 2, 'Field "" is not a valid field to query.\n\n'),
        (
            ("--query-gpu=" + ",".join(["index"] * 65), "--format=csv"),
            2,
            'Field "index" is not a valid field to query.\n\n',
        ),
    ],
)
def test_usage_errors(mx150: Path, options: tuple[str, ...], status: int, output: str) -> None:
    """Said before the driver is asked: there is none here."""
    done = subprocess.run(
        [mx150 / "usr/bin/nvidia-smi", *options], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (status, output, "")


def test_help(mx150: Path) -> None:
    done = subprocess.run(
        [mx150 / "usr/bin/nvidia-smi", "-h"], capture_output=True, text=True, check=True
    )
    assert all(option in done.stdout for option in ("-L", "--query-gpu=", "--format=csv"))


def test_other_programs_do_nothing(mx150: Path) -> None:
    done = subprocess.run(
        [mx150 / "usr/bin/nvidia-debugdump"], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("nvidia-debugdump: part of a simulated driver; does nothing\n")


# --- faults -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    def make(fault: str) -> Path:
        root = tmp_path_factory.mktemp("faulty") / "root"
        libnvc.sim.create("mx150", root, fault=fault)
        return root

    return make


def test_crash(faulty: Callable[[str], Path]) -> None:
    assert smi(faulty("nvml-crash"), "-L").returncode == -signal.SIGSEGV


def test_crash_in_a_query(faulty: Callable[[str], Path]) -> None:
    root = faulty("nvml-crash-query")
    assert (
        smi(root, "--query-gpu=uuid", "--format=csv,noheader").stdout == MX150.gpus[0].uuid + "\n"
    )
    assert smi(root, "-L").returncode == -signal.SIGSEGV


def test_hang(faulty: Callable[[str], Path]) -> None:
    script = (
        "import pynvml, signal\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "pynvml.nvmlInit()\n"
        "print('it returned')"
    )
    done = run_in_host(faulty("nvml-hang"), sys.executable, "-c", script)
    assert (done.returncode, done.stdout) == (-signal.SIGALRM, "")


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9),
        (18, "Failed to initialize NVML: Driver/library version mismatch", 18),
        (17, "Failed to initialize NVML: GPU access blocked by the operating system", 17),
        (999, "Failed to initialize NVML: Unknown Error", 255),
    ],
)
def test_init_error(faulty: Callable[[str], Path], code: int, text: str, status: int) -> None:
    done = smi(faulty(f"nvml-error={code}"))
    assert done.stdout.startswith(text)
    assert (done.returncode, done.stderr) == (status, "")


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
