# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-runtime` with CDI files of other vendors, in front of runc and crun."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from libnvc.testing import ContainerFailedError, OciContainer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root

ALLOWED, DENIED = "No such device or address", "Operation not permitted"
MAJOR = 240  # for local use: no driver has it
HOOK = "#!/bin/sh\ncat >/dev/null\nenv >{mark}\n"


@pytest.fixture
def nvidia(tmp_path: Path, commands: Path, runtime: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the runtime's path; it reads the CDI files of a directory with one."""
    directory = tmp_path / "cdi"
    directory.mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/hello").write_text("from the host\n")
    hook = tmp_path / "hook"
    hook.write_text(HOOK.format(mark=tmp_path / "mark"))
    hook.chmod(0o755)
    mount = {
        "hostPath": str(tmp_path / "shared"),
        "containerPath": "/opt/acme",
        "options": ["ro", "nosuid", "bind"],
    }
    calls = {"hookName": "createRuntime", "path": str(hook), "args": ["hook"], "env": ["X=1"]}
    node = {"path": "/dev/acme7", "type": "c", "major": MAJOR, "minor": 7, "fileMode": 0o666}
    document = {
        "cdiVersion": "0.3.0",
        "kind": "acme.com/dev",
        "containerEdits": {"env": ["ACME=1"], "mounts": [mount], "hooks": [calls]},
        "devices": [{"name": "d7", "containerEdits": {"deviceNodes": [node]}}],
    }
    (directory / "acme.json").write_text(json.dumps(document))
    config = tmp_path / "config.toml"
    config.write_text(
        f'[nvidia-container-runtime]\nruntimes = ["{runtime}"]\n'
        f'[nvidia-container-runtime.modes.cdi]\nspec-dirs = ["{directory}"]\n'
    )
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(config))
    return str(commands / "nvidia-container-runtime")


def annotate(names: str) -> Any:
    def change(document: dict[str, Any]) -> None:
        document["annotations"] = {"cdi.k8s.io/test": names}

    return change


def test_a_device_and_a_mount_are_there_and_nothing_else_is_allowed(
    tmp_path: Path, nvidia: str, rootfs: Path, cgroup: str
) -> None:
    (rootfs / "nodes").mkdir()
    for minor in (6, 7):
        os.mknod(rootfs / f"nodes/{minor}", 0o666 | stat.S_IFCHR, os.makedev(MAJOR, minor))
    container = OciContainer(
        tmp_path / "c",
        rootfs,
        runtime=nvidia,
        cgroup=cgroup,
        change=annotate("acme.com/dev=d7"),
    )
    with container:
        answers = [
            container.exec("cat", path).stderr.rpartition(": ")[2].strip()
            for path in ("/dev/acme7", "/nodes/7", "/nodes/6")
        ]
        hello = container.exec("cat", "/opt/acme/hello").stdout
        written = container.exec("sh", "-c", "echo x >/opt/acme/hello")
        variables = container.exec("sh", "-c", "echo $ACME").stdout
    assert answers == [ALLOWED, ALLOWED, DENIED]
    assert hello == "from the host\n"
    assert "Read-only file system" in written.stderr
    assert variables == "1\n"
    assert "X=1\n" in (tmp_path / "mark").read_text()


def test_an_unknown_device_stops_the_container(tmp_path: Path, nvidia: str, rootfs: Path) -> None:
    container = OciContainer(
        tmp_path / "c", rootfs, runtime=nvidia, change=annotate("acme.com/dev=d8")
    )
    before = (container.bundle / "config.json").read_bytes()
    with pytest.raises(ContainerFailedError) as caught, container:
        pass
    said = str(caught.value)
    assert "failed to inject CDI devices: unresolvable CDI devices acme.com/dev=d8 (" in said
    assert "acme.com/dev has d7: ask for one of these" in said
    assert (container.bundle / "config.json").read_bytes() == before
    assert not (tmp_path / "mark").exists()
