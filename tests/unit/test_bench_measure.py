# SPDX-License-Identifier: Apache-2.0
"""The measuring helpers of `make bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

# The tree comes last: libnvc is the installed one.
sys.path.append(str(Path(__file__).parents[2]))

from bench import library, measure
from bench.measure import Calls, MeasureError, Spread

if TYPE_CHECKING:
    from collections.abc import Callable

# What strace 6.1 wrote of a program that starts a thread and two processes, abridged.
LOG = """\
4711  execve("/bin/prog", ["prog"], 0x7ffd3e6c2b58 /* 5 vars */) = 0
4711  clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD, stack_size=0x7fff00}, 88) = 4712
4711  clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD <unfinished ...>
4712  futex(0x7f60830a, FUTEX_WAIT_PRIVATE, 2, NULL <unfinished ...>
4711  <... clone resumed>, child_tidptr=0x7f6083089e50) = 4713
4713  faccessat2(AT_FDCWD, "libnvc-bench", F_OK, 0) = -1 ENOENT (No such file or directory)
4713  vfork()                           = 4714
4714  +++ exited with 0 +++
4713  --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=4714} ---
4712  <... futex resumed>)              = 0
4711  exit_group(0)                     = ?
"""


def test_count_takes_each_call_once_and_no_thread_for_a_child() -> None:
    assert measure.count(LOG) == Calls(total=7, children=2)


LINES = {
    '1 openat(AT_FDCWD, "clone(x)", O_RDONLY) = 3': Calls(total=1, children=0),
    "22  fork() = 23": Calls(total=1, children=1),
    "1 clone3({flags=CLONE_VFORK} => {}, 88) = 9": Calls(total=1, children=1),
    "1 clone(child_stack=0x1, flags=CLONE_VM|CLONE_THREAD) = 9": Calls(total=1, children=0),
    "1 <... clone resumed>) = 9": Calls(total=0, children=0),
    "1 --- SIGTERM {si_signo=SIGTERM} ---": Calls(total=0, children=0),
    "1 +++ killed by SIGKILL +++": Calls(total=0, children=0),
    "": Calls(total=0, children=0),
}


@given(st.lists(st.sampled_from(sorted(LINES))))
def test_count_is_the_sum_of_its_lines(lines: list[str]) -> None:
    expected = [LINES[line] for line in lines]
    assert measure.count("\n".join(lines)) == Calls(
        total=sum(calls.total for calls in expected),
        children=sum(calls.children for calls in expected),
    )


def test_marked_returns_what_lies_between_the_marks() -> None:
    begin = f'1 access("{measure.BEGIN}", F_OK) = -1 ENOENT (No such file or directory)'
    end = f'1 access("{measure.END}", F_OK) = -1 ENOENT (No such file or directory)'
    log = "\n".join(["before", begin, "one", "two", end, "between", begin, "three", end, "after"])
    assert measure.marked(log) == ["one\ntwo", "three"]
    assert measure.marked("nothing\n") == []


def test_the_traced_process_asks_for_the_marks() -> None:
    assert (library.BEGIN, library.END) == (measure.BEGIN, measure.END)


def test_spread_is_median_and_quartiles() -> None:
    assert measure.spread([5, 1, 4, 2, 3]) == Spread(low=2, median=3, high=4)
    assert measure.spread([1, 2]) == Spread(low=1.25, median=1.5, high=1.75)


def test_interleave_does_the_jobs_in_turn() -> None:
    done: list[str] = []

    def job(name: str) -> Callable[[], list[float]]:
        def do() -> list[float]:
            done.append(name)
            return [len(done)]

        return do

    assert measure.interleave({"a": job("a"), "b": job("b")}, 3) == {
        "a": [[1], [3], [5]],
        "b": [[2], [4], [6]],
    }
    assert done == ["a", "b", "a", "b", "a", "b"]


@pytest.mark.parametrize("how", [measure.run, measure.peak_memory])
def test_a_program_that_fails_is_no_measurement(how: Callable[[list[str]], float]) -> None:
    command = ["sh", "-c", "echo broken >&2; exit 3"]
    with pytest.raises(MeasureError, match=r"exit status [13]: broken$"):
        how(command)


def test_peak_memory_is_that_of_the_program_or_its_largest_child() -> None:
    small = [sys.executable, "-I", "-S", "-c", "pass"]
    large = [sys.executable, "-I", "-S", "-c", "import sys; b'x' * (int(sys.stdin.read()) << 20)"]
    parent = ["sh", "-c", '"$@"; true', "sh", *large]
    assert 1 < measure.peak_memory(small) < 64
    assert 64 < measure.peak_memory(large, "64") < 128
    assert 64 < measure.peak_memory(parent, "64") < 128
