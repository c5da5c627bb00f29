# SPDX-License-Identifier: Apache-2.0
"""Create a simulated driver."""

from __future__ import annotations

import json
import os
import shutil
from errno import ENOENT, ENOTDIR, ENOTEMPTY
from pathlib import Path

from .._record import Record
from ..errors import NvcError, RequestError
from .blob import MAX_GPUS, MAX_MIGS
from .driver import MARKER, write_driver
from .faults import parse_fault
from .jetson import jetson_nodes
from .kernel import nodes
from .machine import this_machine
from .profiles import profiles
from .records import Profile
from .tree import Tree

_NATIVE_DIRECTORY = Path(__file__).with_name("_native_files")
# The NVML probe enters it as an unprivileged user.
_ROOT_MODE = 0o755
_NATIVE_FILES = ("libnvidia-ml.so", "libcuda.so", "nvidia-smi", "idle")


class Simulation(Record):
    """A simulated driver that was created.

    Attributes:
        root: its root directory, absolute: the driver root for `discover`, `--root=`.
        profile: the host.
        fault: what is wrong with it, or "".
        warnings: one line each: what it lacks here.
    """

    root: str
    profile: Profile
    fault: str = ""
    warnings: tuple[str, ...] = ()


def create(
    profile: str | Profile, directory: str | os.PathLike[str], *, fault: str = ""
) -> Simulation:
    """Create the root file system of a host with a simulated driver.

    Device nodes are made if this process may (CAP_MKNOD); else the result has a warning and the
    simulated NVML finds no driver. All else needs no privilege. What is written is the same every
    time, times apart. On failure nothing is left.

    Args:
        profile: one of `profiles()`, or its name; or a host of your own.
        directory: where; made if missing, else it must be empty. It becomes readable for all, as
            root directories are.
        fault: one of `FAULTS`, or "".

    Raises:
        RequestError: unknown profile or fault, the profile lacks the GPU to lose or has more than
            fits, the directory is not empty, or the machine is one that simulated drivers do not
            exist for.
        NvcError: the directory cannot be written.
    """
    chosen = _find_profile(profile) if isinstance(profile, str) else profile
    _check_profile(chosen)
    parse_fault(fault, chosen)
    machine = this_machine()
    native = {name: _read_native(name) for name in _NATIVE_FILES}
    root = os.path.abspath(directory)
    try:
        was_there = _claim(root)
    except OSError as error:
        raise _cannot_create(root, error) from error
    try:
        tree = Tree(root)
        write_driver(tree, chosen, machine, native, fault)
        tree.file(MARKER, _marker(chosen, fault))
        warnings = _make_nodes(tree, chosen, fault)
    except OSError as error:
        _discard(root, keep=was_there)
        raise _cannot_create(root, error) from error
    except BaseException:
        _discard(root, keep=was_there)
        raise
    return Simulation(root=root, profile=chosen, fault=fault, warnings=warnings)


def cuda_client() -> Path:
    """Return a program that prints the GPUs that CUDA's driver API finds, one a line.

    It can be copied into a container; it needs a C library and `libcuda.so.1` there.

    Raises:
        NvcError: it is not part of this installation.
    """
    return _native_path("cuda-probe")


def _find_profile(name: str) -> Profile:
    for profile in profiles():
        if profile.name == name:
            return profile
    known = ", ".join(profile.name for profile in profiles())
    raise RequestError(f"{name}: unknown profile; known: {known}")


def _check_profile(profile: Profile) -> None:
    migs = sum(len(gpu.mig) for gpu in profile.gpus)
    if len(profile.gpus) > MAX_GPUS or migs > MAX_MIGS:
        raise RequestError(
            f"{profile.name}: {len(profile.gpus)} GPUs and {migs} MIG devices; "
            f"at most {MAX_GPUS} and {MAX_MIGS} can be simulated"
        )


def _native_path(name: str) -> Path:
    path = _NATIVE_DIRECTORY / name
    if not path.is_file():
        raise NvcError(
            f"{path}: missing; build and install libnvc again", errno=ENOENT, path=str(path)
        )
    return path


def _read_native(name: str) -> bytes:
    return _native_path(name).read_bytes()


def _claim(root: str) -> bool:
    """Make the directory or check that it is empty; return whether it was there.

    Raises:
        RequestError: it is something else.
    """
    if not os.path.lexists(root):
        os.makedirs(root)
        os.chmod(root, _ROOT_MODE)
        return False
    if not os.path.isdir(root):
        raise RequestError(f"{root}: not a directory", errno=ENOTDIR, path=root)
    if os.path.lexists(root + MARKER):
        raise RequestError(
            f"{root}: already holds a simulated driver; remove it or name another directory",
            errno=ENOTEMPTY,
            path=root,
        )
    if os.listdir(root):
        raise RequestError(f"{root}: directory is not empty", errno=ENOTEMPTY, path=root)
    os.chmod(root, _ROOT_MODE)
    return True


def _make_nodes(tree: Tree, profile: Profile, fault: str) -> tuple[str, ...]:
    tree.directory("/dev")
    try:
        for node in jetson_nodes(fault) if profile.jetson else nodes(profile, fault):
            tree.device(f"/dev/{node.name}", node.major, node.minor, node.mode, node.gid)
    except PermissionError:
        return (
            f"{tree.root}/dev: no device nodes: making them needs root (CAP_MKNOD); "
            "the simulated NVML and CUDA will find no driver",
        )
    if os.statvfs(tree.root).f_flag & os.ST_NODEV:
        return (
            f"{tree.root}: on a file system mounted nodev: its device nodes cannot be opened, "
            "the simulated NVML and CUDA will be denied them",
        )
    return ()


def _marker(profile: Profile, fault: str) -> bytes:
    return json.dumps({"profile": profile.name, "fault": fault}).encode("ascii") + b"\n"


def _cannot_create(root: str, error: OSError) -> NvcError:
    return NvcError(
        f"{error.filename or root}: cannot create the simulated driver: {error.strerror}",
        errno=error.errno or 0,
        path=str(error.filename or root),
        step="create",
    )


def _discard(root: str, *, keep: bool) -> None:
    """Remove what was written, as far as possible: the failure that led here is what counts."""
    if not keep:
        shutil.rmtree(root, ignore_errors=True)
        return
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
