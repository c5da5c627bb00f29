# SPDX-License-Identifier: Apache-2.0
"""The prestart hook of a container that is like one before it starts no interpreter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libnvc
from libnvc.testing import NamespaceContainer, make_rootfs, mounts
from tests.integration.kept_host import RUNTIME, Given, KeptHost, until_native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

HOOK = f"{RUNTIME}-hook"
ALL = "NVIDIA_VISIBLE_DEVICES=all"


class Starts:
    """Starts containers of one root file system on a host."""

    def __init__(self, host: KeptHost, rootfs: Path) -> None:
        self.host = host
        self.rootfs = rootfs
        self.top = ""
        self.configure()

    def configure(self, top: str = "", mode: str = "legacy", root: str = "") -> None:
        """Write config.toml; these containers have no cgroups."""
        self.host.config.write_text(
            f'{top}\n[nvidia-container-cli]\nroot = "{root or self.host.root}"\nno-cgroups = true\n'
            f'[nvidia-container-runtime]\nmode = "{mode}"\n'
        )

    def __call__(
        self,
        *env: str,
        words: tuple[str, ...] = ("prestart",),
        state: dict[str, Any] | None = None,
        members: dict[str, Any] | None = None,
        check: Callable[[NamespaceContainer], object] = lambda _: None,
        **environment: str,
    ) -> Given:
        """Run the hook for a container with some variables."""
        document = {
            "ociVersion": "1.0.2",
            "process": {"env": ["PATH=/bin", *env]},
            "root": {"path": str(self.rootfs)},
            **(members or {}),
        }
        (self.host.bundle / "config.json").write_text(json.dumps(document))
        state = {"bundle": str(self.host.bundle), **(state or {})}
        return self.host.give(
            self.rootfs,
            lambda pid: (str(self.host.bin / HOOK), *words),
            stdin=lambda pid: json.dumps({"pid": pid, **state}),
            check=check,
            environment=environment,
        )

    def settle(self, *env: str, **more: Any) -> Given:
        """Start containers until the native program does it alone; return the last."""
        return until_native(lambda: self(*env, **more))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Iterator[KeptHost]:
    with KeptHost(tmp_path_factory.mktemp("prestart"), commands, "dgx-a100-mig") as host:
        yield host


@pytest.fixture
def start(shared: KeptHost, rootfs: Path) -> Starts:
    """Give what starts containers; nothing is kept."""
    shared.forget()
    return Starts(shared, rootfs)


@pytest.mark.parametrize(
    "env",
    [
        (ALL,),
        ("NVIDIA_VISIBLE_DEVICES=0,3", "NVIDIA_DRIVER_CAPABILITIES=all"),
        ("NVIDIA_VISIBLE_DEVICES=none",),
        ("NVIDIA_VISIBLE_DEVICES=0:0",),
        ("CUDA_VERSION=11.0",),
        (ALL, "NVIDIA_REQUIRE_CUDA=cuda>=11.0 brand=tesla"),
    ],
)
def test_the_native_program_does_the_same(start: Starts, env: tuple[str, ...]) -> None:
    first = start(*env)
    assert (first.status, first.stderr, first.is_native) == (0, "", False)
    native = start.settle(*env)
    start.host.forget()
    again = start(*env)
    assert not again.is_native
    assert native.result() == again.result()
    assert native.mounts


def test_what_was_given_natively_can_be_taken_back(start: Starts) -> None:
    """Its journal is where Python looks for it; it goes with the process."""
    start.settle(ALL)

    def detach(container: NamespaceContainer) -> None:
        names = [path.name for path in start.host.run.iterdir() if path.is_file()]
        own = [name for name in names if f"{container.pid}." in name]
        assert len(own) == 2, names  # the lock and the journal
        program = (
            "import sys, libnvc\n"
            "libnvc.detach(libnvc.Target(pid=int(sys.argv[1]), rootfs=sys.argv[2]))"
        )
        done = start.host.on_host(
            *(start.host.python, "-c", program, str(container.pid), str(start.rootfs))
        )
        assert (done.returncode, done.stderr) == (0, "")
        under = [mount.path for mount in mounts(container.pid)]
        assert not [path for path in under if "nvidia" in path]

    given = start(ALL, check=detach)
    assert given.is_native
    for name in ("1234567.1.1", "lock.1234567.1", "root.1.2", "1.1.1"):
        (start.host.run / name).touch()  # of processes that are gone, one with a number in use
    (start.host.run / "other.1.1").touch()
    assert start(ALL).is_native
    names = {path.name for path in start.host.run.iterdir()}
    assert not names & {"1234567.1.1", "lock.1234567.1", "root.1.2", "1.1.1"}
    assert "other.1.1" in names


@pytest.mark.parametrize(
    "change",
    [
        {"env": ("NVIDIA_VISIBLE_DEVICES=0",)},
        {"members": {"annotations": {"a": "b"}, "process": {"env": ["NVIDIA_VISIBLE_DEVICES=1"]}}},
        {"words": ("-debug", "prestart")},
        {"state": {"bundle": None}},
        {"state": {"pid": 2**31}},
        {"state": {"pid": 1}},
        {"members": {"ociVersion": ""}},
        {"members": {"process": None}},
        {"members": {"linux": {"namespaces": [{"type": "user"}]}}},
        {"members": {"mounts": [{"destination": "/var/run/nvidia-container-devices/1"}]}},
        {"PATH": "/usr/local/bin:/bin"},
    ],
)
def test_what_differs_is_pythons(start: Starts, change: dict[str, Any]) -> None:
    start.settle(ALL)
    change = dict(change)
    env = change.pop("env", (ALL,))
    given = start(*env, **change)
    assert not given.is_native
    start.host.forget()
    assert given.result()[0] == start(*env, **change).result()[0]


def test_images_that_nothing_was_put_into_before(start: Starts) -> None:
    """What decides is how an image was before the first container changed it."""

    def anew() -> Given:
        shutil.rmtree(start.rootfs)
        make_rootfs(start.rootfs)
        (start.rootfs / "etc/debian_version").unlink()
        shutil.rmtree(start.rootfs / "usr/lib64", ignore_errors=True)
        return start(ALL)

    assert until_native(anew).mounts


def test_other_configurations_keep_nothing(start: Starts) -> None:
    for options in ({"top": "cache = false"}, {"mode": "cdi"}, {"root": "/nowhere"}):
        start.configure(**options)
        assert [start(ALL).is_native for _ in range(3)] == [False] * 3
        assert start.host.plans == []


def test_nothing_stale_is_used(start: Starts) -> None:
    """The dependencies are those of the runtime, whose tests change each of them."""
    before = start.settle(ALL)
    file, aside = start.host.root / "proc/driver/nvidia/version", start.host.root / "aside"
    file.rename(aside)
    try:
        failed = start(ALL)
        assert not failed.is_native
        assert failed.status == 1
        assert failed.stderr.startswith(
            "nvidia-container-cli: initialization error: nvml error: driver not loaded\n"
        )
    finally:
        aside.rename(file)
    assert start.settle(ALL).result() == before.result()
    (start.rootfs / "etc/debian_version").unlink(missing_ok=True)
    other = start(ALL)
    assert not other.is_native
    assert other.status == 0


def test_what_cannot_be_applied_is_pythons_to_explain(start: Starts) -> None:
    """Nothing of the native attempt is left."""
    start.settle(ALL)
    target = start.rootfs / "usr/bin/nvidia-smi"
    shutil.rmtree(target, ignore_errors=True)
    target.unlink(missing_ok=True)
    target.mkdir()
    given = start(ALL)
    assert not given.is_native
    assert (given.status, given.mounts) == (1, [])
    assert given.stderr.startswith("nvidia-container-cli: mount error: ")
    start.host.forget()
    assert given.result() == start(ALL).result()


def test_the_environment_names_no_files_of_the_image(start: Starts, tmp_path: Path) -> None:
    start.settle(ALL)
    given = start(ALL, XDG_RUNTIME_DIR=str(tmp_path))
    assert (given.status, given.is_native) == (0, True)
    config = f"/proc/self/cwd/{tmp_path}/config.toml"
    assert not start(ALL, NVIDIA_CTK_CONFIG_FILE_PATH=config).is_native


def test_the_library_still_applies(start: Starts) -> None:
    """Locks that the native program took are given back."""
    start.settle(ALL)
    with NamespaceContainer(start.rootfs) as container:
        plan = libnvc.make_plan(
            libnvc.discover(str(start.host.root)),
            libnvc.Request(devices=("0",), device_rules=False),
        )
        target = libnvc.Target(pid=container.pid, rootfs=str(start.rootfs))
        libnvc.detach(libnvc.apply(plan, target))


def test_who_sees_other_processes_removes_no_journals(start: Starts) -> None:
    """As an engine in a container with /run of the host."""
    start.settle(ALL)
    foreign = start.host.run / "1234567.1.1"
    program = (
        "import json, subprocess, sys\n"
        "from pathlib import Path\n"
        "from libnvc.testing import NamespaceContainer\n"
        "hook, bundle, rootfs = sys.argv[1:]\n"
        "container = NamespaceContainer(Path(rootfs))\n"
        "container.create()\n"
        "state = json.dumps({'pid': container.pid, 'bundle': bundle})\n"
        "subprocess.run([hook, 'prestart'], input=state, text=True, check=True)\n"
        "container.delete()\n"
    )
    words = (str(start.host.bin / HOOK), str(start.host.bundle), str(start.rootfs))
    for is_native in (True, False):
        foreign.touch()
        start.host.mark.unlink(missing_ok=True)
        done = start.host.on_host(
            *("unshare", "--pid", "--fork", "--mount-proc"),
            *(start.host.python, "-c", program, *words),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert start.host.mark.exists() is not is_native
        assert foreign.exists()
        start.host.forget()
