# SPDX-License-Identifier: Apache-2.0
"""Keep what NVML answered, so that the next container start need not ask it again.

One file that only root may read or write. Its first line is the digest of what the answer rests on
(the boot, driver and GPUs) and of the lines that follow: an answer that was given in another state,
or was cut or damaged, does not match and is not used.
"""

from __future__ import annotations

import os
from _thread import get_native_id
from stat import S_ISREG

from .._native.nvml import NvmlFacts, NvmlGpu, NvmlMig
from .._rundir import DIRECTORY, open_directory
from ..errors import NvcError
from .root import digest, identify, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..model import Identity, Inventory

_NAME = "nvml"
_FORMAT = "libnvc nvml 1"  # another number makes what older versions wrote useless
_LIMIT = 1 << 20  # bytes; 128 GPUs with 16 MIG devices each take 200 KB
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def state(inventory: Inventory, library: str) -> str:
    """Return all that NVML's answer rests on, "" where nothing can be kept.

    Args:
        inventory: what was discovered.
        library: path of libnvidia-ml under the driver root, free of links.
    """
    if os.geteuid() != 0:
        return ""
    try:
        boot = read_file(_BOOT_ID)
        parts = [_FORMAT, boot.decode("ascii", "replace"), inventory.root, library]
        parts += (inventory.driver_version, *map(str, _identity(inventory.root + library)))
        for gpu in inventory.gpus:
            parts += (gpu.pci, gpu.uuid, str(gpu.minor))
            for mig in gpu.mig_devices:
                for access in (mig.gpu_access, mig.compute_access):
                    # An instance that is made anew has the same path, but another UUID. procfs
                    # shows it by the time: the file's inode was made anew, too.
                    numbers = _identity(f"{inventory.proc}/{access.path}")
                    parts += (access.path, str(access.device), *map(str, numbers))
    except (NvcError, OSError):
        return ""
    return "\0".join(parts)


def identities(inventory: Inventory) -> tuple[Identity, ...]:
    """Return the dependencies of an inventory that NVML was asked for; () if they are not known."""
    found = []
    try:
        for gpu in inventory.gpus:
            for mig in gpu.mig_devices:
                for access in (mig.gpu_access, mig.compute_access):
                    path = f"{inventory.proc}/{access.path}"
                    found.append(identify(path, os.lstat(path)))
    except OSError:
        return ()
    return (*inventory.dependencies, *found)


def load(now: str) -> NvmlFacts | None:
    """Return what NVML answered in the state that is `now`, None if that is not known."""
    first, _, body = _read().partition(b"\n") if now else (b"", b"", b"")
    return _decode(body) if first == _digest(now, body) else None


def save(now: str, facts: NvmlFacts) -> None:
    """Keep an answer; where that fails, nothing is kept.

    Args:
        now: what `state` returned before NVML was asked.
        facts: the answer.
    """
    body = _encode(facts)
    if not now or _decode(body) != facts:  # a name with a line break in it
        return
    directory = _open()
    if directory < 0:
        return
    temporary = f"{_NAME}.{get_native_id()}"
    try:
        _write(temporary, directory, _digest(now, body) + b"\n" + body)
        os.replace(temporary, _NAME, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        _unlink(temporary, directory)
    finally:
        os.close(directory)


def _identity(path: str) -> tuple[int, ...]:
    status = os.lstat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _digest(now: str, body: bytes) -> bytes:
    return digest(now.encode(errors="surrogateescape") + b"\n" + body).encode()


def _open() -> int:
    try:
        return open_directory(DIRECTORY)
    except NvcError:
        return -1  # whoever applies says what is wrong with it


def _read() -> bytes:
    directory = _open()
    if directory < 0:
        return b""
    try:
        fd = os.open(_NAME, _READ, dir_fd=directory)
    except OSError:
        return b""
    finally:
        os.close(directory)
    try:
        status = os.fstat(fd)
        ours = status.st_uid == os.geteuid() and status.st_mode & 0o022 == 0
        return os.read(fd, _LIMIT) if ours and S_ISREG(status.st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def _write(name: str, directory: int, content: bytes) -> None:
    fd = os.open(name, _WRITE, 0o600, dir_fd=directory)
    try:
        os.write(fd, content)  # cut short, it does not match its digest
    finally:
        os.close(fd)


def _unlink(name: str, directory: int) -> None:
    try:  # noqa: SIM105 - contextlib costs more than all of this module
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass


def _encode(facts: NvmlFacts) -> bytes:
    lines: list[tuple[object, ...]] = [("driver", facts.driver_version, facts.cuda_version)]
    for gpu in facts.gpus:
        flags = (int(gpu.mig_capable), int(gpu.mig_enabled))
        lines.append(("gpu", gpu.minor, gpu.uuid, gpu.pci, gpu.name, gpu.brand, gpu.arch, *flags))
        lines += [
            ("mig", mig.index, mig.gpu_instance, mig.compute_instance, mig.uuid)
            for mig in gpu.mig_devices
        ]
    text = "".join("\t".join(map(str, line)) + "\n" for line in lines)
    return text.encode(errors="surrogateescape")


def _decode(body: bytes) -> NvmlFacts | None:
    """Return the facts in lines that `_encode` made, None if they are others."""
    versions: list[str] = []
    gpus: list[NvmlGpu] = []
    try:
        for line in body.decode(errors="surrogateescape").split("\n")[:-1]:
            kind, *values = line.split("\t")
            if kind == "driver":
                versions = values
            elif kind == "gpu":
                gpus.append(_gpu(len(gpus), values))
            else:
                gpus[-1] = gpus[-1].replace(mig_devices=(*gpus[-1].mig_devices, _mig(values)))
        driver, cuda = versions
    except (IndexError, ValueError):
        return None
    return NvmlFacts(driver_version=driver, cuda_version=cuda, gpus=tuple(gpus))


def _gpu(index: int, values: list[str]) -> NvmlGpu:
    minor, uuid, pci, name, brand, arch, mig_capable, mig_enabled = values
    return NvmlGpu(
        index=index,
        minor=int(minor),
        uuid=uuid,
        pci=pci,
        name=name,
        brand=brand,
        arch=arch,
        mig_capable=mig_capable == "1",
        mig_enabled=mig_enabled == "1",
    )


def _mig(values: list[str]) -> NvmlMig:
    index, gpu_instance, compute_instance, uuid = values
    return NvmlMig(
        index=int(index),
        gpu_instance=int(gpu_instance),
        compute_instance=int(compute_instance),
        uuid=uuid,
    )
