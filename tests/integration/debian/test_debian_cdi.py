# SPDX-License-Identifier: Apache-2.0
"""CDI files of NVIDIA's own files, in both layouts."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pytest

from libnvc._cdi.edits import apply_edits
from libnvc._cdi.generate import generate
from libnvc._cdi.options import Options
from libnvc._cdi.registry import read_registry
from libnvc._cdi.write import to_text
from libnvc._native import elf
from libnvc.testing import OciContainer, multiarch

if TYPE_CHECKING:
    from tests.integration.debian.conftest import Driver

pytestmark = pytest.mark.root

LIBS = f"/usr/lib/{multiarch()}"
RECORDED = Path(__file__).parents[2] / "data/reference/cdi-generate.json"

#: Libraries that the recorded host has beside those of the fetched packages.
NOT_FETCHED = (
    *("libglxserver_nvidia", "libnvoptix", "libnvidia-egl-", "libnvidia-vulkan-producer"),
)


def mounts(document: dict[str, Any]) -> dict[str, str]:
    common = document["containerEdits"]["mounts"]
    return {mount["containerPath"]: mount["hostPath"] for mount in common}


def generated(driver: Driver, commands: Path) -> dict[str, Any]:
    hook = str(commands / "nvidia-cdi-hook")
    return generate(Options(driver_root=str(driver.root), nvidia_cdi_hook_path=hook)).document


def test_libraries_and_programs_are_those_of_the_recordings(driver: Driver, commands: Path) -> None:
    (case,) = [c for c in json.loads(RECORDED.read_text()) if c["name"] == "cdi-host"]
    recorded = {line.split()[1] for line in case["expect"]["mounts"]}
    now = mounts(generated(driver, commands))
    for part in ("/lib", "/usr/bin/"):
        wanted = {
            PurePosixPath(path).name
            for path in recorded
            if part in path and PurePosixPath(path).name.startswith(("lib", "nvidia-"))
        }
        found = {
            PurePosixPath(path).name
            for path in now
            if part in path and PurePosixPath(path).name.startswith(("lib", "nvidia-"))
        }
        missing = {name for name in wanted - found if not name.startswith(NOT_FETCHED)}
        assert (missing, found - wanted) == (set(), set())
    assert all(Path(source).exists() for source in now.values())


def test_every_soname_is_in_the_loader_cache(
    driver: Driver, commands: Path, tmp_path: Path, rootfs: Path
) -> None:
    document = generated(driver, commands)
    (tmp_path / "cdi").mkdir()
    (tmp_path / "cdi/nvidia.yaml").write_text(to_text(document, "yaml"))

    def change(configuration: dict[str, Any]) -> None:
        edits = read_registry([str(tmp_path / "cdi")]).find(["nvidia.com/gpu=0"])
        configuration.update(apply_edits(configuration, edits))

    with OciContainer(tmp_path / "c", rootfs, change=change) as container:
        listed = container.exec("ldconfig", "-p").stdout
        nodes = container.exec("sh", "-c", "ls -d /dev/nvidia[0-9]*").stdout
    assert nodes == "/dev/nvidia0\n"
    names = {line.split()[0] for line in listed.splitlines()[1:]}
    for path in mounts(document):
        name = PurePosixPath(path).name
        if name.startswith("lib") and "/nvidia/xorg/" not in path:
            assert (elf.read(mounts(document)[path]).soname or name) in names
