# SPDX-License-Identifier: Apache-2.0
"""Tell the native program in front of the runtime what it needs to pass a call on by itself.

It decides nothing: it compares. The file holds which configuration it is for, where the low-level
runtime is looked for, and the strings of which a container's configuration holds one where GPUs may
be asked for. It reads no TOML, and starts no interpreter for containers without GPUs.
"""

from __future__ import annotations

import os
import stat

from libnvc import _build, _rundir
from libnvc._record import Record
from libnvc.errors import NvcError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from libnvc._config.settings import Config

_NAME = "front"
_LONGEST = 65536  # bytes that the native program reads

#: What a container's configuration holds where it may ask for GPUs, beside what is configured.
_ASKS = ("NVIDIA_VISIBLE_DEVICES", "CUDA_VERSION")
_VOLUMES = "nvidia-container-devices"  # its path can be written in many ways


class Origin(Record):
    """What the native program is called by, beside the container's configuration.

    Attributes:
        program: the path of its file.
        name: its name as called.
        config: the identity of `config.toml` (`identity`).
        environment: its own.
        container: the container's id, or "" where it is not known.
    """

    program: str
    name: str
    config: str
    environment: Mapping[str, str]
    container: str


def keep_front(config: Config, identity: str, environment: Mapping[str, str]) -> None:
    """Write the file if it is not there or says something else; it may be missing, so may fail.

    Args:
        config: what the native program shall know.
        identity: of the file it comes from, taken before that was read.
        environment: that of the call.
    """
    text = _front(config, identity).encode("utf-8", "surrogateescape")
    if len(text) > _LONGEST or text.count(b"\n") != _front_lines(config):
        return
    if "" in config.runtime.annotation_prefixes:
        return  # any annotation may ask
    directory = _open_directory(environment)
    if directory < 0:
        return
    try:
        if _read(directory) != text:
            _write(directory, text)
    except OSError:
        return
    finally:
        os.close(directory)


def identity(path: str) -> str:
    """Return what makes a configuration file the same file, and its path."""
    try:
        found = os.stat(path)
    except OSError:
        return f"0 0 0 0 0 {path}"
    times = f"{found.st_mtime_ns} {found.st_ctime_ns}"
    return f"{found.st_dev} {found.st_ino} {found.st_size} {times} {path}"


def _open_directory(environment: Mapping[str, str]) -> int:
    """Return an fd of the host's directory, or else of the user's; -1 if there is none.

    Root of a user namespace, as in rootless engines, may not have that of the host.
    """
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    places = [_rundir.DIRECTORY] if os.geteuid() == 0 else []
    places += [f"{runtime}/libnvc"] if runtime.startswith("/") else []
    for place in places:
        try:
            directory = _rundir.open_directory(place)
        except NvcError:
            continue
        if directory >= 0:
            return directory
    return -1


def asks(config: Config) -> tuple[str, ...]:
    """Return the strings of which a configuration that asks for GPUs has one."""
    swarm = (name.strip() for name in config.swarm_resource.split(","))
    volumes = (_VOLUMES,) if config.accept_volume_mounts else ()
    asks = (*_ASKS, *swarm, *config.runtime.annotation_prefixes, *volumes)
    return tuple(dict.fromkeys(filter(None, asks)))


def _front(config: Config, identity: str) -> str:
    lines = [
        f"nvcfront 1 {_build.VERSION}",
        f"config {identity}",
        *(f"runtime {candidate}" for candidate in config.runtime.runtimes),
        *(f"ask {text}" for text in asks(config)),
        "end",
    ]
    return "".join(f"{line}\n" for line in lines)


def _front_lines(config: Config) -> int:
    """Return how many lines it has, if nothing in it has a line's end of its own."""
    return 3 + len(config.runtime.runtimes) + len(asks(config))


def _read(directory: int) -> bytes:
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(_NAME, flags, dir_fd=directory)
    except OSError:
        return b""
    try:
        return os.read(file, _LONGEST) if stat.S_ISREG(os.fstat(file).st_mode) else b""
    finally:
        os.close(file)


def _write(directory: int, text: bytes) -> None:
    new = f"{_NAME}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(new, flags, 0o600, dir_fd=directory)
    try:
        os.write(file, text)
        os.rename(new, _NAME, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(new, dir_fd=directory)
        raise
    finally:
        os.close(file)
