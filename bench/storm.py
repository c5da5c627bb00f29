# SPDX-License-Identifier: Apache-2.0
"""Many containers created at the same time on one root file system."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING

from libnvc._record import Record
from libnvc.testing import ContainerFailedError, OciContainer

from .jobs import RUNTIMES, use_config
from .setting import EVERYTHING

if TYPE_CHECKING:
    from pathlib import Path

    from .setting import Setting

CREATES = 40
AT_ONCE = 8


class Storm(Record):
    """What became of it.

    Attributes:
        rate: creates per second, failed ones included.
        failures: the messages of those that failed.
    """

    rate: float
    failures: tuple[str, ...]


def storms(setting: Setting, driver: str, rounds: int) -> dict[str, list[Storm]]:
    """Create containers without and with GPUs, in turn; return what became of each storm.

    Each has an image of its own, which no container has used yet, on a disk: there it takes longest
    to make the mount points, so it is likelier that two do so at once.
    """
    configs = {keeps: setting.config(driver, "runc", keeps=keeps) for keeps in (False, True)}
    done: dict[str, list[Storm]] = {kind: [] for kind in RUNTIMES}
    for round_ in range(rounds + 1):
        for kind, (runtime, keeps) in RUNTIMES.items():
            use_config(configs[keeps])
            storm = _storm(setting, setting.disk_rootfs(), runtime)
            if round_:  # from the first on, what is kept is kept
                done[kind].append(storm)
    return done


def _storm(setting: Setting, image: Path, runtime: str) -> Storm:
    containers = [
        OciContainer(setting.fresh(), image, runtime=runtime, environment=EVERYTHING)
        for _ in range(CREATES)
    ]
    try:
        start = perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            errors = list(pool.map(_create, containers))
        seconds = perf_counter() - start
    finally:
        for container in containers:
            container.delete()
    return Storm(rate=CREATES / seconds, failures=tuple(error for error in errors if error))


def _create(container: OciContainer) -> str:
    try:
        container.create()
    except ContainerFailedError as error:
        return str(error)
    return ""
