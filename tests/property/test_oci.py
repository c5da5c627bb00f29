# SPDX-License-Identifier: Apache-2.0
"""OCI documents come back as they were, and an image never gets more than policy allows."""

from __future__ import annotations

import io
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libnvc._config.settings import Config
from libnvc._oci.document import dumps, read_state
from libnvc._oci.wanted import Container, Wanted, decode, read_container
from libnvc.errors import MalformedFileError, RequestError

# Half of a surrogate pair is legal in JSON; two in a row are one character after reading.
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["\ud800", "x\udfff"])
floats = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(texts, values, max_size=5)


def read(data: bytes) -> dict[str, Any]:
    return read_state(io.BytesIO(data))


@given(objects)
def test_round_trip(document: dict[str, Any]) -> None:
    data = dumps(document)
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    for found in (read(data), json.loads(data)):
        assert repr(found) == repr(document)


@given(objects, st.booleans(), st.sampled_from([None, 1]))
def test_what_json_writes_is_read(document: dict[str, Any], ascii_only: bool, indent: Any) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    assert repr(read(text.encode(errors="backslashreplace"))) == repr(document)


def refuse(name: str) -> None:
    raise ValueError(name)


PIECES = (
    *("{", "}", "[", "]", ",", ":", " ", "\n", "\t", "\r", "\f", '"a"', '"b"', '"', "\\", "\\u12"),
    *(
        "null",
        "true",
        "nul",
        "NaN",
        "-Infinity",
        "0",
        "01",
        "-",
        "1.5",
        "1.",
        "1e5",
        "\0",
        "ä",
        "\ufeff",
    ),
    *('{"a":', '{"a":1}', '"\\ud800"', '"\\u00e4"', '"\n"'),
)


@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join))
def test_fragments_are_refused_and_read_as_json_does(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=refuse)
    except ValueError:
        expected = None
    try:
        found = read(text.encode())
    except MalformedFileError as error:
        assert not isinstance(expected, dict), error.message
        assert error.message.startswith("could not decode container state: ")
        assert error.message.isprintable()
    else:
        assert repr(found) == repr(expected)


# --- what a container asks for --------------------------------------------------------------------

NAMES = (
    *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_IMEX_CHANNELS", "NVIDIA_MIG_CONFIG_DEVICES", "SWARM"),
    *("NVIDIA_MIG_MONITOR_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "CUDA_VERSION"),
    *("NVIDIA_REQUIRE_CUDA", "NVIDIA_REQUIRE_X", "NVIDIA_DISABLE_REQUIRE", "PATH"),
)
WORDS = ("all", "none", "void", "", "0", "1", "GPU-1", "nvidia.com/gpu=0", "12.2", " ", "compute")
words = st.lists(st.sampled_from(WORDS) | st.text(max_size=3), max_size=3).map(",".join)
environments = st.dictionaries(st.sampled_from(NAMES), words).map(lambda x: tuple(x.items()))
MOUNT = "/var/run/nvidia-container-devices/"
mounts = st.lists(
    st.tuples(
        st.sampled_from(["/dev/null", "/dev//null/", "/x"]),
        st.sampled_from(
            [f"{MOUNT}{name}" for name in ("GPU-1", "0", "imex/3", "cdi/a/b/c", "all")]
        ),
    ),
    max_size=3,
).map(tuple)
notes = st.dictionaries(
    st.sampled_from(["cdi.k8s.io/a", "cdi.k8s.io/b", "other/c"]), words, max_size=2
).map(lambda x: tuple(sorted(x.items())))
configs = st.builds(
    Config,
    accept_volume_mounts=st.booleans(),
    swarm_resource=st.sampled_from(["", "SWARM", "SWARM,CUDA_VERSION"]),
    features=st.sampled_from([frozenset(), frozenset({"ignore-imex-channel-requests"})]),
)


def granted(wanted: Wanted) -> tuple[object, ...]:
    return wanted.devices, wanted.mig_config, wanted.mig_monitor, wanted.imex_channels


@given(environments, mounts, notes, configs, st.booleans())
def test_where_environments_may_not_ask_none_changes_what_is_granted(
    environment: tuple[tuple[str, str], ...],
    points: tuple[tuple[str, str], ...],
    annotated: tuple[tuple[str, str], ...],
    config: Config,
    active: bool,
) -> None:
    strict = config.replace(accept_envvar_when_unprivileged=False)
    container = Container(mounts=points, annotations=annotated)
    expected = decode(container, strict, annotations=active)
    try:
        found = decode(container.replace(environment=environment), strict, annotations=active)
    except RequestError as error:
        assert error.message.isprintable()
    else:
        assert granted(found) == granted(expected)
        assert found.source == expected.source
        assert found.source != "environment"


@given(environments, mounts, configs, st.booleans(), st.booleans())
def test_whatever_is_asked_stays_within_policy(
    environment: tuple[tuple[str, str], ...],
    points: tuple[tuple[str, str], ...],
    config: Config,
    privileged: bool,
    accepted: bool,
) -> None:
    config = config.replace(
        accept_envvar_when_unprivileged=accepted, supported_capabilities="compute,utility"
    )
    container = Container(environment=environment, mounts=points, privileged=privileged)
    try:
        found = decode(container, config, annotations=False)
    except RequestError as error:
        assert error.message.isprintable()
        return
    assert set(found.capabilities) <= {"compute", "utility"}
    assert privileged or not (found.mig_config or found.mig_monitor)
    assert all(line.isprintable() for line in found.refused)
    if found.devices is None:
        assert found == Wanted(refused=found.refused)
    if "ignore-imex-channel-requests" in config.features:
        assert not found.imex_channels
    assert found.source != "mount" or config.accept_volume_mounts


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "ociVersion": values,
            "process": st.fixed_dictionaries({}, optional={"env": values, "capabilities": values})
            | values,
            "root": st.fixed_dictionaries({}, optional={"path": values}) | values,
            "annotations": values,
            "mounts": st.lists(st.fixed_dictionaries({}, optional={"source": values})) | values,
        },
    )
)
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    try:
        read_container(document)
    except MalformedFileError as error:
        assert error.message.isprintable()
