# SPDX-License-Identifier: Apache-2.0
"""Keep results for those who ask the same again, in a form that the native launcher checks.

One file a result, in a directory that only root may enter. It holds what the result was asked by
(the key), what it rests on (the dependencies), what it is, and a hash of all of that. Whoever uses
it compares the key and every dependency; if anything differs, it is as if there were no file.
"""

from __future__ import annotations

import os
import time
from stat import S_IMODE, S_ISDIR, S_ISREG

from . import _build
from ._discover.root import digest, read_file
from ._native.kept import kept_hash, strings
from ._native.path import resolve
from ._record import Record
from ._rundir import DIRECTORY, open_directory
from .errors import NvcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .model import Identity, Target

#: Where they are.
PLANS = f"{DIRECTORY}/plans"

_MOST = 64  # files; older ones go
#: Bytes of one file; the launcher reads no longer ones.
LONGEST = 4 << 20
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# A file that changes again within one tick of the kernel's clock may have the same times.
_TICK_NS = 50_000_000
_HEADER = 5  # strings before those (csrc/launcher/kept.c)
_KINDS = (b"w", b"r", b"e", b"a", b"v")  # what those begin with (csrc/nvc_document.c, cli.c)
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Entry(Record):
    """A file in the directory.

    Attributes:
        name: in the directory.
        size: bytes.
        written: seconds since the epoch.
    """

    name: str
    size: int
    written: float


def keep(key: bytes, dependencies: Sequence[Identity], *sections: bytes) -> bool:
    """Write a result down; tell whether that was done.

    It is not where the state that it rests on is not known or too new, where we may not have the
    directory, and where writing fails: what is kept is never needed.

    Args:
        key: what it was asked by.
        dependencies: what it rests on; nothing is kept if there are none.
        sections: what it is.
    """
    encoded = _dependencies(dependencies, time.time_ns())
    if encoded is None:
        return False
    body = f"nvckept 1 {_build.VERSION}\n".encode()
    body += b"".join(b"%d:%b" % (len(part), part) for part in (key, encoded, *sections))
    content = body + b"%016x\n" % kept_hash(body)
    return len(content) <= LONGEST and _write(_name(key), content)


def entries() -> list[Entry]:
    """Return the files of what is kept, the newest first; none where we may not look.

    Raises:
        NvcError: others than root may enter the directory.
    """
    directory = _open()
    if directory < 0:
        return []
    try:
        return _entries(directory)
    finally:
        os.close(directory)


def asked_by(entry: Entry) -> tuple[str, ...]:
    """Return what it is kept for: the words of a command, or what containers ask by.

    Empty for a file that is none, or is gone.
    """
    try:
        header, _, rest = read_file(f"{PLANS}/{entry.name}").partition(b"\n")
        size, _, body = rest.partition(b":")
        parts = body[: int(size)].split(b"\0")[_HEADER:]
    except (NvcError, ValueError):
        return ()
    words = [os.fsdecode(part[1:]) for part in parts if part[:1] in _KINDS]
    return tuple(filter(None, words)) if header.startswith(b"nvckept ") else ()


def clear() -> int:
    """Remove all that is kept; return how many files there were.

    Raises:
        NvcError: one cannot be removed, or others than root may enter the directory.
    """
    directory = _open()
    if directory < 0:
        return 0
    count = 0
    try:
        for name in os.listdir(directory):
            os.unlink(name, dir_fd=directory)
            count += 1
    except OSError as error:
        raise NvcError(
            f"{PLANS}/{name}: {(error.strerror or '').lower()}", errno=error.errno or 0, path=PLANS
        ) from None
    finally:
        os.close(directory)
    return count


def header(program: str, name: str, config: str, environment: Mapping[str, str]) -> bytes:
    """Return how keys begin: with what the native program is called by.

    Args:
        program: the path of its file.
        name: its name as called.
        config: the identity of the configuration, or "".
        environment: its own.
    """
    variables = (environment.get(name, "") for name in ("PATH", "CUDA_MPS_PIPE_DIRECTORY"))
    return strings((program, name, config, *variables))


def image_root(target: Target) -> str:
    """Return the root of a container that still shows the host's files, by way of its process.

    Raises:
        NvcError: it cannot be looked up.
    """
    base = f"/proc/{target.pid}/root"
    return base + (resolve(base, target.rootfs) or target.rootfs)


def _name(key: bytes) -> str:
    return f"{kept_hash(key):016x}"


def _open() -> int:
    """Return an fd of the directory, -1 where we may not have one."""
    directory = open_directory(DIRECTORY)
    if directory < 0:
        return -1
    os.close(directory)
    return open_directory(PLANS)


def _entries(directory: int) -> list[Entry]:
    found = []
    for name in os.listdir(directory):
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            continue  # removed meanwhile
        found.append(Entry(name=name, size=status.st_size, written=status.st_mtime))
    return sorted(found, key=lambda entry: (-entry.written, entry.name))


def _write(name: str, content: bytes) -> bool:
    try:
        directory = _open()
    except NvcError:
        return False  # whoever applies says what is wrong with it
    if directory < 0:
        return False
    temporary = f"{name}.{os.getpid()}"
    try:
        _make_room(directory)
        fd = os.open(temporary, _WRITE, 0o600, dir_fd=directory)
        try:
            os.write(fd, content)  # cut short, it does not match its hash
        finally:
            os.close(fd)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        return False
    finally:
        os.close(directory)
    return True


def _make_room(directory: int) -> None:
    for entry in _entries(directory)[_MOST - 1 :]:
        os.unlink(entry.name, dir_fd=directory)


# --- what it rests on -----------------------------------------------------------------------------


def _dependencies(identities: Sequence[Identity], now: int) -> bytes | None:
    """Return what the launcher compares, None if that cannot tell a later state from this one."""
    try:
        parts = [_content(_BOOT_ID, None), *_unique(identities, now)]
    except (NvcError, OSError, ValueError):
        return None
    return b"".join(parts)


def _unique(identities: Sequence[Identity], now: int) -> Iterator[bytes]:
    if not identities:
        raise ValueError("nothing is known")
    for identity in dict.fromkeys(identities):
        if identity.digest:
            yield _content(identity.path, identity.digest)
            continue
        if now - identity.ctime_ns < _TICK_NS:
            raise ValueError("too new")
        numbers = (identity.dev, identity.ino, identity.size, identity.mtime_ns, identity.ctime_ns)
        text = " ".join(map(str, numbers))
        yield b"i%s %b\0" % (text.encode(), os.fsencode(identity.path))


def _content(path: str, known: str | None) -> bytes:
    """Return the content of a file or the names in a directory, if it is still what is known."""
    status = os.lstat(path)
    if S_ISDIR(status.st_mode):
        kind, mode = b"n", 0
        names = os.listdir(path)
        data, hashed = strings(sorted(names, key=os.fsencode)), "\0".join(sorted(names))
        hash_of = os.fsencode(hashed)
    else:
        kind, mode = b"c", S_IMODE(status.st_mode) if S_ISREG(status.st_mode) else 0
        data = hash_of = read_file(path)
    if known is not None and digest(hash_of) != known:
        raise ValueError("changed meanwhile")
    return b"%b%d %d %b\0%b" % (kind, mode, len(data), os.fsencode(path), data)
