# SPDX-License-Identifier: Apache-2.0
"""Docker, of Debian bookworm and a newer one: `--gpus`, and the runtime `nvidia`."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from libnvc.model import CAPABILITIES
from libnvc.testing import ContainerFailedError, Dockerd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import CheckGpus
    from tests.engines.conftest import Image

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--network=none")


def test_an_ordinary_container(dockerd: Dockerd, plain: str) -> None:
    script = "ls /dev; cat /proc/self/mounts; mknod /tmp/nvidia0 c 195 0; cat /tmp/nvidia0"
    done = dockerd.docker(*RUN, plain, "sh", "-c", script)
    assert done.stderr == "cat: /tmp/nvidia0: Operation not permitted\n"
    assert done.stdout.startswith("fd\nfull\n")
    assert "nvidia" not in done.stdout


@pytest.mark.parametrize(
    ("asked", "given"), [('"device=0,3"', [0, 3]), ("2", [0, 1]), ("all", range(8))]
)
def test_gpus_option(
    dockerd: Dockerd, plain: str, check_gpus: CheckGpus, asked: str, given: list[int]
) -> None:
    check_gpus(partial(dockerd.docker, *RUN, "--gpus", asked, plain), given)


def test_an_unknown_gpu_stops_the_container(dockerd: Dockerd, plain: str) -> None:
    done = dockerd.docker(*RUN, "--name=unknown", "--gpus", "device=9", plain, "true")
    assert done.returncode == 125
    assert "device error: 9: unknown device" in done.stderr
    assert dockerd.docker("ps", "--all", "--quiet", "--filter=name=unknown").stdout == ""


def test_the_runtime_gives_what_is_asked_for(
    dockerd: Dockerd, plain: str, check_gpus: CheckGpus
) -> None:
    options = ("--runtime=nvidia", "--env=NVIDIA_VISIBLE_DEVICES=1,4")
    check_gpus(partial(dockerd.docker, *RUN, *options, plain), [1, 4])


def test_the_runtime_gives_what_the_image_asks_for(
    dockerd: Dockerd, gpus: str, check_gpus: CheckGpus
) -> None:
    check_gpus(partial(dockerd.docker, *RUN, "--runtime=nvidia", gpus), range(8))


def test_the_runtime_leaves_an_ordinary_container_alone(dockerd: Dockerd, plain: str) -> None:
    script = "ls /dev; cat /proc/self/mounts"
    done = dockerd.docker(*RUN, "--runtime=nvidia", plain, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nvidia" not in done.stdout


def test_a_gpu_is_still_there_after_exec_and_restart(
    dockerd: Dockerd, plain: str, check_gpus: CheckGpus
) -> None:
    options = ("--detach", "--name=kept", "--network=none", "--gpus", "device=5")
    started = dockerd.docker("run", *options, plain, "sleep", "1000000")
    assert (started.returncode, started.stderr) == (0, "")
    check_gpus(partial(dockerd.docker, "exec", "kept"), [5])
    assert dockerd.docker("restart", "--time=0", "kept").returncode == 0
    check_gpus(partial(dockerd.docker, "exec", "kept"), [5])
    assert dockerd.docker("rm", "--force", "kept").returncode == 0


def test_the_configuration_of_a_running_container_is_valid(
    dockerd: Dockerd,
    plain: str,
    running: Callable[[Path, str], dict[str, Any]],
    engine_path: list[Path],
) -> None:
    """By the runtime, by the hook, and by CDI where Docker knows that."""
    ways: list[tuple[str, tuple[str, ...]]] = [
        ("createRuntime", ("--runtime=nvidia", "--env=NVIDIA_VISIBLE_DEVICES=5")),
        ("prestart", ("--gpus", "device=5")),
    ]
    if engine_path:
        ways.append(("createContainer", ("--device=nvidia.com/gpu=5",)))
    for stage, options in ways:
        words = ("--detach", "--network=none", *options)
        started = dockerd.docker("run", *words, plain, "sleep", "1000000")
        assert (started.returncode, started.stderr) == (0, "")
        name = started.stdout.strip()
        document = running(dockerd.directory, name)
        assert "nvidia" in json.dumps(document["hooks"][stage])
        assert dockerd.docker("rm", "--force", name).returncode == 0


def test_an_update_leaves_the_gpu(dockerd: Dockerd, plain: str, check_gpus: CheckGpus) -> None:
    """Docker has runc apply the container's list of devices anew."""
    options = ("--detach", "--name=updated", "--network=none", "--runtime=nvidia")
    asked = "--env=NVIDIA_VISIBLE_DEVICES=5"
    started = dockerd.docker("run", *options, asked, plain, "sleep", "1000000")
    assert (started.returncode, started.stderr) == (0, "")
    updated = dockerd.docker("update", "--cpu-shares=512", "updated")
    assert (updated.returncode, updated.stderr) == (0, "")
    check_gpus(partial(dockerd.docker, "exec", "updated"), [5])
    assert dockerd.docker("rm", "--force", "updated").returncode == 0


def test_the_default_runtime(
    tmp_path: Path,
    environment: dict[str, str],
    configured: Callable[..., Callable[[Path], None]],
    images: dict[str, Image],
    check_gpus: CheckGpus,
) -> None:
    """It sees every container; with `--gpus` the hook is there, too, and only one gives GPUs."""
    configure = configured("docker", "--set-as-default")
    plain, gpus = images["plain"], images["gpus"]
    with Dockerd(tmp_path / "d", environment, configure=configure) as dockerd:
        for image in (plain, gpus):
            dockerd.load(image.archive)
        check_gpus(partial(dockerd.docker, *RUN, gpus.name), range(8))
        check_gpus(partial(dockerd.docker, *RUN, "--gpus", "device=3", plain.name), [3])
        done = dockerd.docker(*RUN, plain.name, "sh", "-c", "ls /dev; cat /proc/self/mounts")
        assert (done.returncode, done.stderr) == (0, "")
        assert "nvidia" not in done.stdout


def test_a_daemon_that_does_not_start_says_why(tmp_path: Path, environment: dict[str, str]) -> None:
    with (
        pytest.raises(ContainerFailedError, match="configuration option: nonsense"),
        Dockerd(tmp_path / "dockerd", environment, configuration={"nonsense": 1}),
    ):
        pass


@pytest.mark.parametrize(
    "asked",
    [
        ("--device=nvidia.com/gpu=3", "--device=nvidia.com/gpu=1"),
        ("--gpus", '"driver=cdi","device=nvidia.com/gpu=1,nvidia.com/gpu=3"'),
    ],
)
def test_devices_of_a_cdi_file(
    dockerd: Dockerd,
    plain: str,
    check_gpus: CheckGpus,
    engine_path: list[Path],
    asked: tuple[str, ...],
) -> None:
    """Docker reads such files since release 25."""
    run = partial(dockerd.docker, *RUN, *asked, plain)
    if engine_path:
        check_gpus(run, [1, 3], capabilities=CAPABILITIES)
    else:
        assert run("true").returncode == 125


@pytest.mark.parametrize("suite", ["forky"], indirect=True)
def test_docker_28_lists_the_devices_of_a_cdi_file(dockerd: Dockerd) -> None:
    told = json.loads(dockerd.docker("info", "--format={{json .DiscoveredDevices}}").stdout)
    names = {device["ID"] for device in told if device["Source"] == "cdi"}
    assert {"nvidia.com/gpu=0", "nvidia.com/gpu=7", "nvidia.com/gpu=all"} <= names


def test_an_unknown_device_of_a_cdi_file_stops_the_container(
    dockerd: Dockerd, plain: str, engine_path: list[Path]
) -> None:
    done = dockerd.docker(*RUN, "--device=nvidia.com/gpu=9", plain, "true")
    assert done.returncode == 125
    if engine_path:
        assert "unresolvable CDI devices nvidia.com/gpu=9" in done.stderr
