# SPDX-License-Identifier: Apache-2.0
"""Devices that variables of their own switch on."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

import libnvc.sim

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from libnvc._config.settings import Config
    from tests.unit.conftest import Bundle

pytestmark = pytest.mark.root

ALL = "NVIDIA_VISIBLE_DEVICES=all"
NODES = {
    "infiniband/rdma_cm": (10, 58),
    "infiniband/uverbs0": (231, 192),
    "gdrdrv": (236, 0),
    "nvidia-nvswitchctl": (195, 255),
    "nvidia-nvswitch0": (235, 0),
    "nvidia-fs0": (234, 0),
    "nvidia-fs1": (234, 1),
}
GIVEN = {
    "NVIDIA_MOFED": ["/dev/infiniband/rdma_cm", "/dev/infiniband/uverbs0"],
    "NVIDIA_GDRCOPY": ["/dev/gdrdrv"],
    "NVIDIA_NVSWITCH": ["/dev/nvidia-nvswitch0", "/dev/nvidia-nvswitchctl"],
    "NVIDIA_GDS": ["/dev/nvidia-fs0", "/dev/nvidia-fs1"],
}


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Return the root of a driver of our own, with these devices."""
    root = tmp_path / "driver"
    libnvc.sim.create("mx150", root)
    for name, (major, minor) in NODES.items():
        path = root / "dev" / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        os.mknod(path, 0o660 | stat.S_IFCHR, os.makedev(major, minor))
    (root / "etc/cufile.json").write_text("{}")
    return root


@pytest.fixture
def settings(config: Callable[..., Config], driver: Path) -> Callable[[str], Config]:
    def make(mode: str) -> Config:
        found = config(f'mode = "{mode}"')
        return found.replace(cli=found.cli.replace(root=str(driver)))

    return make


def paths(document: dict[str, Any]) -> list[str]:
    return [node["path"] for node in document.get("linux", {}).get("devices", [])]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("variable", GIVEN)
def test_what_is_switched_on_comes_beside_the_gpus(
    bundle: Bundle, settings: Callable[[str], Config], mode: str, variable: str
) -> None:
    bundle.write(ALL)
    without = bundle.create(settings(mode))
    bundle.write(ALL, f"{variable}=enabled")
    found = bundle.create(settings(mode))
    assert sorted(set(paths(found)) - set(paths(without))) == GIVEN[variable]
    allowed = {
        (rule["major"], rule["minor"])
        for rule in found["linux"]["resources"]["devices"]
        if rule["allow"]
    }
    assert {NODES[path.removeprefix("/dev/")] for path in GIVEN[variable]} <= allowed
    assert found["hooks"] == without["hooks"]
    # The reference's `NVIDIA_VISIBLE_DEVICES=void` would take the GPUs away in the mode legacy.
    assert found["process"]["env"] == ["PATH=/bin", ALL, f"{variable}=enabled"]
    mounts = [mount["destination"] for mount in found.get("mounts", [])]
    assert mounts == (["/etc/cufile.json"] if variable == "NVIDIA_GDS" else [])


@pytest.mark.parametrize("value", ["", "Enabled", "true", "1", "enabled "])
def test_other_values_switch_nothing_on(
    bundle: Bundle, settings: Callable[[str], Config], value: str
) -> None:
    bundle.write(ALL, f"NVIDIA_MOFED={value}")
    assert not set(GIVEN["NVIDIA_MOFED"]) & set(paths(bundle.create(settings("auto"))))


@pytest.mark.parametrize("env", [(), ("NVIDIA_VISIBLE_DEVICES=void",)])
def test_who_asks_for_no_gpu_gets_nothing(
    bundle: Bundle, settings: Callable[[str], Config], env: tuple[str, ...]
) -> None:
    text = bundle.write(*env, "NVIDIA_MOFED=enabled")
    bundle.create(settings("auto"))
    assert bundle.file.read_text() == text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_host_without_them(
    bundle: Bundle, settings: Callable[[str], Config], driver: Path, mode: str
) -> None:
    (driver / "dev/gdrdrv").unlink()
    bundle.write(ALL, "NVIDIA_GDRCOPY=enabled")
    said = bundle.refuses(settings(mode))
    assert "NVIDIA_GDRCOPY=enabled: invalid CDI Spec: failed add device" in said
    assert f"mode gdrcopy: this host has no {driver}/dev/gdrdrv" in said
