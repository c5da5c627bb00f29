# SPDX-License-Identifier: Apache-2.0
"""Mode cdi of `nvidia-container-runtime create`: names, where they come from, what they become."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from libnvc._config.settings import Config
    from tests.unit.conftest import Bundle

    Configure = Callable[..., Config]

NOT_APPLIED = "could not apply required modification to OCI specification: error modifying OCI spec"
MOUNT = "/var/run/nvidia-container-devices/cdi/acme.com/dev/d1"
NULL = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}
ALLOWED = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}
HOOK = {"path": "/usr/bin/nvidia-container-runtime-hook", "args": ["x", "prestart"]}

ACME = {
    "cdiVersion": "0.3.0",
    "kind": "acme.com/dev",
    "containerEdits": {
        "env": ["COMMON=1"],
        "hooks": [{"hookName": "createContainer", "path": "/bin/true", "args": ["true", "x"]}],
    },
    "devices": [
        {
            "name": "d0",
            "containerEdits": {
                "env": ["D0=1", "PATH=/cdi"],
                "mounts": [
                    {
                        "hostPath": "/etc/hostname",
                        "containerPath": "/proc/x/y",
                        "options": ["ro", "bind"],
                    }
                ],
            },
        },
        {"name": "d1", "containerEdits": {"deviceNodes": [{"path": "/dev/null"}]}},
    ],
}
NVIDIA = {
    "cdiVersion": "0.5.0",
    "kind": "nvidia.com/gpu",
    "devices": [
        {"name": name, "containerEdits": {"env": [f"GOT_{name.upper()}=1"]}}
        for name in ("0", "1", "all", "none")
    ],
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "cdi"
    directory.mkdir()
    (directory / "acme.json").write_text(json.dumps(ACME))
    (directory / "nvidia.json").write_text(json.dumps(NVIDIA))
    return directory


@pytest.fixture
def configure(config: Configure, directory: Path) -> Configure:
    def load(mode: str = "cdi", *lines: str, top: str = "") -> Config:
        modes = "[nvidia-container-runtime.modes.cdi]"
        dirs = f'spec-dirs = ["{directory}"]'
        return config("\n".join([f'mode = "{mode}"', modes, dirs, *lines]), top=top)

    return load


def ask(names: str) -> str:
    return f"NVIDIA_VISIBLE_DEVICES={names}"


def got(document: dict[str, Any]) -> list[str]:
    return [entry for entry in document["process"]["env"] if entry.startswith("GOT_")]


def test_f5_other_hooks_than_ours_stay(bundle: Bundle, configure: Configure) -> None:
    toolkit = {"path": "/usr/bin/nvidia-container-toolkit"}
    bundle.write(ask("0"), hooks={"prestart": [HOOK, {"path": "/bin/other"}, toolkit]})
    assert bundle.create(configure())["hooks"] == {"prestart": [{"path": "/bin/other"}]}


@pytest.mark.parametrize("mode", ["auto", "cdi"])
def test_f6_names_in_the_environment(bundle: Bundle, configure: Configure, mode: str) -> None:
    names = ask("acme.com/dev=d0,acme.com/dev=d1")
    points = [{"destination": point} for point in ("/proc", "/dev/shm/a/b", "/a")]
    bundle.write(names, mounts=points, extra={"kept": 1})
    found = bundle.create(configure(mode))
    assert found["process"]["env"] == ["PATH=/cdi", names, "COMMON=1", "D0=1"]
    destinations = [mount["destination"] for mount in found["mounts"]]
    assert destinations == ["/proc", "/a", "/proc/x/y", "/dev/shm/a/b"]
    assert found["hooks"] == {"createContainer": [{"path": "/bin/true", "args": ["true", "x"]}]}
    assert found["linux"] == {"devices": [NULL], "resources": {"devices": [ALLOWED]}}
    assert found["extra"] == {"kept": 1}
    assert not bundle.plan.exists()
    assert (
        "given by mode cdi, asked for by its environment: devices 'acme.com/dev=d0,acme.com/dev=d1'"
    ) in bundle.log.read_text()


def test_f6_the_owner_of_nodes_is_the_process(bundle: Bundle, configure: Configure) -> None:
    process = {"env": [ask("acme.com/dev=d1")], "user": {"uid": 5, "gid": 6}}
    bundle.write(process=process)
    found = bundle.create(configure())
    assert found["linux"]["devices"] == [{**NULL, "uid": 5, "gid": 6}]


def test_f7_an_annotation_in_mode_auto(bundle: Bundle, configure: Configure) -> None:
    bundle.write(annotations={"cdi.k8s.io/foo": "acme.com/dev=d0"})
    found = bundle.create(configure("auto"))
    assert found["process"]["env"] == ["PATH=/cdi", "COMMON=1", "D0=1"]
    assert "linux" not in found


@pytest.mark.parametrize("mode", ["auto", "cdi"])
@pytest.mark.parametrize("names", ["all", "0", "99", "acme.com/dev=d0"])
def test_f8_annotations_come_before_the_environment(
    bundle: Bundle, configure: Configure, mode: str, names: str
) -> None:
    """Also in mode auto, where the environment alone would mean GPUs."""
    bundle.write(ask(names), annotations={"cdi.k8s.io/foo": "acme.com/dev=d1"})
    found = bundle.create(configure(mode))
    assert found["process"]["env"] == ["PATH=/bin", ask(names), "COMMON=1"]
    assert found["linux"]["devices"] == [NULL]
    assert not bundle.plan.exists()


def test_in_mode_auto_one_plain_name_means_gpus_by_the_environment(
    bundle: Bundle, configure: Configure
) -> None:
    """Annotations do not count then."""
    bundle.write(ask("1"), annotations={"cdi.k8s.io/foo": "acme.com/dev=d1,0"})
    found = bundle.create(configure("auto"))
    paths = [node["path"] for node in found["linux"]["devices"]]
    assert "/dev/nvidia1" in paths
    assert not {"/dev/nvidia0", "/dev/null"} & set(paths)
    assert bundle.plan.exists()


def test_f9_a_mount_asks_and_stays(bundle: Bundle, configure: Configure) -> None:
    mount = {"source": "/dev/null", "destination": MOUNT}
    bundle.write(mounts=[mount])
    accept = "accept-nvidia-visible-devices-as-volume-mounts = true"
    found = bundle.create(configure(top=accept))
    assert found["linux"]["devices"] == [NULL]
    assert found["mounts"] == [mount]


@pytest.mark.parametrize("env", [(), (ask("void"),), (ask(""),), (ask("0,void"),)])
def test_f10_who_asks_for_nothing_is_not_touched(
    bundle: Bundle, configure: Configure, env: tuple[str, ...]
) -> None:
    text = bundle.write(*env, hooks={"prestart": [HOOK]}, mounts=[], annotations={})
    before = bundle.file.stat()
    bundle.create(configure())
    assert bundle.file.read_text() == text
    assert bundle.file.stat() == before


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("0", ["GOT_0=1"]),
        ("1,0,1,nvidia.com/gpu=0", ["GOT_1=1", "GOT_0=1"]),
        ("all", ["GOT_ALL=1"]),
        ("none", ["GOT_NONE=1"]),
        ("0,none", ["GOT_NONE=1"]),
    ],
)
def test_plain_names_are_of_the_default_kind(
    bundle: Bundle, configure: Configure, names: str, expected: list[str]
) -> None:
    bundle.write(ask(names))
    assert got(bundle.create(configure())) == expected


def test_the_default_kind_is_configured(bundle: Bundle, configure: Configure) -> None:
    bundle.write(annotations={"cdi.k8s.io/a": "d1"})
    found = bundle.create(configure("cdi", 'default-kind = "acme.com/dev"'))
    assert found["linux"]["devices"] == [NULL]


def test_an_empty_name_of_an_annotation_is_none(bundle: Bundle, configure: Configure) -> None:
    bundle.write(annotations={"cdi.k8s.io/a": "0,"})
    assert got(bundle.create(configure())) == ["GOT_0=1", "GOT_NONE=1"]
    bundle.write(annotations={"cdi.k8s.io/a": ""})
    assert got(bundle.create(configure())) == ["GOT_NONE=1"]


@pytest.mark.parametrize(
    "bad",
    [
        "NVIDIA_DRIVER_CAPABILITIES=nonsense",
        "CUDA_VERSION=x.y",
        "NVIDIA_MIG_CONFIG_DEVICES=all",
        "NVIDIA_REQUIRE_CUDA=cuda>=99",
        "NVIDIA_IMEX_CHANNELS=nonsense",
    ],
)
@pytest.mark.parametrize("mode", ["auto", "cdi"])
def test_nothing_but_devices_is_read(
    bundle: Bundle, configure: Configure, bad: str, mode: str
) -> None:
    bundle.write(ask("acme.com/dev=d1"), bad)
    assert bundle.create(configure(mode))["linux"]["devices"] == [NULL]


@pytest.mark.parametrize("mode", ["auto", "cdi"])
def test_the_runtimes_own_kind_means_the_planner(
    bundle: Bundle, configure: Configure, mode: str
) -> None:
    bundle.write(ask("runtime.nvidia.com/gpu=3,runtime.nvidia.com/gpu=none"))
    nodes = bundle.create(configure(mode))["linux"]["devices"]
    paths = [node["path"] for node in nodes]
    assert "/dev/nvidia3" in paths
    assert "/dev/nvidia0" not in paths
    assert bundle.plan.exists()


def test_the_runtimes_own_kind_can_be_the_default(bundle: Bundle, configure: Configure) -> None:
    own = configure("cdi", 'default-kind = "runtime.nvidia.com/gpu"')
    bundle.write(ask("none"))
    paths = [node["path"] for node in bundle.create(own)["linux"]["devices"]]
    assert "/dev/nvidiactl" in paths
    assert "/dev/nvidia0" not in paths
    bundle.write(ask("0"), "NVIDIA_DRIVER_CAPABILITIES=nonsense")
    bundle.plan.unlink()
    assert bundle.refuses(own).startswith("unsupported capabilities found in 'nonsense'")


@pytest.mark.parametrize("mode", ["auto", "cdi"])
def test_kinds_do_not_mix(bundle: Bundle, configure: Configure, mode: str) -> None:
    bundle.write(ask("acme.com/dev=d0,runtime.nvidia.com/gpu=0"))
    assert bundle.refuses(configure(mode)) == (
        f"{NOT_APPLIED}: requesting a CDI device with vendor 'runtime.nvidia.com' is not supported "
        "when requesting other CDI devices"
    )


def test_a_device_that_is_not_there(bundle: Bundle, configure: Configure, directory: Path) -> None:
    (directory / "broken.yaml").write_text("kind: [")
    bundle.write(ask("acme.com/dev=d0,acme.com/dev=d2,b.c/d=e"))
    assert bundle.refuses(configure()) == (
        f"{NOT_APPLIED}: failed to inject CDI devices: unresolvable CDI devices acme.com/dev=d2, "
        "b.c/d=e (acme.com/dev has d0, d1: ask for one of these; "
        f"read: {directory}; {directory}/broken.yaml: not a CDI specification: did not find "
        "expected node content (line 2, column 1))"
    )


def test_hostile_names_stay_on_one_line(bundle: Bundle, configure: Configure) -> None:
    bundle.write(ask("a\nb\x1b[31m"), annotations={"cdi.k8s.io/a": "\n\ud800"})
    said = bundle.refuses(configure())
    assert "unresolvable CDI devices nvidia.com/gpu=\\n\\ud800" in said
    assert said.isprintable()


def test_files_that_cannot_be_used_are_told_in_the_log(
    bundle: Bundle, configure: Configure, directory: Path
) -> None:
    (directory / "broken.json").write_text("{")
    bundle.write(ask("acme.com/dev=d1"))
    assert bundle.create(configure())["linux"]["devices"] == [NULL]
    log = bundle.log.read_text()
    assert f'level=warning msg="CDI: {directory}/broken.json: not a CDI specification: ' in log


def test_a_node_that_is_gone(bundle: Bundle, configure: Configure, directory: Path) -> None:
    node = {"path": "/dev/none-of-this"}
    devices = [{"name": "x", "containerEdits": {"deviceNodes": [node]}}]
    (directory / "gone.json").write_text(json.dumps({**ACME, "kind": "a/b", "devices": devices}))
    bundle.write(ask("a/b=x"))
    assert bundle.refuses(configure()) == (
        f"{NOT_APPLIED}: failed to inject CDI devices: failed to stat CDI host device "
        '"/dev/none-of-this": no such file or directory (the device is gone, or the CDI file is '
        "out of date: write it anew)"
    )


def test_what_an_engine_has_applied_already_stays_as_it_is(
    bundle: Bundle, configure: Configure
) -> None:
    annotations = {"cdi.k8s.io/a": "acme.com/dev=d0,acme.com/dev=d1"}
    bundle.write(annotations=annotations, linux={"resources": {"devices": [{"allow": False}]}})
    first = bundle.create(configure("auto"))
    before = bundle.file.stat()
    assert bundle.create(configure("auto")) == first
    assert bundle.file.stat() == before
