# SPDX-License-Identifier: Apache-2.0
"""`nvc sim`, as installed."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import libnvc.sim
from libnvc.sim.faults import FAULTS

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def nvc_sim(commands: Path, tmp_path: Path) -> Run:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [commands / "nvc", "sim", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_list(nvc_sim: Run) -> None:
    done = nvc_sim("list")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "PROFILE      DRIVER      CUDA  HOST\n"
        "mx150        515.86.01   11.7  laptop, 1 GeForce MX150\n"
        "t4           550.54.15   12.4  cloud server, 1 Tesla T4\n"
        "dgx-a100     535.261.03  12.2  server, 8 A100-SXM4-40GB\n"
        "dgx-a100-mig 535.261.03  12.2  server, 8 A100-SXM4-40GB, 2 of them divided (MIG)\n"
        "dgx-h100     535.261.03  12.2  server, 8 H100 80GB HBM3\n"
        "gb200        580.65.06   13.0  server, 4 GB200, IMEX channels\n"
        "workstation  550.90.07   12.4  desktop, 1 GeForce RTX 4080, 32-bit libraries\n"
        "jetson-orin  540.4.0     12.6  Jetson AGX Orin, Jetson Linux 36.4.3 (JetPack 6.2)\n"
        "rack-128     550.54.15   12.4  no such machine: 128 Tesla T4, minor numbers shuffled\n"
    )


def test_documented() -> None:
    """The page shows all hosts, as the command does, and explains all faults."""
    page = (Path(__file__).parents[2] / "docs/simulated-driver.md").read_text()
    for profile in libnvc.sim.profiles():
        row = rf"^{profile.name} +{profile.driver_version} +{profile.cuda_version} +"
        assert re.search(row + re.escape(profile.title) + "$", page, re.MULTILINE)
    for fault in FAULTS:
        assert f"\n| `{fault}` | " in page


def test_list_as_json(nvc_sim: Run) -> None:
    done = nvc_sim("list", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [
        {
            "profile": profile.name,
            "title": profile.title,
            "driver_version": profile.driver_version,
            "cuda_version": profile.cuda_version,
            "gpus": [{"uuid": gpu.uuid, "model": gpu.name} for gpu in profile.gpus],
        }
        for profile in libnvc.sim.profiles()
    ]


def test_create(nvc_sim: Run, tmp_path: Path) -> None:
    done = nvc_sim("create", "--profile", "mx150", "driver")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/driver\n")
    assert (tmp_path / "driver/etc/ld.so.cache").is_file()


def test_create_as_json(nvc_sim: Run, tmp_path: Path) -> None:
    done = nvc_sim("create", "--profile=mx150", "--fault=nvml-error=18", "--json", "driver")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert (answer["root"], answer["profile"]) == (f"{tmp_path}/driver", "mx150")
    assert (answer["fault"], answer["driver_version"]) == ("nvml-error=18", "515.86.01")
    # Where root has no right to make nodes there is a warning, in both places.
    assert done.stderr == "".join(f"nvc: warning: {text}\n" for text in answer["warnings"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--profile=dgx", "driver"),
            "dgx: unknown profile; known: mx150, t4, dgx-a100, dgx-a100-mig, dgx-h100, gb200, "
            "workstation, jetson-orin, rack-128",
        ),
        (
            ("--profile=mx150", "--fault=fire", "driver"),
            "fire: unknown fault; known: nvml-hang, nvml-crash, nvml-crash-query, nvml-error=N, "
            "gpu-lost=N, not-loaded, uvm-missing, version-mismatch, two-versions "
            "(N of nvml-error from 1 to 999, of gpu-lost a GPU's index)",
        ),
        (
            ("--profile=dgx-h100", "--fault=gpu-lost=8", "driver"),
            "gpu-lost=8: no such GPU; the last one of dgx-h100 is 7",
        ),
        (("--profile=mx150", "/proc"), "/proc: directory is not empty"),
    ],
)
def test_refusals(nvc_sim: Run, arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = nvc_sim("create", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"nvc: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_profile_must_be_named(nvc_sim: Run) -> None:
    done = nvc_sim("create", "driver")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--profile" in done.stderr
