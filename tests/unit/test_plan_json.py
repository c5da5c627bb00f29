# SPDX-License-Identifier: Apache-2.0
"""The JSON form of a plan, and what its reader refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import libnvc
from libnvc import plan as ops
from libnvc.model import Identity

if TYPE_CHECKING:
    from collections.abc import Callable

ONE_OF_EACH: tuple[ops.Operation, ...] = (
    ops.Tmpfs(origin="proc", path="/proc/driver/nvidia", fallback="/proc/driver"),
    ops.Directory(origin="o", path="/d"),
    ops.WriteFile(origin="proc", path="/proc/driver/nvidia/params", content=bytes(range(256))),
    ops.BindMount(origin="o", path="/a\udcff", source="/b", options=()),
    ops.DeviceNode(origin="gpu:0", path="/dev/nvidia0", major=195, minor=0),
    ops.DeviceAccess(origin="gpu:0", path="", major=195, minor=0),
    ops.Symlink(origin="soname", path="/l", target="t", overwrite=True),
    ops.LoaderCache(
        origin="loader-cache",
        path="/etc/ld.so.cache",
        libraries=(("liba.so.1", "/a/liba.so.1", 64), ("liba.so.1", "/b/liba.so.1", 32)),
        directories=("/a", "/b"),
        in_place=True,
    ),
    ops.Env(origin="o", path="", name="N", value="V"),
    ops.Group(origin="o", path="", gid=44),
)
PLAN = ops.Plan(
    operations=ONE_OF_EACH,
    warnings=("w1", "w2"),
    dependencies=(Identity(path="/x", dev=1, ino=2, size=3, mtime_ns=4, ctime_ns=5, digest="ab"),),
    driver_version="535.261.03",
)


def test_every_kind_round_trips() -> None:
    assert {type(op).__name__ for op in ONE_OF_EACH} == set(ops.KINDS)
    assert ops.Plan.from_json(PLAN.to_json()) == PLAN


def test_the_text_is_stable() -> None:
    again = ops.Plan.from_json(PLAN.to_json())
    assert again.to_json() == PLAN.to_json()
    assert list(json.loads(PLAN.to_json())) == [
        "schema",
        "driver_version",
        "warnings",
        "operations",
        "dependencies",
    ]


def set_in(*keys: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def drop(*keys: str | int) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("schema", to=1), "plan: schema 1 is not 4"),
        (set_in("schema", to=True), "plan: schema True is not 4"),
        (drop("schema"), "plan: schema None is not 4"),
        (drop("warnings"), "plan: missing field 'warnings'"),
        (set_in("more", to=1), "plan: unknown field 'more'"),
        (set_in("operations", to={}), "operations: not a list"),
        (set_in("operations", 0, to=[]), "operations[0]: unknown operation None"),
        (set_in("operations", 0, "kind", to="Rm"), "operations[0]: unknown operation 'Rm'"),
        (set_in("operations", 0, "kind", to=["Tmpfs"]), "operations[0]: unknown operation"),
        (drop("operations", 0, "mode"), "operations[0] (Tmpfs): missing field 'mode'"),
        (set_in("operations", 0, "x", to=0), "operations[0] (Tmpfs): unknown field 'x'"),
        (set_in("operations", 0, "mode", to="7"), "operations[0] (Tmpfs): mode: '7' is not int"),
        (set_in("operations", 0, "mode", to=True), "mode: True is not int"),
        (set_in("operations", 0, "mode", to=1.0), "mode: 1.0 is not int"),
        (set_in("operations", 0, "path", to=None), "path: None is not str"),
        (set_in("operations", 2, "content", to="\u0100"), "content: '\\u0100' is not bytes"),
        (set_in("operations", 2, "content", to=[1]), "content: [1] is not bytes"),
        (set_in("operations", 3, "options", to="ro"), "options: not a list"),
        (set_in("operations", 3, "options", to=[1]), "options: 1 is not str"),
        (set_in("operations", 6, "overwrite", to=1), "overwrite: 1 is not bool"),
        (set_in("operations", 7, "libraries", to="x"), "libraries: not a list"),
        (set_in("operations", 7, "libraries", 0, to="x"), "libraries: not a list"),
        (set_in("operations", 7, "libraries", 0, to=["a", "b"]), "['a', 'b'] is not three values"),
        (set_in("operations", 7, "libraries", 1, 0, to=1), "libraries: 1 is not str"),
        (set_in("operations", 7, "libraries", 1, 1, to=None), "libraries: None is not str"),
        (set_in("operations", 7, "libraries", 1, 2, to="64"), "libraries: '64' is not int"),
        (set_in("warnings", to=[None]), "warnings: None is not str"),
        (set_in("driver_version", to=5), "driver_version: 5 is not str"),
        (set_in("dependencies", 0, to="x"), "dependencies[0]: not an object"),
        (drop("dependencies", 0, "ino"), "dependencies[0]: missing field 'ino'"),
        (set_in("dependencies", 0, "ino", to="1"), "dependencies[0]: ino: '1' is not int"),
    ],
)
def test_what_is_refused(change: Callable[[dict[str, Any]], None], message: str) -> None:
    data = json.loads(PLAN.to_json())
    change(data)
    with pytest.raises(libnvc.MalformedFileError) as failure:
        ops.Plan.from_json(json.dumps(data))
    assert str(failure.value).startswith("malformed plan: ")
    assert message in str(failure.value)
    assert failure.value.step == "parse"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        '{"schema": 1, "schema": 1}',
        "[" * 100_000,
        '{"schema": ' + "1" * 5000 + "}",
        '{"schema": NaN}',
    ],
)
def test_what_is_no_plan(text: str) -> None:
    with pytest.raises(libnvc.MalformedFileError) as failure:
        ops.Plan.from_json(text)
    assert str(failure.value).startswith("malformed plan: plan: ")
    assert "\n" not in str(failure.value)
    assert len(str(failure.value)) < 300
