# SPDX-License-Identifier: Apache-2.0
"""Containers with a hostile root, and a host that is watched while plans are applied to them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import re
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

import libnvc as nvc
from libnvc.testing import make_rootfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

TOOLS = Path(__file__).parent.parent / "tools"
KEPT = ("dev", "hostproc", "proc")
SETFLAGS, IMMUTABLE = 0x40086602, 0x10  # linux/fs.h


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


# --- trees, by descriptor: their paths may be longer than any path may be -------------------------


def enter(directory: int, name: str) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)


def look(directory: int, skip: Sequence[int] = (), at: str = "") -> dict[str, tuple[object, ...]]:
    """Describe everything below a directory, across mounts, but for file systems to be skipped."""
    found: dict[str, tuple[object, ...]] = {}
    for name in os.listdir(directory):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if status.st_dev in skip:
            continue
        fact: object = status.st_rdev
        if stat.S_ISLNK(status.st_mode):
            fact = os.readlink(name, dir_fd=directory)
        elif stat.S_ISREG(status.st_mode):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
            fact = os.read(file, 1 << 16)
            os.close(file)
        elif stat.S_ISDIR(status.st_mode):
            below = enter(directory, name)
            found |= look(below, skip, f"{at}/{name}")
            os.close(below)
        found[f"{at}/{name}"] = (status.st_mode, status.st_uid, status.st_gid, fact)
    return found


def wipe(directory: int, keep: Iterable[str]) -> None:
    """Remove what is there; mounts of other namespaces go with their mount points."""
    device = os.fstat(directory).st_dev
    for name in set(os.listdir(directory)).difference(keep):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=directory)
        elif status.st_dev == device:
            below = enter(directory, name)
            wipe(below, ())
            os.close(below)
            os.rmdir(name, dir_fd=directory)


class Planter:
    """Makes trees; of two entries that cannot both be the first stays.

    It never leaves: a path goes through real directories only.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self._immutable: list[int] = []

    def plant(self, path: str, kind: str, target: str = "") -> bool:
        """Make something; the target is of a "link", or the "bytes" of a file, as Latin-1."""
        *parents, name = path.strip("/").split("/")
        at = os.dup(self.root)
        try:
            for parent in parents:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(parent, dir_fd=at)
                below = enter(at, parent)
                os.close(at)
                at = below
            self._make(at, name, kind, target)
        except OSError:
            return False
        finally:
            os.close(at)
        return True

    def is_directory(self, path: str) -> bool:
        """Whether a directory is there, without any link on the way."""
        try:
            os.close(self._enter_all(path.strip("/").split("/")))
        except OSError:
            return False
        return True

    def read(self, path: str) -> bytes | None:
        """Read a file; None if there is none without any link on the way."""
        *parents, name = path.strip("/").split("/")
        try:
            at = self._enter_all(parents)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                return None
            with open(name, "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=at)) as f:
                return f.read()
        except OSError:
            return None
        finally:
            os.close(at)

    def _enter_all(self, names: list[str]) -> int:
        at = os.dup(self.root)
        for name in names:
            try:
                below = enter(at, name)
            finally:
                os.close(at)
            at = below
        return at

    def _make(self, at: int, name: str, kind: str, target: str) -> None:
        if kind == "link":
            os.symlink(target, name, dir_fd=at)
        elif kind in DEVICES:
            os.mknod(name, 0o666 | DEVICES[kind][0], DEVICES[kind][1], dir_fd=at)
        elif kind in ("file", "bytes"):
            content = target.encode("latin-1") if kind == "bytes" else b"the image's own\n"
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o755, dir_fd=at)
            os.write(file, content)
            os.close(file)
        else:
            os.mkdir(name, 0 if kind == "sealed" else 0o755, dir_fd=at)
            if kind == "immutable":
                directory = enter(at, name)
                fcntl.ioctl(directory, SETFLAGS, struct.pack("=l", IMMUTABLE))
                self._immutable.append(directory)
            elif kind == "deep":
                self._dig(enter(at, name))

    def _dig(self, at: int) -> None:
        for _ in range(15):
            os.mkdir("d" * 255, dir_fd=at)
            below = enter(at, "d" * 255)
            os.close(at)
            at = below
        os.close(at)

    def release(self) -> None:
        """Make what is immutable mutable again."""
        for directory in self._immutable:
            fcntl.ioctl(directory, SETFLAGS, struct.pack("=l", 0))
            os.close(directory)
        self._immutable.clear()


DEVICES = {
    "empty": (stat.S_IFREG, 0),
    "fifo": (stat.S_IFIFO, 0),
    "socket": (stat.S_IFSOCK, 0),
    "null": (stat.S_IFCHR, os.makedev(1, 3)),
    "gpu": (stat.S_IFCHR, os.makedev(195, 0)),
    "disk": (stat.S_IFBLK, os.makedev(7, 0)),
}


# --- one container ------------------------------------------------------------------------------


class Swapper:
    """Somebody in the container (tests/tools/swapper.c)."""

    def __init__(self, program: Path, namespace: str, rootfs: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen([program, namespace, rootfs], stdin=theirs.fileno())

    def tell(self, *words: str) -> int:
        self._socket.send(b"".join(os.fsencode(word) + b"\0" for word in words))
        return int(self._socket.recv(32) or b"-1")

    def close(self) -> None:
        self._socket.close()
        assert self._process.wait(10) == 0


class Box:
    """A container, seen from outside.

    Attributes:
        rootfs: on the host.
        index: its number.
        planter: makes things in it, as the container sees them.
        swapper: does things in it.
        table: its mount table at first.
    """

    def __init__(self, index: int, rootfs: Path, process: str, program: Path) -> None:
        self.index = index
        self.rootfs = str(rootfs)
        # Opened before the process changes its root: so it shows what is outside, too.
        self._table = os.open(f"{process}/mountinfo", os.O_RDONLY)
        self._host = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY)
        (rootfs / "hostproc").mkdir()
        self.planter = Planter(os.open(f"{process}/root{rootfs}", os.O_RDONLY | os.O_DIRECTORY))
        self.swapper = Swapper(program, f"{process}/ns/mnt", self.rootfs)
        assert self.swapper.tell("proc", "/hostproc") == 0
        self._dev = enter(self.planter.root, "dev")
        self._devices = os.listdir(self._dev)
        places = (os.stat(name, dir_fd=self.planter.root) for name in ("proc", "hostproc"))
        self._kernels = [status.st_dev for status in places]
        self.table = self.mounts()

    def mounts(self) -> bytes:
        return read_table(self._table)

    def added(self, before: bytes) -> list[str]:
        """Return where something is mounted that was not."""
        known = {line.split(b" ", 1)[0] for line in before.splitlines()}
        rows = [line.split(b" ", 5) for line in self.mounts().splitlines()]
        return [unescape(row[4]) for row in rows if row[0] not in known]

    def tree(self) -> dict[str, tuple[object, ...]]:
        return look(self.planter.root, self._kernels)

    @contextlib.contextmanager
    def swapping(self, places: list[str]) -> Iterator[None]:
        """Have the places exchanged in pairs all the time."""
        if not places:
            yield
            return
        assert self.swapper.tell("swap", *places) == 0
        try:
            yield
        finally:
            self.swapper.tell("stop")

    def reset(self) -> None:
        """Make it empty again, whatever somebody left."""
        self.planter.release()
        for path in reversed(self.added(self.table)):
            self.swapper.tell("umount", path.removeprefix(self.rootfs))
        wipe(self._host, KEPT)
        wipe(self._dev, self._devices)
        assert self.added(self.table) == []
        assert self.mounts() == self.table

    def close(self) -> None:
        self.planter.release()
        self.swapper.close()
        for fd in (self._table, self._host, self._dev, self.planter.root):
            os.close(fd)


def read_table(fd: int) -> bytes:
    """Read an open mount table from its beginning."""
    table = b""
    while part := os.pread(fd, 1 << 16, len(table)):
        table += part
    return table


def unescape(field: bytes) -> str:
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)
    return os.fsdecode(plain)


# --- the host -----------------------------------------------------------------------------------


class Arena:
    """Two containers, one that has changed its root and one that has not, on a watched host.

    Attributes:
        outside: directory of canaries: nobody may as much as open one of them.
        host: directory of what plans bind, watched for changes like the whole host.
        seen: number of events so far that libnvc caused, allowed ones too.
        warnings: of the last plan.
    """

    def __init__(self, area: Path, program: Path) -> None:
        self.outside, self.host = area / "outside", area / "host"
        self.seen = 0
        roots = [area / "waiting", make_rootfs(area / "started")]
        for name in ("dev", "proc"):
            (roots[0] / name).mkdir(parents=True)
        subject: list[str | Path] = [sys.executable, TOOLS / "subject.py", area, *roots]
        self._process = subprocess.Popen(
            ["unshare", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child", *subject],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        pids = self._read()
        number = self._process.pid
        first = Path(f"/proc/{number}/task/{number}/children").read_text().strip()
        self.root = f"/proc/{first}/root"
        self.boxes = [
            Box(index, root, f"{self.root}/proc/{pid}", program)
            for index, (root, pid) in enumerate(zip(roots, pids, strict=True))
        ]
        self.ask("begin")
        self._table = os.open(f"{self.root}/proc/1/mountinfo", os.O_RDONLY)
        self.first_table = self.table()
        self._canaries = self.canaries()
        for box in self.boxes:
            box.reset()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return pickle.load(self._process.stdout)

    def ask(self, name: str, *arguments: object) -> tuple[Any, list[str]]:
        """Have the subject do something; return what came of it, and what the watch says to it."""
        assert self._process.stdin is not None
        pickle.dump((name, *arguments), self._process.stdin)
        self._process.stdin.flush()
        result, violations, self.seen = self._read()
        return result, violations

    def watched(self, name: str, *arguments: object) -> nvc.NvcError | None:
        """Have the subject do something that must not be seen outside; return how it failed."""
        self.warnings: tuple[str, ...] = ()
        result, violations = self.ask(name, *arguments)
        assert not violations, result
        if isinstance(result, nvc.NvcError):
            return result
        self.warnings = result or ()
        return None

    def table(self) -> bytes:
        """Return the host's mount table, as the subject has it."""
        return read_table(self._table)

    def canaries(self) -> dict[str, tuple[object, ...]]:
        """Describe what lies outside; reading it is not libnvc's deed."""
        found: dict[str, tuple[object, ...]] = {}
        for directory in (f"{self.root}{self.outside}", str(self.host)):
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            found |= look(fd, (), directory)
            os.close(fd)
        return found

    def assert_untouched(self) -> None:
        """Compare the host's mounts and the canaries with the start."""
        assert self.table() == self.first_table
        assert self.canaries() == self._canaries

    def close(self) -> None:
        for box in self.boxes:
            box.close()
        os.close(self._table)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(30) == 0


@pytest.fixture(scope="session")
def swapper(tmp_path_factory: pytest.TempPathFactory, compile_c: CompileC) -> Path:
    return compile_c(tmp_path_factory.mktemp("tools") / "swapper", TOOLS / "swapper.c")


@pytest.fixture(scope="module")
def make_arena(
    tmp_path_factory: pytest.TempPathFactory, swapper: Path
) -> Iterator[Callable[[], Arena]]:
    with contextlib.ExitStack() as stack:

        def make() -> Arena:
            area = tmp_path_factory.mktemp("arena")
            host = area / "host"
            (host / "dir").mkdir(parents=True)
            (host / "file").write_text("from the host\n")
            (host / "link").symlink_to("file")
            os.mknod(host / "socket", stat.S_IFSOCK | 0o666)
            os.mknod(host / "gpu", stat.S_IFCHR | 0o666, os.makedev(195, 0))
            return stack.enter_context(contextlib.closing(Arena(area, swapper)))

        yield make


@pytest.fixture(scope="module")
def arena(make_arena: Callable[[], Arena]) -> Arena:
    return make_arena()
