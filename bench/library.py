# SPDX-License-Identifier: Apache-2.0
"""A process that runs already and calls the library when it is told to.

    python library.py PID ROOTFS    # of a container, as `libnvc.Target` has them

Each line of its input is a job and a driver root; it answers with the seconds that each call took.
"""

from __future__ import annotations

import os
import sys
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

import libnvc
from libnvc.model import CAPABILITIES

if TYPE_CHECKING:
    from collections.abc import Callable

# as in measure.py, which this process does not load
BEGIN, END = "libnvc-bench-begin", "libnvc-bench-end"

_Result = TypeVar("_Result")


class Library:
    """Calls the library for one container."""

    def __init__(self, target: libnvc.Target) -> None:
        self._target = target
        self._inventories: dict[str, libnvc.Inventory] = {}

    def discover(self, root: str) -> list[float]:
        """Return the seconds of `discover`."""
        return [_timed(lambda: libnvc.discover(root))[0]]

    def plan(self, root: str) -> list[float]:
        """Return the seconds of `make_plan`, for all that the driver has."""
        inventory, request = self._inventory(root), self._request()
        return [_timed(lambda: libnvc.make_plan(inventory, request))[0]]

    def apply(self, root: str) -> list[float]:
        """Return the seconds of `apply` and of `detach`."""
        return self._apply(root, self._request())

    def apply_without_cache(self, root: str) -> list[float]:
        """Return the seconds of both, the container's loader cache left alone."""
        return self._apply(root, self._request().replace(loader_cache=False))

    def _apply(self, root: str, request: libnvc.Request) -> list[float]:
        plan = libnvc.make_plan(self._inventory(root), request)
        there, applied = _timed(lambda: libnvc.apply(plan, self._target))
        back, _ = _timed(lambda: libnvc.detach(applied))
        # What was made and removed made directories newer: the image's cache was up to date.
        os.utime(f"{self._target.rootfs}/etc/ld.so.cache")
        return [there, back]

    def _inventory(self, root: str) -> libnvc.Inventory:
        if root not in self._inventories:
            self._inventories[root] = libnvc.discover(root)
        return self._inventories[root]

    def _request(self) -> libnvc.Request:
        layout = libnvc.inspect_container(self._target)
        return libnvc.Request(devices=("all",), capabilities=CAPABILITIES, layout=layout)


def _timed(call: Callable[[], _Result]) -> tuple[float, _Result]:
    os.access(BEGIN, os.F_OK)
    start = perf_counter()
    result = call()
    seconds = perf_counter() - start
    os.access(END, os.F_OK)
    return seconds, result


def main() -> None:
    """Do the jobs on standard input until it ends."""
    _, pid, rootfs = sys.argv
    library = Library(libnvc.Target(pid=int(pid), rootfs=rootfs))
    jobs = {
        "discover": library.discover,
        "plan": library.plan,
        "apply": library.apply,
        "apply-without-cache": library.apply_without_cache,
    }
    for line in sys.stdin:
        job, root = line.split()
        print(*jobs[job](root), flush=True)


if __name__ == "__main__":
    main()
