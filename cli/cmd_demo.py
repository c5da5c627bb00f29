# SPDX-License-Identifier: Apache-2.0
"""`nvc demo`: the whole way on this machine, explained while it runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from libnvc.errors import NvcError

if TYPE_CHECKING:
    from typing import Never

# Programs of util-linux that the way without a runtime needs.
_TOOLS = ("unshare", "nsenter", "mount")


def demo() -> None:
    """Put GPUs into a container, use them inside, take them out again, and explain each step.

    Without an NVIDIA driver on this machine a simulated one is used. As root the container is
    run by runc; otherwise in namespaces of the demo's own making. Everything is cleaned up.
    """
    if os.geteuid() != 0:
        _become_root_of_a_user_namespace()
    from libnvc.testing import ContainerFailedError

    from .demo_steps import tell
    from .demo_story import Story

    signal.signal(signal.SIGTERM, _stop)
    reason = _why_not_runc()
    try:
        with tempfile.TemporaryDirectory(prefix="nvc-demo-") as directory:
            Path(directory).chmod(0o755)  # whoever asks NVML must reach the driver in it
            tell(Story(), Path(directory), reason)
    except ContainerFailedError as error:
        raise NvcError(
            f"the container could not be set up: {error}; the demo needs root on a machine that "
            "can run containers, or an ordinary user who may make user namespaces"
        ) from None
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip()
        raise NvcError(f"{error.cmd[0]} failed with status {error.returncode}: {said}") from None


def _become_root_of_a_user_namespace() -> None:
    """Run this command again as "root" of new user and mount namespaces; do not return.

    Raises:
        NvcError: this machine does not allow it.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        raise NvcError(f"{' '.join(missing)} not found: install util-linux, or run as root")
    enter = ["unshare", "--user", "--map-root-user", "--mount"]
    tried = subprocess.run([*enter, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise NvcError(
            f"user namespaces are not allowed here ({tried.stderr.strip()}): run as root"
        )
    again = "from libnvc.cli.nvc import main; raise SystemExit(main())"
    os.execvp(enter[0], [*enter, sys.executable, "-P", "-c", again, *sys.argv[1:]])  # noqa: S606


def _why_not_runc() -> str:
    """Return why the container cannot be run by runc, or ""."""
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return "you are not root"
    if shutil.which("runc") is None:
        return "runc is not installed"
    return ""


def _stop(number: int, _frame: object) -> Never:
    raise SystemExit(128 + number)
