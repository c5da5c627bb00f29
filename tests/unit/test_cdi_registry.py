# SPDX-License-Identifier: Apache-2.0
"""Devices of several directories: which one counts, and what is said of those that are missing."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from libnvc._cdi.edits import Edits
from libnvc._cdi.registry import Registry, read_registry
from libnvc.errors import UnknownDeviceError

if TYPE_CHECKING:
    from pathlib import Path


def write(file: Path, value: str, *names: str, kind: str = "acme.com/dev") -> None:
    """Write a file whose devices set V to a value, and whose common edits set C to it."""
    file.parent.mkdir(exist_ok=True)
    devices = [{"name": name, "containerEdits": {"env": [f"V={value}"]}} for name in names]
    document = {"cdiVersion": "0.5.0", "kind": kind, "devices": devices}
    file.write_text(json.dumps({**document, "containerEdits": {"env": [f"C={value}"]}}))


@pytest.fixture
def directories(tmp_path: Path) -> list[str]:
    return [str(tmp_path / "etc"), str(tmp_path / "run")]


def missing(registry: Registry, *names: str) -> tuple[str, str]:
    with pytest.raises(UnknownDeviceError) as caught:
        registry.find(names)
    assert str(caught.value).isprintable()
    assert caught.value.hint.isprintable()
    return str(caught.value), caught.value.hint


def test_the_later_directory_wins(tmp_path: Path, directories: list[str]) -> None:
    write(tmp_path / "etc/a.json", "etc", "d0", "d1")
    write(tmp_path / "run/z.json", "run", "d0")
    registry = read_registry(directories)
    assert registry.warnings == ()
    assert registry.find(["acme.com/dev=d0"]) == Edits(env=("C=run", "V=run"))
    assert registry.find(["acme.com/dev=d1"]) == Edits(env=("C=etc", "V=etc"))
    other_way = read_registry(directories[::-1])
    assert other_way.find(["acme.com/dev=d0"]) == Edits(env=("C=etc", "V=etc"))


def test_a_device_of_two_files_of_a_directory_cannot_be_used(
    tmp_path: Path, directories: list[str]
) -> None:
    a, b = tmp_path / "etc/a.json", tmp_path / "etc/b.yaml"
    write(a, "a", "d0", "d1")
    write(b, "b", "d0", "d2")
    write(tmp_path / "etc/c.json", "c", "d0", kind="acme.com/other")
    registry = read_registry(directories)
    assert registry.warnings == (f"{a}, {b}: conflicting device acme.com/dev=d0",)
    message, hint = missing(registry, "acme.com/dev=d0")
    assert message == "unresolvable CDI devices acme.com/dev=d0"
    assert hint.startswith(f"acme.com/dev=d0 is in {a} and {b}: remove it from all but one; read: ")
    for name in ("acme.com/dev=d1", "acme.com/dev=d2", "acme.com/other=d0"):
        assert registry.find([name]).env != ()


def test_a_later_directory_settles_a_conflict(tmp_path: Path, directories: list[str]) -> None:
    write(tmp_path / "etc/a.json", "a", "d0")
    write(tmp_path / "etc/b.json", "b", "d0")
    write(tmp_path / "run/c.json", "c", "d0")
    assert read_registry(directories).find(["acme.com/dev=d0"]).env == ("C=c", "V=c")
    assert missing(read_registry(directories[::-1]), "acme.com/dev=d0")


def test_common_edits_come_once_before_the_first_device(
    tmp_path: Path, directories: list[str]
) -> None:
    devices = [
        {"name": f"d{n}", "containerEdits": {"hooks": [{"hookName": "poststop", "path": f"/{n}"}]}}
        for n in range(3)
    ]
    common = {"hooks": [{"hookName": "prestart", "path": "/common"}]}
    document = {"cdiVersion": "0.3.0", "kind": "a/b", "devices": devices, "containerEdits": common}
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/a.json").write_text(json.dumps(document))
    found = read_registry(directories).find(["a/b=d2", "a/b=d0"])
    assert [hook.path for hook in found.hooks] == ["/common", "/2", "/0"]


def test_what_cannot_be_read_spoils_nothing_else(tmp_path: Path, directories: list[str]) -> None:
    write(tmp_path / "etc/good.json", "x", "d0")
    (tmp_path / "etc/bad.json").write_text('{"cdiVersion": "0.5.0", "kind": "k/k", "x": 1}')
    (tmp_path / "etc/bad.yaml").write_text("a: [")
    os.mkfifo(tmp_path / "etc/fifo.json")
    (tmp_path / "etc/gone.json").symlink_to("nowhere")
    (tmp_path / "etc/new\nline.json").write_text("")
    (tmp_path / "etc/directory.json").mkdir()
    (tmp_path / "etc/other.txt").write_text("{")
    (tmp_path / "etc/other.yml").write_text("{")
    (tmp_path / "run").write_text("not a directory")
    registry = read_registry([*directories, str(tmp_path / "nowhere"), "", "\0"])
    assert registry.find(["acme.com/dev=d0"]).env == ("C=x", "V=x")
    etc = tmp_path / "etc"
    assert registry.warnings == (
        f"{etc}/bad.json: x: unknown",
        f"{etc}/bad.yaml: not a CDI specification: did not find expected node content "
        "(line 2, column 1)",
        f"{etc}/fifo.json: not a CDI specification: not a regular file",
        f"{etc}/gone.json: no such file or directory",
        f"{etc}/new\\nline.json: not a CDI specification: expecting value (line 1, column 1)",
        f"{tmp_path}/run: not a directory",
    )


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path, directories: list[str]) -> None:
    read = f"; read: {', '.join(directories)}"
    empty = read_registry(directories)
    assert missing(empty, "acme.com/dev=d0", "acme.com/dev=d\n") == (
        "unresolvable CDI devices acme.com/dev=d0, acme.com/dev=d\\n",
        f"no file describes acme.com/dev: install the CDI file of its vendor{read}",
    )
    assert missing(empty, "nvidia.com/gpu=all")[1] == (
        "no file describes nvidia.com/gpu: ask for runtime.nvidia.com/gpu=all, which needs none"
        + read
    )
    assert missing(empty, "gpu=0\x1b")[1] == (
        f"gpu=0\\x1b is not VENDOR/CLASS=DEVICE: correct it, or the default kind{read}"
    )
    write(tmp_path / "etc/a.json", "x", *(f"d{n}" for n in range(7)))
    known = read_registry(directories)
    assert missing(known, "acme.com/dev=d0", "acme.com/dev=d9") == (
        "unresolvable CDI devices acme.com/dev=d9",
        f"acme.com/dev has d0, d1, d2, d3, d4, 2 more: ask for one of these{read}",
    )
    (tmp_path / "etc/a.json").write_text("[]")
    assert missing(read_registry(directories), "acme.com/dev=d0")[1] == (
        f"no file describes acme.com/dev: correct those that could not be used{read}"
        f"; {tmp_path}/etc/a.json: not a CDI specification: not an object"
    )
    assert missing(read_registry([]), "a/b=c")[1].endswith("; read: no directory")
