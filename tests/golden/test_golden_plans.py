# SPDX-License-Identifier: Apache-2.0
"""Whole plans for simulated hosts, as files a reviewer can read.

`NVC_UPDATE_GOLDEN=1 pytest tests/golden` writes them anew; the difference is
what a change of discovery or planning means for containers.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libnvc._discover import discover
from libnvc._planner.build import make_plan
from libnvc._render.text import plan_to_text
from libnvc.model import Layout, Request
from libnvc.plan import Plan

PLANS = Path(__file__).parent / "plans"
#: Those whose differences matter here.
PROFILES = ("mx150", "t4", "dgx-a100", "dgx-h100")
UPDATE = os.environ.get("NVC_UPDATE_GOLDEN") == "1"

DEBIAN = Layout(libs_dir="/usr/lib/x86_64-linux-gnu", libs32_dir="/usr/lib/i386-linux-gnu")
BOTH = ("utility", "compute")
REQUESTS = {
    "nothing": Request(layout=DEBIAN),
    "utility": Request(devices=("0",), capabilities=("utility",), layout=DEBIAN),
    "compute": Request(devices=("all",), capabilities=("compute",), layout=DEBIAN),
    "both": Request(devices=("0",), capabilities=BOTH, layout=DEBIAN),
    "video": Request(devices=("0",), capabilities=("video",), layout=DEBIAN),
    "display": Request(devices=("all",), capabilities=("display", "ngx"), layout=DEBIAN),
    "both-fedora": Request(devices=("0",), capabilities=BOTH),
    "no-nodes-no-rules": Request(
        devices=("0",), capabilities=BOTH, device_nodes=False, device_rules=False
    ),
}


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    """Return the name of a simulated host."""
    return str(request.param)


@pytest.fixture
def root(request: pytest.FixtureRequest, profile: str) -> str:
    """Return its driver root."""
    return str(request.getfixturevalue(profile.replace("-", "_")))


def check(name: str, text: str, root: str) -> None:
    """Compare a text with a golden file, but for the root; or write the file."""
    text = text.replace(root, "/ROOT")
    if UPDATE:
        PLANS.mkdir(exist_ok=True)
        (PLANS / name).write_text(text)
    assert text == (PLANS / name).read_text()


@pytest.mark.parametrize("name", REQUESTS)
def test_plan(profile: str, root: str, name: str) -> None:
    plan = make_plan(discover(root), REQUESTS[name]).replace(dependencies=())
    check(f"{profile}.{name}.json", plan.to_json() + "\n", root)
    # The columns are as wide as the paths, so the text is made from the plan as it is compared.
    comparable = Plan.from_json(plan.to_json().replace(root, "/ROOT"))
    check(f"{profile}.{name}.txt", plan_to_text(comparable), root)


def test_dependencies(profile: str, root: str) -> None:
    """Only the paths: inodes and times differ from machine to machine."""
    lines = [
        f"{identity.path}{'' if identity.ino else ' (missing)'}\n"
        for identity in discover(root).dependencies
    ]
    check(f"{profile}.dependencies.txt", "".join(lines), root)


def test_no_golden_file_is_left_over() -> None:
    names = [f"{name}{suffix}" for name in REQUESTS for suffix in (".json", ".txt")]
    assert {file.name for file in PLANS.iterdir()} == {
        f"{profile}.{name}" for profile in PROFILES for name in (*names, "dependencies.txt")
    }
