# SPDX-License-Identifier: Apache-2.0
"""A plan: what will be done to a container, in order, as plain data.

Operations are a closed set. Each says by `origin` which rule put it there. Paths are absolute
inside the container; sources are absolute on the host.
"""

from __future__ import annotations

from ._record import Record
from .model import Identity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Version of the JSON and flat forms; a reader refuses any other.
SCHEMA = 4


class Operation(Record):
    """Base of all operations.

    Attributes:
        origin: the rule behind it: "capability:compute", "gpu:0", "control", "proc", "soname".
        path: the place inside the container it acts on, or "" (cgroup rules).
    """

    origin: str
    path: str


class Tmpfs(Operation):
    """Mount an empty tmpfs (nodev, nosuid, noexec) over a directory.

    Where the directory is missing and cannot be made but `fallback` exists, the tmpfs goes there
    and the rest of `path` is made inside it. Where neither exists the operation is skipped with a
    warning, and so is every later operation below `path`.

    Attributes:
        mode: permission bits of its root.
        fallback: an ancestor of `path`, or "".
    """

    mode: int = 0o555
    fallback: str = ""


class Directory(Operation):
    """Make a directory (and its parents) unless it is there."""

    mode: int = 0o755


class WriteFile(Operation):
    """Write a new file; only below a Tmpfs of the same plan."""

    content: bytes
    mode: int = 0o444


class BindMount(Operation):
    """Bind a host file, directory or socket, private; the mount point is made if missing.

    Attributes:
        source: absolute host path, free of symbolic links.
        file_type: "file", "directory" or "socket"; a source of another type is refused.
        options: of "ro", "nodev", "nosuid", "noexec".
    """

    source: str
    file_type: str = "file"
    options: tuple[str, ...] = ("ro", "nodev", "nosuid")


class DeviceNode(Operation):
    """Put a character device there.

    Attributes:
        source: the host's node, bound read-only, nosuid, noexec; "" makes a new node.
        major, minor: the number; a source with another one is refused.
        mode: permission bits of a new node.
    """

    major: int
    minor: int
    source: str = ""
    mode: int = 0o666


class DeviceAccess(Operation):
    """Allow character devices in the container's device cgroup.

    Attributes:
        major, minor: the number of the first.
        count: how many, with the minors that follow.
        access: of "r" and "w".
    """

    major: int
    minor: int
    count: int = 1
    access: str = "rw"


class Symlink(Operation):
    """Make a symbolic link; what is already there stays, unless `overwrite`.

    Then a link gets the new text, and anything else is covered by what the same plan mounts where
    the link would lead to: a file of the same directory. Where it mounts nothing, it stays.
    """

    target: str
    overwrite: bool = False


class LoaderCache(Operation):
    """Have the container's loader find libraries, by its cache (`path`).

    Attributes:
        libraries: name that programs ask for, path and bits (64 or 32) of each that is added,
            where its directory stands in the search order of the container.
        directories: searched before all others; what the image has there is added.
        in_place: those of them that the container's configuration has keep their place there, and
            what they hold gets a link by its SONAME, as `ldconfig` makes it.
    """

    libraries: tuple[tuple[str, str, int], ...] = ()
    directories: tuple[str, ...] = ()
    in_place: bool = False


class Env(Operation):
    """Set an environment variable of the container's process (`path` is "")."""

    name: str
    value: str


class Group(Operation):
    """Give the container's process a supplementary group (`path` is "")."""

    gid: int


#: The closed set, by the name each has in the JSON form.
KINDS: dict[str, type[Operation]] = {
    kind.__name__: kind
    for kind in (
        Tmpfs,
        Directory,
        WriteFile,
        BindMount,
        DeviceNode,
        DeviceAccess,
        Symlink,
        LoaderCache,
        Env,
        Group,
    )
}


class Plan(Record):
    """An ordered sequence of operations.

    Attributes:
        operations: in the order they are applied.
        warnings: one line each, from discovery and planning.
        dependencies: what the plan was computed from; while all still match, it is right.
        driver_version: of the inventory.
    """

    operations: tuple[Operation, ...]
    warnings: tuple[str, ...] = ()
    dependencies: tuple[Identity, ...] = ()
    driver_version: str = ""

    def to_json(self) -> str:
        """Return the JSON form: one object, schema-versioned, stable key order."""
        import json

        return json.dumps(self.to_dict(), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form as plain dictionaries, lists, strings and numbers."""
        return {
            "schema": SCHEMA,
            "driver_version": self.driver_version,
            "warnings": list(self.warnings),
            "operations": [_operation_to_dict(op) for op in self.operations],
            "dependencies": [_fields(dependency) for dependency in self.dependencies],
        }

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read the JSON form back.

        Raises:
            MalformedFileError: not JSON, another schema version, an unknown operation, a field
                missing, unknown or of the wrong type.
        """
        from ._planjson import plan_from_json

        return plan_from_json(text)


def _fields(record: Record) -> dict[str, Any]:
    return {name: _plain(value) for name, value in record.__iter_fields__()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _operation_to_dict(op: Operation) -> dict[str, Any]:
    return {"kind": type(op).__name__, **_fields(op)}
