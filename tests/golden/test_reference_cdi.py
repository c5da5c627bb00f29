# SPDX-License-Identifier: Apache-2.0
"""Generate CDI files as in the recorded cases of the reference, and compare all that was recorded.

Nothing differs; what did would stand in `DIFFERENCES` with its reason.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

DATA = Path(__file__).parent.parent / "data/reference/cdi-generate.json"
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in json.loads(DATA.read_text())}
DIFFERENCES: dict[tuple[str, str], str] = {}

ASPECTS = ("rc", "stdout", "spec", "devices", "mounts", "env", "hooks")


def lines(document: dict[str, Any]) -> dict[str, list[str]]:
    """Return a document as the recordings have it."""
    parts = [("*", document["containerEdits"])]
    parts += [(device["name"], device["containerEdits"]) for device in document["devices"]]
    return {
        "spec": [
            f"cdiVersion = {document['cdiVersion']}",
            f"kind = {document['kind']}",
            *(f"device {device['name']}" for device in document["devices"]),
        ],
        "devices": [f"{who}: {node_line(n)}" for who, e in parts for n in e.get("deviceNodes", ())],
        "mounts": [f"{who}: {mount_line(m)}" for who, e in parts for m in e.get("mounts", ())],
        "env": [f"{who}: {entry}" for who, e in parts for entry in e.get("env", ())],
        "hooks": [
            f"{who}: {line}" for who, e in parts for h in e.get("hooks", ()) for line in hook(h)
        ],
    }


def node_line(node: dict[str, Any]) -> str:
    host = f" host={node['hostPath']}" if "hostPath" in node else ""
    number = f"{node['major']}:{node.get('minor', 0)}"
    return f"{node['path']}{host} {number} mode={node['fileMode']} {node['permissions']}"


def mount_line(mount: dict[str, Any]) -> str:
    options = ",".join(sorted(mount["options"]))
    return f"{mount['containerPath']} <- {mount['hostPath']}  [{options}]"


def hook(entry: dict[str, Any]) -> Iterator[str]:
    _, name, *words = entry["args"]
    start = f"{entry['hookName']} hook {name}"
    if words[:1] in (["--link"], ["--folder"]):
        for flag, value in zip(words[::2], words[1::2], strict=True):
            yield f"{start} {flag} {value}"
    else:
        yield " ".join([start, *words])


def seen(case: dict[str, Any], host: list[str], ctk: str) -> dict[str, list[str]]:
    text = case["cmd"][2] if case["cmd"][0] == "sh" else shlex.join(case["cmd"])
    command = [*host, "sh", "-c", text.replace("nvidia-ctk", ctk)]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd="/"
    )
    now: dict[str, list[str]] = {"rc": [str(done.returncode)]}
    if done.returncode:
        assert done.stdout == ""
    elif case["stdout"] == "lines":
        now["stdout"] = done.stdout.splitlines()
    else:
        load = json.loads if "--format=json" in case["cmd"] else yaml.safe_load
        now.update(lines(load(done.stdout)))
    return now


def test_at_most_one_case_in_twenty_differs() -> None:
    assert len({name for name, _ in DIFFERENCES}) * 20 <= len(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name: str, cdi_host: Callable[[dict[str, Any]], list[str]], commands: Path) -> None:
    case = CASES[name]
    now = seen(case, cdi_host(case), str(commands / "nvidia-ctk"))
    for aspect in ASPECTS:
        if (name, aspect) not in DIFFERENCES:
            assert sorted(now.get(aspect, [])) == sorted(case["expect"].get(aspect, [])), aspect
