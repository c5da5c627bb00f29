# SPDX-License-Identifier: Apache-2.0
"""Containerd as a kubelet drives it, of Debian bookworm and a newer one: pods with a runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from libnvc.testing import Containerd

pytestmark = pytest.mark.root


def test_an_ordinary_container(containerd: Containerd, plain: str) -> None:
    script = "ls /dev; cat /proc/self/mounts; mknod /tmp/nvidia0 c 195 0; cat /tmp/nvidia0"
    with containerd.cri.pod("ordinary") as pod:
        done = pod.start("one", plain).exec("sh", "-c", script)
    assert done.stderr == "cat: /tmp/nvidia0: Operation not permitted\n"
    assert done.stdout.startswith("fd\nfull\n")
    assert "nvidia" not in done.stdout
