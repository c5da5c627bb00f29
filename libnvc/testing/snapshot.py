# SPDX-License-Identifier: Apache-2.0
"""Look at a file tree or a mount table closely enough to tell whether anything changed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

from .._record import Record


class Mount(Record):
    """One line of a mount table.

    Attributes:
        path: the mount point, as the process whose table it is sees it.
        root: the directory of the file system that is mounted.
        options: of the mount itself ("ro", "nosuid", …), sorted.
        tags: propagation ("shared:12", "master:3"); empty for a private mount.
        fstype: file system type.
        identity: mount and parent number: the same mount has the same.
    """

    path: str
    root: str
    options: tuple[str, ...]
    tags: tuple[str, ...]
    fstype: str
    identity: tuple[int, int]


def mounts(pid: int | str = "self") -> tuple[Mount, ...]:
    """Read the mount table of a process, in its order."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text(errors="surrogateescape").splitlines()
    return tuple(_mount(line) for line in lines)


def tree(root: Path) -> dict[str, tuple[object, ...]]:
    """Describe everything below a directory, without following links or crossing mounts.

    Returns:
        By path relative to the root: type and mode, owner, and what the content is (a file's
        size and hash, a link's target, a device's number).
    """
    device = root.lstat().st_dev
    facts = {".": _facts(root)}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = Path(directory, name)
            facts[str(path.relative_to(root))] = _facts(path)
        names[:] = [n for n in names if Path(directory, n).lstat().st_dev == device]
    return facts


def _mount(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    number, parent, _, root, path, options, *tags = before.split(" ")
    return Mount(
        path=_unescape(path),
        root=_unescape(root),
        options=tuple(sorted(options.split(","))),
        tags=tuple(tag for tag in tags if tag),
        fstype=after.split(" ", 1)[0],
        identity=(int(number), int(parent)),
    )


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _facts(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    owner = (stat.filemode(status.st_mode), status.st_uid, status.st_gid)
    if stat.S_ISREG(status.st_mode):
        return (*owner, status.st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    if stat.S_ISLNK(status.st_mode):
        return (*owner, os.readlink(path))
    if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        return (*owner, os.major(status.st_rdev), os.minor(status.st_rdev))
    return owner
