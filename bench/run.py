# SPDX-License-Identifier: Apache-2.0
"""Measure everything in turn and print the tables."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from . import storm
from .jobs import BARE, GPUS, PYTHON, RUNTIMES, Job, Row, Use, all_jobs, growth
from .measure import Spread, interleave, spread
from .setting import Setting, profile

_STORM_ROUNDS = 3
_WIDTH = 128
_COLUMNS = ("ms", "half lies in", "in P", "ratio", "calls", "children", "MiB")
_LEGEND = """\
Medians. P: the bare interpreter. Ratio: to the same step of a plain container, or of the apply and
detach above. Calls, children: those of the interpreter's start included; for the library those of
the call alone. Images are on a tmpfs but for "image on disk" and the many creates; so is /run.
"""


class Results:
    """What was measured.

    Attributes:
        jobs: in the order of the tables.
        times: milliseconds by the name of the row.
        uses: by the name of the row.
    """

    def __init__(self, jobs: list[Job], rounds: int) -> None:
        """Measure.

        Args:
            jobs: what.
            rounds: how often; two or more.
        """
        self.jobs = jobs
        self.uses: dict[str, Use] = {}
        for job in jobs:  # also makes everything warm
            self.uses.update(zip((row.name for row in job.rows), job.use(), strict=True))
        done = interleave({job.rows[0].name: job.time for job in jobs}, rounds)
        self.times: dict[str, Spread] = {}
        for job in jobs:
            columns = zip(*done[job.rows[0].name], strict=True)
            for row, seconds in zip(job.rows, columns, strict=True):
                self.times[row.name] = spread([1000 * second for second in seconds])

    def ratio(self, name: str, other: str) -> float:
        """Return how many times the one's median is the other's."""
        return self.times[name].median / self.times[other].median

    def cells(self, row: Row) -> list[str]:
        """Return a line of a table."""
        time, use = self.times[row.name], self.uses[row.name]
        return [
            row.name,
            f"{time.median:.2f}",
            f"{time.low:.2f}-{time.high:.2f}",
            f"{self.ratio(row.name, BARE):.2f}",
            f"{self.ratio(row.name, row.against):.2f}" if row.against else "",
            str(use.calls.total) if use.calls else "",
            str(use.calls.children) if use.calls else "",
            f"{use.memory:.1f}",
            row.target,
        ]

    def added(self) -> str:
        """Return what a container with GPUs costs more than one without."""
        bare, plain = self.times[BARE].median, self.times["plain whole"].median
        more = {kind: self.times[f"{kind} whole"].median - plain for kind in RUNTIMES}
        told = [f"{kind} {ms:.1f} ms, {ms / bare:.1f} P" for kind, ms in more.items() if ms]
        return f"added to plain runc: {'; '.join(told)} (targets: ≤ 5 P; kept ≤ 1 P)"

    def slopes(self) -> str:
        """Return what each further GPU costs."""
        first, last = GPUS[0], GPUS[-1]
        found = []
        for job in ("discover", "plan", "apply", "list"):
            more = self.times[growth(job, last)].median - self.times[growth(job, first)].median
            found.append(f"{job} {more / (last - first):.3f} ms")
        return f"each further GPU: {', '.join(found)} (target: ≤ 0.3 ms in all)"


def main(rounds: int) -> None:
    """Measure each job `rounds` times, and print what came out.

    Needs root, and a mount namespace that it may change.
    """
    console = Console(width=_WIDTH, highlight=False, markup=False)
    with ExitStack() as stack:
        disk, memory = _directory(stack), _directory(stack)
        # How long a disk takes to make a file depends on who else uses it.
        subprocess.run(["mount", "-t", "tmpfs", "libnvc-bench", memory], check=True)
        # As every distribution has it; runtimes and libnvc keep files there.
        subprocess.run(["mount", "-t", "tmpfs", "libnvc-bench", "/run"], check=True)
        stack.callback(lambda: subprocess.run(["umount", memory], check=True))
        setting = Setting(memory, disk, stack)
        results = Results(all_jobs(setting), rounds)
        driver = setting.driver(profile("dgx-a100"))
        storms = storm.storms(setting, driver, _STORM_ROUNDS)
    console.print(_machine(rounds), soft_wrap=True)
    console.print(_LEGEND)
    for section in dict.fromkeys(job.section for job in results.jobs):
        console.print(_table(section, results))
    console.print(results.added())
    console.print(results.slopes())
    for kind, done in storms.items():
        console.print(_told(kind, done))


def _directory(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="libnvc-bench-")))


def _machine(rounds: int) -> str:
    load = os.getloadavg()[0]
    return (
        f"{platform.machine()}, {os.cpu_count()} processors, kernel {platform.release()}, "
        f"load {load:.1f}, {rounds} rounds\n"
        f"P: Python {platform.python_version()}, {PYTHON}\n"
    )


def _table(section: str, results: Results) -> Table:
    table = Table(title=section, title_justify="left", title_style="bold", box=None)
    table.add_column("")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    table.add_column("target")
    for job in results.jobs:
        for row in job.rows if job.section == section else ():
            table.add_row(*results.cells(row))
    return table


def _told(kind: str, done: list[storm.Storm]) -> str:
    failures = [failure for one in done for failure in one.failures]
    rate = median(one.rate for one in done)
    # A runtime puts its own words in front of a hook's.
    said = Counter(re.sub(r"^.*stderr: |/tmp/\S*/|[\\n\"]*$", "", one) for one in failures)
    return "\n".join(
        [
            f"{storm.CREATES} creates, {storm.AT_ONCE} at a time, one root file system, {kind}: "
            f"{rate:.1f}/s, {len(failures)} of {len(done) * storm.CREATES} failed",
            *(f"  {number} of them: {text}" for text, number in said.most_common(3)),
        ]
    )
