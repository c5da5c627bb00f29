# SPDX-License-Identifier: Apache-2.0
"""What the native program makes of a container's configuration is what Python makes of it.

It may leave one to Python for any reason. What it does not leave it edits alike, and two of them
that it takes for the same want the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from libnvc._config.settings import Config
from libnvc._native.kept import Document, Edit
from libnvc._oci.document import dumps, loads
from libnvc._oci.wanted import decode, decode_devices, read_container
from libnvc._render.oci import add_hook, put_node, put_rule, remove_hooks
from libnvc.cli.runtime_front import asks
from libnvc.errors import NvcError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OWN = "nvidia-container-runtime-hook"
NAMES = (OWN, "nvidia-container-toolkit")
PLAN, ROOTFS = "/b/nvidia-container.plan", "/b/rootfs"
HOOK = {"path": f"/opt/{OWN}", "args": [OWN, "create-runtime", PLAN, ROOTFS], "env": ["PATH=/bin"]}
NODES = [
    {"path": f"/dev/nvidia{name}", "type": "c", "major": 195, "minor": minor, "fileMode": 438}
    for name, minor in (("ctl", 255), ("0", 0))
]
RULES = [
    {"allow": True, "type": "c", "major": 195, "minor": minor, "access": "rw"} for minor in (255, 0)
]

odd = st.sampled_from([None, 0, "x", [], {}, [1], {"a": 1}, "\u00e9", "\ud800"])


def mostly(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(*[strategy] * 15, odd)


def record(**members: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with some of these members, in any order, and perhaps another."""
    optional = {name: mostly(strategy) for name, strategy in members.items()}
    optional |= {"other": odd}
    return st.fixed_dictionaries({}, optional=optional).flatmap(
        lambda found: st.permutations([*found.items()]).map(dict)
    )


def some(*values: object, most: int = 3) -> st.SearchStrategy[list[Any]]:
    return st.lists(mostly(st.sampled_from(values)), max_size=most)


environments = some(
    "PATH=/bin",
    "NVIDIA_VISIBLE_DEVICES=all",
    "NVIDIA_VISIBLE_DEVICES=0,1",
    "NVIDIA_VISIBLE_DEVICES=void",
    "NVIDIA_DRIVER_CAPABILITIES=all",
    "NVIDIA_DRIVER_CAPABILITIES=utility",
    "NVIDIA_REQUIRE_CUDA=cuda>=11",
    "NVIDIA_MIG_CONFIG_DEVICES=all",
    "CUDA_VERSION=11.4",
    "SWARM=1",
    "XNVIDIA_VISIBLE_DEVICES=0",
    "HOSTNAME=a",
    "a\nb=c",
    "no variable",
    most=5,
)
annotations = st.dictionaries(
    st.sampled_from(["cdi.k8s.io/a", "cdi.k8s.io/b", "io.kubernetes.pod", "\n", "\u00e9"]),
    mostly(st.sampled_from(["nvidia.com/gpu=0", "nvidia.com/gpu=all,x", ""])),
    max_size=3,
)
mounts = some(
    {"destination": "/proc", "source": "proc", "type": "proc"},
    {"destination": "/var/run/nvidia-container-devices/0", "source": "/dev/null"},
    {"destination": "/var/run/./nvidia-container-devices/1", "source": "/dev/null"},
    {"destination": "/x", "source": None},
)
hooks = some({"path": "/bin/a", "args": ["a"]}, HOOK, {"path": f"/x/{NAMES[1]}"})
rules = some(
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    *RULES,
)
nodes = some({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, *NODES)
capabilities = record(bounding=some("CAP_KILL", "CAP_SYS_ADMIN"))
documents = record(
    ociVersion=st.sampled_from(["1.0.2", "1.0.0-rc2", "1.0.0-rc5"]),
    process=record(env=environments, capabilities=capabilities),
    root=record(path=st.sampled_from(["rootfs", "/b/rootfs", "", "a\x7fb", "a\u00e9"])),
    annotations=annotations,
    mounts=mounts,
    linux=record(
        namespaces=some({"type": "mount"}, {"type": "user"}, {"path": "user"}),
        devices=nodes,
        resources=record(devices=rules, memory=st.just({"limit": 1})),
    ),
    hooks=record(prestart=hooks, createRuntime=hooks, poststop=hooks),
)


@st.composite
def written(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """Write a document in one of many ways, perhaps with a member twice or an escape."""
    text = json.dumps(document, indent=draw(st.sampled_from([None, 1])))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text) - 1))
        if text[at].isalnum() and "\\" not in text[max(0, at - 5) : at]:
            text = f"{text[:at]}\\u{ord(text[at]):04x}{text[at + 1 :]}"
    if draw(st.integers(0, 9)) == 0:
        name = draw(st.sampled_from(["process", "hooks", "linux", "mounts"]))
        text = text.rstrip("} \n") + f', "{name}": {{}}' + "}"
    return text.encode()


texts = documents.flatmap(written)


def elements(items: list[Any]) -> bytes:
    return dumps({"": items})[len('{"":[') : -len("]}\n")]


def edit_of(with_nodes: bool, with_rules: bool) -> Edit:
    head, tail = dumps(HOOK).rstrip(b"\n").split(elements([PLAN, ROOTFS]))
    nodes, rules = NODES if with_nodes else [], RULES if with_rules else []
    return Edit(
        nodes=elements(nodes),
        rules=elements(rules),
        node_paths=tuple(str(node["path"]) for node in nodes),
        majors=("195",) if rules else (),
        hook_head=head,
        hook_tail=tail,
    )


def edited(document: dict[str, Any], with_nodes: bool, with_rules: bool) -> dict[str, Any]:
    """Edit as `runtime_create` does."""
    bare = remove_hooks(remove_hooks(document, "prestart", NAMES), "createRuntime", (OWN,))
    found = dict(bare)
    for rule in RULES if with_rules else ():
        put_rule(found, "c", rule["major"], rule["minor"], "rw")  # type: ignore[arg-type]
    for node in NODES if with_nodes else ():
        put_node(found, node)
    return add_hook(found, "createRuntime", HOOK, first=True)


@settings(max_examples=400)
@given(texts, st.booleans(), st.booleans())
def test_the_edit_is_pythons(text: bytes, with_nodes: bool, with_rules: bool) -> None:
    try:
        found = Document(text).edit(edit_of(with_nodes, with_rules), PLAN, ROOTFS)
    except ValueError:
        return
    assert loads(found) == edited(loads(text), with_nodes, with_rules)


CONFIGS = [
    Config(),
    Config(swarm_resource="SWARM", accept_volume_mounts=True),
    Config(accept_envvar_when_unprivileged=False),
]


def outcome(decide: Callable[[], object]) -> object:
    try:
        return decide()
    except NvcError as error:
        return str(error)


def wants(text: bytes, config: Config) -> list[object]:
    """Return all that is made of a plain configuration; reading it does not fail."""
    container = read_container(loads(text))
    assert not container.user_namespace
    return [
        outcome(lambda: decode(container, config, annotations=False)),
        outcome(lambda: decode(container, config, annotations=True)),
        decode_devices(container, config),
    ]


@settings(max_examples=400)
@given(texts, texts, st.sampled_from(CONFIGS))
def test_one_key_means_one_wish(
    tmp_path_factory: Any, one: bytes, other: bytes, config: Config
) -> None:
    root: Path = tmp_path_factory.getbasetemp()
    found = []
    for text in (one, other):
        try:
            found.append((Document(text).key(b"", asks(config), str(root)), wants(text, config)))
        except ValueError:
            continue
    keys = [key for key, _ in found]
    if len(keys) == 2 and keys[0] == keys[1]:
        assert found[0][1] == found[1][1]


def test_what_engines_write_is_plain(tmp_path: Path) -> None:
    """The properties above would hold as well if nothing were."""
    document = {
        "ociVersion": "1.0.2",
        "process": {
            "env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all", 'A="\\<b>'],
            "capabilities": {"bounding": ["CAP_KILL"]},
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "annotations": {"a": "\n"},
        "linux": {"namespaces": [{"type": "mount"}], "resources": {"devices": [{"allow": False}]}},
    }
    text = json.dumps(document).encode()
    assert b'"createRuntime":[{' in Document(text).edit(edit_of(True, True), PLAN, ROOTFS)
    key = Document(text).key(b"head", asks(Config()), str(tmp_path))
    assert key.startswith(b"headunprivileged\neNVIDIA_VISIBLE_DEVICES=all\0/etc/debian_version ")
