# SPDX-License-Identifier: Apache-2.0
"""Containerd as a kubelet drives it, of Debian bookworm and a newer one: pods with a runtime."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from libnvc.model import CAPABILITIES
from libnvc.testing import Containerd, ContainerFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.conftest import CheckGpus
    from tests.engines.conftest import Image

pytestmark = pytest.mark.root


def test_an_ordinary_container(containerd: Containerd, plain: str) -> None:
    script = "ls /dev; cat /proc/self/mounts; mknod /tmp/nvidia0 c 195 0; cat /tmp/nvidia0"
    with containerd.cri.pod("ordinary") as pod:
        done = pod.start("one", plain).exec("sh", "-c", script)
    assert done.stderr == "cat: /tmp/nvidia0: Operation not permitted\n"
    assert done.stdout.startswith("fd\nfull\n")
    assert "nvidia" not in done.stdout


def test_the_handler_gives_what_the_container_asks_for(
    containerd: Containerd, plain: str, check_gpus: CheckGpus
) -> None:
    """Two containers of one pod, with GPUs of their own."""
    with containerd.cri.pod("two", "nvidia") as pod:
        first = pod.start("one", plain, environment={"NVIDIA_VISIBLE_DEVICES": "0,3"})
        second = pod.start("two", plain, environment={"NVIDIA_VISIBLE_DEVICES": "6"})
        check_gpus(first.exec, [0, 3])
        check_gpus(second.exec, [6])


def test_the_configuration_of_a_running_container_is_valid(
    containerd: Containerd,
    plain: str,
    running: Callable[[Path, str], dict[str, Any]],
    engine_path: list[Path],
) -> None:
    """By the runtime, and by CDI where containerd knows that."""
    asked: list[tuple[str, dict[str, Any]]] = [
        ("nvidia", {"environment": {"NVIDIA_VISIBLE_DEVICES": "5"}})
    ]
    if engine_path:
        asked.append(("runc", {"cdi_devices": ["nvidia.com/gpu=5"]}))
    for handler, options in asked:
        with containerd.cri.pod("valid", handler) as pod:
            container = pod.start("one", plain, **options)
            document = running(containerd.directory, container.id)
        assert "nvidia" in json.dumps(document["hooks"])


def test_the_handler_gives_what_the_image_asks_for(
    containerd: Containerd, gpus: str, check_gpus: CheckGpus
) -> None:
    with containerd.cri.pod("all", "nvidia") as pod:
        check_gpus(pod.start("one", gpus).exec, range(8))


def test_an_unknown_gpu_stops_the_container(containerd: Containerd, plain: str) -> None:
    asked = {"NVIDIA_VISIBLE_DEVICES": "9"}
    refused = "9: unknown device .GPUs are numbered 0 to 7 here; "
    with (
        containerd.cri.pod("unknown", "nvidia") as pod,
        pytest.raises(ContainerFailedError, match=refused),
    ):
        pod.start("one", plain, environment=asked)


def test_ctr_with_the_runtime_as_its_runc(
    containerd: Containerd, nvidia_runtime: Path, plain: str, check_gpus: CheckGpus
) -> None:
    # The machine's cgroup v2 may have no controller for processors.
    options = ("--cpu-shares=0", f"--runc-binary={nvidia_runtime}")
    asked = "--env=NVIDIA_VISIBLE_DEVICES=2,5"
    run = partial(containerd.run, (*options, asked), plain, "by-ctr", namespace="k8s.io")
    check_gpus(run, [2, 5])


def test_the_handler_leaves_an_ordinary_container_alone(containerd: Containerd, plain: str) -> None:
    with containerd.cri.pod("alone", "nvidia") as pod:
        done = pod.start("one", plain).exec("sh", "-c", "ls /dev; cat /proc/self/mounts")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nvidia" not in done.stdout


def test_the_default_runtime(
    tmp_path_factory: pytest.TempPathFactory,
    environment: dict[str, str],
    configured: Callable[..., Callable[[Path], None]],
    images: dict[str, Image],
    check_gpus: CheckGpus,
) -> None:
    """Where no other is configured, runc, which containerd has by itself, is still there."""
    with Containerd(
        tmp_path_factory.mktemp("cri"),
        environment,
        handlers={},
        sandbox=images["sandbox"].name,
        configure=configured("containerd", "--set-as-default"),
    ) as containerd:
        for name in ("sandbox", "gpus"):
            containerd.load(images[name].archive, images[name].name)
        with containerd.cri.pod("default") as pod:
            check_gpus(pod.start("one", images["gpus"].name).exec, range(8))
        with containerd.cri.pod("runc", "runc") as pod:
            done = pod.start("one", images["gpus"].name).exec("ls", "/dev")
        assert "nvidia" not in done.stdout


@pytest.mark.parametrize(
    ("names", "given"), [(["0", "3"], [0, 3]), (["6"], [6]), (["all"], range(8))]
)
def test_cdi_devices_of_a_container(
    containerd: Containerd,
    plain: str,
    check_gpus: CheckGpus,
    engine_path: list[Path],
    names: list[str],
    given: Sequence[int],
) -> None:
    """Without any runtime of ours; releases before 1.7 know nothing of them."""
    asked = [f"nvidia.com/gpu={name}" for name in names]
    with containerd.cri.pod("cdi", "runc") as pod:
        container = pod.start("one", plain, cdi_devices=asked)
        if engine_path:
            check_gpus(container.exec, given, capabilities=CAPABILITIES)
        else:
            assert "nvidia" not in container.exec("ls", "/dev").stdout


def test_an_unknown_cdi_device_stops_the_container(
    containerd: Containerd, plain: str, engine_path: list[Path]
) -> None:
    if not engine_path:
        return  # the test above shows that this release does not look
    refused = "unresolvable CDI devices nvidia.com/gpu=9"
    with (
        containerd.cri.pod("unknown-cdi", "runc") as pod,
        pytest.raises(ContainerFailedError, match=refused),
    ):
        pod.start("one", plain, cdi_devices=["nvidia.com/gpu=9"])
