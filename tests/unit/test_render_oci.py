# SPDX-License-Identifier: Apache-2.0
"""What of a plan goes into an OCI configuration, and that everything else in it stays."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import pytest

from libnvc import RequestError
from libnvc import plan as ops
from libnvc._render.oci import add_hook, edit_oci, remove_hooks

if TYPE_CHECKING:
    from pathlib import Path

NODE = ops.DeviceNode(origin="gpu:0", path="/dev/nvidia0", major=195, minor=0)
RULE = ops.DeviceAccess(origin="gpu:0", path="", major=195, minor=0)
MOUNT = ops.BindMount(origin="o", path="/usr/bin/nvidia-smi", source="/usr/bin/nvidia-smi")
ALLOWED = {"allow": True, "type": "c", "major": 195, "minor": 0, "access": "rw"}


def plan(*operations: ops.Operation) -> ops.Plan:
    return ops.Plan(operations=operations, driver_version="1.2")


def edit(document: dict[str, Any], *operations: ops.Operation) -> dict[str, Any]:
    before = copy.deepcopy(document)
    edited, left = edit_oci(document, plan(*operations))
    assert document == before
    assert left == plan()
    return edited


def test_nothing_to_say_changes_nothing() -> None:
    document = {"linux": {"devices": None}, "x": [1]}
    edited, left = edit_oci(document, plan(MOUNT))
    assert edited == document
    assert left == plan(MOUNT)


def test_a_device_is_a_node_and_a_rule() -> None:
    document: dict[str, Any] = {"new": {"a": 1}, "linux": {"x": 1, "resources": {"pids": {}}}}
    assert edit(document, NODE, RULE) == {
        "new": {"a": 1},
        "linux": {
            "x": 1,
            "devices": [
                {"path": "/dev/nvidia0", "type": "c", "major": 195, "minor": 0, "fileMode": 0o666}
            ],
            "resources": {"pids": {}, "devices": [ALLOWED]},
        },
    }


def test_rules_come_after_those_that_deny() -> None:
    deny = {"allow": False, "access": "rwm"}
    document = {"linux": {"resources": {"devices": [deny]}}}
    edited = edit(document, RULE, RULE)
    assert edited["linux"]["resources"]["devices"] == [deny, ALLOWED]


def test_a_range_of_devices_is_one_rule_for_each() -> None:
    edited = edit({}, RULE.replace(count=3, minor=4))
    rules = edited["linux"]["resources"]["devices"]
    assert rules == [{**ALLOWED, "minor": minor} for minor in (4, 5, 6)]


def test_a_node_takes_the_place_of_one_of_the_same_path() -> None:
    other = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
    document = {"linux": {"devices": [{"path": "/dev/nvidia0", "major": 1}, other]}}
    devices = edit(document, NODE)["linux"]["devices"]
    assert [device["path"] for device in devices] == ["/dev/fuse", "/dev/nvidia0"]
    assert devices[1]["major"] == 195


def test_who_may_use_a_node_is_who_may_use_that_of_the_host(tmp_path: Path) -> None:
    source = tmp_path / "node"
    source.touch()
    source.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(source, 3, 44)
    owner = {"uid": source.stat().st_uid, "gid": source.stat().st_gid}
    node = edit({}, NODE.replace(source=str(source)))["linux"]["devices"][0]
    assert node["fileMode"] == 0o640
    assert {name: node[name] for name in ("uid", "gid")} == owner


def test_a_node_that_is_to_be_made_has_the_mode_of_the_plan() -> None:
    node = edit({}, NODE.replace(mode=0o600))["linux"]["devices"][0]
    assert node["fileMode"] == 0o600


def test_nodes_can_be_left_for_the_hook() -> None:
    edited, left = edit_oci({}, plan(NODE, RULE), nodes=False)
    assert edited == {"linux": {"resources": {"devices": [ALLOWED]}}}
    assert left == plan(NODE)


def test_a_variable_is_replaced_where_its_last_value_stands() -> None:
    document = {"process": {"env": ["A=1", "B=2", "A=3", "AB=4"], "cwd": "/"}}
    edited = edit(document, ops.Env(origin="o", path="", name="A", value="x=y"))
    assert edited == {"process": {"env": ["A=1", "B=2", "A=x=y", "AB=4"], "cwd": "/"}}


def test_a_new_variable_comes_last() -> None:
    edited = edit({"process": {"env": ["A=1"]}}, ops.Env(origin="o", path="", name="B", value=""))
    assert edited["process"]["env"] == ["A=1", "B="]


def test_a_group_is_given_once() -> None:
    group = ops.Group(origin="o", path="", gid=44)
    edited = edit({"process": {"user": {"uid": 1, "additionalGids": [1]}}}, group, group)
    assert edited == {"process": {"user": {"uid": 1, "additionalGids": [1, 44]}}}


@pytest.mark.parametrize(
    ("document", "member", "kind"),
    [
        ({"linux": []}, "linux", "an object"),
        ({"linux": {"devices": {}}}, "linux.devices", "a list"),
        ({"linux": {"resources": 1}}, "linux.resources", "an object"),
        ({"linux": {"resources": {"devices": "x"}}}, "linux.resources.devices", "a list"),
    ],
)
def test_a_member_of_another_type_is_named(document: Any, member: str, kind: str) -> None:
    with pytest.raises(RequestError) as caught:
        edit_oci(document, plan(NODE, RULE))
    assert str(caught.value) == f"config.json: {member}: not {kind}"


HOOK = {"path": "/bin/x", "args": ["x"]}
OURS = {"path": "/opt/nvidia-container-toolkit"}


def test_a_hook_can_come_first_or_last() -> None:
    document = {"hooks": {"createRuntime": [OURS], "poststop": [OURS]}}
    last = add_hook(document, "createRuntime", HOOK)
    first = add_hook(document, "createRuntime", HOOK, first=True)
    assert last["hooks"] == {"createRuntime": [OURS, HOOK], "poststop": [OURS]}
    assert first["hooks"] == {"createRuntime": [HOOK, OURS], "poststop": [OURS]}
    assert document == {"hooks": {"createRuntime": [OURS], "poststop": [OURS]}}
    assert add_hook({}, "prestart", HOOK) == {"hooks": {"prestart": [HOOK]}}


def test_hooks_are_removed_by_the_names_of_their_programs() -> None:
    document = {"hooks": {"prestart": [OURS, HOOK, OURS], "poststop": [OURS]}}
    names = ("nvidia-container-toolkit",)
    left = remove_hooks(document, "prestart", names)
    assert left == {"hooks": {"prestart": [HOOK], "poststop": [OURS]}}
    assert remove_hooks(left, "poststop", names) == {"hooks": {"prestart": [HOOK]}}


@pytest.mark.parametrize("document", [{}, {"hooks": None}, {"hooks": {"prestart": [HOOK, 1, {}]}}])
def test_where_none_has_the_name_nothing_changes(document: dict[str, Any]) -> None:
    assert remove_hooks(document, "prestart", ("nvidia-container-toolkit",)) == document
