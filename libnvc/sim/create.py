# SPDX-License-Identifier: Apache-2.0
"""Build the tree of a simulated driver, in Debian's layout."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import stat
from pathlib import Path

from .._record import Record
from ..errors import NvcError, RequestError
from . import tables
from .blob import FAULTS, UVM_MAJOR, embed
from .elf import write_library
from .ldcache import write_cache
from .profiles import PROFILES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .profiles import Profile, SimulatedGpu

_NATIVE = Path(__file__).parent / "_native_files"
_MAJOR = 195
_LIBRARY_DIRECTORIES = {
    "x86_64": "usr/lib/x86_64-linux-gnu",
    "aarch64": "usr/lib/aarch64-linux-gnu",
    "ppc64le": "usr/lib/powerpc64le-linux-gnu",
}


class Simulation(Record):
    """A simulated driver that was made.

    Attributes:
        root: the driver root: absolute.
        profile: the host that it simulates.
        warnings: what could not be made, one line each.
    """

    root: str
    profile: Profile
    warnings: tuple[str, ...] = ()


def create(profile: str, directory: str | os.PathLike[str], *, fault: str = "") -> Simulation:
    """Build a simulated driver in a directory that is new or empty.

    Device nodes need root; without, there are none, and the simulated libraries see no GPU.

    Args:
        profile: name of one of `profiles()`.
        directory: the driver root to be.
        fault: one of `FAULTS`, or "" for a driver that works.

    Raises:
        RequestError: an unknown profile or fault, or a directory that is not empty.
        NvcError: the directory cannot be written; what was made is removed again.
    """
    chosen = _find_profile(profile)
    if fault and fault not in FAULTS:
        raise RequestError(f"{fault}: unknown fault: choose one of {', '.join(FAULTS)}")
    root = Path(os.path.abspath(directory))
    existed = _claim(root)
    try:
        warnings = _Builder(root, chosen, fault).build()
    except OSError as error:
        _remove(root, existed)
        raise NvcError(
            f"{error.filename or root}: {(error.strerror or str(error)).lower()}",
            errno=error.errno or 0,
            path=str(error.filename or root),
        ) from error
    except BaseException:
        _remove(root, existed)
        raise
    return Simulation(root=str(root), profile=chosen, warnings=tuple(warnings))


def cuda_client() -> Path:
    """Return a small program that lists GPUs by CUDA's driver API; it needs a glibc to run."""
    return _NATIVE / "cuda-probe"


def _find_profile(name: str) -> Profile:
    for profile in PROFILES:
        if profile.name == name:
            return profile
    known = ", ".join(profile.name for profile in PROFILES)
    raise RequestError(f"{name}: unknown profile: choose one of {known}")


def _claim(root: Path) -> bool:
    """Make the directory; tell whether it was there (and empty)."""
    try:
        root.mkdir(parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise NvcError(
            f"{root}: {(error.strerror or '').lower()}", errno=error.errno or 0, path=str(root)
        ) from error
    else:
        root.chmod(0o755)
        return False
    try:
        if not any(root.iterdir()):
            return True
    except OSError as error:
        raise RequestError(f"{root}: {(error.strerror or '').lower()}", path=str(root)) from error
    raise RequestError(f"{root}: not empty: name a new directory", path=str(root))


def _remove(root: Path, existed: bool) -> None:
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not existed:
        root.rmdir()


class _Builder:
    """Writes one tree. Modes do not depend on the caller's umask."""

    def __init__(self, root: Path, profile: Profile, fault: str) -> None:
        self.root = root
        self.profile = profile
        self.fault = fault
        self.machine = platform.machine()
        if self.machine not in _LIBRARY_DIRECTORIES:
            raise RequestError(f"{self.machine}: no simulated driver for this machine")
        self.libraries = _LIBRARY_DIRECTORIES[self.machine]
        self.warnings: list[str] = []

    def build(self) -> list[str]:
        self.directories()
        self.library_files()
        self.programs()
        self.configuration()
        self.proc()
        self.pci()
        self.sockets()
        self.device_nodes()
        return self.warnings

    def directory(self, path: str) -> Path:
        at = self.root
        for name in Path(path).parts:
            at /= name
            if not at.exists():
                at.mkdir()
                at.chmod(0o755)
        return at

    def file(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        self.directory(str(Path(path).parent))
        at = self.root / path
        at.write_bytes(content.encode() if isinstance(content, str) else content)
        at.chmod(mode)

    def link(self, path: str, target: str) -> None:
        (self.root / path).symlink_to(target)

    def directories(self) -> None:
        for path in ("usr/bin", "usr/sbin", self.libraries, "dev", "run", "var", "tmp", "sys"):
            self.directory(path)
        for name in ("bin", "sbin", "lib"):
            self.link(name, f"usr/{name}")
        self.link("var/run", "/run")
        (self.root / "tmp").chmod(0o1777)

    def library_files(self) -> None:
        version = self.profile.driver
        absent = set(tables.SOME_RELEASES) - set(self.profile.only)
        names = [name for name in tables.LIBRARIES if name not in absent]
        entries = []
        for name in names:
            soname, file = self.soname(name), f"{name}.{version}"
            self.file(f"{self.libraries}/{file}", self.library(name), 0o755)
            if soname != file:
                self.link(f"{self.libraries}/{soname}", file)
            if name in tables.DEVELOPMENT_LINKS:
                self.link(f"{self.libraries}/{name}", soname)
                entries.append((name, f"/{self.libraries}/{name}"))
            entries.append((soname, f"/{self.libraries}/{soname}"))
        vdpau = write_library("libvdpau_nvidia.so.1", machine=self.machine)
        self.file(f"{self.libraries}/vdpau/libvdpau_nvidia.so.{version}", vdpau, 0o755)
        self.link(f"{self.libraries}/vdpau/libvdpau_nvidia.so.1", f"libvdpau_nvidia.so.{version}")
        self.file("etc/ld.so.cache", write_cache(entries, machine=self.machine))

    def soname(self, name: str) -> str:
        return f"{name}.{tables.LIBRARIES[name].replace('V', self.profile.driver)}"

    def library(self, name: str) -> bytes:
        working = _NATIVE / name
        if working.exists():
            return embed(working.read_bytes(), self.profile, self.fault)
        return write_library(
            self.soname(name),
            machine=self.machine,
            needed=tuple(self.soname(other) for other in tables.NEEDED.get(name, ())),
            abi=tables.ABI.get(name, (2, 0, 0)),
        )

    def programs(self) -> None:
        self.file("usr/bin/nvidia-smi", (_NATIVE / "nvidia-smi").read_bytes(), 0o755)
        idle = (_NATIVE / "idle").read_bytes()
        for name in tables.PROGRAMS:
            self.file(f"usr/bin/{name}", idle, 0o755)

    def configuration(self) -> None:
        version = self.profile.driver
        for path, content in tables.FILES.items():
            self.file(path, content)
        self.file(f"etc/ld.so.conf.d/{self.machine}-linux-gnu.conf", f"/{self.libraries}\n")
        rules = f"usr/share/nvidia/nvidia-application-profiles-{version}-rc"
        self.file(rules, '{"rules": [], "profiles": []}\n')
        for name in self.profile.firmware:
            self.file(f"usr/lib/firmware/nvidia/{version}/{name}", f"simulated {name}\n" * 64)

    def proc(self) -> None:
        driver = "proc/driver/nvidia"
        version = tables.VERSION.format(machine=self.machine, driver=self.profile.driver)
        self.file(f"{driver}/version", version, 0o444)
        self.file(f"{driver}/params", tables.PARAMS, 0o444)
        self.file(f"{driver}/registry", 'Binary: ""\n')
        self.file("proc/devices", tables.DEVICES, 0o444)
        for index, gpu in enumerate(self.profile.gpus):
            place = f"{driver}/gpus/0000:{gpu.bus:02x}:00.0"
            facts = {name: getattr(gpu, name) for name in ("name", "uuid", "vbios", "bus", "minor")}
            information = tables.INFORMATION.format(**facts, irq=40 + index)
            self.file(f"{place}/information", information, 0o444)
            self.file(f"{place}/power", tables.POWER, 0o444)
            self.file(f"{place}/registry", 'Binary: ""\n')

    def pci(self) -> None:
        for gpu in self.profile.gpus:
            place = f"sys/bus/pci/devices/0000:{gpu.bus:02x}:00.0"
            self.file(f"{place}/vendor", f"0x{gpu.pci_id & 0xFFFF:04x}\n", 0o444)
            self.file(f"{place}/device", f"0x{gpu.pci_id >> 16:04x}\n", 0o444)
            self.file(f"{place}/class", "0x030200\n", 0o444)
            self.file(f"{place}/config", _config_space(gpu))

    def sockets(self) -> None:
        for name in self.profile.sockets:
            at = self.directory(f"run/{name}")
            # A socket's address is short: bind it relative to its directory.
            with socket.socket(socket.AF_UNIX) as listener:
                handle = os.open(at, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    listener.bind(f"/proc/self/fd/{handle}/socket")
                finally:
                    os.close(handle)
            (at / "socket").chmod(0o666)

    def device_nodes(self) -> None:
        nodes = {"nvidiactl": (_MAJOR, 255), "nvidia-modeset": (_MAJOR, 254)}
        nodes |= {"nvidia-uvm": (UVM_MAJOR, 0), "nvidia-uvm-tools": (UVM_MAJOR, 1)}
        nodes |= {f"nvidia{gpu.minor}": (_MAJOR, gpu.minor) for gpu in self.profile.gpus}
        for name, number in nodes.items():
            at = self.root / "dev" / name
            try:
                os.mknod(at, stat.S_IFCHR | 0o666, os.makedev(*number))
            except PermissionError:
                self.warnings.append(
                    f"{self.root}/dev: no device nodes, since making them needs root: "
                    "the simulated libraries will see no GPU"
                )
                return
            at.chmod(0o666)


def _config_space(gpu: SimulatedGpu) -> bytes:
    """Return the standard header: vendor, device, class (3D controller), subsystem."""
    space = bytearray(256)
    space[0:4] = gpu.pci_id.to_bytes(2 + 2, "little")
    space[8:12] = bytes((0xA1, 0x00, 0x02, 0x03))
    space[44:48] = gpu.pci_subsystem.to_bytes(4, "little")
    return bytes(space)
