# SPDX-License-Identifier: Apache-2.0
"""The loader cache where it cannot be replaced, where somebody rewrites it, and musl's instead."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
from libnvc._native import ldcache
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import NamespaceContainer, make_rootfs, mounts, tree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

LIBS = this_machine().libs_dir
OURS = ("libours.so.1", f"{LIBS}/libours.so.1", 64)
CACHE = nvc.LoaderCache(origin="cache", path="/etc/ld.so.cache", libraries=(OURS,))
NOT_FOUND = ": programs find the driver's libraries by LD_LIBRARY_PATH only"

#: Whether a file on a file system of its own, which is mounted nowhere, can be mounted.
CAN_COVER = (
    tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15) and "NVC_DENIED" not in os.environ
)


class Box:
    """A container that has not pivoted, and a plan of a library for it."""

    def __init__(self, container: NamespaceContainer, source: Path) -> None:
        self.container = container
        self.rootfs = container.rootfs
        self.cache = self.rootfs / "etc/ld.so.cache"
        self.target = nvc.Target(pid=container.pid, rootfs=str(container.rootfs))
        mount = nvc.BindMount(origin="lib", path=OURS[1], source=str(source))
        self.plan = nvc.Plan(operations=(mount, CACHE))

    def watch(self) -> None:
        """Remember how everything looks now."""
        self._first = self._state()

    def _state(self) -> object:
        return tree(self.rootfs), mounts(self.target.pid)

    def assert_untouched(self) -> None:
        assert self._state() == self._first

    def mount(self, *words: str | Path) -> None:
        """Mount something, as the container has it."""
        enter = ["nsenter", f"--target={self.target.pid}", "--mount"]
        subprocess.run([*enter, "mount", *words], check=True)

    def listed(self) -> list[ldcache.CacheEntry]:
        """Return what the container's cache lists, as the container sees it."""
        at = Path(f"/proc/{self.target.pid}/root{self.cache}")
        return ldcache.parse(at.read_bytes(), "cache")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("template") / "rootfs")


@pytest.fixture
def box(tmp_path: Path, template: Path) -> Iterator[Box]:
    rootfs, source = tmp_path / "rootfs", tmp_path / "library"
    subprocess.run(["cp", "-a", template, rootfs], check=True)
    source.write_bytes(write_library(bits=64, machine=this_machine().elf, soname=OURS[0]))
    with NamespaceContainer(rootfs) as container:
        yield Box(container, source)


def plain(entries: list[ldcache.CacheEntry]) -> list[tuple[str, str]]:
    return [(entry.soname, entry.path) for entry in entries]


# --- it cannot be replaced ------------------------------------------------------------------------


def make_read_only(box: Box) -> None:
    """Have the container see a root that is read-only; where we mount something is."""
    (box.rootfs / OURS[1][1:]).touch()
    box.mount("-o", "remount,bind,ro", box.rootfs)


def make_cache_a_mount(box: Box) -> None:
    file = box.rootfs.parent / "cache"
    shutil.copy(box.cache, file)
    box.mount("--bind", file, box.cache)


@pytest.mark.parametrize("fix", [make_read_only, make_cache_a_mount])
def test_a_cache_that_cannot_be_replaced_is_covered(box: Box, fix: Callable[[Box], None]) -> None:
    fix(box)
    before = plain(box.listed())
    box.watch()
    applied = nvc.apply(box.plan, box.target)
    if CAN_COVER:
        assert applied.warnings == ()
        assert sorted(plain(box.listed())) == sorted([*before, OURS[:2]])
        mount = [m for m in mounts(box.target.pid) if m.path == str(box.cache)][-1]
        assert mount.fstype == "tmpfs"
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(mount.options)
        assert mount.tags == ()
    else:
        assert applied.warnings == (
            f"/etc/ld.so.cache: read-only, and this kernel cannot mount over it{NOT_FOUND}",
        )
        assert plain(box.listed()) == before
    nvc.detach(applied)
    assert plain(box.listed()) == before
    box.assert_untouched()


def test_one_cover_over_the_other(box: Box) -> None:
    make_read_only(box)
    box.watch()
    other = ("libother.so.1", f"{LIBS}/libother.so.1", 64)
    plans = (box.plan, nvc.Plan(operations=(CACHE.replace(libraries=(other,)),)))
    applied = [nvc.apply(plan, box.target) for plan in plans]
    names = {name for name, _ in plain(box.listed())}
    assert ({OURS[0], other[0]} <= names) == CAN_COVER
    nvc.detach(applied[1])
    names = {name for name, _ in plain(box.listed())}
    assert (OURS[0] in names, other[0] in names) == (CAN_COVER, False)
    nvc.detach(applied[0])
    box.assert_untouched()


def test_a_read_only_root_without_a_cache_is_told(box: Box) -> None:
    box.cache.unlink()
    make_read_only(box)
    box.watch()
    applied = nvc.apply(box.plan, box.target)
    assert applied.warnings == (f"/etc: read-only, and has no loader cache{NOT_FOUND}",)
    nvc.detach(applied)
    box.assert_untouched()


def test_a_read_only_root_without_etc_is_told(box: Box) -> None:
    shutil.rmtree(box.rootfs / "etc")
    make_read_only(box)
    box.watch()
    applied = nvc.apply(box.plan, box.target)
    assert applied.warnings == (f"/etc: not in the container: it gets no loader cache{NOT_FOUND}",)
    nvc.detach(applied)
    box.assert_untouched()


def test_a_failure_after_it_was_covered_leaves_nothing(box: Box) -> None:
    make_read_only(box)
    box.watch()
    broken = nvc.Directory(origin="broken", path="/opt/new")
    with pytest.raises(nvc.MountError) as caught:
        nvc.apply(box.plan.replace(operations=(*box.plan.operations, broken)), box.target)
    assert str(caught.value) == f"file creation failed: {box.rootfs}/opt: read-only file system"
    box.assert_untouched()


# --- somebody rewrites it -------------------------------------------------------------------------


def run_ldconfig(box: Box) -> None:
    """Make another file of it, as programs that install libraries do, and twice."""
    for _ in range(2):
        assert box.container.exec("ldconfig").returncode == 0


def write_into(box: Box) -> None:
    """Leave it the file that it is."""
    other = box.cache.with_name("other")
    subprocess.run(["/sbin/ldconfig", "-r", box.rootfs, "-C", "/etc/other"], check=True)
    with box.cache.open("r+b") as file:
        file.truncate()
        file.write(other.read_bytes())
    other.unlink()


def remove(box: Box) -> None:
    box.cache.unlink()


@pytest.mark.parametrize("rewrite", [run_ldconfig, write_into, remove])
def test_a_cache_that_was_rewritten_loses_only_our_entries(
    box: Box, rewrite: Callable[[Box], None]
) -> None:
    before = box.listed()
    applied = nvc.apply(box.plan, box.target)
    assert OURS[:2] in plain(box.listed())
    box.container.start()
    # What the container installs meanwhile stays known.
    soname = "libinstalled.so.1"
    content = write_library(bits=64, machine=this_machine().elf, soname=soname)
    (box.rootfs / LIBS[1:] / soname).write_bytes(content)
    rewrite(box)
    nvc.detach(applied)
    after = ldcache.parse(box.cache.read_bytes(), "cache")
    installed = (soname, f"{LIBS.removeprefix('/usr')}/{soname}")  # as it is configured
    assert sorted(plain(after)) == sorted([*plain(before), installed])
    assert not (box.rootfs / OURS[1][1:]).exists()
    assert [name for name in os.listdir(box.rootfs / "etc") if name.startswith(".")] == []


def test_a_newer_cache_put_back_is_the_older_one_s(box: Box) -> None:
    """What was applied first is taken back exactly, whatever came and went in between."""
    box.watch()
    first = nvc.apply(box.plan, box.target)
    other = ("libother.so.1", f"{LIBS}/libother.so.1", 64)
    second = nvc.apply(nvc.Plan(operations=(CACHE.replace(libraries=(other,)),)), box.target)
    nvc.detach(second)
    nvc.detach(first)
    box.assert_untouched()


def identity(path: Path) -> tuple[int, int]:
    """Return by what a file that was replaced or written differs."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def test_a_cache_that_says_everything_is_left_alone(box: Box) -> None:
    """Containers of one root file system share it: replaced, it costs each of them a file."""
    box.watch()
    first = nvc.apply(box.plan, box.target)
    written = identity(box.cache)
    with NamespaceContainer(box.rootfs) as other:
        second = nvc.apply(box.plan, nvc.Target(pid=other.pid, rootfs=str(box.rootfs)))
        assert identity(box.cache) == written
        nvc.detach(second)
    assert identity(box.cache) == written
    nvc.detach(first)
    box.assert_untouched()


def test_a_cache_older_than_a_directory_is_written_again(box: Box) -> None:
    """So that the next container need not look through all directories."""
    nvc.apply(box.plan, box.target)
    data = box.cache.read_bytes()
    os.utime(box.cache, ns=(0, 0))
    with NamespaceContainer(box.rootfs) as other:
        nvc.apply(box.plan, nvc.Target(pid=other.pid, rootfs=str(box.rootfs)))
    assert box.cache.read_bytes() == data
    assert box.cache.stat().st_mtime_ns > 0


# --- musl -----------------------------------------------------------------------------------------

MUSL = f"ld-musl-{this_machine().name}"
DEFAULT = "/lib:/usr/local/lib:/usr/lib"


@pytest.fixture
def musl(box: Box) -> Box:
    """Make an image of musl's kind: another loader, and no cache."""
    box.cache.unlink()
    shutil.rmtree(box.rootfs / "usr/lib64")
    (box.rootfs / "usr/lib64").mkdir()
    (box.rootfs / f"usr/lib/{MUSL}.so.1").touch()
    return box


@pytest.mark.parametrize(
    ("before", "first", "after"),
    [
        (None, (), f"{DEFAULT}\n{LIBS}"),
        (None, ("/compat",), f"/compat\n{DEFAULT}\n{LIBS}"),
        ("", (), LIBS),
        ("/opt/lib\n", (), f"/opt/lib\n{LIBS}"),
        ("/opt/lib:/lib", ("/lib",), f"/lib\n/opt/lib:/lib\n{LIBS}"),
        (f"/opt/lib:{LIBS}:/lib", (), f"/opt/lib:{LIBS}:/lib"),
    ],
)
def test_the_list_of_musl_gets_the_directories(
    musl: Box, before: str | None, first: tuple[str, ...], after: str
) -> None:
    file = musl.rootfs / f"etc/{MUSL}.path"
    if before is not None:
        file.write_text(before)
    musl.watch()
    small = ("libours.so.1", "/usr/lib32/libours.so.1", 32)  # its loader knows another list
    mount, _ = musl.plan.operations
    cache = CACHE.replace(libraries=(OURS, small), directories=first)
    applied = nvc.apply(nvc.Plan(operations=(mount, cache)), musl.target)
    assert applied.warnings == ()
    assert file.read_text() == after
    assert not musl.cache.exists()
    nvc.detach(applied)
    musl.assert_untouched()


def test_the_list_of_musl_that_somebody_changed_stays(musl: Box) -> None:
    file = musl.rootfs / f"etc/{MUSL}.path"
    applied = nvc.apply(musl.plan, musl.target)
    file.write_text(f"{file.read_text()}\n/opt/lib\n")
    nvc.detach(applied)
    assert file.read_text() == f"{DEFAULT}\n{LIBS}\n/opt/lib\n"
    assert not musl.cache.exists()
    assert not (musl.rootfs / OURS[1][1:]).exists()
