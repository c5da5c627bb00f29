# SPDX-License-Identifier: Apache-2.0
"""The text form of a plan."""

from __future__ import annotations

import pytest

from libnvc import plan as ops
from libnvc._render.text import plan_to_text

EACH: dict[ops.Operation, tuple[str, ...]] = {
    ops.Tmpfs(origin="proc", path="/proc/driver/nvidia", fallback="/proc/driver"): (
        "tmpfs",
        "/proc/driver/nvidia",
        "empty, mode 0555, or on /proc/driver",
    ),
    ops.Directory(origin="x", path="/d"): ("directory", "/d", "mode 0755"),
    ops.WriteFile(origin="proc", path="/p", content=b"abc"): ("write", "/p", "3 bytes, mode 0444"),
    ops.BindMount(origin="x", path="/a", source="/b"): ("mount", "/a", "file /b (ro,nodev,nosuid)"),
    ops.DeviceNode(origin="gpu:0", path="/dev/n", major=195, minor=0, source="/h/n"): (
        "device",
        "/dev/n",
        "c 195:0 /h/n",
    ),
    ops.DeviceAccess(origin="gpu:0", path="", major=195, minor=255): ("allow", "c 195:255", "rw"),
    ops.Symlink(origin="soname", path="/l", target="t"): ("link", "/l", "-> t if none"),
    ops.LoaderCache(
        origin="x",
        path="/etc/ld.so.cache",
        libraries=(("liba.so.1", "/l/liba.so.1", 64), ("libb.so.1", "/l/libb.so.1", 64)),
        directories=("/a", "/b"),
    ): ("cache", "/etc/ld.so.cache", "add 2 libraries, /a first, /b first"),
    ops.Env(origin="x", path="", name="N", value="V"): ("env", "N", "V"),
    ops.Group(origin="x", path="", gid=44): ("group", "44", ""),
}


def rows(plan: ops.Plan) -> list[str]:
    return plan_to_text(plan).splitlines()


def test_every_kind_has_a_line() -> None:
    assert {type(op).__name__ for op in EACH} == set(ops.KINDS)
    for op, (what, where, how) in EACH.items():
        line = rows(ops.Plan(operations=(op,)))[3]
        expected = " ".join(filter(None, ("0", what, where, how, op.origin)))
        assert " ".join(line.split()) == expected


def test_new_node_shows_its_mode() -> None:
    op = ops.DeviceNode(origin="gpu:0", path="/dev/n", major=195, minor=0)
    assert "c 195:0 new, mode 0666" in rows(ops.Plan(operations=(op,)))[3]


def test_columns_are_aligned_and_warnings_come_last() -> None:
    plan = ops.Plan(operations=tuple(EACH), warnings=("one", "two"), driver_version="535.261.03")
    lines = rows(plan)
    assert lines[0] == "driver 535.261.03"
    assert lines[-2:] == ["warning: one", "warning: two"]
    table = lines[2 : 3 + len(EACH)]
    column = table[0].index("why")
    assert [line[column - 1] for line in table] == [" "] * len(table)
    assert [line[column:] for line in table[1:]] == [op.origin for op in EACH]


def test_line_breaks_cannot_forge_lines() -> None:
    op = ops.BindMount(origin="x", path="/a\n1 rm /", source="/b\x1b[2J")
    lines = rows(ops.Plan(operations=(op,), warnings=("a\nb",)))
    assert len(lines) == 6
    assert r"/a\n1 rm /" in lines[3]
    assert r"/b\x1b[2J" in lines[3]


def test_unknown_kind_is_not_passed_over() -> None:
    with pytest.raises(TypeError, match="no text for Operation"):
        plan_to_text(ops.Plan(operations=(ops.Operation(origin="x", path="/"),)))
