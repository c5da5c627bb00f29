# SPDX-License-Identifier: Apache-2.0
"""One CDI file: what is read of it, and what makes it useless."""

from __future__ import annotations

import errno
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from libnvc._cdi.edits import Device, Edits, Hook, Mount, Node
from libnvc._cdi.spec import MAX_SIZE, Spec, read_spec
from libnvc.errors import MalformedFileError, NvcError

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING: dict[str, Any] = {
    "env": ["A=1", "B="],
    "deviceNodes": [
        {"path": "/dev/a"},
        {
            "path": "/dev/b",
            "hostPath": "/dev/host",
            "type": "b",
            "major": 8,
            "minor": 1,
            "fileMode": 0o640,
            "permissions": "rw",
            "uid": 1,
            "gid": 2,
        },
    ],
    "mounts": [
        {"hostPath": "/h", "containerPath": "/c"},
        {"hostPath": "/h", "containerPath": "/d", "options": ["ro", "bind"], "type": "none"},
    ],
    "hooks": [
        {"hookName": "createContainer", "path": "/bin/x"},
        {"hookName": "prestart", "path": "/x", "args": ["x"], "env": ["A=b"], "timeout": 3},
    ],
    "additionalGids": [0, 44],
    "netDevices": [{"hostInterfaceName": "eth0", "name": "net0"}],
    "intelRdt": {"closID": "c", "schemata": ["L3:0=f"], "enableMonitoring": True},
}
READ = Edits(
    env=("A=1", "B="),
    nodes=(
        Node(path="/dev/a"),
        Node(
            path="/dev/b",
            host_path="/dev/host",
            type="b",
            major=8,
            minor=1,
            mode=0o640,
            permissions="rw",
            uid=1,
            gid=2,
        ),
    ),
    mounts=(
        Mount(host_path="/h", container_path="/c"),
        Mount(host_path="/h", container_path="/d", options=("ro", "bind"), type="none"),
    ),
    hooks=(
        Hook(stage="createContainer", path="/bin/x"),
        Hook(stage="prestart", path="/x", args=("x",), env=("A=b",), timeout=3),
    ),
    gids=(0, 44),
    net_devices=(("eth0", "net0"),),
    intel_rdt=(("closID", "c"), ("schemata", ("L3:0=f",)), ("enableMonitoring", True)),
)


def spec(**changes: Any) -> dict[str, Any]:
    device = {"name": "d0", "containerEdits": {"env": ["D0=1"]}}
    document = {"cdiVersion": "1.1.0", "kind": "acme.com/dev", "devices": [device], **changes}
    return {name: value for name, value in document.items() if value is not None}


def write(directory: Path, document: object, name: str = "a.json") -> str:
    path = directory / name
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def refused(path: str) -> str:
    with pytest.raises(MalformedFileError) as caught:
        read_spec(path)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{path}: ")


def test_everything_is_read(tmp_path: Path) -> None:
    document = spec(
        annotations={"a/b": "c"},
        containerEdits=EVERYTHING,
        devices=[{"name": "0:1", "annotations": {"x": "y"}, "containerEdits": EVERYTHING}],
    )
    path = write(tmp_path, document)
    assert read_spec(path) == Spec(
        path=path,
        version="1.1.0",
        kind="acme.com/dev",
        devices=(Device(name="0:1", edits=READ),),
        edits=READ,
    )


def test_null_and_empty_are_as_if_not_there(tmp_path: Path) -> None:
    node = {"path": "/dev/a", "major": None, "type": "", "hostPath": "", "uid": None}
    edits = {"deviceNodes": [node], "env": [], "mounts": None, "intelRdt": None}
    device = {"name": "d", "containerEdits": edits, "annotations": {}}
    found = read_spec(write(tmp_path, spec(cdiVersion="0.3.0", devices=[device])))
    assert found.devices[0].edits == Edits(nodes=(Node(path="/dev/a"),))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"extra": 1}, "extra: unknown"),
        ({"kind": None}, "kind: missing"),
        ({"cdiVersion": None}, "cdiVersion: missing"),
        ({"devices": None}, "devices: missing"),
        ({"devices": []}, "devices: there are none"),
        ({"devices": {}}, "devices: not a list"),
        ({"devices": [7]}, "devices[0]: not an object"),
        ({"cdiVersion": 1}, "cdiVersion: not a string"),
        ({"cdiVersion": "0.2.0"}, 'cdiVersion: "0.2.0": known are 0.3.0 to 1.1.0'),
        ({"cdiVersion": "9.9.9\n"}, 'cdiVersion: "9.9.9\\n": known are 0.3.0 to 1.1.0'),
        ({"kind": "acme.com"}, 'kind: "acme.com": not VENDOR/CLASS'),
        ({"kind": "1cme/dev"}, 'kind: "1cme/dev": not VENDOR/CLASS'),
        ({"kind": "acme/dev/x"}, 'kind: "acme/dev/x": not VENDOR/CLASS'),
        ({"annotations": {"a": 1}}, "annotations.a: not a string"),
        ({"annotations": []}, "annotations: not an object"),
        ({"containerEdits": []}, "containerEdits: not an object"),
    ],
)
def test_what_is_wrong_at_the_top_is_named(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    assert refused(write(tmp_path, spec(**changes))) == why


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ({"name": "d0"}, "containerEdits: missing"),
        ({"name": "d0", "containerEdits": {}}, "containerEdits: empty"),
        ({"containerEdits": {"env": ["A=1"]}}, "name: missing"),
        ({"name": "", "containerEdits": {"env": ["A=1"]}}, 'name: "": not the name of a device'),
        ({"name": "a/b", "containerEdits": {}}, 'name: "a/b": not the name of a device'),
        ({"name": "-a", "containerEdits": {}}, 'name: "-a": not the name of a device'),
        ({"name": "a", "edits": {}, "containerEdits": {}}, "edits: unknown"),
    ],
)
def test_what_is_wrong_with_a_device_is_named(
    tmp_path: Path, device: dict[str, Any], why: str
) -> None:
    assert refused(write(tmp_path, spec(devices=[device]))) == f"devices[0].{why}"


def test_a_name_is_given_once(tmp_path: Path) -> None:
    twice = spec()["devices"] * 2
    assert refused(write(tmp_path, spec(devices=twice))) == 'devices[1].name: "d0" is given twice'


@pytest.mark.parametrize(
    ("edits", "why"),
    [
        ({"envs": []}, "envs: unknown"),
        ({"env": "A=1"}, "env: not a list"),
        ({"env": ["A"]}, 'env[0]: invalid environment variable "A"'),
        ({"env": ["A=1", "=1"]}, 'env[1]: invalid environment variable "=1"'),
        ({"env": [1]}, "env[0]: not a string"),
        ({"env": ["A=\0"]}, "env[0]: has a character that no name has"),
        ({"env": ["A=\ud800"]}, "env[0]: has a character that no name has"),
        ({"deviceNodes": [{}]}, "deviceNodes[0].path: missing"),
        ({"deviceNodes": [{"path": ""}]}, "deviceNodes[0].path: empty"),
        ({"deviceNodes": [{"path": "/a", "x\n": 1}]}, "deviceNodes[0].x\\n: unknown"),
        ({"deviceNodes": [{"path": "/a", "type": "d"}]}, 'deviceNodes[0].type: "d": known are b,'),
        ({"deviceNodes": [{"path": "/a", "major": -1}]}, "deviceNodes[0].major: not from 0 to"),
        ({"deviceNodes": [{"path": "/a", "major": True}]}, "deviceNodes[0].major: not a whole"),
        ({"deviceNodes": [{"path": "/a", "minor": 1.0}]}, "deviceNodes[0].minor: not a whole"),
        ({"deviceNodes": [{"path": "/a", "minor": "1"}]}, "deviceNodes[0].minor: not a whole"),
        ({"deviceNodes": [{"path": "/a", "uid": 1 << 32}]}, "deviceNodes[0].uid: not from 0 to"),
        (
            {"deviceNodes": [{"path": "/a", "permissions": "rx"}]},
            'deviceNodes[0].permissions: "rx": made of other letters than "rwm"',
        ),
        ({"mounts": [{"hostPath": "/a"}]}, "mounts[0].containerPath: missing"),
        ({"mounts": [{"hostPath": "", "containerPath": "/a"}]}, "mounts[0].hostPath: empty"),
        ({"hooks": [{"path": "/a"}]}, "hooks[0].hookName: missing"),
        (
            {"hooks": [{"hookName": "x", "path": "/a"}]},
            'hooks[0].hookName: "x": known are prestart',
        ),
        ({"hooks": [{"hookName": "prestart"}]}, "hooks[0].path: missing"),
        (
            {"hooks": [{"hookName": "prestart", "path": "/a", "timeout": 0}]},
            "hooks[0].timeout: not from 1 to",
        ),
        ({"additionalGids": [-1]}, "additionalGids[0]: not from 0 to 4294967295"),
        ({"intelRdt": {"closID": "a/b"}}, 'intelRdt.closID: "a/b": not the name of a file'),
        ({"intelRdt": {"enableMonitoring": 1}}, "intelRdt.enableMonitoring: not true or false"),
        (
            {
                "netDevices": [
                    {"hostInterfaceName": "a", "name": "x"},
                    {"hostInterfaceName": "b", "name": "x"},
                ]
            },
            'netDevices[1].name: "x" is given twice',
        ),
    ],
)
def test_what_is_wrong_with_edits_is_named(tmp_path: Path, edits: dict[str, Any], why: str) -> None:
    for changes, where in (
        ({"containerEdits": edits}, "containerEdits"),
        ({"devices": [{"name": "d", "containerEdits": edits}]}, "devices[0].containerEdits"),
    ):
        assert refused(write(tmp_path, spec(**changes))).startswith(f"{where}.{why}")


@pytest.mark.parametrize(
    ("changes", "since", "what"),
    [
        ({"containerEdits": {"mounts": [EVERYTHING["mounts"][1]]}}, "0.4.0", "mounts[0].type"),
        (
            {"containerEdits": {"deviceNodes": [{"path": "/a", "hostPath": "/b"}]}},
            "0.5.0",
            "deviceNodes[0].hostPath",
        ),
        (
            {"devices": [{"name": "0", "containerEdits": {"env": ["A=1"]}}]},
            "0.5.0",
            "devices[0].name, a name that begins with a digit",
        ),
        ({"annotations": {"a": "b"}}, "0.6.0", "annotations"),
        ({"kind": "acme.com/d.e"}, "0.6.0", "kind, a class with a dot"),
        ({"containerEdits": {"additionalGids": [1]}}, "0.7.0", "additionalGids"),
        ({"containerEdits": {"intelRdt": {}}}, "0.7.0", "intelRdt"),
        ({"containerEdits": {"netDevices": EVERYTHING["netDevices"]}}, "1.1.0", "netDevices"),
        ({"containerEdits": {"intelRdt": {"schemata": ["x"]}}}, "1.1.0", "intelRdt.schemata"),
    ],
)
def test_a_file_says_at_least_the_version_that_it_needs(
    tmp_path: Path, changes: dict[str, Any], since: str, what: str
) -> None:
    why = refused(write(tmp_path, spec(cdiVersion="0.3.0", **changes)))
    assert why.startswith(f"cdiVersion: must be at least {since} for ")
    assert why.endswith(what)
    assert read_spec(write(tmp_path, spec(cdiVersion=since, **changes))).version == since
    assert read_spec(write(tmp_path, spec(cdiVersion=f"v{since}", **changes))).version == since


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a CDI specification: expecting value (line 1, column 1)"),
        ("[]", "not a CDI specification: not an object"),
        ('{"kind": 1,\n "kind": 2}', "not a CDI specification: kind is given twice"),
        ('{"a": {"b": 1, "b\\n": 2, "b\\n": 3}}', "not a CDI specification: b\\n is given twice"),
        ('{"a": NaN}', "not a CDI specification: NaN is not a number in JSON"),
        ("[" * 100_000, "not a CDI specification: nested too deeply"),
    ],
)
def test_broken_json(tmp_path: Path, text: str, why: str) -> None:
    assert refused(write(tmp_path, text)) == why


YAML = """\
# a comment
cdiVersion: "1.1.0"
kind: acme.com/dev
devices:
- name: 0
  containerEdits: {env: [A=1, "B=\\u00e9"]}
- name: 0:1
  containerEdits: &edits
    deviceNodes:
    - {path: /dev/a, fileMode: 0640, major: 0x10, minor: 010, uid: ~}
- name: no
  containerEdits: *edits
- name: "true"
  containerEdits:
    intelRdt: {enableMonitoring: true, closID: 12}
    hooks:
    - hookName: createContainer
      path: !!str /bin/x
      args:
      - |-
        two
        lines
"""


def test_yaml(tmp_path: Path) -> None:
    found = read_spec(write(tmp_path, YAML, "a.yaml"))
    node = Node(path="/dev/a", mode=0o640, major=16, minor=8)
    hook = Hook(stage="createContainer", path="/bin/x", args=("two\nlines",))
    rdt = (("closID", "12"), ("enableMonitoring", True))
    assert found.devices == (
        Device(name="0", edits=Edits(env=("A=1", "B=é"))),
        Device(name="0:1", edits=Edits(nodes=(node,))),
        Device(name="no", edits=Edits(nodes=(node,))),
        Device(name="true", edits=Edits(hooks=(hook,), intel_rdt=rdt)),
    )
    assert {type(device.name) for device in found.devices} == {str}


NVIDIA = """\
---
cdiVersion: 0.7.0
kind: nvidia.com/gpu
devices:
    - name: "1"
      containerEdits:
        deviceNodes:
            - path: /dev/nvidia1
              major: 195
              minor: 1
              fileMode: 432
              permissions: rwm
              gid: 44
        additionalGids:
            - 44
containerEdits:
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    hooks:
        - hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
          args:
            - nvidia-cdi-hook
            - create-symlinks
            - --link
            - ../libnvidia-allocator.so.1::/usr/lib/gbm/nvidia-drm_gbm.so
          env:
            - NVIDIA_CTK_DEBUG=false
    mounts:
        - hostPath: /usr/bin/nvidia-smi
          containerPath: /usr/bin/nvidia-smi
          options: [ro, nosuid, nodev, rbind, rprivate]
"""


def test_a_file_as_the_reference_writes_it(tmp_path: Path) -> None:
    found = read_spec(write(tmp_path, NVIDIA, "nvidia.yaml"))
    node = Node(path="/dev/nvidia1", major=195, minor=1, mode=0o660, permissions="rwm", gid=44)
    assert found.devices == (Device(name="1", edits=Edits(nodes=(node,), gids=(44,))),)
    link = "../libnvidia-allocator.so.1::/usr/lib/gbm/nvidia-drm_gbm.so"
    assert found.edits == Edits(
        env=("NVIDIA_VISIBLE_DEVICES=void",),
        hooks=(
            Hook(
                stage="createContainer",
                path="/usr/bin/nvidia-cdi-hook",
                args=("nvidia-cdi-hook", "create-symlinks", "--link", link),
                env=("NVIDIA_CTK_DEBUG=false",),
            ),
        ),
        mounts=(
            Mount(
                host_path="/usr/bin/nvidia-smi",
                container_path="/usr/bin/nvidia-smi",
                options=("ro", "nosuid", "nodev", "rbind", "rprivate"),
            ),
        ),
    )


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(c + 1)}: &{chr(c + 1)} [{', '.join([f'*{chr(c)}'] * 10)}]\n" for c in range(97, 107)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("- a", "not an object"),
        ("a: 1\n---\nb: 1\n", "more than one document (line 2, column 1)"),
        ("a: 1\na: 2", "a is given twice (line 2, column 1)"),
        ("a: 1\n[b]: 2", "the key is not text (line 2, column 1)"),
        ("a: [1", "did not find expected ',' or ']' (line 2, column 1)"),
        ("a: *b", "b is not an anchor before here (line 1, column 4)"),
        ("a: &a [*a]", "a is not an anchor before here (line 1, column 8)"),
        ("a: !!python/name:os.system x", "the tag tag:yaml.org,2002:python/name:os.system has"),
        ("a: !x {}", "the tag !x has no meaning here (line 1, column 4)"),
        ("a: " + "[" * 60, "nested too deeply (line 1, column 53)"),
        ("a: " + "[" * 500_000, "exceeded maximum nesting depth (line 1, column"),
        ("a: [" + "x," * 200_000 + "]", "more than 100000 values (line 1, column"),
        (BOMB, "more than 100000 values (line 5, column"),
        ("a: \x01", "control characters are not allowed"),
    ],
)
def test_broken_yaml(tmp_path: Path, text: str, why: str) -> None:
    found = refused(write(tmp_path, text, "a.yaml"))
    assert found.startswith(f"not a CDI specification: {why}")


def test_merge_keys_are_no_members(tmp_path: Path) -> None:
    assert refused(write(tmp_path, "x: &x {a: 1}\n<<: *x\n", "a.yaml")) == "x: unknown"


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_files_that_are_none(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    os.mkfifo(path)
    assert refused(str(path)) == "not a CDI specification: not a regular file"
    path.unlink()
    path.mkdir()
    assert refused(str(path)) == "not a CDI specification: not a regular file"
    path.rmdir()
    path.write_bytes(b" " * (MAX_SIZE + 1))
    assert refused(str(path)) == f"not a CDI specification: larger than {MAX_SIZE} bytes"
    path.write_bytes(b"{\xff")
    assert refused(str(path)) == "not a CDI specification: not UTF-8 (byte 1)"
    path.unlink()
    path.symlink_to("/dev/zero")
    assert refused(str(path)) == "not a CDI specification: not a regular file"


@pytest.mark.parametrize("name", ["a.json", "a.yaml"])
def test_files_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(NvcError) as caught:
        read_spec(str(path))
    assert (caught.value.errno, str(caught.value)) == (
        errno.ENOENT,
        f"{path}: no such file or directory",
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        with pytest.raises(NvcError) as caught:
            read_spec(str(path))
    assert caught.value.errno == errno.ENXIO
