# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-runtime` in front of runc and crun: all that changes is what is asked for."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libnvc
from libnvc.testing import MAPPED, OciContainer, make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Configure = Callable[..., Path]

pytestmark = pytest.mark.root

ALLOWED, DENIED = "No such device or address", "Operation not permitted"
ASK = ("NVIDIA_VISIBLE_DEVICES=1,6", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")
DRIVER = "535.261.03"


@pytest.fixture
def configure(
    tmp_path: Path, dgx_a100: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """Return a writer of the configuration: top-level lines, and lines of the runtime's section."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(path))

    def write(*lines: str, top: str = "", cli: str = "") -> Path:
        text = f'{top}\n[nvidia-container-cli]\nroot = "{dgx_a100}"\nload-kmods = false\n{cli}\n'
        path.write_text(text + "\n".join(["[nvidia-container-runtime]", *lines]) + "\n")
        return path

    write()
    return write


@pytest.fixture
def nvidia(commands: Path) -> str:
    return str(commands / "nvidia-container-runtime")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Return a directory that everybody may enter, as those of engines."""
    with tempfile.TemporaryDirectory(prefix="libnvc-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def uuids(root: Path, *indices: int) -> list[str]:
    gpus = libnvc.discover(str(root)).gpus
    return [gpus[index].uuid for index in indices]


def listed(container: OciContainer) -> list[str]:
    done = container.exec("nvidia-smi", "-L")
    assert (done.returncode, done.stderr) == (0, "")
    return re.findall(r"GPU-[0-9a-f-]{36}", done.stdout)


def document(container: OciContainer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((container.bundle / "config.json").read_text())
    return found


@pytest.mark.parametrize(
    ("mode", "readonly", "user_namespace"),
    [
        ("auto", False, False),
        ("auto", True, False),
        ("auto", False, True),
        ("auto", True, True),
        ("legacy", False, False),
        ("legacy", True, True),
    ],
    ids=["auto", "auto-readonly", "auto-userns", "auto-readonly-userns", "legacy", "legacy-both"],
)
def test_a_container_gets_exactly_the_gpus_it_asks_for(
    configure: Configure,
    nvidia: str,
    dgx_a100: Path,
    reachable: Path,
    runtime: str,
    cgroup: str,
    readonly: bool,
    user_namespace: bool,
    mode: str,
) -> None:
    configure(f'runtimes = ["{runtime}"]', f'mode = "{mode}"')
    rootfs = make_rootfs(reachable / "rootfs")
    (rootfs / "nodes").mkdir()
    for minor in range(8):  # by hand: nobody in a user namespace can make them
        os.mknod(rootfs / f"nodes/{minor}", 0o666 | stat.S_IFCHR, os.makedev(195, minor))
    if user_namespace:
        subprocess.run(["chown", "-R", f"{MAPPED}:{MAPPED}", rootfs], check=True)
    container = OciContainer(
        reachable / "c",
        rootfs,
        runtime=nvidia,
        cgroup=cgroup,
        readonly=readonly,
        user_namespace=user_namespace,
        environment=ASK,
    )
    with container:
        assert listed(container) == uuids(dgx_a100, 1, 6)
        for index in (1, 6):
            answer = container.exec("cat", f"/dev/nvidia{index}").stderr
            assert answer == f"cat: /dev/nvidia{index}: {ALLOWED}\n"
        found = {}
        for minor in range(8):
            answer = container.exec("cat", f"/nodes/{minor}").stderr
            found[minor] = answer.rpartition(": ")[2].strip()
        cache = container.exec("ldconfig", "-p").stdout
    assert found == {minor: ALLOWED if minor in (1, 6) else DENIED for minor in range(8)}
    assert "libcuda.so.1 " in cache
    assert "libnvidia-ml.so.1 " in cache
