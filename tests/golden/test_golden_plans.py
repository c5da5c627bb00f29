# SPDX-License-Identifier: Apache-2.0
"""Whole plans for simulated hosts, as files a reviewer can read.

`NVC_UPDATE_GOLDEN=1 pytest tests/golden` (or `make golden`) writes them anew; the difference is
what a change of discovery or planning means for containers.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libnvc._discover import discover
from libnvc._planner import make_plan
from libnvc._render.text import plan_to_text
from libnvc.model import Identity, Layout, Request
from libnvc.plan import Plan

PLANS = Path(__file__).parent / "plans"
UPDATE = os.environ.get("NVC_UPDATE_GOLDEN") == "1"

DEBIAN = Layout(libs_dir="/usr/lib/x86_64-linux-gnu", libs32_dir="/usr/lib/i386-linux-gnu")
BOTH = ("utility", "compute")
REQUESTS = {
    "nothing": Request(layout=DEBIAN),
    "utility": Request(devices=("0",), capabilities=("utility",), layout=DEBIAN),
    "compute": Request(devices=("all",), capabilities=("compute",), layout=DEBIAN),
    "both": Request(devices=("0",), capabilities=BOTH, layout=DEBIAN),
    "both-fedora": Request(devices=("0",), capabilities=BOTH),
    "no-nodes-no-rules": Request(
        devices=("0",), capabilities=BOTH, device_nodes=False, device_rules=False
    ),
}


def comparable(plan: Plan, root: str) -> Plan:
    """Return a plan without what differs from machine to machine: inodes, times, the root."""
    return Plan.from_json(
        plan.replace(
            dependencies=tuple(
                Identity(path=old.path, dev=0, ino=0, size=0, mtime_ns=0, ctime_ns=0)
                for old in plan.dependencies
            )
        )
        .to_json()
        .replace(root, "/ROOT")
    )


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("profile", ["mx150", "dgx_a100"])
def test_plan(request: pytest.FixtureRequest, profile: str, name: str) -> None:
    root = str(request.getfixturevalue(profile))
    plan = comparable(make_plan(discover(root), REQUESTS[name]), root)
    for suffix, text in ((".json", plan.to_json() + "\n"), (".txt", plan_to_text(plan))):
        file = PLANS / f"{profile.replace('_', '-')}.{name}{suffix}"
        if UPDATE:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        assert text == file.read_text()


def test_no_golden_file_is_left_over() -> None:
    expected = {
        f"{profile}.{name}{suffix}"
        for profile in ("mx150", "dgx-a100")
        for name in REQUESTS
        for suffix in (".json", ".txt")
    }
    assert {file.name for file in PLANS.iterdir()} == expected
