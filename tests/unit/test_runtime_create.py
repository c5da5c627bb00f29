# SPDX-License-Identifier: Apache-2.0
"""What `nvidia-container-runtime create` does to a bundle."""

from __future__ import annotations

import json
import os
from errno import EBUSY
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from libnvc._config.settings import Config
    from tests.unit.conftest import Bundle

HOOK = "nvidia-container-runtime-hook"
PROGRAMS = "/opt/nvc/bin"
PRESTART = {"path": f"{PROGRAMS}/{HOOK}", "args": [HOOK, "prestart"]}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FAILED = "failed to create NVIDIA Container Runtime: "


def version(path: Path) -> tuple[int, int, int]:
    """Return what changes with a file."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


@pytest.mark.parametrize("mode", ["auto", "legacy", "jit-cdi"])
@pytest.mark.parametrize(
    "env",
    [
        (),
        ("NVIDIA_VISIBLE_DEVICES=void",),
        ("NVIDIA_VISIBLE_DEVICES=",),
        ("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=void"),
        ("NVIDIA_DRIVER_CAPABILITIES=all",),
    ],
)
def test_who_asks_for_nothing_is_not_touched(
    bundle: Bundle, config: Callable[..., Config], mode: str, env: tuple[str, ...]
) -> None:
    text = bundle.write(*env, mounts=[], annotations={}, hooks={"prestart": [PRESTART]})
    before = version(bundle.file)
    bundle.create(config(f'mode = "{mode}"'))
    assert bundle.file.read_text() == text
    assert version(bundle.file) == before
    assert sorted(os.listdir(bundle.path)) == ["config.json", "rootfs"]


def test_a_request_becomes_devices_rules_and_one_hook(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    deny = {"allow": False, "access": "rwm"}
    bundle.write(
        "NVIDIA_VISIBLE_DEVICES=1",
        linux={"resources": {"devices": [deny]}, "namespaces": [{"type": "mount"}], "newer": 1},
        hooks={"prestart": [PRESTART, {"path": "/bin/a"}], "createRuntime": [{"path": "/bin/b"}]},
        unknown={"x": [1, None, "\u00e9"]},
    )
    found = bundle.create(config())
    assert found["unknown"] == {"x": [1, None, "\u00e9"]}
    assert found["hooks"] == {
        "prestart": [{"path": "/bin/a"}],
        "createRuntime": [
            {
                "path": f"{PROGRAMS}/{HOOK}",
                "args": [HOOK, "create-runtime", str(bundle.plan), f"{bundle.path}/rootfs"],
                "env": [PATH],
            },
            {"path": "/bin/b"},
        ],
    }
    linux = found["linux"]
    assert linux["newer"] == 1
    names = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia1"]
    assert [node["path"] for node in linux["devices"]] == [f"/dev/{name}" for name in names]
    numbers = [(node["major"], node["minor"]) for node in linux["devices"]]
    assert linux["resources"]["devices"][0] == deny
    rules = linux["resources"]["devices"][1:]
    assert [(rule["major"], rule["minor"]) for rule in rules] == numbers
    assert {(rule["allow"], rule["type"], rule["access"]) for rule in rules} == {(True, "c", "rw")}
    assert found["process"] == {"env": ["PATH=/bin", "NVIDIA_VISIBLE_DEVICES=1"]}
    assert bundle.plan.read_bytes().startswith(b"nvcplan\0")
    assert bundle.plan.stat().st_mode & 0o777 == 0o600


def test_a_second_create_of_a_bundle_changes_nothing(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=all")
    first = bundle.create(config())
    before = version(bundle.file)
    assert bundle.create(config()) == first
    assert version(bundle.file) == before


def test_nodes_are_left_for_the_hook_in_a_user_namespace(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=0", linux={"namespaces": [{"type": "user"}]})
    linux = bundle.create(config())["linux"]
    assert "devices" not in linux
    assert {"allow": True, "type": "c", "major": 195, "minor": 0, "access": "rw"} in linux[
        "resources"
    ]["devices"]
    assert b"/dev/nvidia0\0" in bundle.plan.read_bytes()


@pytest.mark.root
def test_owner_and_permissions_of_the_configuration_stay(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=0")
    bundle.file.chmod(0o640)
    os.chown(bundle.file, 3, 44)
    bundle.create(config())
    found = bundle.file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (3, 44, 0o640)
    assert sorted(os.listdir(bundle.path)) == ["config.json", "nvidia-container.plan", "rootfs"]


@pytest.mark.root
def test_a_linked_configuration_is_replaced_where_it_is(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=0")
    bundle.file.chmod(0o600)
    real = bundle.file.rename(bundle.path / "real.json")
    bundle.file.symlink_to("real.json")
    bundle.create(config())
    assert bundle.file.is_symlink()
    assert "createRuntime" in json.loads(real.read_text())["hooks"]
    assert real.stat().st_mode & 0o7777 == 0o600


def test_the_plan_is_ours_whatever_lies_there(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=0")
    victim = bundle.path / "victim"
    victim.write_text("kept")
    bundle.plan.symlink_to(victim)
    (bundle.path / f"nvidia-container.plan.{os.getpid()}").symlink_to(victim)
    bundle.create(config())
    assert victim.read_text() == "kept"
    assert not bundle.plan.is_symlink()
    assert bundle.plan.stat().st_mode & 0o7777 == 0o600
    assert bundle.plan.stat().st_uid == os.geteuid()


def test_a_configuration_that_cannot_be_replaced_is_written_in_place(
    bundle: Bundle, config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that is a mount."""
    rename = os.rename

    def refuse(source: str, target: str) -> None:
        if target == str(bundle.file):
            raise OSError(EBUSY, os.strerror(EBUSY))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    bundle.write("NVIDIA_VISIBLE_DEVICES=0")
    inode = bundle.file.stat().st_ino
    assert "createRuntime" in bundle.create(config())["hooks"]
    assert bundle.file.stat().st_ino == inode
    assert sorted(os.listdir(bundle.path)) == ["config.json", "nvidia-container.plan", "rootfs"]


def test_a_linked_root_is_resolved(bundle: Bundle, config: Callable[..., Config]) -> None:
    (bundle.path / "link").symlink_to("rootfs")
    bundle.write("NVIDIA_VISIBLE_DEVICES=0", root={"path": "link"})
    hook = bundle.create(config())["hooks"]["createRuntime"][0]
    assert hook["args"][-1] == f"{bundle.path}/rootfs"


def test_a_bundle_that_cannot_be_named_to_hooks(
    tmp_path: Path, bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle = type(bundle)(tmp_path / "\udcff")
    bundle.write("NVIDIA_VISIBLE_DEVICES=0")
    said = bundle.refuses(config())
    assert said == f"{FAILED}{tmp_path}/\\udcff/bundle: the bundle's path is not UTF-8: " + (
        "no hook can be told it"
    )


def test_legacy_adds_the_prestart_hook_once(bundle: Bundle, config: Callable[..., Config]) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=all", hooks={"prestart": [{"path": "/bin/a"}]})
    legacy = config('mode = "legacy"')
    found = bundle.create(legacy)
    assert found["hooks"] == {"prestart": [{"path": "/bin/a"}, PRESTART]}
    assert "linux" not in found
    before = version(bundle.file)
    bundle.create(legacy)
    assert version(bundle.file) == before
    assert not bundle.plan.exists()


def test_a_configured_hook_is_taken_as_it_is(bundle: Bundle, config: Callable[..., Config]) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=all")
    where = '[nvidia-container-runtime-hook]\npath = "/nowhere/hook"'
    found = bundle.create(config(f'mode = "legacy"\n{where}'))
    assert found["hooks"] == {"prestart": [{"path": "/nowhere/hook", "args": ["hook", "prestart"]}]}


def test_what_is_granted_and_refused_is_logged(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=0,1")
    bundle.create(config())
    granted = bundle.log.read_text()
    assert 'level=info msg="container c1: given by mode jit-cdi, ' in granted
    assert "asked for by its environment: " in granted
    assert "devices '0,1', capabilities 'compute,utility', IMEX channels ''" in granted
    bundle.write("NVIDIA_VISIBLE_DEVICES=0")
    key = "accept-nvidia-visible-devices-envvar-when-unprivileged = false"
    bundle.create(config(top=key))
    assert (
        'level=warning msg="container c1: Ignoring devices requested by environment variable(s) '
        'in unprivileged container: [NVIDIA_VISIBLE_DEVICES]"'
    ) in bundle.log.read_text()


def test_the_hook_is_told_who_writes_the_loader_cache(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=0")
    hook = bundle.create(config(top='ldcache = "exec"'))["hooks"]["createRuntime"][0]
    assert hook["args"][2:] == [str(bundle.plan), f"{bundle.path}/rootfs", "/sbin/ldconfig"]


def test_unknown_keys_are_named(bundle: Bundle, config: Callable[..., Config]) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=0")
    used = config("moode = 1", top="root = 1")
    bundle.create(used)
    log = bundle.log.read_text()
    for key in ("root", "nvidia-container-runtime.moode"):
        assert f'level=warning msg="{used.path}: {key}: unknown key"' in log


def test_own_cdi_names_mean_this_planner(bundle: Bundle, config: Callable[..., Config]) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=runtime.nvidia.com/gpu=3")
    nodes = bundle.create(config())["linux"]["devices"]
    assert "/dev/nvidia3" in [node["path"] for node in nodes]


def test_no_configuration(bundle: Bundle, config: Callable[..., Config]) -> None:
    assert bundle.refuses(config()) == (
        f"{FAILED}failed to construct OCI spec modifier: failed to load OCI spec: "
        f"{bundle.file}: no such file or directory"
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "line 1"),
        ('{"process": ', "line 1"),
        ("[]", "not an object"),
        ('{"a": "\udcff"}', "not UTF-8"),
    ],
)
def test_a_broken_configuration(
    bundle: Bundle, config: Callable[..., Config], text: str, why: str
) -> None:
    bundle.file.write_bytes(text.encode(errors="surrogateescape"))
    said = bundle.refuses(config())
    assert said.startswith(
        f"{FAILED}failed to construct OCI spec modifier: failed to load OCI spec"
    )
    assert why in said
    assert "\n" not in said


def test_an_unknown_mode(bundle: Bundle, config: Callable[..., Config]) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=all")
    assert bundle.refuses(config('mode = "foo"')) == (
        f'{FAILED}failed to construct OCI spec modifier: invalid mode "foo"'
    )


def test_an_unknown_gpu(bundle: Bundle, config: Callable[..., Config]) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=99")
    assert bundle.refuses(config()) == (
        "99: unknown device (GPUs are numbered 0 to 7 here; nvidia-smi -L on the host shows their "
        "UUIDs)"
    )


def test_requirements_hold_in_the_default_mode(
    bundle: Bundle, config: Callable[..., Config]
) -> None:
    bundle.write("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_CUDA=cuda>=99.1")
    assert "unsatisfied condition: cuda>=99.1" in bundle.refuses(config())
