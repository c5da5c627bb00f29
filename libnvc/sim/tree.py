# SPDX-License-Identifier: Apache-2.0
"""Write a directory tree below a root, with exact modes whatever the umask is."""

from __future__ import annotations

import os
import stat


class Tree:
    """A tree being written. Paths are absolute inside it; missing parents are made, mode 0755."""

    def __init__(self, root: str) -> None:
        self.root = root

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and its parents."""
        host = self.root + path
        if path in {"", "/"} or os.path.isdir(host):
            return
        self.directory(os.path.dirname(path))
        os.mkdir(host)
        os.chmod(host, mode)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a new file."""
        self.directory(os.path.dirname(path))
        with open(self.root + path, "xb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), mode)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self.directory(os.path.dirname(path))
        os.symlink(target, self.root + path)

    def device(self, path: str, major: int, minor: int, mode: int, gid: int = 0) -> None:
        """Make a character device. Needs CAP_MKNOD."""
        self.directory(os.path.dirname(path))
        os.mknod(self.root + path, stat.S_IFCHR | mode, os.makedev(major, minor))
        os.chmod(self.root + path, mode)
        if gid:
            os.chown(self.root + path, -1, gid)

    def socket(self, path: str) -> None:
        """Make the file of a Unix socket, on which nobody listens."""
        self.directory(os.path.dirname(path))
        # mknod needs no privilege for these, and no short path as bind does.
        os.mknod(self.root + path, stat.S_IFSOCK | 0o777)
        os.chmod(self.root + path, 0o777)  # noqa: S103
