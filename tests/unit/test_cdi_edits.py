# SPDX-License-Identifier: Apache-2.0
"""What edits of CDI do to an OCI configuration, and that it stays a valid one."""

from __future__ import annotations

import copy
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from libnvc._cdi.edits import Edits, Hook, Mount, Node, apply_edits, merge
from libnvc.errors import MissingDeviceError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

DENY = {"allow": False, "access": "rwm"}
NULL = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}


def allow(kind: str, major: int, minor: int, access: str = "rwm") -> dict[str, Any]:
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}


@pytest.fixture
def edit(validate_oci: Callable[[dict[str, Any]], None]) -> Callable[..., dict[str, Any]]:
    def apply(document: dict[str, Any], edits: Edits) -> dict[str, Any]:
        before = copy.deepcopy(document)
        edited = apply_edits(document, edits)
        validate_oci({"ociVersion": "1.0.2", "root": {"path": "rootfs"}, **edited})
        assert document == before
        assert apply_edits(edited, edits) == edited
        return edited

    return apply


Edit = Any


def process(*env: str, **members: Any) -> dict[str, Any]:
    return {"cwd": "/", "args": ["x"], "env": list(env), **members}


def test_no_edits_change_nothing() -> None:
    document = {"linux": None, "mounts": [{"destination": "/a/b"}, {"destination": "/a"}]}
    assert apply_edits(document, Edits()) == document


def test_the_vector_of_the_reference(edit: Edit) -> None:
    common = Edits(
        env=("COMMON=1",),
        hooks=(Hook(stage="createContainer", path="/bin/true", args=("true", "x")),),
    )
    d0 = Edits(
        env=("D0=1", "PATH=/cdi"),
        mounts=(
            Mount(host_path="/etc/hostname", container_path="/proc/x/y", options=("ro", "bind")),
        ),
    )
    d1 = Edits(nodes=(Node(path="/dev/null"),))
    points = ("/proc", "/dev/shm/a/b", "/a")
    document = {
        "process": process("PATH=/usr/bin", "NVIDIA_VISIBLE_DEVICES=x"),
        "mounts": [{"destination": point, "source": "s"} for point in points],
        "linux": {"resources": {"devices": [DENY]}},
    }
    edited = edit(document, merge((common, d0, d1)))
    assert edited["process"]["env"] == [
        "PATH=/cdi",
        "NVIDIA_VISIBLE_DEVICES=x",
        "COMMON=1",
        "D0=1",
    ]
    found = [mount["destination"] for mount in edited["mounts"]]
    assert found == ["/proc", "/a", "/proc/x/y", "/dev/shm/a/b"]
    assert edited["mounts"][2] == {
        "destination": "/proc/x/y",
        "source": "/etc/hostname",
        "options": ["ro", "bind"],
    }
    assert edited["hooks"] == {"createContainer": [{"path": "/bin/true", "args": ["true", "x"]}]}
    assert edited["linux"] == {
        "devices": [NULL],
        "resources": {"devices": [DENY, allow("c", 1, 3)]},
    }


def test_the_owner_of_a_node_is_the_process(edit: Edit) -> None:
    document = {"process": process(user={"uid": 7, "gid": 0})}
    nodes = (Node(path="/dev/null"), Node(path="/dev/zero", uid=0, gid=5))
    found = edit(document, Edits(nodes=nodes))["linux"]["devices"]
    assert found[0] == {**NULL, "uid": 7}
    assert (found[1]["uid"], found[1]["gid"]) == (0, 5)


def test_what_a_node_does_not_say_is_that_of_the_host(edit: Edit, tmp_path: Path) -> None:
    host = tmp_path / "fifo"
    os.mkfifo(host)
    host.chmod(0o640)
    nodes = (
        Node(path="/a", host_path="/dev/null"),
        Node(path="/b", host_path="/dev/null", major=9, minor=8, mode=0o1640),
        Node(path="/c", host_path="/dev/null", type="u", permissions="r"),
        Node(path="/d", type="b", major=8, minor=1),
        Node(path="/e", host_path="/dev/null", type="c", major=5, minor=6),
        Node(path="/f", host_path=str(host)),
        Node(path="/g", type="p", permissions="rw"),
        Node(path="/h", type="c", major=1, minor=9, permissions="none"),
    )
    linux = edit({}, Edits(nodes=nodes))["linux"]
    assert linux["devices"] == [
        {**NULL, "path": "/a"},
        {"path": "/b", "type": "c", "major": 9, "minor": 8, "fileMode": 0o640},
        {"path": "/c", "type": "u", "major": 1, "minor": 3, "fileMode": 0o666},
        {"path": "/d", "type": "b", "major": 8, "minor": 1},
        {"path": "/e", "type": "c", "major": 5, "minor": 6, "fileMode": 0o666},
        {"path": "/f", "type": "p", "fileMode": 0o640},
        {"path": "/g", "type": "p"},
        {"path": "/h", "type": "c", "major": 1, "minor": 9},
    ]
    assert linux["resources"]["devices"] == [
        allow("c", 1, 3),
        allow("c", 9, 8),
        allow("c", 1, 3, "r"),
        allow("b", 8, 1),
        allow("c", 5, 6),
    ]


@pytest.mark.parametrize(
    ("node", "why", "code"),
    [
        (Node(path="/nowhere/a\n"), '"/nowhere/a\\n": no such file or directory', errno.ENOENT),
        (Node(path="/x", host_path="/dev"), '"/dev": not a device node', 0),
        (Node(path="/dev/null", type="b"), '"/dev/null": of type "c", not "b" as', 0),
        (Node(path="/dev/nvidia-none", type="c"), "no such file or directory", errno.ENOENT),
    ],
)
def test_a_node_that_the_host_does_not_have(node: Node, why: str, code: int) -> None:
    with pytest.raises(MissingDeviceError) as caught:
        apply_edits({}, Edits(nodes=(node,)))
    assert str(caught.value).startswith("failed to stat CDI host device ")
    assert why in str(caught.value)
    assert caught.value.errno == code
    assert caught.value.path == (node.host_path or node.path)


def test_a_node_takes_the_place_of_one_of_its_path(edit: Edit) -> None:
    other = {"path": "/dev/a", "type": "c", "major": 1, "minor": 1}
    document = {"linux": {"devices": [{**NULL, "uid": 9}, other]}}
    found = edit(document, Edits(nodes=(Node(path="/dev/null"),)))["linux"]["devices"]
    assert found == [other, NULL]


def test_a_node_that_is_there_already_stays_where_it_is(edit: Edit) -> None:
    linux = {"devices": [NULL, {**NULL, "path": "/dev/b"}]}
    linux["resources"] = {"devices": [DENY, allow("c", 1, 3)]}  # type: ignore[assignment]
    document = {"linux": linux}
    assert edit(document, Edits(nodes=(Node(path="/dev/null"),))) == document


def test_what_is_denied_after_it_was_allowed_is_allowed_again(edit: Edit) -> None:
    document = {"linux": {"resources": {"devices": [allow("c", 1, 3), DENY]}}}
    rules = edit(document, Edits(nodes=(Node(path="/dev/null"),)))["linux"]["resources"]["devices"]
    assert rules == [allow("c", 1, 3), DENY, allow("c", 1, 3)]


def test_a_mount_takes_the_place_of_one_of_its_destination(edit: Edit) -> None:
    points = ("/b/c", "/", "/a/", "relative/x", "/a/../d")
    document = {"mounts": [{"destination": point, "source": "old"} for point in points]}
    mounts = (
        Mount(host_path="/new", container_path="/a"),
        Mount(host_path="/new", container_path="/relative/x", type="bind"),
        Mount(host_path="/new", container_path="/d"),
    )
    found = edit(document, Edits(mounts=mounts))["mounts"]
    assert [(mount["destination"], mount["source"]) for mount in found] == [
        ("/", "old"),
        ("/a", "/new"),
        ("/d", "/new"),
        ("/b/c", "old"),
        ("/relative/x", "/new"),
    ]
    assert found[4]["type"] == "bind"


def test_an_identical_hook_is_not_added_again(edit: Edit) -> None:
    there = {"path": "/x", "args": ["x", "1"], "env": [], "timeout": 5}
    document = {"hooks": {"createContainer": [there], "poststop": []}}
    hooks = (
        Hook(stage="createContainer", path="/x", args=("x", "1")),
        Hook(stage="createContainer", path="/x", args=("x", "2")),
        Hook(stage="createContainer", path="/x", args=("x", "1"), env=("A=1",), timeout=2),
        Hook(stage="prestart", path="/x", args=("x", "1")),
    )
    assert edit(document, Edits(hooks=hooks))["hooks"] == {
        "createContainer": [
            there,
            {"path": "/x", "args": ["x", "2"]},
            {"path": "/x", "args": ["x", "1"], "env": ["A=1"], "timeout": 2},
        ],
        "poststop": [],
        "prestart": [{"path": "/x", "args": ["x", "1"]}],
    }


def test_groups_interfaces_and_resource_control(edit: Edit) -> None:
    document = {
        "process": process(user={"uid": 0, "gid": 0, "additionalGids": [3]}),
        "linux": {"intelRdt": {"closID": "old"}, "netDevices": {"eth1": {"name": "x"}}},
    }
    edits = Edits(
        gids=(0, 44, 3, 44),
        net_devices=(("eth0", "net0"), ("eth1", "net1")),
        intel_rdt=(("closID", "new"), ("schemata", ("L3:0=f", "MB:0=70"))),
    )
    edited = edit(document, edits)
    assert edited["process"]["user"]["additionalGids"] == [3, 44]
    assert edited["linux"] == {
        "intelRdt": {"closID": "new", "schemata": ["L3:0=f", "MB:0=70"]},
        "netDevices": {"eth0": {"name": "net0"}, "eth1": {"name": "net1"}},
    }


def test_the_last_of_what_is_given_twice_holds() -> None:
    def part(n: str) -> Edits:
        return Edits(
            env=(f"A={n}",),
            nodes=(Node(path="/dev/a", host_path=n),),
            mounts=(Mount(host_path=n, container_path="/a"),),
            hooks=(Hook(stage="prestart", path="/x", args=(n,)),),
            gids=(int(n),),
            net_devices=(("eth0", n),),
            intel_rdt=(("closID", n),),
        )

    merged = merge((part("1"), part("2"), Edits(env=("B=1",))))
    last = part("2")
    both = part("1").hooks + last.hooks
    assert merged == last.replace(env=("A=2", "B=1"), hooks=both, gids=(1, 2))


@pytest.mark.parametrize(
    ("document", "edits", "why"),
    [
        ({"process": []}, Edits(env=("A=1",)), "process: not an object"),
        ({"mounts": {}}, Edits(mounts=(Mount(host_path="/", container_path="/"),)), "mounts: not"),
        ({"hooks": {"prestart": 1}}, Edits(hooks=(Hook(stage="prestart", path="/"),)), "hooks."),
        ({"linux": {"netDevices": 1}}, Edits(net_devices=(("a", "b"),)), "linux.netDevices: not"),
        ({"linux": 1}, Edits(intel_rdt=()), "linux: not an object"),
        (
            {"process": {"user": {"uid": "x"}}},
            Edits(nodes=(Node(path="/dev/null"),)),
            "process.user.uid: not a number",
        ),
        ({"process": {"user": 1}}, Edits(gids=(1,)), "process.user: not an object"),
    ],
)
def test_a_document_that_is_none(document: Any, edits: Edits, why: str) -> None:
    with pytest.raises(RequestError) as caught:
        apply_edits(document, edits)
    assert str(caught.value).startswith(f"config.json: {why}")


def test_links_of_the_host_are_followed(edit: Edit, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/null")
    assert stat.S_ISCHR(link.stat().st_mode)
    found = edit({}, Edits(nodes=(Node(path="/dev/null", host_path=str(link)),)))
    assert found["linux"]["devices"] == [NULL]
