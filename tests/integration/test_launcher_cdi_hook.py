# SPDX-License-Identifier: Apache-2.0
"""Hooks of CDI files start no interpreter in a container that is like one before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from libnvc._native import ldcache
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import make_rootfs, on_host, tree
from tests.integration.kept_host import KeptHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

MACHINE = this_machine()
LIBS = MACHINE.libs_dir
VERSION = "580.95.05"
CUDA = f"{LIBS}/libcuda.so.{VERSION}"
PARAMS = "proc/driver/nvidia/params"

LINKS = ("create-symlinks", "--link", f"libcuda.so.1::{LIBS}/libcuda.so")
COMPAT = ("enable-cuda-compat", f"--host-driver-version={VERSION}")
UPDATE = ("update-ldcache", "--folder", LIBS)
MODIFICATION = ("disable-device-node-modification",)
PROFILE = ("update-application-profile",)
CALLS = (LINKS, COMPAT, UPDATE, MODIFICATION, PROFILE)
SEQUENCE = ("sequence", *LINKS, *(word for call in CALLS[1:] for word in ("then", *call)))

#: Runs the hook as a runtime does, for a layer above an image, and then tells what changed.
_CONTAINER = """
set -e
cd "$PLACE"
mount -t tmpfs layers layers
mkdir layers/upper layers/work
mount -t overlay -o lowerdir=image,upperdir=layers/upper,workdir=layers/work rootfs rootfs
mount --rbind /proc rootfs/proc
for minor in $MINORS; do
    mknod -m 666 "rootfs/dev/nvidia$minor" c 195 "$minor"
done
set +e
"$@" <state
status=$?
cp -a layers/upper changed && cat /proc/self/mountinfo >mounts || exit 99
exit $status
"""


class Done(NamedTuple):
    """What the hook did to a container; without `is_native` it is the result."""

    status: int
    stderr: str
    mounts: list[tuple[str, ...]]
    tree: dict[str, tuple[object, ...]]
    cache: list[tuple[str, str]]
    is_native: bool

    def result(self) -> tuple[object, ...]:
        return self[:-1]


class Containers:
    """Containers that are alike, of a host with a driver."""

    def __init__(self, host: KeptHost, directory: Path) -> None:
        self.host = host
        self.image = make_rootfs(directory / "image")
        (self.image / CUDA[1:]).parent.mkdir(parents=True, exist_ok=True)
        self.put(CUDA, "libcuda.so.1")
        self.nodes: tuple[int, ...] = ()
        self.state: dict[str, object] = {}
        self.config: dict[str, object] = {}
        self._directory = directory
        for name in ("layers", "rootfs"):
            (directory / name).mkdir()
        host.configure()

    def put(self, path: str, soname: str) -> Path:
        """Put a library into the image."""
        at = self.image / path[1:]
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(write_library(bits=64, machine=MACHINE.elf, soname=soname))
        return at

    def __call__(self, *words: str, **environment: str) -> Done:
        """Run the hook in a new container."""
        rootfs, changed = self._directory / "rootfs", self._directory / "changed"
        shutil.rmtree(changed, ignore_errors=True)
        config = {"ociVersion": "1.0.2", "root": {"path": str(rootfs)}, "process": {}}
        (self.host.bundle / "config.json").write_text(json.dumps({**config, **self.config}))
        state = {"pid": 1, "bundle": str(self.host.bundle), **self.state}
        (self._directory / "state").write_text(json.dumps(state))
        self.host.mark.unlink(missing_ok=True)
        done = self.host.on_host(
            *on_host(self.host.root),
            *("sh", "-c", _CONTAINER, "sh", str(self.host.bin / "nvidia-cdi-hook"), *words),
            PLACE=str(self._directory),
            MINORS=" ".join(map(str, self.nodes)),
            **environment,
        )
        listed = (self._directory / "mounts").read_text()
        fields = [line.split() for line in listed.splitlines()]
        cache = changed / "etc/ld.so.cache"
        entries = ldcache.parse(cache.read_bytes(), "cache") if cache.is_file() else []
        return Done(
            status=done.returncode,
            stderr=done.stderr,
            mounts=[(f[3], f[4], f[5]) for f in fields if f[4].startswith(f"{rootfs}/")],
            tree=tree(changed),
            cache=[(entry.soname, entry.path) for entry in entries],
            is_native=not self.host.mark.exists(),
        )

    def settle(self, *words: str) -> Done:
        """Run it until the native program does it alone; return what it did then."""
        for _ in range(20):  # what changed within a tick of the clock is not kept yet
            done = self(*words)
            if done.is_native:
                return done
        raise AssertionError("nothing is kept")

    def check(self, *words: str) -> Done:
        """Check that the native program does what Python does; return that."""
        native = self.settle(*words)
        self.host.forget()
        python = self(*words)
        assert not python.is_native
        assert native.result() == python.result()
        return native


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, commands: Path) -> Iterator[KeptHost]:
    with KeptHost(tmp_path_factory.mktemp("cdi"), commands, "dgx-a100") as host:
        shutil.copy(commands / "nvidia-cdi-hook", host.bin)
        yield host


@pytest.fixture
def containers(shared: KeptHost, tmp_path: Path) -> Containers:
    """Give what runs the hook; nothing is kept."""
    shared.forget()
    return Containers(shared, tmp_path)


@pytest.mark.parametrize("words", [*CALLS, SEQUENCE], ids=lambda words: words[0])
def test_the_native_program_does_the_same(containers: Containers, words: tuple[str, ...]) -> None:
    containers.nodes = (0, 3)
    done = containers.check(*words)
    assert (done.status, done.stderr) == (0, "")


def test_a_sequence_does_everything(containers: Containers) -> None:
    containers.nodes = (0, 3)
    done = containers.check(*SEQUENCE)
    assert f"{LIBS}/libcuda.so"[1:] in done.tree
    assert "libcuda.so.1" in dict(done.cache)
    places = [place for _, place, _ in done.mounts]
    assert [place for place in places if place.endswith("nvidia-application-profiles-rc.d")]
    assert [place for place in places if place.endswith("/proc/driver")]


def test_what_is_not_kept_is_python_s_alone(containers: Containers) -> None:
    """The hooks before it are done already, and not again."""
    containers.nodes = (1,)
    whole = containers.settle(*SEQUENCE)
    assert len(containers.host.plans) == len(CALLS)
    for path in containers.host.plans:
        content = path.read_bytes()
        path.unlink()
        done = containers(*SEQUENCE)
        assert not done.is_native
        assert done.result() == whole.result()
        path.write_bytes(content)


def change_nodes(containers: Containers) -> None:
    containers.nodes = (0, 3)


def add_compat(containers: Containers) -> None:
    containers.put("/usr/local/cuda/compat/libcuda.so.590.10", "libcuda.so.1")


def change_params(containers: Containers) -> None:
    path = containers.host.root / PARAMS
    path.write_text(path.read_text().replace("ModifyDeviceFiles: 1", "ModifyDeviceFiles: 0"))


def rename_nothing(containers: Containers) -> None:
    containers.host.configure("# changed")


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (PROFILE, change_nodes),
        (COMPAT, add_compat),
        (MODIFICATION, change_params),
        (UPDATE, rename_nothing),
        (SEQUENCE, change_nodes),
        (SEQUENCE, add_compat),
    ],
)
def test_another_container_or_host_is_another_case(
    containers: Containers, words: tuple[str, ...], change: Callable[[Containers], None]
) -> None:
    containers.nodes = (0,)
    params = (containers.host.root / PARAMS).read_text()
    containers.settle(*words)
    try:
        change(containers)
        first = containers(*words)
        assert not first.is_native
        containers.host.forget()
        assert first.result() == containers(*words).result()
    finally:
        (containers.host.root / PARAMS).write_text(params)


def test_compatibility_libraries_that_are_another_file(containers: Containers) -> None:
    """Their names may stay what they were."""
    library = containers.put("/usr/local/cuda/compat/libcuda.so.590.10", "libcuda.so.1")
    assert ("libcuda.so.1", "/usr/local/cuda/compat/libcuda.so.590.10") in containers.check(
        *COMPAT
    ).cache
    containers.settle(*COMPAT)
    library.unlink()
    containers.put("/usr/local/cuda/compat/libcuda.so.590.10", "libcuda.so.1")
    assert not containers(*COMPAT).is_native


def test_a_directory_of_too_many_names_is_not_looked_through(containers: Containers) -> None:
    """An image may have any number of them; only so many are read."""
    compat = containers.put("/usr/local/cuda/compat/libcuda.so.590.10", "libcuda.so.1").parent
    containers.settle(*COMPAT)
    for number in range(256):
        (compat / f"other{number}").touch()
    assert not containers(*COMPAT).is_native
    assert not containers(*COMPAT).is_native
    for path in compat.glob("other*"):
        path.unlink()
    assert containers(*COMPAT).is_native


def test_compatibility_libraries_of_other_names(containers: Containers) -> None:
    """The version is in the name of a link: which file it leads to says too little."""
    library = containers.put("/usr/local/cuda/compat/libcuda.so.590.10", "libcuda.so.1")
    (library.parent / "libcuda.so.1").symlink_to(library.name)
    containers.settle(*COMPAT)
    assert containers(*COMPAT).is_native
    os.rename(library.parent / "libcuda.so.1", library.parent / "libcuda.so.2.2")
    assert not containers(*COMPAT).is_native


def test_what_fails_is_said_by_python(containers: Containers) -> None:
    """As if nothing had been kept."""
    containers.settle(*SEQUENCE)
    cache = containers.image / "etc/ld.so.cache"
    cache.unlink(missing_ok=True)
    cache.symlink_to("/etc/passwd")
    done = containers(*SEQUENCE)
    containers.host.forget()
    again = containers(*SEQUENCE)
    assert (done.status, done.is_native) == (1, False)
    assert done.stderr.startswith("nvidia-cdi-hook: ")
    assert done.stderr.count("\n") == 1
    assert done.result() == again.result()


@pytest.mark.parametrize(
    "words",
    [
        (*LINKS, "--container-spec=-"),
        ("--quiet", *LINKS),
        ("chmod", "--mode=755", "--path=/etc"),
    ],
    ids=lambda words: words[0],
)
def test_words_of_which_nothing_is_kept(containers: Containers, words: tuple[str, ...]) -> None:
    for _ in range(3):
        done = containers(*words)
        assert (done.status, done.stderr, done.is_native) == (0, "", False)
    assert containers.host.plans == []


def test_messages_that_are_asked_for(containers: Containers) -> None:
    containers.settle(*LINKS)
    done = containers(*LINKS, NVIDIA_CTK_DEBUG="true")
    assert not done.is_native
    assert f"debug: Symlink {LIBS}/libcuda.so\n" in done.stderr
    assert containers(*LINKS, NVIDIA_CTK_DEBUG="false").is_native


def test_nothing_is_kept_where_that_is_switched_off(containers: Containers) -> None:
    containers.host.configure("cache = false")
    for _ in range(3):
        assert not containers(*SEQUENCE).is_native
    assert containers.host.plans == []


def test_the_root_is_that_of_the_state(containers: Containers, tmp_path: Path) -> None:
    """As crun has it; whatever the configuration says."""
    containers.config = {"root": {"path": "/nowhere"}}
    containers.state = {"root": str(tmp_path / "rootfs"), "pid": 0}
    done = containers.check(*LINKS)
    assert f"{LIBS}/libcuda.so"[1:] in done.tree


@pytest.mark.parametrize(
    ("state", "config"),
    [
        ({"root": "/"}, {}),
        ({"root": "/nowhere"}, {}),
        ({"root": 1}, {}),
        ({"root": "rootfs", "bundle": 1}, {}),
        ({"bundle": "/nowhere"}, {}),
        ({"bundle": ""}, {}),
        ({}, {"root": {"path": "/nowhere"}}),
        ({}, {"root": {"path": "/"}}),
        ({}, {"root": {}}),
    ],
)
def test_a_state_of_no_use_is_python_s(
    containers: Containers, state: dict[str, object], config: dict[str, object]
) -> None:
    containers.settle(*LINKS)
    containers.state, containers.config = state, config
    done = containers(*LINKS)
    assert (done.status, done.is_native) == (1, False)
    assert set(done.tree) <= {"."}
    assert done.stderr.startswith("nvidia-cdi-hook: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [("create-symlinks", "--help"), ("help",), ("-v",)])
def test_help_waits_for_no_state(containers: Containers, words: tuple[str, ...]) -> None:
    hook = containers.host.bin / "nvidia-cdi-hook"
    reading, writing = os.pipe()
    try:
        done = subprocess.run(
            [hook, *words], stdin=reading, capture_output=True, check=False, timeout=60
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
