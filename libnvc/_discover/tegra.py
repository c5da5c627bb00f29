# SPDX-License-Identifier: Apache-2.0
"""Find what the CSV files of a Jetson name: devices, directories, libraries, links.

What is not on this host is left out with a warning: NVIDIA ships the same files for hosts that have
more and less installed.
"""

from __future__ import annotations

import os
from stat import S_IROTH, S_ISCHR, S_ISDIR, S_ISLNK, S_ISREG, S_ISSOCK, S_IWOTH

from .._native import elf
from .._native.path import Finder
from .._record import Record
from ..errors import DiscoveryError, DriverNotFoundError, NvcError, RequestError, shown
from ..model import DriverFile, Library, Link
from .csvfiles import DIRECTORY, csv_files, read_entries
from .globs import expand, has_wildcards, is_ignored
from .platform import RELEASE
from .procfs import proc_directory, read_driver_version
from .root import DriverRoot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .._native.path import Status
    from ..model import Identity
    from .csvfiles import Entry

_CHIP = "/sys/devices/soc0/soc_id"
_ORIN = "35"
_ARCHITECTURES = {"33": "5.3", "24": "6.2", "25": "7.2", _ORIN: "8.7"}  # by the chip's number
_CUDA = {  # by release of Jetson Linux, as far as it decides
    "32": "10.2",
    "34": "11.4",
    "35": "11.4",
    "36.2": "12.2",
    "36.3": "12.2",
    "36.4": "12.6",
    "38": "13.0",
}
_ODD = "it leads to a path with control characters, '::' or what is not UTF-8"
_MOST_LINKS = 40  # the kernel's own limit
_OTHERS_MAY_USE = S_IROTH | S_IWOTH


class TegraNode(Record):
    """A character device: its path in containers and on the host, and its number.

    Attributes:
        path: in a container.
        real: below the directory that has the driver's /dev.
        major, minor: its number.
        gid: the group that may use it where others may not, else 0.
    """

    path: str
    real: str
    major: int
    minor: int
    gid: int


class Tegra(Record):
    """The driver of a Jetson, as its CSV files name it.

    Attributes:
        root, dev_root: prefixes on the host, as `DriverRoot` has them.
        driver_version, cuda_version: "" where they are not known.
        arch: compute capability, or "".
        chip: the number of the processor, or "".
        nodes: devices.
        files: what is mounted, directories first.
        libraries: those of them that the loader shall find.
        links: what is linked, in the order of the CSV files.
        warnings: one line each.
        dependencies: what this was computed from.
    """

    root: str
    dev_root: str
    driver_version: str
    cuda_version: str
    arch: str
    chip: str
    nodes: tuple[TegraNode, ...]
    files: tuple[DriverFile, ...]
    libraries: tuple[Library, ...]
    links: tuple[Link, ...]
    warnings: tuple[str, ...]
    dependencies: tuple[Identity, ...]

    @property
    def compat_directory(self) -> str:
        """Return where images have CUDA compatibility libraries, "" for the place of other GPUs."""
        return "/usr/local/cuda/compat_orin" if self.chip == _ORIN else ""


def find_tegra(
    root: DriverRoot,
    files: Iterable[str] = (),
    *,
    ignored: Iterable[str] = (),
    search: Iterable[str] = (),
) -> Tegra:
    """Return what CSV files name of a driver root.

    Args:
        root: the driver root; its warnings become those of the result.
        files: CSV files on the host; the base files of the root if there are none.
        ignored: patterns of links that are left out.
        search: directories under the root below which libraries are looked for, too.

    Raises:
        DriverNotFoundError: no CSV file names anything that is there.
        DiscoveryError: a CSV file cannot be read.
    """
    chosen = tuple(files) or csv_files(root, DIRECTORY, every=False)
    finder = _Found(root, tuple(ignored), tuple(search))
    for entry in read_entries(root, chosen):
        finder.add(entry)
    if not finder.nodes and not finder.files:
        raise _nothing(chosen, root.warnings)
    finder.add_release()
    release = _content(root, RELEASE)
    chip = _content(root, _CHIP).strip()
    return Tegra(
        root=root.prefix,
        dev_root=root.dev_prefix,
        driver_version=_driver_version(root),
        cuda_version=cuda_of_release(release),
        arch=_ARCHITECTURES.get(chip, ""),
        chip=chip,
        nodes=tuple(finder.nodes.values()),
        files=finder.mounts(),
        libraries=finder.libraries(),
        links=finder.own_links(),
        warnings=tuple(root.warnings),
        dependencies=tuple(root.identities[path] for path in sorted(root.identities)),
    )


def _nothing(files: tuple[str, ...], warnings: list[str]) -> DriverNotFoundError:
    first = warnings[0] if warnings else "there is none"
    return DriverNotFoundError(
        f"no usable entry in {', '.join(map(shown, files)) or 'any CSV file'}: {first}",
        path=files[0] if files else "",
        code="csv-missing",
        hint="on a Jetson install its driver (nvidia-l4t-init), or name the files (--csv.file, "
        "nvidia-container-runtime.modes.csv.mount-spec-path); on another host do not ask for mode "
        "csv",
    )


def cuda_of_release(text: str) -> str:
    """Return the version of CUDA that a release of Jetson Linux has, "" if it is not known.

    Args:
        text: of the release file: "# R36 (release), REVISION: 4.3, …".
    """
    words = text.partition("\n")[0].replace(",", " ").split()
    if len(words) < 5 or words[0] != "#" or words[3] != "REVISION:":
        return ""
    major, minor = words[1].removeprefix("R"), words[4].partition(".")[0]
    return _CUDA.get(major) or _CUDA.get(f"{major}.{minor}", "")


class _Found:
    """Collects what entries name."""

    def __init__(self, root: DriverRoot, ignored: tuple[str, ...], search: tuple[str, ...]) -> None:
        self.nodes: dict[str, TegraNode] = {}
        self.files: dict[str, DriverFile] = {}
        self._root = root
        self._finder = Finder(root.prefix)
        self._devices = Finder(root.dev_prefix)
        self._ignored = ignored
        self._search = search
        self._links: dict[str, tuple[Link, str]] = {}

    def add(self, entry: Entry) -> None:
        """Add what an entry names; warn if there is nothing."""
        if entry.kind == "sym" and is_ignored(entry.path, self._ignored):
            return
        problem = "not on this host"
        found = False
        for path in self._paths(entry):
            try:
                problem = self._add(entry.kind, path)
            except NvcError as error:
                problem = str(error)
            found |= not problem
        if not found or problem:
            line = f"{entry.kind} {shown(entry.path)}"
            self._root.warn(f"{shown(entry.place)}: {line}: {problem}: left out")

    def add_release(self) -> None:
        """Add the file that names the release, where there is one."""
        found = self._root.find(RELEASE)
        if found is not None and S_ISREG(found.mode):
            self._mount(found.path, "release", "file", RELEASE)

    def mounts(self) -> tuple[DriverFile, ...]:
        """Return what is mounted, without what is in directories that are."""
        directories = self._directories()
        kept = (
            file
            for file in self.files.values()
            if not any(file.path.startswith(place) for place in directories)
        )
        return tuple(sorted(kept, key=lambda file: file.file_type != "directory"))

    def own_links(self) -> tuple[Link, ...]:
        """Return links, without those in directories of the host's own that are mounted."""
        directories = self._directories()
        return tuple(
            link
            for link, real in self._links.values()
            if not any(real.startswith(place) for place in directories)
        )

    def libraries(self) -> tuple[Library, ...]:
        """Return the libraries of this machine among the files."""
        return tuple(filter(None, map(self._library, self.files.values())))

    def _directories(self) -> tuple[str, ...]:
        return tuple(f"{f.path}/" for f in self.files.values() if f.file_type == "directory")

    # --- entries ---------------------------------------------------------------------------------

    def _paths(self, entry: Entry) -> Iterator[str]:
        """Yield the paths that an entry means, usable ones alone."""
        bases = ("", *self._search) if entry.kind == "lib" else ("",)
        for base in bases:
            path = f"{base}{entry.path}"
            if not has_wildcards(path) or entry.kind not in ("dev", "lib"):
                if not base or self._is_there(path):
                    yield path
                continue
            yield from expand(path, self._device_names if entry.kind == "dev" else self._names)

    def _is_there(self, path: str) -> bool:
        try:
            return self._finder.find(path) is not None
        except NvcError:
            return False

    def _names(self, directory: str) -> Iterable[str]:
        return self._listed(self._root.host, self._finder, directory)

    def _device_names(self, directory: str) -> Iterable[str]:
        return self._listed(self._root.device, self._devices, directory)

    def _listed(self, host: Callable[[str], str], finder: Finder, directory: str) -> Iterable[str]:
        """Return what a directory holds, usable names alone."""
        try:
            found = finder.find(directory)
            names = self._root.note_names(host(found.path)) if found else None
        except NvcError:  # a link that leaves the root, or a directory nobody may list
            return ()
        return filter(_is_usable, names or ())

    def _add(self, kind: str, path: str) -> str:
        """Add a path; return what is wrong with it, or ""."""
        if kind == "dev":
            return self._add_node(path)
        found = self._root.find(path)
        if found is None:
            return "not on this host"
        if found.path == "/":
            return "it leads to the root directory"
        if not _is_usable(found.path):
            return _ODD
        if kind == "dir":
            return self._add_directory(path, found)
        return self._add_file(kind, path, found)

    def _add_node(self, path: str) -> str:
        found = self._devices.find(path)
        real = found.path if found else path
        if not _is_usable(real):
            return _ODD
        status = self._root.note(self._root.device(real))
        if status is None:
            return "not on this host"
        if not S_ISCHR(status.st_mode):
            return "no character device"
        is_open = status.st_mode & _OTHERS_MAY_USE == _OTHERS_MAY_USE
        number = status.st_rdev
        self.nodes[path] = TegraNode(
            path=path,
            real=real,
            major=os.major(number),
            minor=os.minor(number),
            gid=0 if is_open else status.st_gid,
        )
        return ""

    def _add_directory(self, path: str, found: Status) -> str:
        if not S_ISDIR(found.mode):
            return "no directory"
        self._mount(found.path, "dir", "directory", path)
        return ""

    def _add_file(self, kind: str, path: str, found: Status) -> str:
        types = {"file": S_ISREG}
        if kind == "sym":
            types.update(directory=S_ISDIR, socket=S_ISSOCK)
        file_type = next((name for name, fits in types.items() if fits(found.mode)), "")
        if not file_type:
            return "no regular file"
        links = tuple(self._chain(path))
        if not all(map(_is_usable, (text for link, _ in links for text in link))):
            return _ODD
        self._mount(found.path, kind, file_type, found.path)
        for (at, target), real in links:
            self._links.setdefault(at, (Link(path=at, target=target), real))
        return ""

    def _chain(self, path: str) -> Iterator[tuple[tuple[str, str], str]]:
        """Yield the links that lead from a path to a file: path, text and real path of each."""
        for _ in range(_MOST_LINKS):
            directory, _, name = path.rpartition("/")
            parent = self._root.resolve(directory or "/")
            if parent is None:
                return
            real = f"{parent.rstrip('/')}/{name}"
            status = self._root.note(self._root.host(real))
            if status is None or not S_ISLNK(status.st_mode):
                return
            target = os.readlink(self._root.host(real))
            yield (path, target), real
            path = os.path.normpath(f"/{os.path.join(parent, target).lstrip('/')}")

    def _mount(self, path: str, kind: str, file_type: str, target: str) -> None:
        file = DriverFile(path=path, kind=kind, file_type=file_type, target=target)
        self.files.setdefault(target, file)

    def _library(self, file: DriverFile) -> Library | None:
        name = os.path.basename(file.path)
        if file.file_type != "file" or not name.startswith("lib") or ".so" not in name:
            return None
        try:
            facts = elf.read(self._root.host(file.path))
        except (DiscoveryError, RequestError) as error:
            self._root.warn(f"{error.message}: mounted, but no library")
            return None
        if facts.machine != self._root.architecture.elf:
            return None
        stem = f"{name.partition('.so')[0]}.so"
        soname = "" if "/" in facts.soname or not _is_usable(facts.soname) else facts.soname
        return Library(path=file.path, name=stem, soname=soname)


def _is_usable(text: str) -> bool:
    """Tell whether a text can be said in hooks, documents and lines of a log."""
    return "::" not in text and not any(
        c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in text
    )


def _content(root: DriverRoot, path: str) -> str:
    place = root.resolve(path)
    read = root.note_content(root.host(place)) if place else None
    if read is None:
        root.find(path)
        return ""
    return read[0].decode("ascii", "replace")


def _driver_version(root: DriverRoot) -> str:
    try:
        return read_driver_version(root, proc_directory(root))
    except DiscoveryError:
        return ""
