# SPDX-License-Identifier: Apache-2.0
"""The main job: runc starts a container, its prestart hook configures GPU 0 of eight."""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

import libnvc
import libnvc.sim
from libnvc.plan import BindMount, DeviceAccess, DeviceNode, Plan
from libnvc.testing import (
    Mount,
    OciContainer,
    configure_hook,
    copy_program,
    mounts,
    multiarch,
    tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import CheckGpus

pytestmark = pytest.mark.root

LAYOUT = libnvc.Layout(libs_dir=f"/usr/lib/{multiarch()}", libs32_dir="/usr/lib/i386-linux-gnu")


@pytest.fixture(params=["small", "debian"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give each kind of root file system, to be changed at will."""
    if request.param == "small":
        small: Path = request.getfixturevalue("rootfs")
        return small
    debian: Path = request.getfixturevalue("debian")
    subprocess.run(["cp", "-a", "--reflink=auto", debian, tmp_path / "debian"], check=True)
    return tmp_path / "debian"


@contextmanager
def configured(
    directory: Path, commands: Path, sim: Path, root: Path, device: str = "0"
) -> Iterator[OciContainer]:
    """Run a container that is given a GPU by a prestart hook calling the command."""
    directory.mkdir()
    command = [str(commands / "nvidia-container-cli"), f"--root={sim}", "configure"]
    command += [f"--device={device}", "--utility", "--compute"]
    hook = configure_hook(directory / "hook", command, root)
    with OciContainer(directory, root, prestart=[hook]) as container:
        yield container


def plan_for(sim: Path, device: str = "0") -> Plan:
    inventory = libnvc.discover(str(sim))
    request = libnvc.Request(devices=(device,), capabilities=("utility", "compute"), layout=LAYOUT)
    return libnvc.make_plan(inventory, request)


def test_the_container_can_use_the_granted_gpu_only(
    tmp_path: Path, commands: Path, dgx_a100: Path, root: Path, check_gpus: CheckGpus
) -> None:
    copy_program(root, libnvc.sim.cuda_client())
    with configured(tmp_path / "c", commands, dgx_a100, root) as container:
        check_gpus(container.exec, [0])


def test_every_library_of_the_plan_resolves(
    tmp_path: Path, commands: Path, dgx_a100: Path, root: Path
) -> None:
    inventory = libnvc.discover(str(dgx_a100))
    planned = {op.source for op in plan_for(dgx_a100).operations if isinstance(op, BindMount)}
    sonames = {
        library.soname or PurePosixPath(library.path).name
        for library in inventory.libraries
        if inventory.root + library.path in planned
    }
    assert {"libnvidia-ml.so.1", "libcuda.so.1", "libnvidia-ptxjitcompiler.so.1"} <= sonames
    with configured(tmp_path / "c", commands, dgx_a100, root) as container:
        cache = container.exec("ldconfig", "-p").stdout
        resolved = dict(re.findall(r"^\t(\S+) \(libc6,[^)]*\) => (\S+)$", cache, re.MULTILINE))
        assert sonames <= resolved.keys()
        for soname in sonames:
            read = container.exec("head", "-c4", resolved[soname])
            assert (soname, read.stdout) == (soname, "\x7fELF")


def expected_options(op: BindMount | DeviceNode) -> tuple[str, ...]:
    """Give the options of specification §22.1 for a mount of the plan."""
    if isinstance(op, DeviceNode):
        return ("noexec", "nosuid", "ro")
    if op.file_type == "socket":
        return ("nodev", "noexec", "nosuid")
    if op.path.startswith("/proc/"):
        return ("nodev", "noexec", "nosuid", "ro")
    return ("nodev", "nosuid", "ro")


def restrictions(mount: Mount) -> tuple[str, ...]:
    return tuple(o for o in mount.options if o in {"ro", "nosuid", "nodev", "noexec"})


def test_mounts_are_restricted_and_private(
    tmp_path: Path, commands: Path, dgx_a100: Path, root: Path
) -> None:
    planned = [
        op
        for op in plan_for(dgx_a100).operations
        if isinstance(op, BindMount) or (isinstance(op, DeviceNode) and op.source)
    ]
    assert {op.path for op in planned} > {"/dev/nvidia0", "/usr/bin/nvidia-smi"}
    with configured(tmp_path / "c", commands, dgx_a100, root) as container:
        inside = {mount.path: mount for mount in mounts(container.pid)}
        real = container.exec("readlink", "-f", *(op.path for op in planned)).stdout.splitlines()
    for op, path in zip(planned, real, strict=True):
        mount = inside[path]
        assert (op.path, restrictions(mount)) == (op.path, expected_options(op))
        assert (op.path, mount.tags) == (op.path, ())


def test_proc_driver_is_a_tmpfs_with_the_masked_params(
    tmp_path: Path, commands: Path, dgx_a100: Path, rootfs: Path
) -> None:
    """This kernel has no NVIDIA module: the directory can only be made in a tmpfs above it."""
    assert not Path("/proc/driver/nvidia").exists()
    with configured(tmp_path / "c", commands, dgx_a100, rootfs) as container:
        inside = {mount.path: mount for mount in mounts(container.pid)}
        params = container.exec("cat", "/proc/driver/nvidia/params").stdout
        version = container.exec("cat", "/proc/driver/nvidia/version").stdout
        gpus = container.exec("ls", "/proc/driver/nvidia/gpus").stdout
    mask = inside["/proc/driver"]
    assert mask.fstype == "tmpfs"
    assert {"nodev", "noexec", "nosuid"} <= set(mask.options)
    assert mask.tags == ()
    assert "ModifyDeviceFiles: 0\n" in params
    assert "535.261.03" in version
    assert gpus == "0000:07:00.0\n"


def test_host_mount_table_is_unchanged(
    tmp_path: Path, commands: Path, dgx_a100: Path, rootfs: Path
) -> None:
    before = mounts()
    with configured(tmp_path / "c", commands, dgx_a100, rootfs):
        assert mounts() == before
    assert mounts() == before


def test_rootfs_is_unchanged_outside_the_listed_paths(
    tmp_path: Path, commands: Path, dgx_a100: Path, root: Path
) -> None:
    listed = [PurePosixPath(op.path) for op in plan_for(dgx_a100).operations if op.path]
    before = tree(root)
    with configured(tmp_path / "c", commands, dgx_a100, root) as container:
        parents = container.exec("readlink", "-f", *(str(path.parent) for path in listed))
    after = tree(root)
    allowed = {
        PurePosixPath(parent, path.name).relative_to("/")
        for parent, path in zip(parents.stdout.splitlines(), listed, strict=True)
    }
    made = {parent for path in allowed for parent in path.parents if str(parent) not in before}
    changed = {
        PurePosixPath(path)
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    }
    assert PurePosixPath("usr/bin/nvidia-smi") in changed
    assert changed <= allowed | made


def test_two_containers_at_once_get_their_own_gpus(
    tmp_path: Path, commands: Path, dgx_a100: Path, rootfs: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(rootfs, other, symlinks=True)
    with ExitStack() as stack:
        first = stack.enter_context(configured(tmp_path / "1", commands, dgx_a100, rootfs, "2"))
        second = stack.enter_context(configured(tmp_path / "2", commands, dgx_a100, other, "5,6"))
        nodes = [c.exec("ls", "/dev").stdout for c in (first, second)]
        counts = [c.exec("nvidia-smi", "-L").stdout.count("GPU-") for c in (first, second)]
    assert [re.findall(r"nvidia[0-9]+", listing) for listing in nodes] == [
        ["nvidia2"],
        ["nvidia5", "nvidia6"],
    ]
    assert counts == [1, 2]


def test_device_rules_are_those_of_the_plan(
    tmp_path: Path, commands: Path, dgx_a100: Path, rootfs: Path
) -> None:
    planned = {
        f"c {op.major}:{op.minor} rw"
        for op in plan_for(dgx_a100).operations
        if isinstance(op, DeviceAccess)
    }
    with configured(tmp_path / "c", commands, dgx_a100, rootfs) as container:
        group = Path("/sys/fs/cgroup/devices", container.name, "devices.list")
        rules = set(group.read_text().splitlines())
    assert "c 195:0 rw" in planned
    assert planned == {rule for rule in rules if re.match(r"c (195|5\d\d):", rule)}


def test_detach_takes_the_gpu_away_from_the_running_container(
    tmp_path: Path, commands: Path, dgx_a100: Path, rootfs: Path
) -> None:
    before = tree(rootfs)
    with configured(tmp_path / "c", commands, dgx_a100, rootfs) as container:
        libnvc.detach(libnvc.Target(pid=container.pid))
        paths = {mount.path for mount in mounts(container.pid)}
        assert not {path for path in paths if "nvidia" in path or "/libcuda" in path}
        assert container.exec("nvidia-smi").returncode != 0
        container.exec("mknod", "/dev/nvidia0", "c", "195", "0")
        assert "Operation not permitted" in container.exec("cat", "/dev/nvidia0").stderr
    assert tree(rootfs) == before
