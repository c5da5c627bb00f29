# SPDX-License-Identifier: Apache-2.0
"""Run libnvc under the tools of tests/tools: workers that fail or die at any system call."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

# Tests of the tools themselves. The filter of deny cannot be installed below that of `make
# test-old-kernel`, and the tests of the injector name calls that are denied there.
collect_ignore = ["test_deny.py", "test_injector.py"] if "NVC_DENIED" in os.environ else []
# It makes its own mounts with a call that is denied there.
if "open_tree" in os.environ.get("NVC_DENIED", "").split(","):
    collect_ignore.append("test_initramfs.py")

TOOLS = Path(__file__).parent.parent / "tools"


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


class Injector:
    """Injects faults into what a process does by libnvc in its main thread.

    A context manager: entering starts the tracer, leaving ends it. Only workers that start after
    `arm` are met by its faults, and counted as its calls.
    """

    def __init__(self, program: Path, directory: Path, pid: int) -> None:
        self._control = directory / f"control.{pid}"
        self._result = directory / f"result.{pid}"
        self._command: list[str | Path] = [program, str(pid), self._control, self._result]
        self._generation = 0

    def __enter__(self) -> Self:
        self.arm()
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._process.communicate(timeout=10)
        finally:
            self._process.kill()
            self._process.communicate()
        assert self._process.returncode == 0

    def arm(self, *lines: tuple[str, int]) -> None:
        """Begin to count anew, and take faults, in their order: mode, and number of the call.

        The modes are those of tests/tools/inject.c. After a fault the count starts again at 1. With
        no faults calls are counted only.
        """
        self._generation += 1
        text = "".join(f"{mode} {count}\n" for mode, count in lines)
        self._control.write_text(f"gen {self._generation}\n{text}")

    def calls(self) -> list[str]:
        """Return the names of the calls that change state since `arm`, in order."""
        return self._lines("call")

    def fired(self) -> list[str]:
        """Return the faults that happened since `arm`: "MODE NUMBER NAME DETAIL"."""
        return self._lines("fired")

    def _lines(self, kind: str) -> list[str]:
        text = self._result.read_text(errors="replace") if self._result.exists() else ""
        head, *lines = text.split("\n")
        if head != f"gen {self._generation}":
            return []  # no worker has started since
        return [line.removeprefix(f"{kind} ") for line in lines if line.startswith(f"{kind} ")]


class Orphans:
    """Becomes the parent of whoever loses it among our descendants, so that we see them end."""

    PR_SET_CHILD_SUBREAPER = 36

    def __init__(self) -> None:
        self._own = children()

    @classmethod
    def adopt(cls, on: bool) -> None:
        assert ctypes.CDLL(None).prctl(cls.PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0

    def reset(self) -> None:
        """Take those that are there now for no orphans."""
        self._own = children()

    def wait(self) -> list[int]:
        """Wait until no orphan is left; return how each ended: its exit status, or -signal."""
        ends = []
        while new := children() - self._own:
            _, status = os.waitpid(new.pop(), WALL)
            ends.append(os.waitstatus_to_exitcode(status))
        return ends


#: for waitpid: also children that do not send SIGCHLD
WALL = 0x40000000


def children() -> set[int]:
    """Return the pids of our children, zombies too."""
    lists = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return {int(pid) for text in lists for pid in text.split()}


class InjectInto(Protocol):
    """Makes an injector for a process."""

    def __call__(self, pid: int) -> Injector: ...


@pytest.fixture(scope="session")
def inject_program(tmp_path_factory: pytest.TempPathFactory, compile_c: CompileC) -> Path:
    program = tmp_path_factory.mktemp("tools") / "inject"
    return compile_c(program, TOOLS / "inject.c", TOOLS / "inject_calls.c")


@pytest.fixture
def inject_into(inject_program: Path, tmp_path_factory: pytest.TempPathFactory) -> InjectInto:
    """Return a maker of injectors for other processes."""
    directory = tmp_path_factory.mktemp("inject")
    return lambda pid: Injector(inject_program, directory, pid)


@pytest.fixture
def injector(inject_into: InjectInto) -> Iterator[Injector]:
    """Inject faults into what the test itself does by libnvc."""
    # A tracer on the same processor is three times as fast.
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with inject_into(os.getpid()) as injector:
            yield injector
    finally:
        os.sched_setaffinity(0, before)


@pytest.fixture
def orphans() -> Iterator[Orphans]:
    """Inherit the processes whose parents are killed."""
    Orphans.adopt(True)
    yield Orphans()
    Orphans.adopt(False)


def bootstrap(request: pytest.FixtureRequest, root: Path, suite: str) -> Path:
    """Make Debian's smallest root file system; what was fetched is kept in pytest's cache."""
    assert request.config.cache is not None
    kept = Path(str(request.config.cache.mkdir("debootstrap"))) / f"{suite}.tar"
    if not kept.exists():
        made, packed = root.with_name(f"{suite}-made"), kept.with_suffix(".new")
        subprocess.run(
            ["debootstrap", "--variant=minbase", suite, made],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        # posix: times to the nanosecond
        subprocess.run(["tar", "--format=posix", "-C", made, "-cf", packed, "."], check=True)
        packed.rename(kept)
    root.mkdir()
    subprocess.run(["tar", "-C", root, "--numeric-owner", "-xpf", kept], check=True)
    return root


@pytest.fixture(scope="session")
def debian(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root file system of Debian bookworm; copied by those who change it."""
    return bootstrap(request, tmp_path_factory.mktemp("debian") / "bookworm", "bookworm")


@pytest.fixture(scope="session")
def trixie(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root file system of Debian trixie; copied by those who change it."""
    return bootstrap(request, tmp_path_factory.mktemp("debian") / "trixie", "trixie")
