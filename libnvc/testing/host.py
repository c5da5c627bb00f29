# SPDX-License-Identifier: Apache-2.0
"""A simulated driver as the driver of "/", for programs that name no other root. Needs root."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_UNSHARE = ("unshare", "--mount", "--propagation", "private")

# The driver's files lie above the machine's own, which stay visible, in the loader cache too. This
# kernel has no NVIDIA module, and nothing can be made in procfs itself.
_SETUP = """
set -e
sim=$1
for directory in dev etc usr/bin usr/lib; do
    mount -t overlay -o "lowerdir=$sim/$directory:/$directory" overlay "/$directory"
done
cache=$(mktemp)
ldconfig -X -C "$cache"
mount --bind "$cache" /etc/ld.so.cache
rm "$cache"
mount -t tmpfs tmpfs /proc/driver
cp -a "$sim/proc/driver/." /proc/driver
mount --bind "$sim/proc/devices" /proc/devices
shift
exec "$@"
"""

# A container runtime takes the cgroup hierarchies that it sees mounted: it is shown one kind only.
_CGROUPS = {
    "v1": "umount /sys/fs/cgroup/unified 2>/dev/null || true",
    "v2": "mount -t cgroup2 none /sys/fs/cgroup",
}


def private_mounts() -> list[str]:
    """Return what puts a command into a mount namespace of its own, whose mounts go with it."""
    return list(_UNSHARE)


def on_host(sim: Path) -> list[str]:
    """Return what puts a command into a mount namespace where "/" has a simulated driver.

    The sockets of its daemons are not there: /run remains the machine's.

    Args:
        sim: the simulated driver's root, absolute, on a file system that allows device nodes.
    """
    return [*_UNSHARE, "sh", "-c", _SETUP, "sh", str(sim)]


def with_cgroups(version: str) -> list[str]:
    """Return what puts a command into a mount namespace with one kind of cgroup hierarchy.

    Args:
        version: "v1" or "v2", whatever else this machine has mounted.
    """
    return [*_UNSHARE, "sh", "-c", f'{_CGROUPS[version]}; exec "$@"', "sh"]


def open_ways(paths: Sequence[Path]) -> str:
    """Return shell that lets others reach paths below directories that are closed to them.

    It must run in a mount namespace of its own: what else is in these directories vanishes there.

    Args:
        paths: absolute; at most seven that are not reachable.
    """
    hidden = {path: above for path in paths if (above := _first_closed(path))}
    # Held open while tmpfs cover the closed directories above; then bound where they were.
    lines = [f"exec {fd}<{shlex.quote(str(path))}" for fd, path in enumerate(hidden, 3)]
    lines += [
        shlex.join(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(above)])
        for above in dict.fromkeys(hidden.values())
    ]
    for fd, path in enumerate(hidden, 3):
        place = shlex.quote(str(path))
        lines.append(f"mkdir -p {place}")
        lines.append(f"mount --no-canonicalize --rbind /proc/self/fd/{fd} {place}")
        lines.append(f"exec {fd}<&-")
    return "\n".join([*lines, ""])


def _first_closed(path: Path) -> Path | None:
    """Return the topmost directory above a path that others cannot pass."""
    return next((above for above in [*path.parents][::-1] if not above.stat().st_mode & 1), None)
