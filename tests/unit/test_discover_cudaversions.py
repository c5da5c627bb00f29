# SPDX-License-Identifier: Apache-2.0
"""CUDA versions by driver branch, held against known releases and the simulated drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

import libnvc.sim
from libnvc._discover.cudaversions import BRANCHES, cuda_version

DATA = Path(__file__).parent.parent / "data/cuda-versions.txt"
RELEASES = [
    (driver, cuda)
    for driver, cuda, _source in (
        line.split() for line in DATA.read_text().splitlines() if not line.startswith("#")
    )
]
UNSTEADY = ("430", "435")


@pytest.mark.parametrize(("driver", "cuda"), RELEASES)
def test_release(driver: str, cuda: str) -> None:
    expected = "" if driver.startswith(UNSTEADY) else cuda
    assert cuda_version(driver) == expected


def test_every_branch_has_a_release() -> None:
    assert set(BRANCHES) | set(UNSTEADY) == {driver.partition(".")[0] for driver, _ in RELEASES}


def test_branches_that_changed_their_version_are_left_out() -> None:
    for branch in UNSTEADY:
        assert len({cuda for driver, cuda in RELEASES if driver.startswith(branch)}) == 2


@pytest.mark.parametrize(
    "profile",
    [profile for profile in libnvc.sim.profiles() if not profile.jetson],
    ids=lambda profile: profile.name,
)
def test_simulated_driver(profile: libnvc.sim.Profile) -> None:
    """What its NVML answers is the profile's (test_nvml_sim.py)."""
    assert cuda_version(profile.driver_version) == profile.cuda_version


@pytest.mark.parametrize("driver", ["", "5350.1.1", "53.5", "999.1.1", "535a.1", "v535.1"])
def test_others_are_not_known(driver: str) -> None:
    assert not cuda_version(driver)
