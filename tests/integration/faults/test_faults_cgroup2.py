# SPDX-License-Identifier: Apache-2.0
"""Faults where version 2 cgroups rule: runs view_cgroup2.py where no others are in sight."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

VIEW = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'


def test_in_a_view_of_version_2() -> None:
    unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", VIEW, "sh"]
    pytest_ = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests = Path(__file__).with_name("view_cgroup2.py")
    done = subprocess.run(
        [*unshare, *pytest_, tests], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
