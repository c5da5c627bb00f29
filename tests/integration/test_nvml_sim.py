# SPDX-License-Identifier: Apache-2.0
"""The NVML probe on simulated drivers, as root and as an ordinary user."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc.sim
from libnvc._discover.cudaversions import cuda_version
from libnvc._native import nvml
from libnvc.errors import ProbeError
from libnvc.sim.machine import this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator

PROFILES = tuple(profile.name for profile in libnvc.sim.profiles() if not profile.jetson)

pytestmark = pytest.mark.root  # a simulated driver has device nodes


@pytest.fixture(scope="module")
def drivers() -> Iterator[Path]:
    """Return a directory of simulated drivers, by profile, that anybody may enter."""
    with tempfile.TemporaryDirectory(prefix="nvc-sim-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        for profile in PROFILES:
            libnvc.sim.create(profile, directory / profile)
        yield directory


def find_library(root: Path) -> str:
    """Return the path of NVML under a driver root."""
    path = f"{this_machine().libs_dir}/libnvidia-ml.so.1"
    assert (root / path[1:]).exists()
    return path


def probe(root: Path) -> nvml.NvmlFacts:
    return nvml.probe(str(root), find_library(root), uid=None, gid=None, timeout=60)


def probe_as(uid: int, root: Path) -> nvml.NvmlFacts:
    """Probe as an ordinary user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            answer: object = probe(root)
        except BaseException as error:
            answer = repr(error)
        os.write(writer, pickle.dumps(answer))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pickle.loads(pipe.read())
    assert os.waitpid(pid, 0)[1] == 0
    assert isinstance(answer, nvml.NvmlFacts), answer
    return answer


def test_laptop(drivers: Path) -> None:
    facts = probe(drivers / "mx150")
    assert (facts.driver_version, facts.cuda_version) == ("515.86.01", "11.7")
    assert [(gpu.name, gpu.brand, gpu.mig_capable) for gpu in facts.gpus] == [
        ("NVIDIA GeForce MX150", "GeForce", False)
    ]


def test_cloud_server(drivers: Path) -> None:
    facts = probe(drivers / "t4")
    assert (facts.driver_version, facts.cuda_version) == ("550.54.15", "12.4")
    assert [(gpu.name, gpu.brand, gpu.arch, gpu.pci, gpu.mig_capable) for gpu in facts.gpus] == [
        ("Tesla T4", "Nvidia", "7.5", "00000000:00:1e.0", False)
    ]


@pytest.mark.parametrize(("profile", "arch"), [("dgx-a100", "8.0"), ("dgx-h100", "9.0")])
def test_server(drivers: Path, profile: str, arch: str) -> None:
    facts = probe(drivers / profile)
    assert (facts.driver_version, facts.cuda_version) == ("535.261.03", "12.2")
    assert [gpu.index for gpu in facts.gpus] == list(range(8))
    assert len({gpu.uuid for gpu in facts.gpus}) == 8
    assert {gpu.arch for gpu in facts.gpus} == {arch}
    assert all(gpu.mig_capable and not gpu.mig_enabled for gpu in facts.gpus)
    assert [gpu.pci for gpu in facts.gpus] == sorted(gpu.pci for gpu in facts.gpus)


@pytest.mark.parametrize("profile", PROFILES)
def test_cuda_version_is_that_of_the_driver_branch(drivers: Path, profile: str) -> None:
    facts = probe(drivers / profile)
    assert facts.cuda_version == cuda_version(facts.driver_version)


def test_rack(drivers: Path) -> None:
    """By PCI address, whatever the minor numbers are."""
    gpus = libnvc.sim.profiles()[-1].gpus
    facts = probe(drivers / "rack-128")
    assert [gpu.uuid for gpu in facts.gpus] == [gpu.uuid for gpu in gpus]
    assert sorted(gpu.minor for gpu in facts.gpus) == list(range(128))
    assert [gpu.minor for gpu in facts.gpus[:3]] == [11, 48, 85]


def test_other_pci_domains(drivers: Path) -> None:
    facts = probe(drivers / "gb200")
    assert (facts.driver_version, facts.cuda_version) == ("580.65.06", "13.0")
    assert [gpu.pci for gpu in facts.gpus] == [
        *("00000008:01:00.0", "00000009:01:00.0", "00000018:01:00.0", "00000019:01:00.0")
    ]
    assert {gpu.arch for gpu in facts.gpus} == {"10.0"}


@pytest.mark.parametrize("uid", [65534, 1000])
@pytest.mark.parametrize("profile", PROFILES)
def test_ordinary_user_sees_the_same(drivers: Path, profile: str, uid: int) -> None:
    assert probe_as(uid, drivers / profile) == probe(drivers / profile)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nvml-hang", "driver rpc error: timed out"),
        ("nvml-crash", "driver rpc error: failed to process request"),
        ("nvml-crash-query", "driver rpc error: failed to process request"),
        ("nvml-error=9", "nvml error: driver not loaded"),
        ("nvml-error=18", "nvml error: driver/library version mismatch"),
        ("gpu-lost=0", "nvml error: gpu is lost"),
        ("not-loaded", "nvml error: driver not loaded"),
        ("version-mismatch", "nvml error: driver/library version mismatch"),
    ],
)
def test_fault(fault: str, message: str, drivers: Path) -> None:
    root = drivers / fault
    libnvc.sim.create("mx150", root, fault=fault)
    timeout = 0.3 if fault == "nvml-hang" else 60
    with pytest.raises(ProbeError) as caught:
        nvml.probe(str(root), find_library(root), uid=None, gid=None, timeout=timeout)
    assert str(caught.value) == message


def test_host_has_no_driver() -> None:
    with pytest.raises(ProbeError, match="^load library failed: libnvidia-ml"):
        nvml.probe("/", "/usr/lib/libnvidia-ml.so.1", uid=None, gid=None)
