# SPDX-License-Identifier: Apache-2.0
"""The loader cache, against that of glibc's ldconfig: the same look-ups, whatever the image has.

Trees of libraries are made by chance. Where there is no cache, or an old one, libnvc looks through
the directories itself: that is compared with ldconfig run on the same tree. Where there is one,
libnvc adds a plan's libraries to it: that is compared with ldconfig run anew when they are there.

Left out is what differs on purpose: of libraries for two architectures with one SONAME in one
directory ldconfig lists a single one; libnvc does not look into directories for processors of
glibc before 2.37 ("tls", "haswell"); and ldconfig lists a SONAME also where something else than a
library has that name.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

import libnvc as nvc
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = pytest.mark.root

EXAMPLES = int(os.environ.get("LIBNVC_LOADER_EXAMPLES", "120"))

MACHINE = this_machine()
LIBS, LIBS32 = MACHINE.libs_dir, MACHINE.libs32_dir or "/usr/lib32"

#: Where libraries are. Each directory is for one architecture.
DIRECTORIES = (LIBS, "/usr/lib", "/usr/local/lib", "/opt/one", "/opt/two/lib", LIBS32, "/opt/32")
IS_32 = {LIBS32, "/opt/32"} if MACHINE.elf32 else set()
HWCAPS = tuple(
    f"{directory}/glibc-hwcaps/x86-64-v{level}"
    for directory in (LIBS, "/usr/lib", "/opt/one", LIBS32)
    for level in (2, 3)
)
#: Other names of directories: links, and the directories that they lead to.
LINKS = {
    "/lib": "usr/lib",
    "/opt/link": "one",
    "/srv/absolute": "/opt/two/lib",
    "/opt/up": "../opt",
}
SPELLINGS = (*LINKS, "/lib/", "/opt//one", "/opt/./one", "/opt/up/up/one", "/opt/two/../one")

SONAMES = (
    "liba.so.1",
    "liba.so.2",
    "liba.so.10",
    "libb.so.1",
    "libb.so",
    "libodd-1.so",
    "x.so",
    "",
)
FILES = (
    *("liba.so.1", "liba.so.1.0", "liba.so.1.9", "liba.so.1.10", "liba.so.2", "liba.so.2.1"),
    *("libb.so.1.2.3", "libb.so.1", "libb-2.31.so", "libodd-1.so", "ld-a.so.1", "libnothing.a"),
    *("plugin.so", "libc++.so.1.0"),
)
DEV = ("liba.so", "libb.so", "liba.so.1", "libb.so.1", "liba.so.2", "libodd.so", "ld-a.so.1")


class Tree(NamedTuple):
    """What an image has.

    Attributes:
        conf: lines of /etc/ld.so.conf.
        included: files of /etc/ld.so.conf.d: name and lines.
        files: directory, name, and what it is: "library" and its SONAME, "link" and its target, or
            something that is neither.
    """

    conf: Sequence[str]
    included: Sequence[tuple[str, Sequence[str]]]
    files: Sequence[tuple[str, str, tuple[str, str]]]


DIRECTORY_LINE = st.builds(
    str.format,
    st.sampled_from(("{}", "{}", "{}", "{}/", " \t{} ", "{}// # comment", "{}=libc6", "#{}")),
    st.sampled_from(DIRECTORIES + SPELLINGS),
)
IGNORED_LINE = st.sampled_from(
    ("", "   ", "# nothing", "hwcap 0 nosegneg", "include", "/opt/missing", "relative/lib")
)
INCLUDE_LINE = st.sampled_from(
    (
        *("include /etc/ld.so.conf.d/*.conf", "include ld.so.conf.d/*.conf") * 3,
        *("include ld.so.conf.d/[!a].conf  ld.so.conf.d/a.conf", "\tinclude\tld.so.conf.d/?.conf"),
        *(
            "include ./ld.so.conf.d/*.conf # all",
            "include ld.so.conf.d/b.conf",
            "include nothing/*",
        ),
        *("include ld.so.conf.d/.*.conf", "include ld.so.conf.d/*/*", "include /etc/missing"),
    )
)
#: These are about /etc itself, which every new cache makes newer than the cache.
ETC_LINE = st.sampled_from(("include /etc/*/b.conf", "include *.d/*.conf"))
LINES = st.lists(DIRECTORY_LINE | DIRECTORY_LINE | IGNORED_LINE, max_size=4)
# No file includes one that includes it.
CONF_LINE = DIRECTORY_LINE | IGNORED_LINE | INCLUDE_LINE | INCLUDE_LINE
INCLUDED = st.one_of(
    st.tuples(
        st.sampled_from(("a.conf", "b.conf", ".c.conf", "d", "10.conf")),
        st.lists(DIRECTORY_LINE | IGNORED_LINE | st.just("include more/*.conf"), max_size=4),
    ),
    st.tuples(st.sampled_from(("more/a.conf", "more/b.conf")), LINES),
)

LIBRARY = st.tuples(st.just("library"), st.sampled_from(SONAMES))
NO_LIBRARY = st.tuples(st.sampled_from(("empty", "text", "cut", "program", "other")), st.just(""))
LINK = st.builds(
    lambda directory, name: ("link", f"{directory}{name}"),
    st.sampled_from(("", "", "", "", "../", "../one/", "/opt/one/", f"{LIBS}/", "/opt/32/", "./")),
    st.sampled_from((*FILES, "nowhere", ".")),
)
ANYWHERE = st.sampled_from(DIRECTORIES * 2 + HWCAPS)
FILE = st.one_of(
    st.tuples(ANYWHERE, st.sampled_from(FILES), LIBRARY),
    st.tuples(ANYWHERE, st.sampled_from(FILES), LIBRARY),
    st.tuples(ANYWHERE, st.sampled_from(FILES + DEV), LINK),
    st.tuples(ANYWHERE, st.sampled_from(sorted({*FILES} - {*SONAMES})), NO_LIBRARY),
)
TREES = st.builds(
    Tree,
    st.lists(CONF_LINE | CONF_LINE | ETC_LINE, max_size=5),
    st.lists(INCLUDED, max_size=3),
    st.lists(FILE, min_size=1, max_size=14),
)

# What a plan is applied to is as packages have it: a file for each version, and a link for linkers.
VERSIONS = st.builds(
    lambda directory, soname, minor: (directory, f"{soname}.{minor}", ("library", soname)),
    ANYWHERE,
    st.sampled_from(("liba.so.1", "liba.so.2", "libb.so.1", "libcuda.so.1")),
    st.sampled_from((1, 9, 10)),
)
DEV_LINKS = st.builds(
    lambda directory, stem, rest: (directory, f"{stem}.so", ("link", f"{stem}.so.{rest}")),
    st.sampled_from(DIRECTORIES),
    st.sampled_from(("liba", "libcuda")),
    st.sampled_from(("1.1", "1.10", "1")),
)
PACKAGED = st.builds(
    Tree,
    st.lists(CONF_LINE, max_size=5),
    st.lists(INCLUDED, max_size=3),
    st.lists(st.one_of(VERSIONS, VERSIONS, VERSIONS, DEV_LINKS), max_size=12),
)
#: Directories of plans that the image does not have, and what it may have configured all the same.
NEW = ("/opt/driver", "/opt/driver/more", "/opt/missing")
LIBRARIES = st.lists(
    st.tuples(
        st.integers(0, 11),  # which directory
        st.sampled_from(("liba.so.1", "libb.so.1", "libcuda.so.1", "libnvidia-ml.so.1")),
    ),
    max_size=6,
    unique=True,
)


# --- trees --------------------------------------------------------------------------------------


def is_for_32(directory: str) -> bool:
    return directory.partition("/glibc-hwcaps")[0] in IS_32


def content(kind: str, soname: str, directory: str) -> bytes:
    """Return what is in a file."""
    is_32 = is_for_32(directory)
    machine = MACHINE.elf32 if is_32 else MACHINE.elf
    # Of a 32-bit library that needs no C library ldconfig says that it is for any.
    library = write_library(
        bits=32 if is_32 else 64, machine=machine, soname=soname, needed=("libc.so.6",)
    )
    return {
        "library": library,
        "empty": b"",
        "text": b"INPUT ( libc.so.6 )\n",
        "cut": library[:100],
        "program": library[:16] + b"\2" + library[17:],  # ET_EXEC
        "other": library[:18] + b"\xf3\x11" + library[20:],  # e_machine
    }[kind]


def place(root: Path, path: str) -> Path:
    """Return a file's place, in a directory that is made."""
    directory = root / path[1:]
    directory.parent.mkdir(parents=True, exist_ok=True)
    return directory


def plant(root: Path, tree: Tree) -> Path:
    """Make a root file system; of two files in one place the first stays."""
    for path, target in LINKS.items():
        place(root, path).symlink_to(target)
    for directory in ("etc/ld.so.conf.d", LIBS[1:]):
        (root / directory).mkdir(parents=True)
    (root / "etc/debian_version").touch()  # so is this machine's ldconfig
    (root / "etc/ld.so.conf").write_text("".join(f"{line}\n" for line in tree.conf))
    for name, lines in tree.included:
        place(root, f"/etc/ld.so.conf.d/{name}").write_text("\n".join(lines))
    for directory, name, (kind, word) in tree.files:
        at = place(root, f"{directory}/{name}")
        if at.is_symlink() or at.exists():
            continue
        if kind == "link":
            at.symlink_to(word)
        else:
            at.write_bytes(content(kind, word, directory))
    return root


def resolve(root: Path, path: str) -> str:
    """Return the path of the file that a path leads to inside a root."""
    done: list[str] = []
    left = path.split("/")[::-1]
    for _ in range(200):
        if not left:
            break
        name = left.pop()
        if name == "..":
            done = done[:-1]
        elif name not in ("", "."):
            at = root.joinpath(*done, name)
            if at.is_symlink():
                target = os.readlink(at)
                done = [] if target[0] == "/" else done
                left += target.split("/")[::-1]
            else:
                done.append(name)
    return "/" + "/".join(done)


LookUps = dict[tuple[str, str], list[str]]


def look_ups(root: Path, path: str = "etc/ld.so.cache") -> LookUps:
    """Return which files glibc finds by which name, of which kind, in its order."""
    listing = ["ldconfig", "-p", "-C", str(root / path)]
    text = subprocess.run(
        listing, check=True, capture_output=True, text=True, errors="replace"
    ).stdout
    found: LookUps = {}
    for soname, kind, at in re.findall(r"^\t(\S+) \((.*)\) => (\S+)$", text, re.MULTILINE):
        found.setdefault((soname, kind), []).append(resolve(root, at))
    return found


def ldconfig(root: Path, *arguments: str) -> str:
    """Run glibc's own on a tree, and return what it says; it also makes links."""
    command = ["ldconfig", "-r", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def configured(root: Path) -> list[str]:
    """Return the directories that ldconfig looks through, but for those below glibc-hwcaps."""
    return re.findall(r"^(\S+): \(from", ldconfig(root, "-v", "-N", "-X"), re.MULTILINE)


class Box:
    """Directories in pairs, and a container whose root is the one."""

    def __init__(self, directory: Path, pid: int) -> None:
        self.directory = directory
        self.pid = pid

    def plant(self, tree: Tree) -> tuple[Path, Path]:
        shutil.rmtree(self.directory, ignore_errors=True)
        return plant(self.directory / "one", tree), plant(self.directory / "other", tree)

    def apply(self, root: Path, *operations: nvc.Operation) -> nvc.Applied:
        target = nvc.Target(pid=self.pid, rootfs=str(root))
        return nvc.apply(nvc.Plan(operations=operations), target)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    with subprocess.Popen(
        [*command, "echo; exec sleep 1000000"], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has its namespace
        yield Box(tmp_path_factory.mktemp("trees") / "pair", process.pid)
        process.kill()


@settings(
    max_examples=2 * EXAMPLES, database=None, phases=(Phase.explicit, Phase.generate, Phase.shrink)
)
@example(  # no link is made in place of a library that has a SONAME for its name
    tree=Tree((), (), [(LIBS, name, ("library", "liba.so.1")) for name in FILES[:2]])
)
@given(tree=TREES)
def run_scans(box: Box, tree: Tree) -> None:
    """A scan finds what ldconfig finds on the same tree."""
    root, other = box.plant(tree)
    ldconfig(other)
    applied = box.apply(root, nvc.LoaderCache(origin="o", path="/etc/ld.so.cache"))
    try:
        assert look_ups(root) == look_ups(other)
    finally:
        nvc.detach(applied)


def test_scan(box: Box) -> None:
    run_scans(box)


# --- what is added to a cache -------------------------------------------------------------------

GONE = "libgone.so.1"


def settle(root: Path) -> None:
    """Make the links of libraries, and remove what links for linkers lead nowhere.

    They would lead to a plan's libraries, of which libnvc lists the names that the plan has.
    """
    ldconfig(root)
    for directory in DIRECTORIES:
        for path in (root / directory[1:]).glob("*.so"):
            if not path.exists():
                path.unlink()


def make_cache(root: Path, cache_format: str) -> None:
    """Run ldconfig; the cache then has a library that is not there, to be known by."""
    libs = root / LIBS[1:]
    (libs / GONE).write_bytes(content("library", GONE, LIBS))
    ldconfig(root, "-c", cache_format)
    times = os.stat(libs)
    (libs / GONE).unlink()
    os.utime(libs, ns=(times.st_atime_ns, times.st_mtime_ns))


def choose(root: Path, libraries: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    """Return directories and SONAMES, those of one directory together.

    A driver has no two libraries for one architecture by the same name.
    """
    known = [*configured(root), *NEW]
    chosen = {}
    for number, soname in libraries:
        directory = known[number % len(known)]
        if "/." in directory:  # no path of a plan
            directory = resolve(root, directory)
        chosen[is_for_32(directory), soname] = directory
    return sorted((directory, soname) for (_, soname), directory in chosen.items())


def operations(libraries: Sequence[tuple[str, str]], host: Path) -> Iterator[nvc.Operation]:
    """Mount libraries and make their links, as for those of a driver; then add them."""
    for directory, soname in libraries:
        path = f"{directory}/{soname}"
        source = place(host, f"{path}.999")
        source.write_bytes(content("library", soname, directory))
        yield nvc.BindMount(origin="o", path=f"{path}.999", source=str(source))
        yield nvc.Symlink(origin="o", path=path, target=f"{soname}.999", overwrite=True)
    yield nvc.LoaderCache(
        origin="o",
        path="/etc/ld.so.cache",
        libraries=tuple(
            (soname, f"{directory}/{soname}", 32 if is_for_32(directory) else 64)
            for directory, soname in libraries
        ),
    )


def add(root: Path, libraries: Sequence[tuple[str, str]]) -> None:
    """Put the libraries into a tree, and have ldconfig list them."""
    for directory, soname in libraries:
        at = place(root, f"{resolve(root, directory)}/{soname}")
        at.with_name(f"{soname}.999").write_bytes(content("library", soname, directory))
        at.unlink(missing_ok=True)
        at.symlink_to(f"{soname}.999")
    known = {resolve(root, path) for path in configured(root)}
    used = dict.fromkeys(directory for directory, _ in libraries)
    ldconfig(root, *(path for path in used if resolve(root, path) not in known))


def without_hwcaps(tree: Tree) -> Tree:
    """Leave out what is below glibc-hwcaps, which is newer than the older formats.

    One of them cannot tell it from the rest; in that of both, the loader and ldconfig itself take
    other strings for the names that ldconfig wrote.
    """
    return tree._replace(files=[file for file in tree.files if "glibc-hwcaps" not in file[0]])


def is_ours(path: str) -> bool:
    return path.endswith(".999")


@settings(
    max_examples=EXAMPLES, database=None, phases=(Phase.explicit, Phase.generate, Phase.shrink)
)
@example(  # a configured directory that the plan makes
    tree=Tree(
        ["/opt/one", "/opt/missing"], (), [("/opt/one", "liba.so.1.1", ("library", "liba.so.1"))]
    ),
    libraries=[(5, "liba.so.1")],
    cache_format="new",
)
@given(tree=PACKAGED, libraries=LIBRARIES, cache_format=st.sampled_from(("new", "compat", "old")))
def run_additions(
    box: Box, tree: Tree, libraries: list[tuple[int, str]], cache_format: str
) -> None:
    root, other = box.plant(tree if cache_format == "new" else without_hwcaps(tree))
    for one in (root, other):
        settle(one)
    make_cache(root, cache_format)
    cache = root / "etc/ld.so.cache"
    first, before = cache.read_bytes(), look_ups(root)
    chosen = choose(root, libraries)
    add(other, chosen)
    plan = list(operations(chosen, box.directory / "host"))
    applied = box.apply(root, *plan)
    try:
        after, merged = look_ups(root), cache.read_bytes()
    finally:
        nvc.detach(applied)
    assert cache.read_bytes() == first

    # Nothing was looked through: the library that is gone is still listed.
    (gone,) = [key for key in after if key[0] == GONE]
    assert after[gone] == before[gone] == [f"{LIBS}/{GONE}"]
    assert any("found before the driver's" in line for line in applied.warnings) == any(
        any(map(is_ours, paths)) and not is_ours(paths[0]) for paths in after.values()
    )
    expected = look_ups(other)
    for key, paths in before.items():
        assert after[key][0] == paths[0] or is_ours(after[key][0])
    del after[gone]
    assert after == expected

    # Added once more they change nothing.
    cache.write_bytes(merged)
    applied = box.apply(root, *plan)
    try:
        assert cache.read_bytes() == merged
    finally:
        nvc.detach(applied)


def test_additions(box: Box) -> None:
    """A plan's libraries are found, and found first, where ldconfig run anew has them."""
    run_additions(box)
