# SPDX-License-Identifier: Apache-2.0
"""The launcher that makes a kernel look old does so, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import pytest

DENY = Path(__file__).parent.parent / "tools" / "deny.c"

# call(number) makes a call with bad arguments, so that it fails anyway, and returns errno.
PYTHON = """
import ctypes, os, signal, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    assert libc.syscall(number, -1, None, -1, None, -1) == -1
    return ctypes.get_errno()
OPEN_TREE, MOVE_MOUNT, FSOPEN, OPENAT2 = 428, 429, 430, 437
"""
ENOSYS = 38


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


class Deny(Protocol):
    def __call__(self, calls: str, *command: str | Path) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, compile_c: CompileC) -> Path:
    return compile_c(tmp_path_factory.mktemp("tools") / "deny", DENY)


@pytest.fixture(scope="module")
def deny(program: Path) -> Deny:
    """Run a command without some calls."""

    def deny(calls: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, calls, "--", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return deny


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", PYTHON + code


def test_only_the_named_calls_are_refused(deny: Deny) -> None:
    done = deny(
        "openat2,move_mount",
        *python("print(call(OPENAT2), call(MOVE_MOUNT), call(MOVE_MOUNT), call(FSOPEN))"),
    )
    *refused, other = map(int, done.stdout.split())
    assert refused == [ENOSYS] * 3
    assert other != ENOSYS
    assert done.stderr == "deny: refused openat2 1, move_mount 2\n"
    assert done.returncode == 0


def test_what_was_never_attempted_is_a_failure(deny: Deny) -> None:
    done = deny("openat2,open_tree,fsopen", *python("call(OPENAT2)"))
    assert done.stderr == (
        "deny: refused openat2 1, open_tree 0, fsopen 0\n"
        "deny: open_tree was never attempted\n"
        "deny: fsopen was never attempted\n"
    )
    assert done.returncode == 1


def test_other_programs_attempts_do_not_count(
    deny: Deny, tmp_path: Path, compile_c: CompileC
) -> None:
    code = tmp_path / "other.c"
    code.write_text(
        "#include <errno.h>\n#include <unistd.h>\n"
        f"int main(void) {{ return syscall(437, -1, 0, 0, 0) < 0 && errno == {ENOSYS} ? 0 : 9; }}\n"
    )
    done = deny("openat2", compile_c(tmp_path / "other", code))
    assert done.stderr == "deny: refused openat2 0\ndeny: openat2 was never attempted\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(7)", 7),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + 9),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", 128 + 2),
        ("os.kill(os.getppid(), signal.SIGTERM); time.sleep(9)", 128 + 15),
    ],
)
def test_the_exit_status_is_the_commands(deny: Deny, code: str, status: int) -> None:
    done = deny("openat2", *python(f"call(OPENAT2); {code}"))
    assert done.stderr.endswith("deny: refused openat2 1\n")
    assert done.returncode == status


def test_a_failing_command_fails_for_that_alone(deny: Deny) -> None:
    done = deny("openat2", "false")
    assert (done.returncode, done.stderr) == (1, "deny: refused openat2 0\n")
    done = deny("openat2", "/nonexistent")
    assert done.returncode == 127
    assert done.stderr.startswith("deny: /nonexistent: No such file or directory\n")


@pytest.mark.parametrize(
    "arguments", [[], ["openat2"], ["openat2", "--"], ["read", "--", "true"], [",", "--", "true"]]
)
def test_wrong_usage_is_refused(program: Path, arguments: list[str]) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: deny CALL[,CALL...] -- COMMAND [ARG...]\n")


def test_many_processes_are_answered(deny: Deny) -> None:
    code = """
child = "for _ in range(100): assert call(OPENAT2) == 38"
source = sys.orig_argv[-1].split("child =")[0] + child
children = [subprocess.Popen([sys.executable, "-c", source]) for _ in range(8)]
print([child.wait() for child in children])
"""
    done = deny("openat2", *python(code))
    assert done.stdout == f"{[0] * 8}\n"
    assert done.stderr == "deny: refused openat2 800\n"


def test_a_process_may_be_killed_while_it_waits(deny: Deny) -> None:
    code = """
for n in range(100):
    child = os.fork()
    while child == 0:
        call(OPENAT2)
    time.sleep(n / 20000)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
print(call(OPENAT2))
"""
    done = deny("openat2", *python(code))
    assert done.stdout == f"{ENOSYS}\n"
    assert done.returncode == 0


def test_a_process_left_behind_is_refused_too(deny: Deny, tmp_path: Path) -> None:
    """It neither delays the end, nor hangs once nobody answers."""
    answers = tmp_path / "answers"
    code = f"""
call(OPENAT2)
if os.fork() == 0:
    os.setsid()
    for descriptor in range(3):
        os.close(descriptor)
    while not os.path.exists({str(tmp_path / "go")!r}):
        call(OPENAT2)
    with open({str(answers)!r}, "w") as stream:
        print(call(OPENAT2), file=stream)
"""
    assert deny("openat2", *python(code)).returncode == 0
    (tmp_path / "go").touch()
    deadline = time.monotonic() + 30
    while not answers.exists() or not answers.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert answers.read_text() == f"{ENOSYS}\n"


NO_NEW_PRIVILEGES = """
call(OPENAT2)
print(*[line for line in open("/proc/self/status") if line.startswith("NoNewPrivs")])
"""


@pytest.mark.root
def test_setuid_programs_go_on_working(deny: Deny) -> None:
    assert deny("openat2", *python(NO_NEW_PRIVILEGES)).stdout.split() == ["NoNewPrivs:", "0"]


@pytest.mark.root
def test_without_the_capability_they_do_not(program: Path) -> None:
    without = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    command = [*without, str(program), "openat2", "--", *python(NO_NEW_PRIVILEGES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["NoNewPrivs:", "1"]
    assert done.stderr == "deny: refused openat2 1\n"
