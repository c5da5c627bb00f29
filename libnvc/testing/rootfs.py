# SPDX-License-Identifier: Apache-2.0
"""Build a small glibc rootfs from the host's own programs and libraries, without a network."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Programs copied unless others are asked for: enough to look around in a container.
PROGRAMS = (
    "sh",
    "cat",
    "env",
    "grep",
    "head",
    "ldconfig",
    "ls",
    "mknod",
    "readlink",
    "sleep",
    "true",
)

# What programs built for GPUs need beside libc, also where nothing else of the rootfs does.
_COMMON_LIBRARIES = (
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
)

_SEARCH_PATH = os.pathsep.join(
    ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"]
)


def multiarch() -> str:
    """Return Debian's name for this machine's architecture ("x86_64-linux-gnu")."""
    machine = platform.machine()
    return {"ppc64le": "powerpc64le"}.get(machine, machine) + "-linux-gnu"


def make_rootfs(directory: str | os.PathLike[str], programs: Sequence[str] = PROGRAMS) -> Path:
    """Make a root file system in Debian's layout, with a loader cache.

    Args:
        directory: made if missing; must be empty.
        programs: names, found in the host's standard directories.

    Returns:
        The directory, absolute and free of symbolic links.

    Raises:
        FileNotFoundError: the host has no such program.
        FileExistsError: the directory is not empty.
        subprocess.CalledProcessError: ldconfig failed. It needs root, or user namespaces.
    """
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    root = root.resolve()
    if any(root.iterdir()):
        raise FileExistsError(f"{root}: not empty")
    _make_directories(root)
    _write_configuration(root)
    for name in programs:
        copy_program(root, find_program(name))
    _copy_common_libraries(root)
    _write_loader_cache(root)
    return root


def make_rhel_like(root: Path) -> None:
    """Change a root file system of `make_rootfs` so that its libraries belong into /usr/lib64."""
    (root / "etc/debian_version").unlink()


def make_busybox_like(root: Path) -> None:
    """Leave of a root file system of `make_rootfs` what a static busybox comes with.

    Nothing can be run in it: no loader, no `ldconfig`, no loader cache, no program.
    """
    for path in root.iterdir():
        if path.is_symlink():
            path.unlink()
        elif path.name not in {"dev", "etc", "proc", "run", "tmp"}:
            shutil.rmtree(path)
    shutil.rmtree(root / "etc")
    (root / "etc").mkdir()
    (root / "bin").mkdir()


def find_program(name: str) -> Path:
    """Find a program of the host, also where an ordinary user's PATH does not look.

    Raises:
        FileNotFoundError: there is none.
    """
    found = shutil.which(name, path=_SEARCH_PATH)
    if found is None:
        raise FileNotFoundError(f"{name}: not found in {_SEARCH_PATH}")
    return Path(found)


def copy_program(root: Path, program: Path) -> str:
    """Copy a program of the host, with its interpreter and libraries, into the rootfs' /usr/bin.

    A library that the host does not have is left out: it may come with the driver.

    Returns:
        The program's path inside the rootfs.
    """
    inside = f"/usr/{'sbin' if program.parent.name == 'sbin' else 'bin'}/{program.name}"
    _copy(program, root / inside[1:])
    # Ubuntu's /sbin/ldconfig is a script around this one.
    real = program.with_name(program.name + ".real")
    if real.exists():
        _copy(real, root / (inside[1:] + ".real"))
    loader = _interpreter(program)
    if loader is not None:
        _copy(loader, root / str(loader)[1:])
        for soname, library in _libraries(loader, program):
            _copy(library, root / "usr/lib" / multiarch() / soname)
    return inside


def _make_directories(root: Path) -> None:
    for name in ("dev", "etc/ld.so.conf.d", "proc", "root", "run", "sys", "usr/bin", "usr/sbin"):
        (root / name).mkdir(parents=True)
    for name in ("usr/lib64", f"usr/lib/{multiarch()}", "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "var/run").symlink_to("/run")


def _write_configuration(root: Path) -> None:
    arch = multiarch()
    files = {
        "debian_version": "12.0\n",
        "group": "root:x:0:\nnogroup:x:65534:\n",
        "ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
        "ld.so.conf.d/libc.conf": "/usr/local/lib\n",
        f"ld.so.conf.d/{arch}.conf": f"/usr/local/lib/{arch}\n/lib/{arch}\n/usr/lib/{arch}\n",
        "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    }
    for name, text in files.items():
        (root / "etc" / name).write_text(text)


def _copy_common_libraries(root: Path) -> None:
    shell = find_program("sh")
    loader = _interpreter(shell)
    if loader is None:  # a static shell: nothing in the rootfs is loaded dynamically
        return
    libc = dict(_libraries(loader, shell))["libc.so.6"]
    for soname in _COMMON_LIBRARIES:
        library = libc.with_name(soname)
        if library.exists():
            _copy(library, root / "usr/lib" / multiarch() / soname)


def _write_loader_cache(root: Path) -> None:
    command = [str(find_program("ldconfig")), "-r", str(root)]
    if os.geteuid() != 0:  # -r is a chroot
        command = ["unshare", "--map-root-user", *command]
    subprocess.run(command, check=True, capture_output=True)


def _interpreter(program: Path) -> Path | None:
    """Return the dynamic loader that an ELF program names; None for scripts and static ones."""
    try:
        with program.open("rb") as stream:
            for segment in ELFFile(stream).iter_segments("PT_INTERP"):
                return Path(os.fsdecode(segment.data().rstrip(b"\0")))
    except ELFError:
        pass
    return None


def _libraries(loader: Path, program: Path) -> Iterator[tuple[str, Path]]:
    """Ask the loader for everything the program loads, as (soname, path on the host)."""
    listing = subprocess.run(
        [str(loader), "--list", str(program)], capture_output=True, text=True, check=False
    ).stdout
    for match in re.finditer(r"^\s*(\S+) => (/\S+) \(0x", listing, re.MULTILINE):
        yield match[1], Path(match[2])


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)  # what a link names, under the link's name
