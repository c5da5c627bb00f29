# SPDX-License-Identifier: Apache-2.0
"""What the native program makes of a container's configuration is what Python makes of it.

It may leave one to Python for any reason. What it does not leave it edits alike, and two of them
that it takes for the same want the same.
"""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libnvc.cli.runtime_front import asks

from libnvc._config.settings import Config
from libnvc._native.kept import Document, Edit
from libnvc._oci.document import dumps, loads
from libnvc._oci.wanted import decode, decode_devices, read_container
from libnvc._render.oci import add_hook, put_node, put_rule, remove_hooks
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


rarely = st.integers(0, 19).map(lambda number: number == 13)  # where no shrinking leads to


def mostly(strategy: st.SearchStrategy[Any], other: st.SearchStrategy[Any]) -> Any:
    return rarely.flatmap(lambda is_rare: other if is_rare else strategy)


def record(
    needed: dict[str, st.SearchStrategy[Any]] | None = None, **members: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects with some of these members, in any order, and perhaps another."""
    optional = {name: mostly(strategy, odd) for name, strategy in members.items()}
    return st.fixed_dictionaries(needed or {}, optional={**optional, "other": odd}).flatmap(
        lambda found: st.permutations([*found.items()]).map(dict)
    )


def some(*values: object, rare: tuple[object, ...] = (), sizes: tuple[int, int] = (0, 3)) -> Any:
    unusual = st.sampled_from(rare) if rare else odd
    least, most = sizes
    items = mostly(st.sampled_from(values), odd | unusual)
    return st.lists(items, min_size=least, max_size=most)


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
    rare=("a\nb=c", "no variable"),
    sizes=(1, 5),
)
labels = st.dictionaries(
    mostly(
        st.sampled_from(["cdi.k8s.io/a", "cdi.k8s.io/b", "io.kubernetes.pod"]),
        st.sampled_from(["\n", "\u00e9"]),
    ),
    mostly(st.sampled_from(["nvidia.com/gpu=0", "nvidia.com/gpu=all,x", ""]), odd),
    max_size=3,
)
mounts = some(
    {"destination": "/proc", "source": "proc", "type": "proc"},
    {"destination": "/x", "type": "tmpfs"},
    rare=(
        {"destination": "/var/run/nvidia-container-devices/0", "source": "/dev/null"},
        {"destination": "/var/run/./nvidia-container-devices/1", "source": "/dev/null"},
        {"destination": "/x", "source": None},
    ),
)
hooks = some({"path": "/bin/a", "args": ["a"]}, rare=(HOOK, {"path": f"/x/{NAMES[1]}"}))
rules = some(
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    rare=(*RULES,),
)
nodes = some({"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}, rare=(*NODES,))
capabilities = record(bounding=some("CAP_KILL", "CAP_SYS_ADMIN"))
process = record(needed={"env": mostly(environments, odd)}, capabilities=capabilities)
namespaces = some({"type": "mount"}, rare=({"type": "user"}, {"path": "user"}))
system = record(
    namespaces=namespaces,
    devices=nodes,
    resources=record(devices=rules, memory=st.just({"limit": 1})),
)
paths = st.sampled_from(["rootfs", "/b/rootfs", "", "a\x7fb", "a\u00e9"])
documents = record(
    needed={
        "root": mostly(st.just({"path": "rootfs"}), record(path=paths)),
        "linux": mostly(system, odd),
        "process": mostly(process, odd),
    },
    ociVersion=mostly(st.just("1.0.2"), st.sampled_from(["1.0.0-rc2", "1.0.0-rc5"])),
    annotations=labels,
    mounts=mounts,
    hooks=record(prestart=hooks, createRuntime=hooks, poststop=hooks),
)


@st.composite
def written(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """Write a document in one of many ways, perhaps with a member twice or an escape."""
    text = json.dumps(document, indent=draw(st.sampled_from([None, 1])))
    for _ in range(draw(st.integers(0, 1))):
        words = [found.start() for found in re.finditer("NVIDIA_|ADMIN|user|nvidia|k8s|=", text)]
        at = draw(st.integers(0, len(text) - 1) | st.sampled_from(words or [0]))
        if (text[at].isalnum() or text[at] == "=") and "\\" not in text[max(0, at - 5) : at]:
            text = f"{text[:at]}\\u{ord(text[at]):04x}{text[at + 1 :]}"
    if draw(rarely):
        name = draw(st.sampled_from(["process", "hooks", "linux", "mounts"]))
        text = text.rstrip("} \n") + f', "{name}": {{}}' + "}"
    return text.encode()


texts = documents.flatmap(written)


#: What may be added to a document, by the list that it is added to.
ADDITIONS: tuple[tuple[tuple[str, ...], object], ...] = (
    (("process", "env"), "NVIDIA_VISIBLE_DEVICES=1"),
    (("process", "env"), "NVIDIA_VISIBLE_DEVICES=void"),
    (("process", "env"), "NVIDIA_DRIVER_CAPABILITIES=video"),
    (("process", "env"), "CUDA_VERSION=10.1"),
    (("process", "env"), "SWARM=1"),
    (("process", "capabilities", "bounding"), "CAP_SYS_ADMIN"),
    (("annotations", "cdi.k8s.io/c"), "nvidia.com/gpu=2"),
    (("mounts",), {"destination": "/var/run/nvidia-container-devices/2", "source": "/dev/null"}),
    (("linux", "namespaces"), {"type": "user"}),
)


def with_addition(document: dict[str, Any], place: tuple[str, ...], item: object) -> dict[str, Any]:
    """Return a document with one item more; as it is where something is in the way."""
    changed: dict[str, Any] = copy.deepcopy(document)
    inside: Any = changed
    for name in place[:-1]:
        inside = inside.setdefault(name, {}) if isinstance(inside, dict) else None
    if not isinstance(inside, dict):
        return document
    if place[0] == "annotations":
        inside[place[-1]] = item
    elif isinstance(inside.setdefault(place[-1], []), list):
        inside[place[-1]].append(item)
    return changed


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Write a document, and one that has at most one thing more, or hides a letter of it."""
    document = draw(documents)
    other = with_addition(document, *draw(st.sampled_from(ADDITIONS)))
    return json.dumps(document).encode(), draw(written(other))


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


@settings(max_examples=1000)
@given(texts, st.booleans(), st.booleans())
def test_the_edit_is_pythons(text: bytes, with_nodes: bool, with_rules: bool) -> None:
    try:
        found = Document(text).edit(edit_of(with_nodes, with_rules), PLAN, ROOTFS)
    except ValueError:
        return
    assert loads(found) == edited(loads(text), with_nodes, with_rules)


@settings(max_examples=1000)
@given(texts)
def test_the_edit_without_a_plan_is_pythons(text: bytes) -> None:
    hook = {"path": f"/x/{OWN}", "args": [OWN, "prestart"]}
    edit = Edit(
        nodes=b"",
        rules=b"",
        node_paths=(),
        majors=(),
        hook_head=dumps(hook).rstrip(b"\n"),
        hook_tail=b"",
    )
    try:
        found = Document(text).edit(edit, "", ROOTFS)
    except ValueError:
        return
    document = loads(text)
    assert remove_hooks(document, "prestart", NAMES) == document
    assert loads(found) == add_hook(document, "prestart", hook)


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


@settings(max_examples=1000)
@given(pairs(), st.sampled_from(CONFIGS))
def test_one_key_means_one_wish(
    tmp_path_factory: Any, pair: tuple[bytes, bytes], config: Config
) -> None:
    root: Path = tmp_path_factory.getbasetemp()
    found = []
    for text in pair:
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
    assert key.startswith(b"headr\0eNVIDIA_VISIBLE_DEVICES=all\0/etc/debian_version ")


@pytest.mark.parametrize(("place", "item"), ADDITIONS)
def test_whatever_asks_for_more_has_another_key(place: tuple[str, ...], item: object) -> None:
    document = {
        "process": {"env": ["NVIDIA_VISIBLE_DEVICES=all"]},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": []},
    }
    keys = []
    for text in map(json.dumps, (document, with_addition(document, place, item))):
        try:
            keys.append(Document(text.encode()).key(b"", asks(CONFIGS[1]), "/"))
        except ValueError:
            keys.append(b"not plain")
    assert keys[0] not in (keys[1], b"not plain")
