# SPDX-License-Identifier: Apache-2.0
"""Podman, of root and of an ordinary user, with runc and crun below."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from libnvc.model import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from libnvc.testing import Podman
    from tests.conftest import CheckGpus

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--net=none", "--cap-add=MKNOD")


def test_an_ordinary_container(podman: Podman, plain: str) -> None:
    script = "ls /dev; cat /proc/self/mounts; mknod /tmp/nvidia0 c 195 0 && cat /tmp/nvidia0"
    done = podman.podman(*RUN, plain, "sh", "-c", script)
    refused = "mknod" if podman.uid else "cat"
    assert done.stderr == f"{refused}: /tmp/nvidia0: Operation not permitted\n"
    assert "full\n" in done.stdout
    assert "nvidia" not in done.stdout


def test_the_runtime_gives_what_is_asked_for(
    podman: Podman, nvidia_runtime: Path, plain: str, check_gpus: CheckGpus
) -> None:
    run = with_runtime(nvidia_runtime)
    asked = "--env=NVIDIA_VISIBLE_DEVICES=1,4"
    check_gpus(partial(podman.podman, *run, asked, plain), [1, 4], unprivileged=podman.uid != 0)


def test_the_runtime_gives_what_the_image_asks_for(
    podman: Podman, nvidia_runtime: Path, gpus: str, check_gpus: CheckGpus
) -> None:
    run = with_runtime(nvidia_runtime)
    check_gpus(partial(podman.podman, *run, gpus), range(8), unprivileged=podman.uid != 0)


def test_the_configuration_of_a_running_container_is_valid(
    podman: Podman, nvidia_runtime: Path, plain: str, running: Callable[[Path, str], dict[str, Any]]
) -> None:
    """By the runtime, and by CDI where the simulated driver's nodes can be bound (see below)."""
    run = ("run", "--detach", "--net=none")
    runtime = f"--runtime={nvidia_runtime}"
    ways: list[tuple[str, ...]] = [(runtime, *run, "--env=NVIDIA_VISIBLE_DEVICES=5")]
    if not podman.uid:
        ways.append((*run, "--device=nvidia.com/gpu=5"))
    for options in ways:
        started = podman.podman(*options, plain, "sleep", "1000000")
        assert started.returncode == 0, started.stderr
        name = started.stdout.strip()
        document = running(podman.directory, name)
        assert "nvidia" in json.dumps(document["hooks"])
        assert podman.podman("rm", "--force", "--time=0", name).returncode == 0


def test_the_runtime_leaves_an_ordinary_container_alone(
    podman: Podman, nvidia_runtime: Path, plain: str
) -> None:
    script = "ls /dev; cat /proc/self/mounts"
    done = podman.podman(*with_runtime(nvidia_runtime), plain, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nvidia" not in done.stdout


def test_an_unknown_gpu_stops_the_container(
    podman: Podman, nvidia_runtime: Path, plain: str
) -> None:
    asked = "--env=NVIDIA_VISIBLE_DEVICES=9"
    done = podman.podman(*with_runtime(nvidia_runtime), asked, plain, "true")
    assert done.returncode == 126
    assert "9: unknown device (GPUs are numbered 0 to 7 here; " in done.stderr


def test_a_hook_of_hooks_d_gives_what_is_asked_for(
    podman: Podman, commands: Path, plain: str, check_gpus: CheckGpus
) -> None:
    directory = podman.directory / "hooks.d"
    directory.mkdir()
    hook = str(commands / "nvidia-container-runtime-hook")
    manifest = {
        "version": "1.0.0",
        "hook": {"path": hook, "args": [hook, "prestart"]},
        "when": {"always": True, "commands": [".*"]},
        "stages": ["prestart"],
    }
    (directory / "oci-nvidia-hook.json").write_text(json.dumps(manifest))
    run = (f"--hooks-dir={directory}", *RUN, "--env=NVIDIA_VISIBLE_DEVICES=2")
    check_gpus(partial(podman.podman, *run, plain), [2], unprivileged=podman.uid != 0)


def test_devices_of_a_cdi_file(podman: Podman, plain: str, check_gpus: CheckGpus) -> None:
    asked = ("--device=nvidia.com/gpu=3", "--device=nvidia.com/gpu=1")
    run = partial(podman.podman, *RUN, *asked, plain)
    if podman.uid:
        # For an ordinary user, runtimes bind the host's node of the same path; the simulated
        # driver's nodes are elsewhere.
        done = run("true")
        assert done.returncode == 127
        assert "/dev/nvidia-modeset" in done.stderr
    else:
        check_gpus(run, [1, 3], capabilities=CAPABILITIES)


@pytest.mark.parametrize(
    ("names", "given"), [(["3", "1"], [1, 3]), (["all"], range(8))], ids=["two", "all"]
)
def test_devices_of_a_cdi_file_for_an_ordinary_user(
    rootless: Podman, plain: str, check_gpus: CheckGpus, names: list[str], given: Sequence[int]
) -> None:
    """The nodes are those of "/dev", as runtimes want them there."""
    asked = [f"--device=nvidia.com/gpu={name}" for name in names]
    run = partial(rootless.podman, *RUN, *asked, plain)
    check_gpus(run, given, unprivileged=True, capabilities=CAPABILITIES)


def test_an_unknown_device_of_a_cdi_file(rootless: Podman, plain: str) -> None:
    done = rootless.podman(*RUN, "--device=nvidia.com/gpu=9", plain, "true")
    assert done.returncode == 126
    assert "unresolvable CDI devices nvidia.com/gpu=9" in done.stderr


def with_runtime(runtime: Path) -> tuple[str, ...]:
    return (f"--runtime={runtime}", *RUN)
