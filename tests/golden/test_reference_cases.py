# SPDX-License-Identifier: Apache-2.0
"""Do what the recorded cases of the reference do, and compare what can be seen afterwards.

Every case is run and compared in every aspect that was recorded. What differs stands in
`DIFFERENCES` with its reason.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    class Host(Protocol):
        """What conftest.py makes."""

        sim: Path
        container: Any

        def command(self, words: list[str], cli: str) -> list[str]:
            """Return a recorded command line for this host and container."""

        def effects(self) -> dict[str, list[str]]:
            """Return what has changed since, as the recordings have it."""


pytestmark = pytest.mark.root

DATA = Path(__file__).parent.parent / "data/reference/cli.json"
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in json.loads(DATA.read_text())}

#: Aspects that differ, by case, and why (docs/compatibility.md has each).
IMAGE_CONTENT = (
    "image content is no mount source: the compatibility libraries stay where the image has them, "
    "and their directory comes first in the loader cache"
)
NOTHING_EXECUTED = (
    "the loader cache is written as data: no program is needed, and so none can be missing"
)
#: Options that the reference has not.
ADDED = {"--no-cache"}
ASPECTS = (
    *("rc", "stdout", "stderr"),
    *("mounts", "tree", "devices", "cgroup", "ldcache", "proc", "other"),
)
DIFFERENCES = {
    **{("img-cuda", aspect): IMAGE_CONTENT for aspect in ("mounts", "tree", "ldcache")},
    **{
        ("err-ldconfig-host", aspect): NOTHING_EXECUTED
        for aspect in ASPECTS
        if aspect not in ("stdout", "other")
    },
}


def seen(host: Host, case: dict[str, Any], cli: str) -> dict[str, list[str]]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(
        host.command(case["cmd"], cli),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd="/",
    )
    said = done.stderr.replace(str(host.container.pid), "@PID@").replace(str(host.sim), "")
    said = re.sub("^nvidia-container-cli( configure)?: ", "", said.strip())
    output = done.stdout.splitlines() if "stdout" in case["expect"] else []
    if case.get("stdout") == "options":
        output = sorted(set(re.findall(r"--[a-z0-9-]+", done.stdout)) - ADDED)
    if case.get("stdout") == "none":
        output = []
    return {
        "rc": [str(done.returncode)],
        "stdout": output,
        # Further lines are ours: what to do about it.
        "stderr": said.splitlines()[:1] if done.returncode else [],
        **host.effects(),
    }


def expected(case: dict[str, Any]) -> dict[str, list[str]]:
    """Return what was recorded, for a kernel without the driver's module.

    Where the reference fails after mounting it leaves things behind. That is a fault, and the
    expectation is that nothing is left.
    """
    wanted = {aspect: lines(case["expect"].get(aspect, [])) for aspect in ASPECTS}
    if wanted["rc"] != ["0"]:
        effects = ASPECTS[3:]
        return {k: [] if k in effects else v for k, v in wanted.items()}
    wanted["proc"] = [
        line
        for line in wanted["proc"]
        if not re.search("/proc/driver(-|$|/nvidia-)", line) and "unchanged" not in line
    ]
    return wanted


def lines(value: Any) -> list[str]:
    return [str(line) for line in (value if isinstance(value, list) else [value])]


def test_at_most_one_case_in_twenty_differs() -> None:
    different = {name for name, _ in DIFFERENCES}
    assert different <= set(CASES)
    assert len(different) * 20 <= len(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name: str, host: Host, commands: Path) -> None:
    case = CASES[name]
    now, then = seen(host, case, str(commands / "nvidia-container-cli")), expected(case)
    order: Callable[[Iterable[str]], list[str]] = sorted
    different = {a for a in ASPECTS if order(now[a]) != order(then[a])}
    listed = {aspect for case_name, aspect in DIFFERENCES if case_name == name}
    for aspect in different - listed:
        assert order(now[aspect]) == order(then[aspect])
    assert different == listed
