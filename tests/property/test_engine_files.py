# SPDX-License-Identifier: Apache-2.0
"""Engines' files: what is not ours stays, twice is once, and there is a way back."""

from __future__ import annotations

import json
import shutil
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libnvc._engines import containerd, crio, docker, json_file, toml
from libnvc._engines.files import Change, commit
from libnvc._engines.runtime import Runtime
from libnvc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

V2 = "io.containerd.grpc.v1.cri"

names = st.one_of(
    st.sampled_from(["runtimes", "features", "cdi", "default-runtime", "a.b", "", "é", 'q"', "#"]),
    st.text(max_size=4),
).filter(lambda name: name != "nvidia")
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)
json_values = st.recursive(
    st.one_of(st.none(), scalars),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
unicode = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
toml_values = st.recursive(
    st.one_of(scalars.filter(lambda value: not isinstance(value, str)), unicode),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(unicode, inner, max_size=3)
    ),
    max_leaves=8,
)
tables = st.dictionaries(unicode, toml_values, max_size=4)
runtimes = st.builds(
    Runtime,
    name=st.just("nvidia"),
    path=st.sampled_from(["/usr/bin/nvidia-container-runtime", "/x"]),
    is_default=st.booleans(),
    has_cdi=st.booleans(),
)


@st.composite
def daemon_files(draw: st.DrawFn) -> str:
    document = draw(st.dictionaries(names, json_values, max_size=4))
    document |= draw(
        st.fixed_dictionaries(
            {},
            optional={
                "runtimes": st.dictionaries(names, json_values, max_size=2),
                "features": st.dictionaries(names, json_values, max_size=2),
                "default-runtime": st.sampled_from(["runc", "x"]),
            },
        )
    )
    for key in ("runtimes", "features"):
        if not isinstance(document.get(key, {}), dict):
            del document[key]
    indent = draw(st.sampled_from([None, 0, 3]))
    return json.dumps(document, indent=indent, ensure_ascii=draw(st.booleans()))


@st.composite
def containerd_files(draw: st.DrawFn) -> str:
    """A document with comments: of lines, behind values, between tables."""
    version = draw(st.sampled_from([1, 2]))
    plugin: dict[str, Any] = draw(tables)
    plugin["containerd"] = {
        "runtimes": draw(
            st.dictionaries(st.sampled_from(["runc", "kata", "a.b"]), tables, max_size=2)
        ),
        **draw(st.fixed_dictionaries({}, optional={"default_runtime_name": st.just("runc")})),
    }
    document: dict[str, Any] = {**draw(tables), "plugins": {{1: "cri", 2: V2}[version]: plugin}}
    document.pop("imports", None)
    document["version"] = version
    if draw(st.booleans()):
        document["imports"] = draw(st.lists(unicode, max_size=2))
    lines = toml.write(document, indent=draw(st.sampled_from(["", "  "]))).split("\n")[:-1]
    for index in draw(st.lists(st.integers(0, len(lines)), max_size=3)):
        lines.insert(index, draw(st.sampled_from(["# comment", "  #", "", "# [table]"])))
    end = draw(st.sampled_from(["", "\n", "\n# end\n"]))
    return "\n".join(lines) + end


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Give an empty directory, the state's place too."""
    base = tmp_path_factory.mktemp("engines")

    def empty() -> Path:
        shutil.rmtree(base)
        base.mkdir()
        return base

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(base / "state"))
        yield empty


@given(daemon_files(), runtimes)
def test_docker(place: Callable[[], Path], text: str, runtime: Runtime) -> None:
    file = place() / "daemon.json"
    try:
        file.write_text(text)
    except UnicodeEncodeError:
        return
    path, before = str(file), json.loads(text)
    commit(docker.configure(path, runtime))
    after = json.loads(file.read_text())
    assert after["runtimes"].pop("nvidia") == {"args": [], "path": runtime.path}
    if runtime.is_default:
        assert after.pop("default-runtime") == "nvidia"
        before.pop("default-runtime", None)
    if runtime.has_cdi:
        assert after["features"].pop("cdi") is True
        before.setdefault("features", {}).pop("cdi", None)
    assert after == {"runtimes": {}, **before}
    assert commit(docker.configure(path, runtime)) == []
    commit(docker.unset(path, "nvidia"))
    assert file.read_text() == text
    assert commit(docker.unset(path, "nvidia")) == []


@given(containerd_files(), runtimes)
def test_containerd(place: Callable[[], Path], text: str, runtime: Runtime) -> None:
    directory = place()
    file, drop_in = directory / "config.toml", directory / "conf.d/99-nvidia.toml"
    file.write_text(text)
    path = str(file)
    commit(containerd.configure(path, str(drop_in), runtime)[0])
    before, after = tomllib.loads(text), tomllib.loads(file.read_text())
    is_first = before["version"] == 1
    source = before["plugins"]["cri" if is_first else V2]
    new = (after if is_first else tomllib.loads(drop_in.read_text()))["plugins"]
    got = new["cri" if is_first else V2]["containerd"]
    assert got["runtimes"]["nvidia"]["options"]["BinaryName"] == runtime.path
    for name, entry in source["containerd"]["runtimes"].items():
        assert got["runtimes"][name] == entry
    if not is_first:
        imports = [*before.get("imports", []), f"{drop_in.parent}/*.toml"]
        assert after == {**before, "imports": imports}
    assert [line for line in text.split("\n") if line.lstrip().startswith("#")] == [
        line for line in file.read_text().split("\n") if line.lstrip().startswith("#")
    ]
    assert commit(containerd.configure(path, str(drop_in), runtime)[0]) == []
    commit(containerd.unset(path, str(drop_in), "nvidia"))
    assert file.read_text() == text
    assert not drop_in.exists()


@given(containerd_files(), st.sampled_from(["added", "version", "plugins"]), tables)
def test_toml_is_changed_without_losing_anything(
    text: str, key: str, table: dict[str, Any]
) -> None:
    def change(document: Any) -> None:
        document["plugins"]["new"] = table
        document["a key"] = 1
        if key in document:
            document[key] = [1]

    wanted = tomllib.loads(text)
    change(wanted)
    try:
        new = toml.edit("F", text.encode(), change)
    except ConfigError as error:
        assert str(error) == "F: cannot be changed without losing comments or order"
        return
    assert tomllib.loads(new.decode()) == wanted


@given(tables, st.sampled_from(["", "  "]))
def test_toml_comes_back(document: dict[str, Any], indent: str) -> None:
    assert tomllib.loads(toml.write(document, indent=indent)) == document


@given(st.dictionaries(st.text(), json_values))
def test_json_comes_back(document: dict[str, Any]) -> None:
    data = json_file.write(json_file.parse("F", json.dumps(document).encode()))
    assert json.loads(data) == document


@given(
    st.one_of(
        st.binary(max_size=30),
        st.text(alphabet='[]{}"=.,\n#ab1\\u', max_size=30).map(str.encode),
        st.binary(max_size=3).map(lambda data: b'{"a": 1}' + data),
    )
)
def test_what_cannot_be_parsed_is_never_touched(place: Callable[[], Path], data: bytes) -> None:
    directory = place()
    file, drop_in = directory / "file", str(directory / "conf.d/99-nvidia.toml")
    file.write_bytes(data)
    runtime = Runtime(name="nvidia", path="/x")
    configures: list[tuple[Callable[[str], Any], Callable[[], list[Change]]]] = [
        (json.loads, lambda: docker.configure(str(file), runtime)),
        (tomllib.loads, lambda: containerd.configure(str(file), drop_in, runtime)[0]),
        (tomllib.loads, lambda: crio.configure(str(file), drop_in, runtime)),
    ]
    for parse, configure in configures:
        try:
            changes = configure()
        except ConfigError as error:
            assert str(error).startswith(f"{file}: ")
            assert file.read_bytes() == data
            assert sorted(path.name for path in directory.iterdir()) == ["file"]
        else:
            assert not data.strip() or isinstance(parse(data.decode()), dict)
            assert changes
