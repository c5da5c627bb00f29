# SPDX-License-Identifier: Apache-2.0
"""Docker, of Debian bookworm and a newer one: `--gpus`, and the runtime `nvidia`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from libnvc.testing import Dockerd

pytestmark = pytest.mark.root

RUN = ("run", "--rm", "--network=none")


def test_an_ordinary_container(dockerd: Dockerd, plain: str) -> None:
    script = "ls /dev; cat /proc/self/mounts; mknod /tmp/nvidia0 c 195 0; cat /tmp/nvidia0"
    done = dockerd.docker(*RUN, plain, "sh", "-c", script)
    assert done.stderr == "cat: /tmp/nvidia0: Operation not permitted\n"
    assert done.stdout.startswith("fd\nfull\n")
    assert "nvidia" not in done.stdout
