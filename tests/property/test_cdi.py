# SPDX-License-Identifier: Apache-2.0
"""CDI files mean the same as JSON and as YAML; nothing in them or in names does more than fail."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from referencing import Registry
from referencing.jsonschema import DRAFT7

from libnvc._cdi.edits import Edits, apply_edits, merge
from libnvc._cdi.registry import read_registry
from libnvc._cdi.spec import read_spec
from libnvc.errors import MalformedFileError, NvcError, RequestError

SCHEMAS = Path(__file__).parent.parent / "data/schemas/cdi"
FILES = {path.name: json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")}
VALID = Draft7Validator(
    FILES["schema.json"],
    registry=Registry().with_resources([(n, DRAFT7.create_resource(f)) for n, f in FILES.items()]),
)

# The ends of lines that only Unicode has are written by PyYAML so that it reads blanks.
chars = st.characters(exclude_categories=["Cs"], exclude_characters="\0\x85\u2028\u2029")
texts = st.text(chars, max_size=8) | st.sampled_from(["0", "1:2", "no", "true", "~", "0x1f", "1e3"])
paths = st.sampled_from(["/a", "/a/b", "/b", "/a/b/c", "/", "/b/"])
names = st.from_regex(r"[a-z0-9]([a-z0-9:._-]{0,3}[a-z0-9])?", fullmatch=True)
variables = st.builds("{}={}".format, st.sampled_from(["A", "B", "PATH", "é"]), texts)
numbers = st.integers(1, 300)


def optional(**members: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return members


NODES = st.fixed_dictionaries(
    {"path": paths, "type": st.sampled_from(["c", "b", "u"]), "major": numbers},
    optional=optional(
        minor=numbers,
        hostPath=paths,
        fileMode=st.integers(0, 0o777),
        permissions=st.sampled_from(["", "r", "rw", "rwm"]),
        uid=st.integers(0, 2**32 - 1),
        gid=numbers,
    ),
)
MOUNTS = st.fixed_dictionaries(
    {"hostPath": paths, "containerPath": paths},
    optional=optional(options=st.lists(texts, max_size=2), type=texts),
)
HOOKS = st.fixed_dictionaries(
    {"hookName": st.sampled_from(["prestart", "createContainer"]), "path": paths},
    optional=optional(
        args=st.lists(texts, max_size=2), env=st.lists(variables, max_size=2), timeout=numbers
    ),
)
NETS = st.sampled_from(["eth0", "eth1"]).map(lambda n: [{"hostInterfaceName": n, "name": "x"}])
RDT = st.fixed_dictionaries(
    {}, optional=optional(closID=st.just("c"), schemata=st.lists(texts, max_size=2))
)
EDITS = st.fixed_dictionaries(
    {"env": st.lists(variables, min_size=1, max_size=4)},
    optional=optional(
        deviceNodes=st.lists(NODES, max_size=4),
        mounts=st.lists(MOUNTS, max_size=4),
        hooks=st.lists(HOOKS, max_size=3),
        additionalGids=st.lists(numbers, max_size=2),
        netDevices=NETS,
        intelRdt=RDT,
    ),
)
DEVICES = st.lists(
    st.fixed_dictionaries(
        {"name": names, "containerEdits": EDITS},
        optional=optional(annotations=st.dictionaries(texts, texts, max_size=2)),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda device: str(device["name"]),
)
SPECS = st.fixed_dictionaries(
    {"cdiVersion": st.just("1.1.0"), "kind": st.just("acme.com/dev"), "devices": DEVICES},
    optional=optional(containerEdits=EDITS, annotations=st.dictionaries(texts, texts, max_size=2)),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional=optional(
        process=st.fixed_dictionaries(
            {}, optional=optional(env=st.lists(variables, max_size=3), user=st.just({"uid": 5}))
        ),
        mounts=st.lists(paths.map(lambda path: {"destination": path, "source": "s"}), max_size=4),
        linux=st.fixed_dictionaries(
            {},
            optional=optional(
                devices=st.lists(
                    paths.map(lambda p: {"path": p, "type": "c", "major": 1, "minor": 1}),
                    max_size=3,
                ),
                resources=st.just({"devices": [{"allow": False, "access": "rwm"}]}),
            ),
        ),
        hooks=st.just({"prestart": [{"path": "/a", "args": []}]}),
    ),
)


def read(text: str, name: str = "a.json") -> Any:
    """Return what is read of a file, without its path."""
    with tempfile.TemporaryDirectory(prefix="libnvc-") as directory:
        path = Path(directory) / name
        path.write_text(text)
        return read_spec(str(path)).replace(path="")


@given(SPECS, st.sampled_from([None, '"', "'"]), st.booleans())
def test_json_and_yaml_mean_the_same(document: dict[str, Any], style: Any, flow: bool) -> None:
    VALID.validate(document)
    found = read(json.dumps(document))
    assert [device.name for device in found.devices] == [d["name"] for d in document["devices"]]
    text = yaml.safe_dump(
        document, default_style=style, default_flow_style=flow, sort_keys=False, allow_unicode=True
    )
    assert read(text, "a.yaml") == found


@given(SPECS, DOCUMENTS)
def test_applying_again_changes_nothing(spec: dict[str, Any], document: dict[str, Any]) -> None:
    found = read(json.dumps(spec))
    edits = merge((found.edits, *(device.edits for device in found.devices)))
    before = json.dumps(document)
    once = apply_edits(document, edits)
    assert json.dumps(document) == before
    assert apply_edits(once, edits) == once
    env = once["process"]["env"]
    kept = [entry.partition("=")[0] for entry in document.get("process", {}).get("env", ())]
    assert [entry.partition("=")[0] for entry in env][: len(kept)] == kept
    for entry in edits.env:
        assert entry in env
    nodes = [node["path"] for node in once.get("linux", {}).get("devices", ())]
    for node in edits.nodes:
        assert nodes.count(node.path) == 1
    depths = [mount["destination"].rstrip("/").count("/") for mount in once.get("mounts", ())]
    assert not edits.mounts or depths == sorted(depths)


@given(SPECS, st.data(), st.sampled_from(["a.json", "a.yaml"]))
def test_a_changed_file_is_read_or_refused(
    document: dict[str, Any], data: st.DataObject, name: str
) -> None:
    node: Any = document
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
            node = node[key]
        else:
            break
    node[key] = data.draw(JSON)
    try:
        read(json.dumps(document), name)
    except MalformedFileError as error:
        assert str(error).isprintable()


@given(st.text(max_size=40) | st.lists(st.sampled_from("a:&*!{}[],-\n #\"'|>%@~ ")).map("".join))
def test_other_text_is_refused(text: str) -> None:
    data = text.encode(errors="replace").decode()
    for name in ("a.json", "a.yaml"):
        try:
            read(data, name)
        except MalformedFileError as error:
            assert str(error).isprintable()
        else:
            raise AssertionError(data)


@given(st.lists(texts, min_size=1, max_size=3))
def test_any_name_is_found_or_refused(asked: list[str]) -> None:
    try:
        assert read_registry([]).find(asked) == Edits()
    except RequestError as error:
        assert f"{error} {error.hint}".isprintable()


def test_a_document_of_any_kind_is_edited_or_refused() -> None:
    spec = {
        "cdiVersion": "0.3.0",
        "kind": "a/b",
        "devices": [{"name": "d", "containerEdits": {"env": ["A=1"]}}],
        "containerEdits": {
            "deviceNodes": [{"path": "/dev/null"}],
            "mounts": [{"hostPath": "/a", "containerPath": "/b"}],
            "hooks": [{"hookName": "prestart", "path": "/a"}],
        },
    }
    found = read(json.dumps(spec))
    edits = merge((found.edits, found.devices[0].edits))

    @given(
        st.dictionaries(st.sampled_from(["process", "mounts", "hooks", "linux"]), JSON)
        | st.fixed_dictionaries(
            {
                "process": st.dictionaries(st.sampled_from(["env", "user"]), JSON),
                "linux": st.dictionaries(st.sampled_from(["devices", "resources"]), JSON),
                "mounts": st.lists(st.dictionaries(st.sampled_from(["destination"]), JSON)),
                "hooks": st.dictionaries(st.sampled_from(["prestart"]), JSON),
            }
        )
    )
    def check(document: dict[str, Any]) -> None:
        try:
            once = apply_edits(document, edits)
        except NvcError as error:
            assert str(error).isprintable()
        else:
            assert apply_edits(once, edits) == once

    check()
