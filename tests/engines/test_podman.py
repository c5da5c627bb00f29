# SPDX-License-Identifier: Apache-2.0
"""Podman, of root and of an ordinary user, with runc and crun below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from libnvc.testing import Podman

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--net=none", "--cap-add=MKNOD")


def test_an_ordinary_container(podman: Podman, plain: str) -> None:
    script = "ls /dev; cat /proc/self/mounts; mknod /tmp/nvidia0 c 195 0 && cat /tmp/nvidia0"
    done = podman.podman(*RUN, plain, "sh", "-c", script)
    refused = "mknod" if podman.uid else "cat"
    assert done.stderr == f"{refused}: /tmp/nvidia0: Operation not permitted\n"
    assert "full\n" in done.stdout
    assert "nvidia" not in done.stdout
