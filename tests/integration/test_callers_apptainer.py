# SPDX-License-Identifier: Apache-2.0
"""Apptainer's `--nvccli`, unmodified, for root and for an ordinary user.

Debian has Apptainer in sid only, and it needs a newer C library: it runs on a machine of its own, a
root file system of Debian trixie.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

import libnvc as nvc
import libnvc.sim
from libnvc.testing import copy_program, fetch_packages, make_rootfs, tree, unpack

if TYPE_CHECKING:
    from tests.conftest import Done

pytestmark = pytest.mark.root

UID = 4711
DGX = "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e2"
CONTROL = {"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"}

# Apptainer changes its root directory as runtimes do, so "/" has to be a mount.
MACHINE = """
set -e
root=$1
shift
mount --bind "$root" "$root"
for directory in proc sys dev; do mount --rbind "/$directory" "$root/$directory"; done
while [ "$1" != -- ]; do
    mkdir -p "$root$1"
    mount --rbind "$1" "$root$1"
    shift
done
shift
cd "$root"
mkdir -p old
pivot_root . old
umount -l old
exec "$@"
"""


class Exec(Protocol):
    """Runs a command in a container; `asked` becomes NVIDIA_VISIBLE_DEVICES."""

    def __call__(self, *command: str, asked: str | None) -> Done: ...


@pytest.fixture(scope="module")
def machine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, trixie: Path
) -> Path:
    """Return the root file system of a machine with Apptainer and a user."""
    assert request.config.cache is not None
    kept = Path(str(request.config.cache.mkdir("apptainer")))
    root = tmp_path_factory.mktemp("apptainer") / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", trixie, root], check=True)
    unpack(fetch_packages(kept / "trixie", "trixie", ["libseccomp2", "libsqlite3-0"]), root)
    unpack(fetch_packages(kept / "sid", "sid", ["apptainer"]), root)
    (root / "root").chmod(0o711)  # there may be the interpreter
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    with (root / "etc/passwd").open("a") as passwd:
        passwd.write(f"user:x:{UID}:{UID}::/tmp:/bin/sh\n")
    with (root / "etc/group").open("a") as group:
        group.write(f"user:x:{UID}:\n")
    return root


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the user's image directory with a program that uses CUDA."""
    rootfs = make_rootfs(tmp_path_factory.mktemp("image") / "rootfs")
    (rootfs / "var/tmp").mkdir(parents=True)
    copy_program(rootfs, libnvc.sim.cuda_client())
    subprocess.run(["chown", "-hR", f"{UID}:{UID}", rootfs], check=True)
    return rootfs


@pytest.fixture(params=["root", "user"])
def apptainer(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    machine: Path,
    image: Path,
    commands: Path,
    dgx_a100: Path,
) -> Exec:
    """Run a command in a container of Apptainer.

    Apptainer names no driver root: the command on its PATH is a script that adds the simulated one.
    """
    program = tmp_path / "programs/nvidia-container-cli"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec "{commands}/nvidia-container-cli" --root="{dgx_a100}" "$@"\n'
    )
    program.chmod(0o755)
    shown = [program.parent, dgx_a100, commands.parent, Path(sys.base_prefix), image]
    unshare = ["unshare", "--mount", "--propagation", "private"]
    enter = [*unshare, "sh", "-c", MACHINE, "sh", str(machine), *map(str, shown), "--"]
    if request.param == "user":
        enter += ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    start = ("apptainer", "exec", "--no-privs", "--nvccli", "--contain", "--writable-tmpfs")

    def run(*command: str, asked: str | None) -> Done:
        return subprocess.run(
            [*enter, *start, image, *command],
            env={
                "PATH": f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL": "C",
                "HOME": "/tmp",
                **({} if asked is None else {"NVIDIA_VISIBLE_DEVICES": asked}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("asked", "given"),
    [("0,2", ["3c", "3e"]), ("all", [f"{0x3C + n:x}" for n in range(8)]), (f"{DGX}41", ["41"])],
)
def test_the_gpus_asked_for(apptainer: Exec, asked: str, given: list[str]) -> None:
    """No others: `--contain` gives a /dev without them, there is no device cgroup."""
    listed = apptainer("sh", "-c", "nvidia-smi -L && ls /dev", asked=asked)
    assert listed.returncode == 0, listed.stderr
    assert re.findall(rf"^GPU \d+: .*\(UUID: {DGX}(..)\)$", listed.stdout, re.MULTILINE) == given
    nodes = {name for name in listed.stdout.split() if name.startswith("nvidia")}
    assert nodes == CONTROL | {f"nvidia{int(uuid, 16) - 0x3C}" for uuid in given}
    counted = apptainer("cuda-probe", asked=asked)
    assert counted.stdout.startswith(f"CUDA driver API 12.2: {len(given)} device")


def test_every_library_is_found(apptainer: Exec, dgx_a100: Path) -> None:
    done = apptainer("/sbin/ldconfig", "-p", asked="all")
    found = {line.split()[0] for line in done.stdout.splitlines() if "=>" in line}
    request = nvc.Request(devices=("all",), capabilities=("utility", "compute"))
    plan = nvc.make_plan(nvc.discover(str(dgx_a100)), request)
    sonames = {op.path.rpartition("/")[2] for op in plan.operations if op.origin == "soname"}
    assert sonames
    assert sonames <= found


def test_no_gpu_without_being_asked(apptainer: Exec) -> None:
    """Apptainer itself warns of it."""
    done = apptainer("ls", "/dev", asked=None)
    assert (done.returncode, set(re.findall("nvidia.*", done.stdout))) == (0, CONTROL)
    assert "NVIDIA_VISIBLE_DEVICES must be set" in done.stderr


def test_an_unknown_gpu_stops_it(apptainer: Exec, image: Path) -> None:
    before = tree(image)
    done = apptainer("true", asked="9")
    assert (done.returncode, done.stdout) == (255, "")
    assert "nvidia-container-cli: device error: 9: unknown device" in done.stderr
    assert tree(image) == before
