# SPDX-License-Identifier: Apache-2.0
"""`configure` for a container that is like one before it starts no interpreter."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from libnvc.testing import NamespaceContainer, make_rootfs
from tests.integration.kept_host import CLI, Given, KeptHost, until_native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

ALL = ("--device=all", "--compute", "--utility")


class Configures:
    """Runs `configure` for containers with a root of their own; those have no cgroups."""

    def __init__(self, host: KeptHost, directory: Path) -> None:
        self.host = host
        self.rootfs = directory / "rootfs"

    def __call__(
        self,
        *options: str,
        before: tuple[str, ...] = (),
        globals_: tuple[str, ...] = (),
        ending: Callable[[int, str], tuple[str, ...]] = lambda pid, root: (f"--pid={pid}", root),
        prepare: Callable[[Path], object] = lambda _: None,
        check: Callable[[NamespaceContainer], object] = lambda _: None,
        **environment: str,
    ) -> Given:
        """Run it for a new container.

        Args:
            options: of `configure`.
            before: words before the program.
            globals_: words before the command.
            ending: the last words for a pid and a root.
            prepare: called with the new root.
            check: called before the container goes.
            environment: more variables.
        """
        shutil.rmtree(self.rootfs, ignore_errors=True)
        rootfs = make_rootfs(self.rootfs)
        prepare(rootfs)
        program, root = str(self.host.bin / CLI), f"--root={self.host.root}"
        head = (*before, program, root, *globals_, "configure")
        return self.host.give(
            rootfs,
            lambda pid: (*head, "--no-cgroups", *options, *ending(pid, str(rootfs))),
            check=check,
            environment=environment,
        )

    def settle(self, *options: str, **more: object) -> Given:
        """Run it until the native program does it alone; return the last."""
        return until_native(lambda: self(*options, **more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Iterator[KeptHost]:
    with KeptHost(tmp_path_factory.mktemp("configure"), commands, "dgx-a100-mig") as host:
        yield host


@pytest.fixture
def configure(shared: KeptHost, tmp_path: Path) -> Configures:
    """Give what runs `configure`; nothing is kept."""
    shared.forget()
    shared.configure()
    return Configures(shared, tmp_path)


def other_layout(rootfs: Path) -> None:
    """Make it an image whose library directories are not there yet."""
    (rootfs / "etc/debian_version").unlink()
    shutil.rmtree(rootfs / "usr/lib64", ignore_errors=True)


@pytest.mark.parametrize(
    "options",
    [
        ALL,
        ("--device=0,3", "--utility", "--compat32"),
        ("--ldconfig=@/sbin/ldconfig", "--device=1", "--require=cuda>=11.0 brand=tesla"),
        ("--no-devbind", "--utility", "--device=0:0"),
        (),
    ],
)
@pytest.mark.parametrize("prepare", [lambda _: None, other_layout], ids=["debian", "other"])
def test_the_native_program_does_the_same(
    configure: Configures, options: tuple[str, ...], prepare: Callable[[Path], None]
) -> None:
    """Each container has a root that nothing was put into before."""
    first = configure(*options, prepare=prepare)
    assert (first.status, first.stderr, first.is_native) == (0, "", False)
    native = configure.settle(*options, prepare=prepare)
    configure.host.forget()
    again = configure(*options, prepare=prepare)
    assert not again.is_native
    assert native.result() == again.result() == first.result()
    assert native.mounts


def test_options_before_the_command(configure: Configures) -> None:
    """As containerd's ctr gives them."""
    configure.settle(*ALL, globals_=("--load-kmods", "--user=0"))


def test_what_was_given_natively_can_be_taken_back(configure: Configures) -> None:
    configure.settle(*ALL)

    def detach(container: NamespaceContainer) -> None:
        root = str(container.rootfs)
        target = f"libnvc.Target(pid={container.pid}, rootfs={root!r})"
        program = f"import libnvc; libnvc.detach({target})"
        done = configure.host.on_host(configure.host.python, "-c", program)
        assert (done.returncode, done.stderr) == (0, "")

    given = configure(*ALL, check=detach)
    assert given.is_native


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (("--device=0", "--compute", "--utility"), {}),
        (ALL, {"globals_": ("--no-cache",)}),
        (ALL, {"globals_": ("--debug=/dev/null",)}),
        (ALL, {"ending": lambda pid, root: ("-p", str(pid), root)}),
        (ALL, {"ending": lambda pid, root: (f"--pid={pid}", f"--pid={pid}", root)}),
        (ALL, {"ending": lambda pid, root: (f"--pid=0{pid}", root)}),
        (ALL, {"ending": lambda pid, root: (f"--pid={pid}", root, "--display")}),
        (ALL, {"prepare": lambda root: (root / "etc/debian_version").unlink()}),
        (ALL, {"PATH": "/usr/local/bin:/bin"}),
        (ALL, {"CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps"}),
    ],
)
def test_what_differs_is_pythons(
    configure: Configures, options: tuple[str, ...], more: dict[str, object]
) -> None:
    configure.settle(*ALL)
    given = configure(*options, **more)  # type: ignore[arg-type]
    assert (given.status, given.stderr, given.is_native) == (0, "", False)


@pytest.mark.parametrize(
    ("ending", "stderr"),
    [
        (
            lambda pid, root: (f"--pid={2**31}", root),
            "input error: parse pid failed: numerical result out of range\n",
        ),
        (
            lambda pid, root: ("--pid=2147483647", root),
            "container error: stat failed: /proc/2147483647: no such file or directory\n",
        ),
        (lambda pid, root: (f"--pid={pid}", "/"), "input error: invalid rootfs directory\n"),
        (lambda pid, root: (f"--pid={pid}", "//."), "input error: invalid rootfs directory\n"),
        (
            lambda pid, root: (f"--pid={pid}", f"{root}/gone"),
            "container error: open failed: /proc/PID/rootROOTFS/gone: no such file or directory\n",
        ),
    ],
)
def test_what_is_refused_is_refused_as_before(
    configure: Configures, ending: Callable[[int, str], tuple[str, ...]], stderr: str
) -> None:
    configure.settle(*ALL)
    pids: list[int] = []

    def remembering(pid: int, root: str) -> tuple[str, ...]:
        pids.append(pid)
        return ending(pid, root)

    given = configure(*ALL, ending=remembering)
    told = given.stderr.replace(f"/proc/{pids[0]}/", "/proc/PID/")
    told = told.replace(str(configure.rootfs), "ROOTFS")
    assert (given.status, given.is_native, given.mounts) == (1, False, [])
    assert told.startswith(f"nvidia-container-cli: {stderr}")


def test_words_that_do_not_name_the_container_are_not_taken_for_it(
    configure: Configures,
) -> None:
    """The value of another option may look like them."""
    configure.settle(*ALL)
    before = configure.host.plans
    for _ in range(3):
        given = configure("-l", ending=lambda pid, root: (f"--pid={pid}", f"-p{pid}", root))
        assert (given.status, given.stderr, given.is_native) == (0, "", False)
    assert configure.host.plans == before


def test_without_a_search_path_nothing_is_given(configure: Configures) -> None:
    configure.settle(*ALL, before=("env", "PATH="))
    given = configure(*ALL, before=("env", "-u", "PATH"))
    assert (given.status, given.is_native, given.mounts) == (1, False, [])
    assert given.stderr == (
        "nvidia-container-cli: detection error: environment variable PATH not found\n"
    )


def test_nothing_stale_is_used(configure: Configures) -> None:
    """The dependencies are those of the runtime, whose tests change each of them."""
    before = configure.settle(*ALL)
    file, aside = configure.host.root / "proc/driver/nvidia/version", configure.host.root / "aside"
    file.rename(aside)
    try:
        failed = configure(*ALL)
        assert not failed.is_native
        assert failed.status == 1
        assert failed.stderr.startswith(
            "nvidia-container-cli: initialization error: nvml error: driver not loaded\n"
        )
    finally:
        aside.rename(file)
    assert configure.settle(*ALL).result() == before.result()
    configure.host.configure("cache = false")
    assert not configure(*ALL).is_native


def test_what_cannot_be_applied_is_pythons_to_explain(configure: Configures) -> None:
    """Nothing of the native attempt is left."""
    configure.settle(*ALL)

    def blocked(rootfs: Path) -> None:
        (rootfs / "usr/bin/nvidia-smi").mkdir()

    given = configure(*ALL, prepare=blocked)
    assert (given.status, given.is_native, given.mounts) == (1, False, [])
    assert given.stderr.startswith("nvidia-container-cli: mount error: ")


def test_what_is_kept_is_shown_by_its_words(configure: Configures, commands: Path) -> None:
    configure.settle(*ALL)
    done = configure.host.on_host(commands / "nvc", "cache", "show", "--json")
    (kept,) = json.loads(done.stdout)
    words = [f"--root={configure.host.root}", "configure", "--no-cgroups", *ALL, "--pid=", "/"]
    assert kept["asked_by"] == words
