# SPDX-License-Identifier: Apache-2.0
"""What containers ask for and get: what the reference's programs did with the same input."""

from __future__ import annotations

from typing import Any

import pytest

from libnvc._config.settings import Config, RuntimeSettings
from libnvc._oci.wanted import (
    Container,
    Wanted,
    check_complete,
    decode,
    is_cdi_name,
    read_container,
)
from libnvc.errors import MalformedFileError, RequestError

ALL = ("compat32", "compute", "display", "graphics", "ngx", "utility", "video")
DEFAULT = ("compute", "utility")
VISIBLE = "NVIDIA_VISIBLE_DEVICES"
IGNORED = "Ignoring devices requested by environment variable(s) in unprivileged container: "
MOUNTS = "/var/run/nvidia-container-devices"
STRICT = Config(accept_envvar_when_unprivileged=False)


def of(
    *entries: str, privileged: bool = False, mounts: Any = (), annotations: Any = None
) -> Container:
    """Make a container as its configuration describes it."""
    capabilities = {"bounding": ["CAP_KILL", *["CAP_SYS_ADMIN"] * privileged]}
    return read_container(
        {
            "ociVersion": "1.0.2",
            "process": {"env": [*entries], "capabilities": capabilities},
            "mounts": [
                {"source": "/dev/null", "destination": f"{MOUNTS}/{name}"} for name in mounts
            ],
            "annotations": annotations,
        }
    )


def ask(*entries: str, config: Config | None = None, **options: Any) -> Wanted:
    return decode(of(*entries, **options), config or Config(), annotations=False)


# --- the reference's own vectors ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        ((f"{VISIBLE}=0,1",), Wanted(devices=("0", "1"), capabilities=DEFAULT)),
        (
            (
                f"{VISIBLE}=all",
                "NVIDIA_DRIVER_CAPABILITIES=all",
                "NVIDIA_REQUIRE_FOO=brand=tesla driver>=1",
                "NVIDIA_REQUIRE_CUDA=cuda>=12.0",
            ),
            Wanted(
                devices=("all",),
                capabilities=ALL,
                requirements=("cuda>=12.0", "brand=tesla driver>=1"),
            ),
        ),
        (
            ("CUDA_VERSION=11.2.1",),
            Wanted(devices=("all",), capabilities=ALL, requirements=("cuda>=11.2",)),
        ),
        ((f"{VISIBLE}=none",), Wanted(devices=(), capabilities=DEFAULT)),
        (
            (f"{VISIBLE}=all", "NVIDIA_DRIVER_CAPABILITIES="),
            Wanted(devices=("all",), capabilities=DEFAULT),
        ),
    ],
)
def test_of_an_environment(entries: tuple[str, ...], wanted: Wanted) -> None:
    assert ask(*entries) == wanted.replace(source="environment")


@pytest.mark.parametrize("entries", [(f"{VISIBLE}=void",), (f"{VISIBLE}=all", f"{VISIBLE}=void")])
def test_void_is_no_gpu_container(entries: tuple[str, ...]) -> None:
    assert ask(*entries) == Wanted()


def test_a_capability_that_does_not_exist() -> None:
    with pytest.raises(RequestError) as caught:
        ask(f"{VISIBLE}=all", "NVIDIA_DRIVER_CAPABILITIES=foo,compute")
    assert caught.value.message == (
        "unsupported capabilities found in 'compute,foo' (allowed 'compute')"
    )


MIG = (f"{VISIBLE}=all", "NVIDIA_MIG_CONFIG_DEVICES=all", "NVIDIA_MIG_MONITOR_DEVICES=all")


def test_privileged_with_everything() -> None:
    assert ask(*MIG, "NVIDIA_IMEX_CHANNELS=0,1", privileged=True) == Wanted(
        devices=("all",),
        capabilities=DEFAULT,
        mig_config="all",
        mig_monitor="all",
        imex_channels=("0", "1"),
        source="environment",
    )


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        (MIG, "MIG_CONFIG_DEVICES"),
        (MIG[:2], "MIG_CONFIG_DEVICES"),
        (MIG[::2], "MIG_MONITOR_DEVICES"),
    ],
)
def test_mig_is_for_privileged_containers(entries: tuple[str, ...], name: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(*entries)
    assert caught.value.message == f"cannot set {name} in non privileged container"


def test_mig_is_not_looked_at_without_gpus() -> None:
    assert ask(*MIG, f"{VISIBLE}=void", "NVIDIA_DRIVER_CAPABILITIES=foo") == Wanted()


def test_an_entry_that_is_no_variable() -> None:
    with pytest.raises(MalformedFileError) as caught:
        of("NOEQ")
    assert caught.value.message == "invalid environment variable: NOEQ"


def test_mounts_where_the_environment_may_not_ask() -> None:
    config = STRICT.replace(accept_volume_mounts=True)
    assert ask(f"{VISIBLE}=all", mounts=["GPU-1", "0"], config=config) == Wanted(
        devices=("GPU-1", "0"), capabilities=DEFAULT, source="mount"
    )


# --- devices --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "devices"),
    [
        ("", None),
        (" , ", None),
        ("0,void", None),
        ("all,void", None),
        ("all", ("all",)),
        ("0,all,1", ("all",)),
        ("all,none", ("all",)),
        ("none,all", ()),
        ("0,none", ()),
        (" 1 ,,0, MIG-x ", ("1", "0", "MIG-x")),
        ("0,0", ("0", "0")),
        ("nvidia.com/gpu=0", ("nvidia.com/gpu=0",)),
    ],
)
def test_values_of_the_variable(value: str, devices: tuple[str, ...] | None) -> None:
    found = ask(f"{VISIBLE}={value}")
    assert found.devices == devices
    assert found.source == ("" if devices is None else "environment")
    assert found.refused == ()


@pytest.mark.parametrize(
    ("entries", "devices"),
    [
        ((), None),
        (("CUDA_VERSION=",), None),
        (("CUDA_VERSION=12.1",), ("all",)),
        (("CUDA_VERSION=12.1", "NVIDIA_REQUIRE_CUDA="), ("all",)),
        (("CUDA_VERSION=12.1", "NVIDIA_REQUIRE_CUDA=cuda>=12"), None),
        (("CUDA_VERSION=12.1", f"{VISIBLE}="), None),
        (("CUDA_VERSION=12.1", f"{VISIBLE}=1"), ("1",)),
    ],
)
def test_legacy_images(entries: tuple[str, ...], devices: tuple[str, ...] | None) -> None:
    assert ask(*entries).devices == devices


@pytest.mark.parametrize(
    ("entries", "devices"),
    [
        ((f"{VISIBLE}=0",), ("0",)),
        ((f"{VISIBLE}=0", "B=1"), ("1",)),
        (("B=1", "A=2,3"), ("2", "3", "1")),
        ((f"{VISIBLE}=0", "A="), None),
        (("CUDA_VERSION=12", "A="), None),
        (("A=all", "B=void"), None),
    ],
)
def test_swarm_resources(entries: tuple[str, ...], devices: tuple[str, ...] | None) -> None:
    assert ask(*entries, config=Config(swarm_resource="A, B,")).devices == devices


@pytest.mark.parametrize("entry", [f"{VISIBLE}=0", f"{VISIBLE}=none", "CUDA_VERSION=12"])
def test_who_may_ask_by_environment(entry: str) -> None:
    assert ask(entry, config=STRICT) == Wanted(refused=(f"{IGNORED}[{VISIBLE}]",))
    allowed = ask(entry, config=STRICT, privileged=True)
    assert allowed.devices is not None
    assert allowed == ask(entry)


def test_refused_variables_are_named() -> None:
    config = STRICT.replace(swarm_resource="A,B,C")
    assert ask("A=0", "C=1", config=config).refused == (f"{IGNORED}[A C]",)


@pytest.mark.parametrize(
    ("source", "destination", "devices"),
    [
        ("/dev/null", f"{MOUNTS}/GPU-1", ("GPU-1",)),
        ("//dev/./null/", "//var/run//nvidia-container-devices/x/../0/", ("0",)),
        ("/dev/zero", f"{MOUNTS}/0", None),
        ("", f"{MOUNTS}/0", None),
        ("/dev/null", MOUNTS, None),
        ("/dev/null", f"{MOUNTS}/../0", None),
        ("/dev/null", f"{MOUNTS}2/0", None),
        ("/dev/null", f"/x{MOUNTS}/0", None),
        ("/dev/null", f"{MOUNTS}/imex/0", None),
        ("/dev/null", f"{MOUNTS}/cdi/nvidia.com/gpu/0", ("nvidia.com/gpu=0",)),
        ("/dev/null", f"{MOUNTS}/cdi/nvidia.com/gpu=all", ("nvidia.com/gpu=all",)),
    ],
)
def test_mounts(source: str, destination: str, devices: tuple[str, ...] | None) -> None:
    container = read_container({"mounts": [{"source": source, "destination": destination}]})
    found = decode(container, Config(accept_volume_mounts=True), annotations=False)
    assert found.devices == devices
    assert found.source == ("mount" if devices else "")
    assert found.refused == ()


def test_mounts_name_a_device_once_and_skip_what_is_malformed() -> None:
    names = ["1", "cdi/x", "0", "1", "cdi/1v/gpu/0", "cdi/a.b/c/d\n"]
    found = ask(mounts=names, config=Config(accept_volume_mounts=True))
    assert found.devices == ("1", "0")
    assert found.refused == tuple(
        f"Ignoring invalid mount request for CDI device {name}"
        for name in ("cdi/x", "cdi/1v/gpu/0", "cdi/a.b/c/d\\n")
    )


def test_mounts_that_are_not_accepted() -> None:
    found = ask(f"{VISIBLE}=0", mounts=["GPU-1"])
    assert (found.devices, found.source) == (("0",), "environment")
    assert found.refused == (
        "Ignoring devices requested by volume mounts: GPU-1: "
        "accept-nvidia-visible-devices-as-volume-mounts is false",
    )


ANNOTATED = {"cdi.k8s.io/b": "x.y/z=2, 3", "cdi.k8s.io/a": "x.y/z=1,,", "other/c": "4"}


def test_annotations_come_first() -> None:
    container = of(f"{VISIBLE}=0", mounts=["GPU-1"], annotations=ANNOTATED)
    config = STRICT.replace(accept_volume_mounts=True)
    found = decode(container, config, annotations=True)
    assert found.devices == ("x.y/z=1", "", "", "x.y/z=2", " 3")
    assert found.source == "annotation"
    assert decode(container, config, annotations=False).source == "mount"


def test_prefixes_of_annotations() -> None:
    config = Config(runtime=RuntimeSettings(annotation_prefixes=("x/", "other/")))
    assert decode(of(annotations=ANNOTATED), config, annotations=True).devices == ("4",)
    config = Config(runtime=RuntimeSettings(annotation_prefixes=()))
    assert decode(of(annotations=ANNOTATED), config, annotations=True).devices is None


def test_an_empty_annotation_asks_for_no_device() -> None:
    found = decode(of(annotations={"cdi.k8s.io/a": ""}), Config(), annotations=True)
    assert (found.devices, found.source) == ((), "annotation")


@pytest.mark.parametrize(
    ("name", "is_full"),
    [
        ("nvidia.com/gpu=0", True),
        ("nvidia.com/gpu=0:1", True),
        ("v-_.9/c-_.9=a.b_c-d:e", True),
        ("v/c=MIG-1", True),
        *((name, False) for name in ("", "0", "=", "/=", "v/c", "v/c=", "/c=d", "v/=d", "v=d/c")),
        *((name, False) for name in ("1v/c=d", "v/1c=d", "v./c=d", "v/c.=d", "v/c=-d", "v/c=d-")),
        *(
            (name, False)
            for name in ("v/c=d/e", "v/c=d=e", "v/c/c=d", "é/c=d", "v/c=d\n", "v /c=d")
        ),
    ],
)
def test_names_of_cdi_devices(name: str, is_full: bool) -> None:
    assert is_cdi_name(name) is is_full


# --- all else -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("supported", "value", "names"),
    [
        ("utility", None, ("utility",)),
        ("video", None, ()),
        ("", None, ()),
        ("utility,video", "all", ("utility", "video")),
        ("utility,video", "foo, all", ("utility", "video")),
        ("utility,video", " video,, video ,", ("video",)),
        ("utility,video", " , ", ()),
        ("utility,video", "", ("utility",)),
    ],
)
def test_capabilities(supported: str, value: str | None, names: tuple[str, ...]) -> None:
    entries = [
        f"{VISIBLE}=all",
        *([f"NVIDIA_DRIVER_CAPABILITIES={value}"] if value is not None else []),
    ]
    assert ask(*entries, config=Config(supported_capabilities=supported)).capabilities == names


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        (("CUDA_VERSION=9",), ("utility", "video")),
        (("CUDA_VERSION=9", "NVIDIA_DRIVER_CAPABILITIES="), ("utility",)),
        (("CUDA_VERSION=9", "NVIDIA_DRIVER_CAPABILITIES=video"), ("video",)),
        (
            ("CUDA_VERSION=9", "NVIDIA_REQUIRE_CUDA=cuda>=9", f"{VISIBLE}=all"),
            ("utility",),
        ),
    ],
)
def test_capabilities_of_legacy_images(entries: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert (
        ask(*entries, config=Config(supported_capabilities="utility,video")).capabilities == names
    )


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            "compute,utility",
            "unsupported capabilities found in 'compute,utility' (allowed 'utility')",
        ),
        ("x\n\x1b[2J", "unsupported capabilities found in 'x\\n\\x1b[2J' (allowed '')"),
        ("x" * 600, f"unsupported capabilities found in '{'x' * 500}…' (allowed '')"),
    ],
)
def test_capabilities_that_are_not_supported(value: str, why: str) -> None:
    entries = (f"{VISIBLE}=all", f"NVIDIA_DRIVER_CAPABILITIES={value}")
    with pytest.raises(RequestError) as caught:
        ask(*entries, config=Config(supported_capabilities="utility"))
    assert caught.value.message == why


@pytest.mark.parametrize(
    ("version", "requirement"),
    [("11", "11.0"), ("v11.2", "11.2"), ("8.0.61", "8.0"), ("12.10.3", "12.10")],
)
def test_the_version_of_a_legacy_image_is_required(version: str, requirement: str) -> None:
    entries = (f"CUDA_VERSION={version}", "NVIDIA_REQUIRE_A=x", "NVIDIA_REQUIRE_D=y")
    assert ask(*entries).requirements == ("x", f"cuda>={requirement}", "y")


@pytest.mark.parametrize("version", ["x", "11.", "11.2.1.0", "v", "١٢", "-1", "11.2\n"])
def test_a_version_that_is_none(version: str) -> None:
    with pytest.raises(RequestError) as caught:
        ask(f"CUDA_VERSION={version}")
    shown = version.replace("\n", "\\n")
    assert caught.value.message == f"CUDA_VERSION: {shown} is not a version"
    assert ask(f"CUDA_VERSION={version}", "NVIDIA_DISABLE_REQUIRE=1").requirements == ()


REQUIRED = (f"{VISIBLE}=all", "NVIDIA_REQUIRE_B=b", "NVIDIA_REQUIRE_CUDA=c", "NVIDIA_REQUIRE_=a")


def test_requirements() -> None:
    others = ("NVIDIA_REQUIRE_JETPACK=x", "NVIDIA_REQUIRE_JETPACK_Y=x", "NVIDIA_REQUIRE_E=")
    assert ask(*REQUIRED, *others).requirements == ("a", "b", "c")
    assert ask(*REQUIRED, config=Config(disable_require=True)).requirements == ()


@pytest.mark.parametrize("value", ["1", "t", "T", "TRUE", "true", "True"])
def test_requirements_that_are_disabled(value: str) -> None:
    assert ask(*REQUIRED, f"NVIDIA_DISABLE_REQUIRE={value}").requirements == ()


@pytest.mark.parametrize("value", ["", "0", "yes", "tRUE", " 1"])
def test_requirements_that_are_not_disabled(value: str) -> None:
    assert ask(*REQUIRED, f"NVIDIA_DISABLE_REQUIRE={value}").requirements == ("a", "b", "c")


@pytest.mark.parametrize(
    ("value", "channels", "refused"),
    [
        ("", (), ()),
        ("void", (), ()),
        ("none", (), ()),
        (" 3,1 ", ("3", "1"), ()),
        ("all", (), ("Ignoring NVIDIA_IMEX_CHANNELS=all: channels are named by number",)),
    ],
)
def test_imex_channels(value: str, channels: tuple[str, ...], refused: tuple[str, ...]) -> None:
    found = ask(f"{VISIBLE}=0", f"NVIDIA_IMEX_CHANNELS={value}")
    assert (found.imex_channels, found.refused) == (channels, refused)


def test_imex_channels_of_mounts_come_first() -> None:
    config = Config(accept_volume_mounts=True)
    names = ["GPU-1", "imex/2", "imex/0"]
    found = ask("NVIDIA_IMEX_CHANNELS=5", mounts=names, config=config)
    assert (found.devices, found.imex_channels) == (("GPU-1",), ("2", "0"))


def test_imex_channels_where_the_environment_may_not_ask() -> None:
    config = STRICT.replace(accept_volume_mounts=True)
    found = ask("NVIDIA_IMEX_CHANNELS=5", mounts=["GPU-1"], config=config)
    assert found.imex_channels == ()
    assert found.refused == (
        "Ignoring IMEX channels requested by environment variable(s) in unprivileged container: "
        "[NVIDIA_IMEX_CHANNELS]",
    )


@pytest.mark.parametrize("mounts", [(), ("GPU-1", "imex/2")])
def test_imex_channels_can_be_ignored(mounts: tuple[str, ...]) -> None:
    config = Config(accept_volume_mounts=True, features=frozenset({"ignore-imex-channel-requests"}))
    found = ask(f"{VISIBLE}=0", "NVIDIA_IMEX_CHANNELS=5", mounts=mounts, config=config)
    assert found.imex_channels == ()
    assert found.refused == (
        "Ignoring requested IMEX channels: features.ignore-imex-channel-requests",
    )
    assert ask(f"{VISIBLE}=0", config=config).refused == ()


# --- the document ---------------------------------------------------------------------------------


def test_what_is_read() -> None:
    document = {
        "ociVersion": "1.2.0",
        "process": {"env": ["A=1", "B==", "A=2", "=x"], "capabilities": {"effective": []}},
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [{"destination": "/x"}, {"source": "s", "destination": "d", "type": "bind"}],
        "annotations": {"b": "2", "a": "1"},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "user", "path": "/x"}], "x": 1},
    }
    assert read_container(document) == Container(
        environment=(("A", "2"), ("B", "="), ("", "x")),
        annotations=(("a", "1"), ("b", "2")),
        mounts=(("", "/x"), ("s", "d")),
        rootfs="rootfs",
        user_namespace=True,
    )


@pytest.mark.parametrize("members", [(), ("process", "root", "mounts", "annotations")])
def test_what_is_missing_or_null_is_empty(members: tuple[str, ...]) -> None:
    assert read_container(dict.fromkeys(members)) == Container()


ADMIN = ["CAP_CHOWN", "CAP_SYS_ADMIN"]


@pytest.mark.parametrize(
    ("version", "capabilities", "privileged"),
    [
        ("1.0.2", {"bounding": ADMIN}, True),
        ("1.0.2", {"bounding": ADMIN[:1]}, False),
        ("1.0.2", {"effective": ADMIN, "permitted": ADMIN, "ambient": ADMIN}, False),
        ("1.0.2", None, False),
        ("1.0.0-rc1", ADMIN, True),
        ("1.0.0-rc4", ADMIN, True),
        ("1.0.0-rc4-dev", ADMIN, True),
        ("1.0.0-rc1", ADMIN[:1], False),
        ("1.0.0-rc5", {"bounding": ADMIN}, True),
        ("1.0.0", {"bounding": ADMIN}, True),
    ],
)
def test_privileged(version: str, capabilities: Any, privileged: bool) -> None:
    document = {"ociVersion": version, "process": {"capabilities": capabilities}}
    assert read_container(document).privileged is privileged


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"ociVersion": 1}, "ociVersion: not a string"),
        ({"process": []}, "process: not an object"),
        ({"process": {"env": "A=1"}}, "process.env: not a list"),
        ({"process": {"env": ["A=1", None]}}, "process.env[1]: not a string"),
        ({"process": {"env": ["A\n"]}}, "invalid environment variable: A\\n"),
        ({"process": {"capabilities": ADMIN}}, "process.capabilities: not an object"),
        (
            {"process": {"capabilities": {"bounding": "CAP_SYS_ADMIN"}}},
            "process.capabilities.bounding: not a list",
        ),
        (
            {"ociVersion": "1.0.0-rc3", "process": {"capabilities": {"bounding": ADMIN}}},
            "process.capabilities: not a list",
        ),
        ({"root": "/"}, "root: not an object"),
        ({"root": {"path": 1}}, "root.path: not a string"),
        ({"mounts": {}}, "mounts: not a list"),
        ({"mounts": ["x"]}, "mounts[0]: not an object"),
        ({"mounts": [{}, {"source": 1}]}, "mounts[1].source: not a string"),
        ({"mounts": [{"destination": False}]}, "mounts[0].destination: not a string"),
        ({"annotations": []}, "annotations: not an object"),
        ({"annotations": {"a\n": 1}}, "annotations: a\\n: not a string"),
    ],
)
def test_wrong_types_are_named(document: dict[str, Any], why: str) -> None:
    with pytest.raises(MalformedFileError) as caught:
        read_container(document)
    assert caught.value.message == why


COMPLETE: dict[str, Any] = {"ociVersion": "1.0.2", "process": {}, "root": {}}


def test_a_complete_configuration() -> None:
    check_complete(COMPLETE)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"ociVersion": ""}, "Version is empty in OCI spec"),
        ({"ociVersion": None}, "Version is empty in OCI spec"),
        ({"process": None}, "Process is empty in OCI spec"),
        ({"root": None}, "Root is empty in OCI spec"),
    ],
)
def test_what_a_hook_cannot_do_without(change: dict[str, Any], why: str) -> None:
    with pytest.raises(MalformedFileError) as caught:
        check_complete({**COMPLETE, **change})
    assert caught.value.message == why
