# SPDX-License-Identifier: Apache-2.0
"""Make device nodes below a driver root, which need not be trusted.

Every name is taken relative to a directory that is held open, and no link is followed.
"""

from __future__ import annotations

import os
from stat import S_IFCHR, S_IMODE, S_ISCHR, S_ISLNK

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 3  # others make the same nodes at the same time


class NodeParameters(Record):
    """What the kernel module wants its nodes to be like.

    Attributes:
        uid, gid: who owns them.
        mode: permission bits.
        modify: whether anybody but the administrator may make or change them; for the caller.
    """

    uid: int = 0
    gid: int = 0
    mode: int = 0o666
    modify: bool = True


class Node(Record):
    """A character device as it should be.

    Attributes:
        name: below /dev, "nvidia0" or "nvidia-caps/nvidia-cap1".
        major, minor: its number.
        parameters: its owner and mode.
    """

    name: str
    major: int
    minor: int
    parameters: NodeParameters = NodeParameters()


class Devices:
    """The directory /dev below a root; a context manager. Changing it needs CAP_MKNOD."""

    def __init__(self, root: str) -> None:
        """Open the directory.

        Args:
            root: absolute, "" for "/".

        Raises:
            OSError: it is missing, or a link.
        """
        root_fd = os.open(root or "/", _DIRECTORY)
        try:
            self._fds = {"": os.open("dev", _DIRECTORY, dir_fd=root_fd)}
        except OSError as error:
            error.filename = f"{root}/dev"
            raise
        finally:
            os.close(root_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds.values():
            os.close(fd)

    def make(self, node: Node) -> None:
        """Make a node, or make it right; one that is right is not touched.

        Raises:
            OSError: it cannot be made, or not be given its owner and mode; a node just made is
                removed again.
        """
        directory, _, name = node.name.rpartition("/")
        fd = self._directory(directory)
        made = _make(fd, name, os.makedev(node.major, node.minor))
        try:
            _set_parameters(fd, name, node)
        except OSError:
            if made:
                os.unlink(name, dir_fd=fd)
            raise

    def link(self, node: Node) -> None:
        """Link /dev/char/MAJOR:MINOR to a node, as udev does for devices that it knows of.

        Raises:
            OSError: something that is no link is in the way, or the link cannot be made.
        """
        fd = self._directory("char")
        name, target = f"{node.major}:{node.minor}", f"../{node.name}"
        status = _status(fd, name)
        if status is not None and S_ISLNK(status.st_mode):
            if os.readlink(name, dir_fd=fd) == target:
                return
            os.unlink(name, dir_fd=fd)
        os.symlink(target, name, dir_fd=fd)

    def _directory(self, name: str) -> int:
        """Return a directory in /dev, made if it is missing."""
        if name not in self._fds:
            made = True
            try:
                os.mkdir(name, 0o755, dir_fd=self._fds[""])
            except FileExistsError:
                made = False
            self._fds[name] = os.open(name, _DIRECTORY, dir_fd=self._fds[""])
            if made:
                os.fchmod(self._fds[name], 0o755)  # whatever the umask is
        return self._fds[name]


def _make(fd: int, name: str, number: int) -> bool:
    """Make sure that there is a node of this number; return whether it was made."""
    for tries in range(_TRIES):
        status = _status(fd, name)
        if _is_node(status, number):
            return False
        try:
            if status is not None:
                os.unlink(name, dir_fd=fd)
            os.mknod(name, S_IFCHR | 0o600, number, dir_fd=fd)
        except (FileExistsError, FileNotFoundError):
            if tries + 1 == _TRIES:
                raise
            continue
        return True
    return False


def _set_parameters(fd: int, name: str, node: Node) -> None:
    wanted = node.parameters
    node_fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    try:
        status = os.fstat(node_fd)
        if not _is_node(status, os.makedev(node.major, node.minor)):
            raise FileExistsError(17, "replaced meanwhile", name)
        held = f"/proc/self/fd/{node_fd}"  # the node that was looked at, whatever has its name now
        if (status.st_uid, status.st_gid) != (wanted.uid, wanted.gid):
            os.chown(held, wanted.uid, wanted.gid)
        if S_IMODE(status.st_mode) != wanted.mode:
            os.chmod(held, wanted.mode)
    finally:
        os.close(node_fd)


def _status(fd: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_node(status: os.stat_result | None, number: int) -> bool:
    return status is not None and S_ISCHR(status.st_mode) and status.st_rdev == number
