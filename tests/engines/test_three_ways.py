# SPDX-License-Identifier: Apache-2.0
"""One contract, three ways: by Python alone, by the native programs, and by what is kept.

What a container gets is the same each way, through every engine.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libnvc
from libnvc.testing import (
    Containerd,
    ContainerFailedError,
    Dockerd,
    OciContainer,
    Podman,
    make_rootfs,
    mounts,
    with_cgroups,
)
from tests.engines.conftest import SYSTEM_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import CheckGpus
    from tests.engines.conftest import Image

pytestmark = pytest.mark.root

RUNTIME, HOOK = "nvidia-container-runtime", "nvidia-container-runtime-hook"
CLI, CDI_HOOK = "nvidia-container-cli", "nvidia-cdi-hook"
MODULES = {
    RUNTIME: "runtime",
    HOOK: "runtime_hook",
    CLI: "container_cli",
    CDI_HOOK: "cdi_hook",
}
TAKES_NAME = (RUNTIME, HOOK, CLI)  # the native programs tell Python what they were called by

# The last step of the default mode, a plan file put into the container, has no Python in any way.
SCRIPT = """\
#!/bin/sh
[ "$1" = create-runtime ] && exec {native} "$@"
exec {python} -I -c 'from libnvc.cli.{module} import run; run()' {first} "$@"
"""

# Whoever starts an interpreter is known by it.
INTERPRETER = """\
#!/bin/sh
echo >>{mark}
exec {python} "$@"
"""


class Way:
    """Programs in a directory of their own, and how containers are started by them.

    Attributes:
        name: "python", "cold" or "kept".
        bin: the programs.
        config: what `config.toml` says, before the runtime's section.
    """

    def __init__(self, name: str, directory: Path, commands: Path, config: str) -> None:
        self.name = name
        self.bin = directory / "bin"
        self.config = ("" if name == "kept" else "cache = false\n") + config
        self._mark = directory / "mark"
        self._mark.touch()
        self._mark.chmod(0o666)
        self.bin.mkdir()
        if name == "python":
            for program, module in MODULES.items():
                first = f"{self.bin / program} {program}" if program in TAKES_NAME else ""
                text = SCRIPT.format(
                    native=commands / program, python=sys.executable, module=module, first=first
                )
                self._write(program, text)
            return
        for program in MODULES:
            shutil.copy(commands / program, self.bin)
        python = self.bin / "python3"
        self._write(python.name, INTERPRETER.format(mark=self._mark, python=sys.executable))
        self._write("nvidia-ctk", f"#!{python}\n")

    def look(self, start: Callable[[], object], starts: int = 0) -> None:
        """Do something, again and again until it was done this way.

        What changed within a tick of the clock is not kept yet, the first container may change
        something for the second, and other tests may call a runtime with another configuration.

        Args:
            start: starts a container, checks what it got, and removes it.
            starts: of interpreters, that no kept plan saves.
        """
        for _ in range(50):
            self._mark.write_text("")
            start()
            count = len(self._mark.read_text())
            if count > starts if self.name == "cold" else count <= starts:
                return
        raise AssertionError(f"{count} interpreters were started, at last")

    def _write(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)


@pytest.fixture(scope="module", params=["python", "cold", "kept"])
def way(request: pytest.FixtureRequest, commands: Path, config: str) -> Iterator[Way]:
    with tempfile.TemporaryDirectory(prefix="libnvc-way-") as directory:
        Path(directory).chmod(0o755)
        yield Way(request.param, Path(directory), commands, config)


@pytest.fixture(scope="module")
def uuids(dgx_a100: Path) -> list[str]:
    return [gpu.uuid for gpu in libnvc.discover(str(dgx_a100)).gpus]


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    """Return a root file system with nodes of all GPUs, made by hand."""
    rootfs = make_rootfs(tmp_path / "rootfs")
    (rootfs / "nodes").mkdir()
    for minor in range(8):
        os.mknod(rootfs / f"nodes/{minor}", 0o666 | stat.S_IFCHR, os.makedev(195, minor))
    return rootfs


@pytest.fixture
def start(
    way: Way, tmp_path: Path, rooms: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., OciContainer]:
    """Return what makes a container that is not started yet, of one mode and low-level runtime."""
    path = tmp_path / "config.toml"
    monkeypatch.setenv("NVIDIA_CTK_CONFIG_FILE_PATH", str(path))
    bundles = iter(range(1000))

    def make(mode: str, low_level: str, *environment: str) -> OciContainer:
        lines = f'[{RUNTIME}]\nmode = "{mode}"\nruntimes = ["{low_level}"]\n'
        text = way.config + lines
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        return OciContainer(
            tmp_path / f"c{next(bundles)}",
            rooms,
            runtime=str(way.bin / RUNTIME),
            cgroup="v1",
            environment=environment,
        )

    return make


def host_mounts(below: Path) -> list[str]:
    """Return what is mounted on the host below a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(below) in line]


# The runtime's own start: in the mode legacy it puts the hook in by Python.
STARTS = {"auto": 0, "legacy": 1}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize(
    ("asked", "given"),
    [("0", [0]), ("6,1", [1, 6]), ("all", range(8)), ("none", []), ("UUID-3", [3])],
)
def test_selection(
    way: Way, start: Any, uuids: list[str], mode: str, asked: str, given: list[int]
) -> None:
    value = uuids[3] if asked == "UUID-3" else asked

    def look() -> None:
        with start(mode, "runc", f"NVIDIA_VISIBLE_DEVICES={value}") as container:
            said = container.exec("nvidia-smi", "-L").stdout
            nodes = " ".join(f"/nodes/{minor}" for minor in range(8))
            answers = container.exec("sh", "-c", f"cat {nodes}").stderr.splitlines()
        assert re.findall(r"GPU-[0-9a-f-]{36}", said) == [uuids[index] for index in given]
        assert [answer.rpartition(": ")[2] for answer in answers] == [
            "No such device or address" if minor in given else "Operation not permitted"
            for minor in range(8)
        ]

    way.look(look, STARTS[mode])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_unknown_gpu(way: Way, start: Any, mode: str) -> None:
    """Nothing is kept of what failed."""
    for _ in range(2):
        with (
            pytest.raises(ContainerFailedError, match="9: unknown device"),
            start(mode, "runc", "NVIDIA_VISIBLE_DEVICES=9"),
        ):
            pass


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_apply(way: Way, start: Any, runtime: str, rooms: Path, dgx_a100: Path, mode: str) -> None:
    """Libraries, loader cache, procfs, and nothing of the host that was changed."""
    before = host_mounts(rooms)
    ask = ("NVIDIA_VISIBLE_DEVICES=2", "NVIDIA_DRIVER_CAPABILITIES=compute,utility")

    def look() -> None:
        with start(mode, runtime, *ask) as container:
            inside = {mount.path for mount in mounts(container.pid)}
            cache = container.exec("ldconfig", "-p").stdout
            link = container.exec("readlink", "/usr/lib/x86_64-linux-gnu/libcuda.so.1").stdout
            gpus = container.exec("ls", "/proc/driver/nvidia/gpus").stdout.split()
            driver = container.exec("cat", "/proc/driver/nvidia/version").stdout
        assert "libcuda.so.1 (" in cache
        assert "libnvidia-ml.so.1 (" in cache
        assert "libnvidia-encode" not in cache
        assert link == "libcuda.so.535.261.03\n"
        assert len(gpus) == 1
        assert driver == (dgx_a100 / "proc/driver/nvidia/version").read_text()
        assert "/usr/bin/nvidia-smi" in inside

    way.look(look, STARTS[mode])
    assert host_mounts(rooms) == before


def test_docker(
    way: Way,
    tmp_path: Path,
    images: dict[str, Image],
    check_gpus: CheckGpus,
) -> None:
    """With the hook, which `--gpus` calls, and with the runtime."""
    config = tmp_path / "config.toml"
    config.write_text(way.config)
    environment = {
        "PATH": f"{way.bin}:{SYSTEM_PATH}",
        "LC_ALL": "C",
        "NVIDIA_CTK_CONFIG_FILE_PATH": str(config),
    }
    runtimes = {"runtimes": {"nvidia": {"path": str(way.bin / RUNTIME)}}}
    name = images["plain"].name
    with Dockerd(tmp_path / "d", environment, configuration=runtimes) as dockerd:
        dockerd.load(images["plain"].archive)
        by_runtime = ("--runtime=nvidia", "--env=NVIDIA_VISIBLE_DEVICES=0,3")
        for asked in (("--gpus", '"device=0,3"'), by_runtime):
            run = partial(dockerd.docker, "run", "--rm", "--network=none", *asked, name)
            way.look(partial(check_gpus, run, [0, 3]))


def test_containerd(
    way: Way,
    tmp_path: Path,
    images: dict[str, Image],
    check_gpus: CheckGpus,
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(way.config)
    environment = {
        "PATH": f"{way.bin}:{SYSTEM_PATH}",
        "LC_ALL": "C",
        "NVIDIA_CTK_CONFIG_FILE_PATH": str(config),
    }
    plain, sandbox = images["plain"], images["sandbox"]
    with Containerd(
        tmp_path / "c",
        environment,
        handlers={"runc": "runc", "nvidia": way.bin / RUNTIME},
        sandbox=sandbox.name,
    ) as containerd:
        for image in (plain, sandbox):
            containerd.load(image.archive, image.name)
        asked = {"NVIDIA_VISIBLE_DEVICES": "0,3"}
        with containerd.cri.pod("ways", "nvidia") as pod:
            numbers = iter(range(1000))

            def look() -> None:
                container = pod.start(f"c{next(numbers)}", plain.name, environment=asked)
                check_gpus(container.exec, [0, 3])

            way.look(look)


def test_podman(
    way: Way,
    images: dict[str, Image],
    check_gpus: CheckGpus,
    low_level: str,
) -> None:
    lines = f'[{RUNTIME}]\nruntimes = ["{low_level}"]\n'
    with (
        tempfile.TemporaryDirectory(prefix="nvc-") as directory,
        Podman(  # its paths are short
            Path(directory) / "p",
            {"PATH": SYSTEM_PATH, "LC_ALL": "C"},
            etc={"nvidia-container-runtime/config.toml": way.config + lines},
            host=with_cgroups("v1"),
        ) as podman,
    ):
        podman.load(images["plain"].archive)
        asked = ("--net=none", "--cap-add=MKNOD", "--env=NVIDIA_VISIBLE_DEVICES=0,3")
        words = (f"--runtime={way.bin / RUNTIME}", "run", "--rm", *asked)
        run = partial(podman.podman, *words, images["plain"].name)
        way.look(partial(check_gpus, run, [0, 3]))
