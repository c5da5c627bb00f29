# SPDX-License-Identifier: Apache-2.0
"""The recorded cases of the reference's `nvidia-ctk runtime configure`: all are the same."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from libnvc._engines import containerd, crio, docker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.conftest import Ctk

DATA = Path(__file__).parent.parent / "data/reference/runtime-configure.json"
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in json.loads(DATA.read_text())}


def facts(document: Any, keys: str = "") -> Iterator[str]:
    """Yield a line for each value."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from facts(value, f"{keys}{key}.")
        else:
            yield f"{keys}{key} = {json.dumps(value)}"


def parsed(text: str) -> dict[str, Any]:
    document: dict[str, Any] = (json.loads if text.startswith("{") else tomllib.loads)(text)
    return document


def seen(directory: Path, root: Path) -> Iterator[str]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            name = str(path).removeprefix(str(root))
            yield f"f {path.stat().st_mode & 0o7777:o} {name}"
            text = path.read_text().replace(str(root), "")
            try:
                lines = list(facts(parsed(text)))
            except ValueError:
                lines = [f"not a document: {text}"]
            yield from (f"{name}: {line}" for line in lines)


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(name: str, run_ctk: Ctk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, root = CASES[name], tmp_path / "host"
    for module in (docker, containerd, crio):
        for constant in ("CONFIG", "DROP_IN"):
            if hasattr(module, constant):
                monkeypatch.setattr(module, constant, f"{root}{getattr(module, constant)}")
    for path, text in case.get("files", {}).items():
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    words = case["cmd"]
    calls = words[2].split(";") if words[:2] == ["sh", "-c"] else [shlex.join(words)]
    for call in calls:
        done = run_ctk(*shlex.split(call.replace("=/tmp/", f"={root}/tmp/"))[1:])
    out = done.out.replace(str(root), "")
    documents = [
        text for text in re.split(case.get("split", "$^"), out, flags=re.MULTILINE) if text
    ]
    lines = [f"#{n} {line}" for n, text in enumerate(documents) for line in facts(parsed(text))]
    files = [line for at in case.get("collect", ()) for line in seen(root / at[1:], root)]
    now = {"rc": [str(done.status)], "stdout": sorted(lines), "files": sorted(files)}
    expected = {"stdout": [], "files": [], **case["expect"]}
    assert now == {aspect: sorted(expected[aspect]) for aspect in now}
