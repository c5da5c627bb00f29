# SPDX-License-Identifier: Apache-2.0
"""The host that the reference was recorded on, simulated, and a container on it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import libnvc.sim
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine
from libnvc.testing import (
    Mount,
    NamespaceContainer,
    make_rootfs,
    mounts,
    on_host,
    tree,
)
from libnvc.testing.host import private_mounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DATA = Path(__file__).parent.parent / "data/reference/cli.json"
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in json.loads(DATA.read_text())}

#: SONAMEs that only a driver brings: the recordings have no others of the loader cache.
DRIVER = re.compile(r"lib(nv|cuda|GLX_nv|EGL_nv|GLES.*_nv)")

PROC = "/proc/driver/nvidia"
PROFILE = "/etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"

# An ordinary user may not be allowed to enter the directory with the interpreter: the first call,
# by root, loads every module that the second one needs.
AS_USER = """
import os, sys
from libnvc.cli.container_cli import main
uid, gid, *words = sys.argv[1:]
output = os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
main(words)
os.dup2(output, 1)
os.setgroups([])
os.setresgid(*[int(gid)] * 3)
os.setresuid(*[int(uid)] * 3)
sys.exit(main(words))
"""


class Host:
    """A simulated host with the driver of the recordings, and a container on it."""

    def __init__(
        self, sim: Path, mode: str, rootfs: Path, container: NamespaceContainer, group: Path
    ) -> None:
        self.sim = sim
        # A driver root has device nodes of its own; the host's are not the driver's.
        self.places = [("/proc/driver/", "PROC/"), ("/run/", "RUN/"), ("/", "DRV/")]
        if mode != "root":
            self.places.insert(0, ("/dev/", "DEV/"))
        self.rootfs = rootfs
        self.container = container
        self.group = group
        self.tree = tree(rootfs)
        self.known = {mount.identity for mount in mounts(container.pid)}
        self.rules = group.joinpath("devices.list").read_text().splitlines()
        self.nodes = self._nodes()
        self.cache = self._cache()

    def command(self, words: list[str], cli: str) -> list[str]:
        """Return a recorded command line for this host and container."""
        if words[0] == "setpriv":
            uid, gid = words[words.index("--reuid") + 1], words[words.index("--regid") + 1]
            at = words.index("nvidia-container-cli")
            return [
                sys.executable,
                "-I",
                "-c",
                AS_USER,
                uid,
                gid,
                words[at],
                f"--root={self.sim}",
                *words[at + 1 :],
            ]
        text = words[2] if words[:2] == ["sh", "-c"] else shlex.join(words)
        text = text.replace("-d /dev/stderr ", "").replace("--root=/run/nvidia/driver ", "")
        text = text.replace("@PID@", str(self.container.pid))
        text = text.replace("@ROOTFS@", str(self.rootfs)).replace("rm /dev/", f"rm {self.sim}/dev/")
        return ["sh", "-c", text.replace("nvidia-container-cli", f"{cli} --root={self.sim}")]

    def effects(self) -> dict[str, list[str]]:
        """Return what has changed since, as the recordings have it."""
        now = mounts(self.container.pid)
        after = tree(self.rootfs)
        return {
            "mounts": [self._mount(mount) for mount in now if mount.identity not in self.known],
            "tree": [
                line
                for path, facts in after.items()
                if self.tree.get(path) != facts
                for line in self._tree_line(path, facts)
            ],
            "devices": sorted(self._nodes() - self.nodes),
            "cgroup": [
                rule
                for rule in self.group.joinpath("devices.list").read_text().splitlines()
                if rule not in self.rules
            ],
            "ldcache": sorted(self._cache() - self.cache),
            "proc": sorted(self._proc()),
            "other": list(self._profile()),
        }

    def _mount(self, mount: Mount) -> str:
        path = mount.path.removeprefix(str(self.rootfs))
        flags = [f for f in ("ro", "rw", "nosuid", "nodev", "noexec") if f in mount.options]
        source = mount.root.removeprefix(str(self.sim))
        if mount.fstype == "tmpfs" and mount.root == "/":
            source = "tmpfs:/:mode=555"
            # The recorded kernel has /proc/driver/nvidia, this one must make it.
            path = path.replace("/proc/driver", "/proc/driver/nvidia")
        else:
            for place, name in self.places:
                if source.startswith(place):
                    source = name + source.removeprefix(place)
                    break
        return f"{path} <- {source} [{','.join(flags)}]"

    def _tree_line(self, path: str, facts: tuple[object, ...]) -> Iterator[str]:
        mode, uid, gid, *rest = facts
        if str(path).split("/")[0] in {"dev", "proc"} or path == ".":
            return
        if str(mode).startswith("l"):
            yield f"l /{path} -> {rest[0]}"
        elif path not in self.tree or not str(mode).startswith("d"):
            letter = "f" if str(mode).startswith("-") else str(mode)[0]
            permissions = (self.rootfs / path).lstat().st_mode & 0o7777
            yield f"{letter} {permissions:o} {uid}:{gid} /{path}"

    def _proc(self) -> Iterator[str]:
        """Yield what the container sees of the driver's procfs."""
        inside = Path(f"/proc/{self.container.pid}/root{self.rootfs}")
        directory = inside / PROC[1:]
        if not directory.exists():
            return
        for path in (directory, *directory.rglob("*")):
            status = path.lstat()
            letter = "d" if path.is_dir() else "f"
            permissions = status.st_mode & 0o7777
            owner = f"{status.st_uid}:{status.st_gid}"
            yield f"{letter} {permissions:o} {owner} /{path.relative_to(inside)}"
        for line in (directory / "params").read_text().splitlines():
            if line.startswith("ModifyDeviceFiles"):
                yield line

    def _profile(self) -> Iterator[str]:
        """Yield the values of the application profile."""
        path = Path(f"/proc/{self.container.pid}/root{self.rootfs}{PROFILE}")
        # The driver reads hexadecimal numbers, JSON does not.
        text = path.read_text() if path.exists() else "{}"
        document = json.loads(re.sub("0x[0-9a-f]+", lambda number: str(int(number[0], 16)), text))
        for section, entries in document.items():
            for index, entry in enumerate(entries):
                for name, value in entry.items():
                    yield f"{section}[{index}].{name} = {json.dumps(value)}"

    def _nodes(self) -> set[str]:
        found = set()
        directory = Path(f"/proc/{self.container.pid}/root{self.rootfs}/dev")
        for node in directory.rglob("*"):
            status = node.lstat()
            permissions = status.st_mode & 0o7777
            if node.is_char_device():
                number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
                name = node.relative_to(directory)
                found.add(f"/{name} {number} {permissions:o} character special file")
            elif node.is_dir() and node.name.startswith("nvidia"):
                found.add(f"d {permissions:o} {status.st_uid}:{status.st_gid} /dev/{node.name}")
        return found

    def _cache(self) -> set[str]:
        cache = self.rootfs / "etc/ld.so.cache"
        if not cache.exists():
            return set()
        listing = ["/sbin/ldconfig", "-p", "-C", str(cache)]
        text = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        entries = re.findall(r"^\t(\S+) .* => (\S+)$", text, re.MULTILINE)
        return {f"{name} => {path}" for name, path in entries if DRIVER.match(name)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("image") / "rootfs")


def make_rhel(rootfs: Path) -> None:
    (rootfs / "etc/debian_version").unlink()


def make_busybox(rootfs: Path) -> None:
    """Leave what a static busybox comes with; nothing is run in it."""
    for path in rootfs.iterdir():
        if path.name not in {"dev", "etc", "proc", "run", "tmp"}:
            path.unlink() if path.is_symlink() else shutil.rmtree(path)
    for path in rootfs.glob("etc/*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (rootfs / "bin").mkdir()


def make_cuda(rootfs: Path) -> None:
    """Add CUDA compatibility libraries as NVIDIA's images have them."""
    directory = rootfs / "usr/local/cuda-12.4/compat"
    directory.mkdir(parents=True)
    (rootfs / "usr/local/cuda").symlink_to("cuda-12.4")
    for name, number in COMPAT:
        file = directory / f"{name}.so.550.54.15"
        soname = f"{name}.so.{number}"
        file.write_bytes(write_library(bits=64, machine=this_machine().elf, soname=soname))
        file.chmod(0o755)
        (directory / soname).symlink_to(file.name)


#: Of the recorded image: names and what follows in their SONAMEs.
COMPAT = (
    ("libcuda", 1),
    ("libcudadebugger", 1),
    ("libnvidia-nvvm", 4),
    ("libnvidia-ptxjitcompiler", 1),
)

#: How other images differ from the template.
CHANGES = {"rhel": make_rhel, "busybox": make_busybox, "cuda": make_cuda}


def recorded_profile(environment: dict[str, str]) -> libnvc.sim.Profile:
    """Return the recorded host: MIG is "GPU:instance/instance", separated by commas."""
    mig = environment.get("MIG")
    name = "dgx-a100-mig" if mig else "dgx-a100"
    profile = next(p for p in libnvc.sim.profiles() if p.name == name)
    if mig:
        layout = [
            f"{index}:{device.gpu_instance}/{device.compute_instance}"
            for index, gpu in enumerate(profile.gpus)
            for device in gpu.mig
        ]
        assert ",".join(layout) == mig
    count = int(environment.get("NGPU", "8"))
    return profile.replace(gpus=profile.gpus[:count], imex_channels=3)


def make_sim(root: Path, mode: str, environment: dict[str, str]) -> Path:
    """Make the host that a case was recorded on."""
    if mode == "bare":
        root.mkdir()
        return root
    profile = recorded_profile(environment)
    error = environment.get("MOCKC_FAIL_INIT")
    libnvc.sim.create(profile, root, fault=f"nvml-error={error}" if error else "")
    for file in root.glob("proc/driver/nvidia/gpus/*/*"):
        file.chmod(0o644)  # so they were; the kernel's own have 0444
    if "SOCKETS" not in environment:
        for socket in root.glob("run/*/socket"):
            socket.unlink()
    return root


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that ordinary users may enter."""
    with tempfile.TemporaryDirectory(prefix="nvc-reference-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def host(
    tmp_path: Path, place: Path, template: Path, request: pytest.FixtureRequest
) -> Iterator[Host]:
    case = CASES[request.node.callspec.params["name"]]
    environment = case.get("env", {})
    sim = make_sim(place / "sim", case.get("mode", ""), environment)
    rootfs = tmp_path / "rootfs"
    subprocess.run(["cp", "-a", template, rootfs], check=True)
    if case.get("image") in CHANGES:
        CHANGES[case["image"]](rootfs)
    line = next(
        line
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if "devices" in line.split(":")[1].split(",")
    )
    parent = Path(f"/sys/fs/cgroup/devices{line.split(':')[2].rstrip('/')}")
    group = parent / f"libnvc-reference-{os.getpid()}"
    group.mkdir()
    for name, rule in (("deny", "a"), ("allow", "c 1:3 rwm"), ("allow", "c 1:5 rwm")):
        (group / f"devices.{name}").write_text(rule)
    (group / "devices.allow").write_text("c *:* m")
    try:
        with NamespaceContainer(rootfs) as container:
            (group / "cgroup.procs").write_text(str(container.pid))
            try:
                yield Host(sim, case.get("mode", ""), rootfs, container, group)
            finally:
                (parent / "cgroup.procs").write_text(str(container.pid))
    finally:
        group.rmdir()


#: UUID that the recorded host has for a MIG device, by the simulated one.
RECORDED_MIG = {
    "MIG-a0000000-0000-4000-8000-000103000000": "MIG-a0000001-0000-4000-8000-000003000000"
}


def make_debian(root: Path) -> None:
    """Change a simulated driver into what Debian's packages of the recorded host are."""
    libraries = root / "usr/lib/x86_64-linux-gnu"
    for name in ("libnvidia-gtk2", "libnvidia-gtk3", "libnvidia-wayland-client"):
        (libraries / f"{name}.so.535.261.03").unlink()
    kept = {"libcuda.so", "libnvidia-ml.so", "libnvidia-opticalflow.so"}
    for link in libraries.rglob("*.so"):
        if link.is_symlink() and link.name not in kept:
            link.unlink()
    shutil.move(root / "etc/vulkan", root / "usr/share/vulkan")
    (root / "usr/share/nvidia/nvoptix.bin").write_bytes(b"")


@pytest.fixture
def cdi_host(place: Path) -> Callable[[dict[str, Any]], list[str]]:
    """Return what puts a command on the host of a recorded case, in mount namespaces."""

    def prepare(case: dict[str, Any]) -> list[str]:
        mode = case.get("mode", "")
        run = "mount -t tmpfs tmpfs /run"
        if mode == "bare":
            return [*private_mounts(), "sh", "-c", f'{run}; exec "$@"', "sh"]
        profile = recorded_profile(case.get("env", {}))
        gpus = tuple(
            gpu.replace(
                mig=tuple(m.replace(uuid=RECORDED_MIG.get(m.uuid, m.uuid)) for m in gpu.mig)
            )
            for gpu in profile.gpus
        )
        sim = place / "sim"
        libnvc.sim.create(profile.replace(gpus=gpus, daemons=()), sim)
        make_debian(sim)
        if mode == "root":
            script = f"{run}; mkdir -p /run/nvidia/driver; mount --rbind {sim} /run/nvidia/driver"
            return [*private_mounts(), "sh", "-ec", f'{script}; exec "$@"', "sh"]
        share = f"mount -t overlay -o lowerdir={sim}/usr/share:/usr/share overlay /usr/share"
        return [*on_host(sim), "sh", "-ec", f'{share}; {run}; exec "$@"', "sh"]

    return prepare
