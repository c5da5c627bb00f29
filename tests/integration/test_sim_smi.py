# SPDX-License-Identifier: Apache-2.0
"""The simulated nvidia-smi, and what it says of a driver that is out of order."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import libnvc.sim

pytestmark = pytest.mark.root  # device nodes, mounts

Run = Callable[..., subprocess.CompletedProcess[str]]
Faulty = Callable[[str], Path]

#: Jetsons have another layout: tests/unit/test_sim_jetson.py.
PROFILES = {profile.name: profile for profile in libnvc.sim.profiles() if not profile.jetson}
MX150 = PROFILES["mx150"]


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


def test_table_of_a_desktop(smi: Run, workstation: Path) -> None:
    """A display and a fan."""
    lines = smi(workstation).stdout.splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:4]] for line in lines[8:10]] == [
        ["0  NVIDIA GeForce RTX 4080        Off", "00000000:01:00.0  On", "N/A"],
        ["0%   41C    P8             18W /  320W", "214MiB /  16376MiB", "0%      Default"],
    ]


def test_table_of_a_rack(smi: Run, rack_128: Path) -> None:
    lines = smi(rack_128, dev="rm /dev/nvidia?? /dev/nvidia?").stdout.splitlines()
    gpus = [line for line in lines if "Tesla T4" in line]
    assert len(gpus) == 28
    assert gpus[0].startswith("|   0  Tesla T4                       Off |   00000000:1")


@pytest.mark.parametrize(
    ("profile", "dev", "table", "width"),
    [
        ("mx150", "", OLD_TABLE, 79),
        ("dgx_a100", "rm /dev/nvidia[1-6]", WIDE_TABLE, 89),
        ("t4", "", WIDER_TABLE, 91),
    ],
)
def test_table(
    smi: Run, request: pytest.FixtureRequest, profile: str, dev: str, table: str, width: int
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
def test_query(smi: Run, dgx_a100: Path, form: str, expected: str) -> None:
    dev = "rm /dev/nvidia[0-35-7]"
    done = smi(dgx_a100, f"--query-gpu={FIELDS}", f"--format={form}", dev=dev)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_query_of_what_a_board_does_not_have(smi: Run, mx150: Path) -> None:
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


def test_crash(smi: Run, faulty: Faulty) -> None:
    assert smi(faulty("nvml-crash"), "-L").returncode == -signal.SIGSEGV


def test_crash_in_a_query(smi: Run, faulty: Faulty) -> None:
    root = faulty("nvml-crash-query")
    assert (
        smi(root, "--query-gpu=uuid", "--format=csv,noheader").stdout == MX150.gpus[0].uuid + "\n"
    )
    assert smi(root, "-L").returncode == -signal.SIGSEGV


def test_hang(run_in_host: Run, faulty: Faulty) -> None:
    script = (
        "import pynvml, signal\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "pynvml.nvmlInit()\n"
        "print('it returned')"
    )
    done = run_in_host(faulty("nvml-hang"), sys.executable, "-c", script)
    assert (done.returncode, done.stdout) == (-signal.SIGALRM, "")


NO_DEVICE = "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected\n"
MISMATCH = (
    "cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): "
    "system has unsupported display driver / cuda driver combination\n"
)


@pytest.mark.parametrize(
    ("fault", "text", "status", "answer"),
    [
        ("not-loaded", "NVIDIA-SMI has failed because it couldn't communicate", 9, NO_DEVICE),
        ("version-mismatch", "Failed to initialize NVML: Driver/library version", 18, MISMATCH),
    ],
)
def test_module_is_not_right(
    smi: Run, cuda: Run, faulty: Faulty, fault: str, text: str, status: int, answer: str
) -> None:
    root = faulty(fault)
    done = smi(root)
    assert done.stdout.startswith(text)
    assert (done.returncode, done.stderr) == (status, "")
    done = cuda(root)
    assert (done.returncode, done.stdout, done.stderr) == (1, answer, "")


def test_uvm_missing(smi: Run, cuda: Run, faulty: Faulty) -> None:
    root = faulty("uvm-missing")
    assert smi(root, "-L").returncode == 0
    assert cuda(root).stdout == "cuInit: CUDA_ERROR_UNKNOWN (999): unknown error\n"


def test_libraries_of_the_other_version(run_in_host: Run, faulty: Faulty) -> None:
    """They load, and do not fit the kernel module; those of its own version work."""
    root = faulty("two-versions")
    script = (
        "import ctypes, sys\n"
        "nvml = [ctypes.CDLL(path) for path in sys.argv[1:]]\n"
        "print(*(library.nvmlInit_v2() for library in nvml))\n"
    )
    libraries = sorted(str(path) for path in root.glob("usr/lib/*/libnvidia-ml.so.515.*"))
    assert [path.rpartition(".so.")[2] for path in libraries] == ["515.85.01", "515.86.01"]
    done = run_in_host(root, sys.executable, "-c", script, *libraries)
    assert (done.stdout, done.stderr) == ("18 0\n", "")


@pytest.mark.parametrize(
    ("code", "text", "status"),
    [
        (9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9),
        (18, "Failed to initialize NVML: Driver/library version mismatch", 18),
        (17, "Failed to initialize NVML: GPU access blocked by the operating system", 17),
        (999, "Failed to initialize NVML: Unknown Error", 255),
    ],
)
def test_init_error(smi: Run, faulty: Faulty, code: int, text: str, status: int) -> None:
    done = smi(faulty(f"nvml-error={code}"))
    assert done.stdout.startswith(text)
    assert (done.returncode, done.stderr) == (status, "")
