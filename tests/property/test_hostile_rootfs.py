# SPDX-License-Identifier: Apache-2.0
"""Whatever the image contains, and whatever it does meanwhile: nothing outside of it changes.

Plans are applied to containers whose root is filled by chance with what is dangerous; some of
the containers go on changing it. All file systems of the host are watched (tests/tools/subject.py):
who creates, deletes, changes or opens for writing something outside of the root is seen. The mount
tables are compared. And each plan is applied wholly, or refused by name and not at all.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import libnvc as nvc
from libnvc._native import ldcache
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import multiarch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.property.conftest import Arena, Box

pytestmark = pytest.mark.root

EXAMPLES = int(os.environ.get("LIBNVC_HOSTILE_EXAMPLES", "10000"))
OLD_KERNEL = "NVC_DENIED" in os.environ

LIBS = f"/usr/lib/{multiarch()}"
LONG = "n" * 255
ODD = 'o\udcff"\\ $'
LINES = "two\nlines"

# Few names, so that what is asked for meets what is there.
SHORT = tuple(
    path
    for a in "abc"
    for path in (f"/{a}", *(f"/{a}/{b}" for b in "abc"), f"/{a}/a/a", f"/{a}/b/c", f"/{a}/c/b")
)
REAL = (
    *("/usr", "/usr/lib", LIBS, f"{LIBS}/libcuda.so.1", "/usr/bin", "/usr/bin/nvidia-smi"),
    *("/dev/a", "/dev/nvidia0", "/dev/nvidiactl", "/dev/a/b"),
    *("/run", "/run/nvidia-persistenced", "/run/nvidia-persistenced/socket", "/var", "/var/run"),
    *("/lib", "/lib/firmware", "/lib/firmware/nvidia", "/etc", "/tmp"),
)
ETC = ("/etc/ld.so.cache", "/etc/ld.so.cache~", "/etc/.ld.so.cache.libnvc", "/etc/ld.so.conf")
#: What is written before it is renamed, by ldconfig or us: a file of that name is not kept.
SCRATCH = ("/etc/ld.so.cache~", "/etc/.ld.so.cache.libnvc")
ODDITIES = (
    *(f"/a/{LONG}", f"/{LONG}/a", f"/a/{ODD}", f"/{ODD}/b", f"/a/{LINES}", f"/{LINES}/a"),
    *("/a/.libnvc.link", "/.libnvc.link", "/a/deep", "/.hidden/a"),
)
TREE_PATHS = SHORT * 4 + REAL + ETC + ODDITIES
PLAN_PATHS = (
    *(SHORT * 4 + REAL),
    *(f"/a/{LONG}", f"/a/{ODD}", f"/{ODD}/b", "/a/b/.libnvc.link", f"/c/{LONG}/x"),
    *("/a/deep" + f"/{'d' * 255}" * 15 + tail for tail in ("", "/x", "/" + "y" * 200)),
    *("/proc/driver/nvidia", "/proc/driver", "/proc/self", "/proc/a", "/proc/sys/kernel/hostname"),
    *("/a/", "//a//b", "/a/./b", "/dev", "/dev/null", "/etc/ld.so.cache", "/hostproc/self/root"),
)
REFUSED_PATHS = (
    *("", "a", "/", "/.", "/a/..", "/a/../b", "/a/.", f"/a/{LINES}", f"/{LONG}n", f"/a/{LONG}n/b"),
    *("/a" * 2048, "/nul\0"),
)

# Where links lead. "{outside}" is the directory of canaries, on the host.
INSIDE = (
    *("a", "b", "/a", "/b", "/b/c", "/c/a", "../a", "b/../../c", "./././a", "/", ".", "nowhere"),
    *("/nowhere/x", "/usr/lib", "/dev", "/dev/null", "/dev/a", "/etc", "/tmp", "/a/x/y", LIBS),
    *(LONG, f"{LONG}n", "./" * 2047 + "a", "a/" * 99, ODD, LINES, f"/{LINES}"),
)
MAGIC = (
    *("/proc", "/proc/self/root", "/proc/1/root", "/proc/self/cwd", "/proc/self/fd/0"),
    *("/proc/1/root/{outside}", "/proc/driver", "/proc/driver/nvidia", "/proc/sys", "/hostproc"),
    *("/hostproc/self/fd/3", "/hostproc/self/cwd", "/hostproc/thread-self/root/{outside}"),
    *("/hostproc/1/root/{outside}", "/hostproc/1/root", "/hostproc/self/root", "/hostproc/sys"),
)
LEAVING = (
    *("..", "../..", "../../..", "/..", "/../..", "a/../../..", "../" * 20 + "{outside}"),
    *("../outside", "../../outside/dir", "../../../outside", "/../outside", "/a/../../outside"),
    *("{outside}", "{outside}/dir", "{outside}/dir/new", "{outside}/new", "{outside}/link/x"),
    *("{outside}/file", "{outside}/null", "{outside}/fifo", "{outside}/socket"),
    *("{outside}/libcuda.so.1", "{outside}/ld.so.cache", "/etc/../{outside}"),
)
PLAIN = ("dir", "file", "empty", "fifo", "socket", "null", "gpu", "disk", "sealed", "immutable")
ENTRIES = (
    *((kind, "") for kind in ("dir", *PLAIN, *PLAIN, *PLAIN)),
    ("deep", ""),
    *(("link", target) for target in INSIDE + MAGIC + LEAVING * 2),
)
MOUNTS = ("tmpfs", "ro", "noexec", "shared", "bind /a", "bind /b/a", "bind /dev", "bind /dev/null")
OPERATIONS = (
    *("directory", "bind file", "bind directory", "bind socket", "node", "link") * 4,
    *("overwriting link", "leaving link", "tmpfs", "tmpfs or", "tmpfs and file", "real") * 4,
    *("file", "bind nothing", "bind link", "bind other type"),
)
MODES = (
    *([()] * 34 + [("swap",)] * 8 + [("mounts",)] * 6 + [("mounts", "swap")] * 2),
    *([("cache",)] * 8 + [("cache", "swap")] * 2 + [("cache", "ldconfig")]),
    *(("cache", "mounts"), ("real plan",), ("real plan", "swap")),
)

# What the loader cache is made from. "{outside}" stands for itself in files, too.
CONF = (
    *("include ld.so.conf.d/*.conf", "include /etc/ld.so.conf.d/*", "include /etc/ld.so.conf"),
    *("include ../../../../../{outside}/*", "include {outside}/file", "include {outside}/*/*"),
    *("include /hostproc/1/root/{outside}/*", "include *", "include /[", "include /**/**/../*"),
    *("/a", "/b", "/a/", "//b//", "/a/../..", "..", "../../outside", "{outside}", "{outside}/dir"),
    *("/a=libc6", "hwcap 0 nosegneg", "# /b", "/proc/self/root/{outside}", "/hostproc/1/root"),
    *(f"/{ODD}", f"/a/{LONG}", "/a/.", "/dev", LIBS, "x" * 5000, "/a\0/b", "\0" * 99, ""),
)
HEADER = b"glibc-ld.so.cache1.1"
CACHES = (
    *(b"", b"\0" * 99, HEADER, b"ld.so-1.7.0\0\xff\xff\xff\xff", HEADER + b"\xff" * 99),
    b"ld.so-1.7.0\0" + struct.pack("=I", 0),
    *(
        struct.pack(
            "=20sII5I4IQ", HEADER, count, 0, 2, 0, 0, 0, 0, 0x303, at, at + 13 & 2**32 - 1, 0, 0
        )
        + b"libcuda.so.1\0"
        + path
        for count in (1, 2, 2**32 - 1)
        for at in (72, 71, 0, 2**32 - 1)
        for path in (b"/../../{outside}/libcuda.so.1\0", b"libcuda.so.1\0", b"/a/two\nlines\0", b"")
    ),
)
SONAMES = ("libcuda.so.1", "liba.so.1", "", ".", "..", "../x", "two\nlines", "n" * 300)
LIBRARIES = tuple(
    write_library(bits=64, machine=this_machine().elf, soname=soname)[:size]
    for soname in SONAMES
    for size in (None, 64, 500)
)
SCANNED = ("/a", "/b", "/lib", "/usr/lib", LIBS, "/lib64", f"{LIBS}/glibc-hwcaps/x86-64-v2")
LIBRARY_NAMES = (
    *("libcuda.so.1", "libcuda.so", "liba.so.1", "libx.so", "ld-x.so", f"lib{ODD}.so"),
    *("lib.so\nx", "lib.so" + "x" * 240),
)
LINKS = tuple(("link", target) for target in INSIDE + MAGIC + LEAVING)
PLAINS = (*((kind, "") for kind in PLAIN), *LINKS)
LOADER = st.one_of(
    st.tuples(
        st.sampled_from(["/etc/ld.so.conf"] * 2 + ["/etc/ld.so.conf.d/a.conf", "/a/a.conf"]),
        st.lists(st.sampled_from(CONF), max_size=4).map(lambda lines: ("bytes", latin(lines))),
    ),
    st.tuples(
        st.just("/etc/ld.so.cache"),
        st.sampled_from(CACHES).map(lambda data: ("bytes", data.decode("latin-1"))),
    ),
    st.tuples(
        st.builds("{}/{}".format, st.sampled_from(SCANNED), st.sampled_from(LIBRARY_NAMES)),
        st.sampled_from(LIBRARIES).map(lambda data: ("bytes", data.decode("latin-1"))),
    ),
    st.tuples(
        st.builds("{}/{}".format, st.sampled_from(SCANNED), st.sampled_from(LIBRARY_NAMES)),
        st.sampled_from(PLAINS),
    ),
    st.tuples(
        st.sampled_from(
            [
                *("/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld.so.conf.d/a.conf"),
                *(f"{directory}/glibc-hwcaps" for directory in SCANNED[:5]),
                *("/a/glibc-hwcaps/x", "/a/glibc-hwcaps/two\nlines", *SCANNED[:4]),
                f"/lib/ld-musl-{this_machine().name}.so.1",
                f"/etc/ld-musl-{this_machine().name}.path",
            ]
        ),
        st.sampled_from(PLAINS),
    ),
)


def latin(lines: list[str]) -> str:
    """Join lines to a file that is written as Latin-1."""
    return os.fsencode("\n".join(lines)).decode("latin-1")


ENTRY = st.tuples(st.sampled_from(TREE_PATHS), st.sampled_from(ENTRIES))
OPERATION = st.tuples(
    st.sampled_from(OPERATIONS), st.sampled_from(PLAN_PATHS * 4 + REFUSED_PATHS), st.integers(0, 31)
)
SWAP = st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from(ENTRIES))
MOUNT = st.tuples(st.sampled_from(MOUNTS), st.sampled_from(SHORT))


class Case(NamedTuple):
    """What one example does.

    Attributes:
        started: whether the container has changed its root.
        modes: what happens besides.
        tree: what is planted: path, and kind and target.
        mounts: what is mounted on it, if that is a mode: kind and path.
        swaps: what is exchanged meanwhile, or comes and goes: number of an operation, number of
            components of its path, and what takes the place of that.
        plan: what is asked for: kind, path and a number that means something to some kinds.
        loader: what is planted besides, if the cache is a mode.
        first: directories of the cache that come before all others.
        in_place: whether these keep their place, and get links.
    """

    started: bool = False
    modes: tuple[str, ...] = ()
    tree: Sequence[tuple[str, tuple[str, str]]] = ()
    mounts: Sequence[tuple[str, str]] = ()
    swaps: Sequence[tuple[int, int, tuple[str, str]]] = ()
    plan: Sequence[tuple[str, str, int]] = ()
    loader: Sequence[tuple[str, tuple[str, str]]] = ()
    first: tuple[str, ...] = ()
    in_place: bool = False


CASES = st.builds(
    Case,
    started=st.booleans(),
    modes=st.sampled_from(MODES),
    tree=st.lists(ENTRY, max_size=10),
    mounts=st.lists(MOUNT, min_size=1, max_size=2),
    swaps=st.lists(SWAP, min_size=1, max_size=2),
    plan=st.lists(OPERATION, min_size=1, max_size=4),
    loader=st.lists(LOADER, max_size=10),
    first=st.sampled_from([(), (), (LIBS,), ("/a", "/b/a")]),
    in_place=st.booleans(),
)
CACHED = (
    *((name, f"{place}/{name}", 64) for name in ("libcuda.so.1", ODD) for place in (LIBS, "/a")),
    ("libcuda.so.1", "/usr/lib/i386-linux-gnu/libcuda.so.1", 32),
)
FILE_CONF = ("/etc/ld.so.conf", ("file", ""))


class Maker:
    """Makes plans of what cases ask for."""

    def __init__(self, arena: Arena, real: nvc.Plan) -> None:
        self._host = str(arena.host)
        self._outside = str(arena.outside)
        self._real = real.operations

    def plan(self, case: Case) -> nvc.Plan:
        if "real plan" in case.modes:
            operations = list(self._real)
        else:
            operations = [op for asked in case.plan for op in self._operations(*asked)]
        if "cache" in case.modes:
            cache = nvc.LoaderCache(origin="o", path="/etc/ld.so.cache", libraries=CACHED)
            operations.append(cache.replace(directories=case.first, in_place=case.in_place))
        return nvc.Plan(operations=tuple(operations))

    def _operations(self, kind: str, path: str, number: int) -> tuple[nvc.Operation, ...]:
        host, parent = self._host, path.rstrip("/").rpartition("/")[0]
        word, _, rest = kind.partition(" ")
        file = nvc.WriteFile(origin="o", path=f"{path}/file", content=b"new\n")
        if word == "bind":
            return (self._bind(rest, path),)
        if word == "tmpfs":
            fallback = parent if rest == "or" else ""
            tmpfs = nvc.Tmpfs(origin="o", path=path, fallback=fallback)
            return (tmpfs, file) if rest == "and file" else (tmpfs,)
        if kind == "node":
            source = f"{host}/gpu" if number % 2 else ""
            return (nvc.DeviceNode(origin="o", path=path, major=195, minor=0, source=source),)
        if kind.endswith("link"):
            target = f"{self._outside}/file" if word == "leaving" else "target"
            overwrite = word == "overwriting"
            return (nvc.Symlink(origin="o", path=path, target=target, overwrite=overwrite),)
        if kind == "directory":
            return (nvc.Directory(origin="o", path=path),)
        return (file,) if kind == "file" else (self._real[number % len(self._real)],)

    def _bind(self, what: str, path: str) -> nvc.BindMount:
        names = {"directory": "dir", "nothing": "nowhere", "other type": "dir"}
        file_type = what if what in ("directory", "socket") else "file"
        source = f"{self._host}/{names.get(what, what)}"
        return nvc.BindMount(origin="o", path=path, source=source, file_type=file_type)


@pytest.fixture(scope="module")
def maker(arena: Arena, mx150: Path) -> Maker:
    layout = nvc.Layout(libs_dir=LIBS, libs32_dir="/usr/lib/i386-linux-gnu")
    request = nvc.Request(
        devices=("0",), capabilities=("utility", "compute"), layout=layout, device_rules=False
    )
    plan = nvc.make_plan(nvc.discover(str(mx150)), request)
    # The loader cache has a mode of its own.
    operations = [op for op in plan.operations if not isinstance(op, nvc.LoaderCache)]
    return Maker(arena, plan.replace(operations=tuple(operations)))


@pytest.fixture(scope="module")
def broken_arena(make_arena: Callable[[], Arena]) -> Arena:
    """Return an arena of its own for what must not happen in the other."""
    return make_arena()


# --- one example --------------------------------------------------------------------------------


def plant(arena: Arena, box: Box, case: Case) -> None:
    loader = case.loader if "cache" in case.modes else ()
    for path, (kind, target) in (*loader, *case.tree):
        box.planter.plant(path, kind, target.replace("{outside}", str(arena.outside)))
    for what, path in case.mounts if "mounts" in case.modes else ():
        kind, *source = what.split(" ")
        # The kernel would follow a magic link out of the container, and mount the host there.
        if source and source[0] != "/dev/null" and not box.planter.is_directory(source[0]):
            continue
        if box.planter.plant(path, "file" if what == "bind /dev/null" else "dir"):
            box.swapper.tell(kind, *source, path)


def swaps(arena: Arena, box: Box, case: Case, plan: nvc.Plan) -> list[str]:
    """Prepare what shall be exchanged; return the places in pairs."""
    places = []
    for count, (number, depth, (kind, target)) in enumerate(case.swaps):
        names = plan.operations[number % len(plan.operations)].path.split("/")[1:]
        place = "/" + "/".join(names[: 1 + depth])
        other = f"{place.rpartition('/')[0]}/.swap{count}"
        if "\0" in place or len(os.fsencode(place)) >= 4096:
            continue
        if len(names) > 1 + depth:
            box.planter.plant(place, "dir")  # on the way; what is asked for itself may be missing
        if box.planter.plant(other, kind, target.replace("{outside}", str(arena.outside))):
            places += [place, other]
    return places


def is_refusal(error: nvc.NvcError | None, *, swapping: bool) -> bool:
    """Whether it is one line that names what it is about.

    While somebody exchanges directories for links, what was made may be out of reach when it shall
    be undone. To say so is right then, and only then: following the link would be wrong.
    """
    allowed: tuple[type[nvc.NvcError], ...] = (
        nvc.ContainerError,
        nvc.LoaderCacheError,
        nvc.MountError,
        nvc.RequestError,
    )
    if swapping:
        allowed += (nvc.RollbackError,)
    if OLD_KERNEL:
        allowed += (nvc.UnsupportedKernelError,)
    named = "/" in str(error) or isinstance(error, nvc.RequestError)
    return isinstance(error, allowed) and is_line(str(error)) and named


def is_line(text: str) -> bool:
    """Whether a text has nothing but letters, and bytes that are none."""
    return all(letter.isprintable() or "\udc80" <= letter <= "\udcff" for letter in text)


def run(arena: Arena, maker: Maker, case: Case, timeout: float = 20.0) -> None:
    # Before 5.2 nothing can be given to a container that has changed its root.
    box, plan = arena.boxes[case.started and not OLD_KERNEL], maker.plan(case)
    box.reset()
    plant(arena, box, case)
    places = swaps(arena, box, case, plan) if "swap" in case.modes else []
    table, tree = box.mounts(), box.tree()
    with box.swapping(places):
        ldconfig = "" if "ldconfig" in case.modes else None
        failure = arena.watched("apply", box.index, plan, ldconfig, timeout)
        escaped = [path for path in box.added(table) if not path.startswith(f"{box.rootfs}/")]
        for path in reversed(escaped):
            arena.ask("unmount", box.index, path)
        assert not escaped
        assert all(is_line(line) and line[0] == "/" for line in arena.warnings)
        if not (failure or places) and "cache" in case.modes and ldconfig is None:
            check_cache(box)
        left = None if failure else arena.watched("detach", timeout)
    assert arena.table() == arena.first_table
    assert failure is None or is_refusal(failure, swapping=bool(places)), repr(failure)
    if not places:
        assert left is None, repr(left)
        assert box.mounts() == table
        after = box.tree()
        if "cache" in case.modes:
            for path in SCRATCH:
                tree = {p: fact for p, fact in tree.items() if p != path or p in after}
        assert after == tree
    elif isinstance(left or failure, nvc.RollbackError):
        assert is_refusal(left or failure, swapping=True)
        arena.ask("forget", box.index)


def check_cache(box: Box) -> None:
    """Look at what was written: a cache that has what was asked for."""
    file = box.planter.read("/etc/ld.so.cache")
    if file is not None:
        paths = [entry.path for entry in ldcache.parse(file, "cache")]
        assert f"{LIBS}/libcuda.so.1" in paths


# --- the tests ----------------------------------------------------------------------------------


@settings(
    max_examples=EXAMPLES, database=None, phases=(Phase.explicit, Phase.generate, Phase.shrink)
)
@given(case=CASES)
def run_cases(arena: Arena, maker: Maker, case: Case) -> None:
    # A plan that covers the cache that it writes is nobody's.
    covers = ("/etc", *ETC) if "cache" in case.modes else ()
    plan = [asked for asked in case.plan if asked[1] not in covers]
    run(arena, maker, case._replace(plan=plan))


def test_nothing_outside_changes(arena: Arena, maker: Maker) -> None:
    run_cases(arena, maker)
    arena.assert_untouched()
    # The watch was awake all the time, and is now.
    assert arena.seen > EXAMPLES
    _, violations = arena.ask("violate", "open for writing", f"{arena.outside}/file")
    assert len(violations) == 1


#: What was found, as small as it gets.
FOUND = {
    "ldconfig was given the image's /dev/null": Case(tree=[FILE_CONF], modes=("cache", "ldconfig")),
    "a directory where the new cache is written": Case(
        tree=[("/etc/.ld.so.cache.libnvc", ("dir", ""))], modes=("cache",)
    ),
    "a tmpfs of the plan over the directory of the cache": Case(
        modes=("cache",),
        mounts=[("tmpfs", "/a")],
        plan=[("tmpfs", "/etc", 0)],
        loader=[("/etc/ld.so.conf", ("bytes", ""))],
    ),
    "a mount over a directory that was used before": Case(
        plan=[("directory", "/a/a", 0), ("bind directory", "/a", 0), ("directory", "/a/b", 0)]
    ),
    "a link through more directories than the journal holds": Case(
        tree=[("/b", ("link", "a/" * 2047))], plan=[("directory", "/b/a", 0)]
    ),
    "a line break in an error": Case(
        tree=[("/a", ("link", f"/{LINES}")), (f"/{LINES}/b", ("file", ""))],
        plan=[("bind directory", "/a/b", 0)],
    ),
    "a line break in a warning": Case(
        tree=[("/a", ("link", f"/{LINES}")), (f"/{LINES}/b", ("file", ""))],
        plan=[("overwriting link", "/a/b", 0)],
    ),
}


@pytest.mark.parametrize("case", FOUND.values(), ids=FOUND)
def test_found(arena: Arena, maker: Maker, case: Case) -> None:
    run(arena, maker, case)


@pytest.mark.parametrize("modes", [("cache",), ("cache", "ldconfig")])
@pytest.mark.parametrize("path", ["/etc/ld.so.conf", "/etc/ld.so.cache", f"{LIBS}/libcuda.so.1"])
def test_pipe_that_is_read(arena: Arena, maker: Maker, path: str, modes: tuple[str, ...]) -> None:
    """Nobody ever writes to it."""
    run(arena, maker, Case(tree=[(path, ("fifo", "")), FILE_CONF], modes=modes), timeout=2.0)


@pytest.mark.parametrize(
    ("how", "path", "seen"),
    [
        ("create", "/tmp/{name}", "create"),
        ("move", "/tmp/{name}", "move from"),
        ("delete", "/tmp/{name}-moved", "delete"),
        ("make a directory", "{outside}/new", "create"),
        ("make a node", "{outside}/dir/new", "create"),
        ("link", "{outside}/dir/dir/new", "create"),
        ("open", "{outside}/file", "open"),
        ("open for writing", "{outside}/fifo", "close of a writer"),
        ("open for writing", "{outside}/null", "close of a writer"),
        ("open for writing", "/dev/null", "close of a writer"),
        ("open for writing", "{host}/file", "close of a writer"),
        ("own", "{host}/socket", "attributes"),
    ],
)
def test_watch_sees(broken_arena: Arena, how: str, path: str, seen: str) -> None:
    """What a process does that is gone when the watch is asked."""
    arena = broken_arena
    name = arena.outside.parent.parent.name + "-watched"
    place = path.format(outside=arena.outside, host=arena.host, name=name)
    _, violations = arena.ask("violate", how, place)
    assert any(seen in words and place in words for words in violations), violations


def test_mounts_outside_are_seen(broken_arena: Arena) -> None:
    for box in broken_arena.boxes:
        broken_arena.ask("mount_over", box.index, f"{broken_arena.outside}/dir")
        assert box.added(box.table) == [f"{broken_arena.outside}/dir"]
        broken_arena.ask("unmount", box.index, f"{broken_arena.outside}/dir")
        assert box.added(box.table) == []
