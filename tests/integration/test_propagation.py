# SPDX-License-Identifier: Apache-2.0
"""What is mounted into a container appears nowhere else, whatever its mounts have peers in.

The tree under test is `top`, a tmpfs of a mount namespace made for it ("the host" here), and the
same tmpfs in the container's namespace: a peer, a slave, or private.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc
from libnvc.testing import Mount, mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

# Two processes in two mount namespaces; they live until their standard input ends.
HOST = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/rootfs" "$1/rootfs/dev" "$1/rootfs/usr"
touch "$1/rootfs/usr/there"
if [ "$3" = bound ]; then mount --bind "$1/rootfs" "$1/rootfs"; fi
mount --make-rshared "$1"
unshare --mount --propagation unchanged sh -c "$2" sh "$1" &
echo $!
wait
"""
CONTAINER = """
mount --make-r{kind} "$1"
echo ready >&2
exec sleep 1000
"""


class Pair:
    """A host and a container that share a tree in one way or another."""

    def __init__(self, top: Path, kind: str, bound: str) -> None:
        self.top = top
        self.rootfs = top / "rootfs"
        words = [HOST, "sh", str(top), CONTAINER.format(kind=kind), bound]
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.pid = int(self.process.stdout.readline())
        assert self.process.stderr.readline() == "ready\n"
        self.target = libnvc.Target(pid=self.pid, rootfs=str(self.rootfs))

    def host(self) -> tuple[Mount, ...]:
        return mounts(self.process.pid)

    def container(self) -> tuple[Mount, ...]:
        return mounts(self.pid)

    def close(self) -> None:
        subprocess.run(["pkill", "--session", str(self.process.pid)], check=False)
        self.process.communicate()


@pytest.fixture(
    params=[
        pytest.param("shared", marks=pytest.mark.needs_call("mount_setattr", "5.15")),
        "slave",
        "private",
    ]
)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=["bound", "plain"])
def pair(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Give a pair whose rootfs is a mount of its own, or a directory of the tmpfs."""
    top = tmp_path / "top"
    top.mkdir()
    made = Pair(top, kind, request.param)
    yield made
    made.close()


@pytest.fixture
def plan(tmp_path: Path) -> libnvc.Plan:
    host = tmp_path / "host"
    (host / "dir").mkdir(parents=True)
    (host / "file").write_text("from the host\n")
    file = str(host / "file")
    return libnvc.Plan(
        operations=(
            libnvc.Tmpfs(origin="x", path="/run/new", fallback=""),
            libnvc.BindMount(origin="x", path="/run/new/file", source=file),
            libnvc.BindMount(origin="x", path="/usr/new", source=file),
            libnvc.BindMount(origin="x", path="/usr/there", source=file),
            libnvc.BindMount(
                origin="x", path="/usr/dir", source=str(host / "dir"), file_type="directory"
            ),
            libnvc.DeviceNode(origin="x", path="/dev/null", major=1, minor=3, source="/dev/null"),
        )
    )


def groups(table: tuple[Mount, ...]) -> list[tuple[str, tuple[str, ...]]]:
    return [(mount.path, mount.tags) for mount in table]


def test_no_peer_gains_a_mount(pair: Pair, plan: libnvc.Plan, kind: str) -> None:
    own, host, before = mounts(), pair.host(), pair.container()
    below = [mount.tags for mount in before if mount.path == str(pair.top)]
    patterns = {"shared": r"shared:\d+", "slave": r"master:\d+", "private": ""}
    assert re.fullmatch(patterns[kind], " ".join(below[0]))
    applied = libnvc.apply(plan, pair.target)
    inside = pair.container()
    assert (mounts(), pair.host()) == (own, host)
    assert groups(inside[: len(before)]) == groups(before)
    new = inside[len(before) :]
    assert len(new) == 6
    assert [mount.tags for mount in new] == [()] * 6
    libnvc.detach(applied)
    assert (mounts(), pair.host(), pair.container()) == (own, host, before)


def test_the_peer_group_works_on(pair: Pair, plan: libnvc.Plan, kind: str) -> None:
    """What the host mounts afterwards still reaches a container that shares with it."""
    libnvc.apply(plan, pair.target)
    (pair.top / "later").mkdir(exist_ok=True)
    enter = ["nsenter", f"--target={pair.process.pid}", "--mount"]
    later = pair.rootfs / "usr/later"
    subprocess.run([*enter, "mkdir", later], check=True)
    subprocess.run([*enter, "mount", "-t", "tmpfs", "tmpfs", later], check=True)
    seen = [mount.path for mount in pair.container()].count(str(later))
    assert seen == (0 if kind == "private" else 1)
    enter[1] = f"--target={pair.pid}"
    back = pair.rootfs / "usr/back"
    subprocess.run([*enter, "mkdir", back], check=True)
    subprocess.run([*enter, "mount", "-t", "tmpfs", "tmpfs", back], check=True)
    seen = [mount.path for mount in pair.host()].count(str(back))
    assert seen == (1 if kind == "shared" else 0)
    libnvc.detach(pair.target)


def test_a_failure_leaves_the_group_as_it_was(pair: Pair, plan: libnvc.Plan) -> None:
    own, host, before = mounts(), pair.host(), pair.container()
    bad = plan.operations[2].replace(origin="bad", path="/usr")
    with pytest.raises(libnvc.MountError, match="is a directory"):
        libnvc.apply(libnvc.Plan(operations=(*plan.operations, bad)), pair.target)
    assert (mounts(), pair.host(), pair.container()) == (own, host, before)


@pytest.mark.needs_call("mount_setattr", "5.15")
def test_detaching_leaves_the_mounts_of_peers(pair: Pair, plan: libnvc.Plan) -> None:
    """Unmounting below a shared mount unmounts in the same place of its peers: not here."""
    before = pair.container()
    # Not the tmpfs: each of the two would be made in the other's, which is the same directory.
    plan = plan.replace(operations=plan.operations[2:])
    other = libnvc.Target(pid=pair.process.pid, rootfs=str(pair.rootfs))
    theirs = libnvc.apply(plan, other)
    ours = libnvc.apply(plan, pair.target)
    host = pair.host()
    libnvc.detach(ours)
    assert pair.host() == host
    assert pair.container() == before
    libnvc.detach(theirs)
