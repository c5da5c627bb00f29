# SPDX-License-Identifier: Apache-2.0
"""Read the CSV files that say what of a Jetson's driver goes into containers.

A line is a kind and a path: "lib, /usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1". There is no
quoting. A line that means nothing is left out with a warning, as one bad line must not take the GPU
away from every container of the host.
"""

from __future__ import annotations

import os

from .._record import Record
from ..errors import shown
from .root import DriverRoot, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Where the files are, and which of them every container gets.
DIRECTORY = "/etc/nvidia-container-runtime/host-files-for-container.d"
BASE_FILES = ("devices.csv", "drivers.csv", "l4t.csv")

KINDS = ("dev", "dir", "lib", "sym")

_LONGEST_PATH = 4095  # the kernel's limit
_LINES = 65536  # the largest that NVIDIA ships has about a thousand
_BAD_LINES = 8  # of a file that are named one by one


class Entry(Record):
    """A line: what kind of thing is where, and where it is said ("drivers.csv:12")."""

    kind: str
    path: str
    place: str


def csv_files(root: DriverRoot, directory: str, *, every: bool) -> tuple[str, ...]:
    """Return the paths of CSV files on the host.

    Args:
        root: the driver root.
        directory: under the root.
        every: whether all that are there count, or the base files alone, there or not.
    """
    place = root.resolve(directory) or directory.rstrip("/")
    names: Iterable[str] = BASE_FILES
    if every:
        there = root.note_names(root.host(place)) or ()
        names = (name for name in there if name.lower().endswith(".csv"))
    paths = (f"{place}/{name}" for name in names)
    return tuple(root.host(root.resolve(path) or path) for path in paths)


def read_entries(root: DriverRoot, files: Iterable[str]) -> tuple[Entry, ...]:
    """Return the lines of CSV files, in order, each thing once; warn of what is left out.

    Args:
        root: takes warnings, and which files were looked at.
        files: paths on the host.

    Raises:
        DiscoveryError: a file cannot be read.
        MalformedFileError: it is no regular file, or larger than 64 MiB.
    """
    entries: dict[tuple[str, str], Entry] = {}
    for file in files:
        for entry in _read(root, file):
            entries.setdefault((entry.kind, entry.path), entry)
    return tuple(entries.values())


def _read(root: DriverRoot, file: str) -> Iterator[Entry]:
    real = os.path.realpath(file)
    if root.note(real) is None:
        root.warn(f"{shown(file)}: missing: what it would name is left out")
        return
    name, bad, found = shown(os.path.basename(file)), 0, False
    lines = read_file(real).split(b"\n", _LINES)
    if len(lines) > _LINES:
        root.warn(f"{shown(file)}: longer than {_LINES} lines: the others are left out")
        del lines[_LINES:]
    for number, line in enumerate(lines, 1):
        try:
            said = parse_line(line)
        except ValueError as error:
            bad += 1
            if bad <= _BAD_LINES:
                root.warn(f"{shown(file)}:{number}: {error}: left out")
            continue
        if said is not None:
            found = True
            yield Entry(kind=said[0], path=said[1], place=f"{name}:{number}")
    if bad > _BAD_LINES:
        root.warn(f"{shown(file)}: {bad - _BAD_LINES} more lines that mean nothing: left out")
    if not found:
        root.warn(f"{shown(file)}: names nothing")


def parse_line(line: bytes) -> tuple[str, str] | None:
    """Return the kind and the path that a line names, None for one that is empty or a comment.

    Raises:
        ValueError: it says neither; the message says what is wrong.
    """
    try:
        text = line.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    if not text or text.startswith("#"):
        return None
    kind, comma, path = (part.strip() for part in text.partition(","))
    if not comma:
        raise ValueError(f"no comma: {shown(text)}")
    if kind not in KINDS:
        raise ValueError(f"unknown kind {shown(kind) or 'of nothing'}, not {', '.join(KINDS)}")
    if any(c < " " or c == "\x7f" for c in path):
        raise ValueError(f"control characters in the path {shown(path)}")
    if not path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"not an absolute path without '..': {shown(path)}")
    if len(path.encode()) > _LONGEST_PATH:
        raise ValueError("a path longer than any can be")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts:
        raise ValueError("the root directory")
    return kind, f"/{'/'.join(parts)}"
