# SPDX-License-Identifier: Apache-2.0
"""Measure programs: their time, memory, system calls and children."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from time import perf_counter
from typing import TYPE_CHECKING

from libnvc._record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

#: What every measured program gets.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}

#: Files that a traced program asks for around what shall be counted. They do not exist.
BEGIN, END = "libnvc-bench-begin", "libnvc-bench-end"

_CALL = re.compile(r"^\d+ +(\w+)\((.*)")
_NEW_TASK = frozenset({"clone", "clone3", "fork", "vfork"})

# Until it executes, a process is charged with its parent's memory: the parent must be small.
_PEAK = """
import os, sys
null = os.open(os.devnull, os.O_RDWR)
pid = os.posix_spawnp(
    sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)]
)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


class MeasureError(RuntimeError):
    """A measured program failed; the message is the program and what it printed."""


class Calls(Record):
    """What a program asked of the kernel.

    Attributes:
        total: system calls, those of its children included.
        children: processes started, threads not counted.
    """

    total: int
    children: int


class Spread(Record):
    """The middle of some measurements, in their unit: half of them lie from `low` to `high`."""

    low: float
    median: float
    high: float


def spread(samples: Sequence[float]) -> Spread:
    """Return the quartiles of at least two measurements."""
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(low=low, median=median, high=high)


def interleave(
    jobs: Mapping[str, Callable[[], Sequence[float]]], rounds: int
) -> dict[str, list[Sequence[float]]]:
    """Do every job once a round, so that a machine that gets slower does so for all.

    Returns:
        What each job returned, by its name, in the order of the rounds.
    """
    done: dict[str, list[Sequence[float]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            done[name].append(job())
    return done


def run(command: Sequence[str], text: str = "") -> float:
    """Run a program with a text as its input; return the seconds until it had ended.

    Raises:
        MeasureError: its exit status was not 0.
    """
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as words:
        words.write(text.encode())
        words.seek(0)
        actions = [
            (os.POSIX_SPAWN_DUP2, words.fileno(), 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, errors.fileno(), 2),
        ]
        start = perf_counter()
        pid = os.posix_spawnp(command[0], list(command), ENVIRONMENT, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        seconds = perf_counter() - start
        _check(os.waitstatus_to_exitcode(status), command, errors)
    return seconds


def peak_memory(command: Sequence[str], text: str = "") -> float:
    """Run a program with a text as its input; return its peak resident memory in MiB.

    That of its children counts if it is more. Never less than a bare interpreter's.

    Raises:
        MeasureError: its exit status was not 0.
    """
    return int(_run([sys.executable, "-I", "-S", "-c", _PEAK, *command], text)) / 1024


def trace(command: Sequence[str], text: str = "") -> str:
    """Run a program below strace, with a text as its input; return strace's log.

    Raises:
        MeasureError: its exit status was not 0.
    """
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        _run(["strace", "-f", "-qq", "-s", "64", "-o", log.name, "--", *command], text)
        return log.read()


def count(log: str) -> Calls:
    """Count what a log of `strace -f` shows; a call that was interrupted counts once."""
    calls = [match for match in map(_CALL.match, log.splitlines()) if match]
    new = [match[2] for match in calls if match[1] in _NEW_TASK]
    return Calls(total=len(calls), children=sum("CLONE_THREAD" not in given for given in new))


def marked(log: str) -> list[str]:
    """Return the parts of a log between the marks `BEGIN` and `END`, in their order."""
    parts: list[list[str]] = []
    inside = False
    for line in log.splitlines():
        if BEGIN in line or END in line:
            inside = BEGIN in line
            if inside:
                parts.append([])
        elif inside:
            parts[-1].append(line)
    return ["\n".join(part) for part in parts]


def _run(command: Sequence[str], text: str) -> str:
    # Errors into a file: a container that stays would keep a pipe open.
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            command,
            env=ENVIRONMENT,
            input=text,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
        _check(done.returncode, command, errors)
    return done.stdout


def _check(status: int, command: Sequence[str], errors: IO[bytes]) -> None:
    if status != 0:
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
        raise MeasureError(f"{' '.join(command)}: exit status {status}: {said}")
