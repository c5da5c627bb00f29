# SPDX-License-Identifier: Apache-2.0
"""What an image may have where something of the driver belongs: the driver's wins, or it is told.

Whatever is there stays as it is, nothing is written through a link, and undoing gives the image
back exactly.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import libnvc as nvc
from libnvc.testing import (
    NamespaceContainer,
    make_busybox_like,
    make_rhel_like,
    make_rootfs,
    mounts,
    tree,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

EISDIR, ENOTDIR = 21, 20
PROFILES = "/etc/nvidia/nvidia-application-profiles-rc.d"
VERSION = "535.261.03"

IMAGES: dict[str, tuple[Callable[[Path], None] | None, str]] = {
    "debian": (None, "/usr/lib/x86_64-linux-gnu"),
    "rhel": (make_rhel_like, "/usr/lib64"),
    "busybox": (make_busybox_like, "/usr/lib64"),
}
KINDS = ("absent", "empty", "file", "symlink", "dangling", "socket", "directory")

#: Where something of the driver goes, by name; {} is the directory of libraries.
FILES = {
    "library": f"{{}}/libcuda.so.{VERSION}",
    "soname": "{}/libcuda.so.1",
    "device": "/dev/nvidia0",
    "socket": "/run/nvidia-persistenced/socket",
    "firmware": f"/lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin",
    "program": "/usr/bin/nvidia-smi",
}


def plant(at: Path, kind: str) -> None:
    """Put something of a kind there, as an image may have it."""
    if kind != "absent":
        at.parent.mkdir(parents=True, exist_ok=True)
    if kind == "empty":
        at.touch()
    elif kind == "file":
        at.write_text("the image's")
        at.chmod(0o741)
    elif kind == "symlink":
        at.symlink_to("/srv/victim")
    elif kind == "dangling":
        at.symlink_to("/srv/nothing")
    elif kind == "socket":
        os.mknod(at, stat.S_IFSOCK | 0o600)
    elif kind == "directory":
        at.mkdir()
        (at / "inside").write_text("the image's")


class Box:
    """A container of an image, and how it looked at first."""

    def __init__(self, container: NamespaceContainer, libs: str, sim: Path) -> None:
        self.libs = libs
        self.rootfs = container.rootfs
        self.target = nvc.Target(pid=container.pid, rootfs=str(container.rootfs))
        self.plan = nvc.make_plan(
            nvc.discover(str(sim)),
            nvc.Request(
                devices=("0",),
                capabilities=("utility", "compute", "graphics"),
                layout=nvc.inspect_container(self.target),
                device_rules=False,
            ),
        )

    def watch(self) -> None:
        """Remember how everything looks now."""
        self._first = self._state()

    def _state(self) -> object:
        # /dev is the container's own, and not the image's.
        return tree(self.rootfs), tree(self.inside("/dev")), mounts(self.target.pid)

    def inside(self, path: str) -> Path:
        return Path(f"/proc/{self.target.pid}/root{self.rootfs}{path.format(self.libs)}")

    def source(self, path: str) -> str:
        """Return what of the host the plan has at a path, or where a link there leads to."""
        for op in self.plan.operations:
            if op.path == path and isinstance(op, nvc.Symlink):
                return self.source(f"{path.rpartition('/')[0]}/{op.target}")
            if op.path == path:
                assert isinstance(op, nvc.BindMount | nvc.DeviceNode)
                return op.source
        raise AssertionError(f"{path}: not in the plan")

    def assert_ours(self, path: str) -> None:
        """Fail if anything but the driver's is at a path."""
        at = self.inside(path)
        if at.is_symlink():
            at = at.parent / os.readlink(at)
        assert os.path.samestat(at.lstat(), os.stat(self.source(path.format(self.libs))))

    def assert_untouched(self) -> None:
        assert self._state() == self._first


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rootfs(tmp_path_factory.mktemp("kinds") / "rootfs")


@pytest.fixture(params=IMAGES)
def box(
    request: pytest.FixtureRequest, tmp_path: Path, template: Path, dgx_a100: Path
) -> Iterator[Box]:
    root = tmp_path / "rootfs"
    subprocess.run(["cp", "-a", template, root], check=True)
    change, libs = IMAGES[request.param]
    if change is not None:
        change(root)
    (root / "srv").mkdir()
    (root / "srv/victim").write_text("not to be touched")
    with NamespaceContainer(root) as container:
        yield Box(container, libs, dgx_a100)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "directory"])
def test_what_is_injected_wins(box: Box, kind: str) -> None:
    for path in FILES.values():
        plant(box.inside(path), kind)
    box.watch()
    applied = nvc.apply(box.plan, box.target)
    assert applied.warnings == box.plan.warnings
    for path in FILES.values():
        box.assert_ours(path)
    assert (box.rootfs / "srv/victim").read_text() == "not to be touched"
    assert os.listdir(box.rootfs / "srv") == ["victim"]
    nvc.detach(applied)
    box.assert_untouched()


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_the_place_of_a_file_is_told(box: Box, name: str) -> None:
    """No file can be mounted on it, and to take it away is not ours."""
    path = FILES[name]
    plant(box.inside(path), "directory")
    box.watch()
    with pytest.raises(nvc.MountError) as caught:
        nvc.apply(box.plan, box.target)
    error = caught.value
    assert (error.errno, error.step) == (EISDIR, "mount operation")
    # The images' /lib and /var/run may be links.
    assert os.path.realpath(error.path) == os.path.realpath(f"{box.rootfs}{path.format(box.libs)}")
    box.assert_untouched()


@pytest.mark.parametrize("kind", ["absent", "directory", "symlink", "dangling"])
def test_application_profiles(box: Box, kind: str) -> None:
    """A link to a directory leads there, inside the image, like any on the way."""
    (box.rootfs / "srv/victim").unlink()
    (box.rootfs / "srv/victim").mkdir()
    (box.rootfs / "srv/victim/inside").touch()
    plant(box.inside(PROFILES), kind)
    box.watch()
    applied = nvc.apply(box.plan, box.target)
    place = {"symlink": "/srv/victim", "dangling": "/srv/nothing"}.get(kind, PROFILES)
    assert os.listdir(box.inside(place)) == ["10-container.conf"]
    nvc.detach(applied)
    box.assert_untouched()


@pytest.mark.parametrize("kind", ["empty", "file", "socket"])
def test_a_file_in_the_place_of_the_application_profiles_is_told(box: Box, kind: str) -> None:
    plant(box.inside(PROFILES), kind)
    box.watch()
    with pytest.raises(nvc.MountError) as caught:
        nvc.apply(box.plan, box.target)
    assert (caught.value.errno, caught.value.path) == (ENOTDIR, f"{box.rootfs}{PROFILES}")
    box.assert_untouched()


def test_an_image_without_etc_gets_no_loader_cache(box: Box) -> None:
    shutil.rmtree(box.rootfs / "etc")
    box.plan = box.plan.replace(
        operations=tuple(op for op in box.plan.operations if not op.path.startswith("/etc/nvidia"))
    )
    box.watch()
    applied = nvc.apply(box.plan, box.target)
    assert applied.warnings[len(box.plan.warnings) :] == (
        "/etc: not in the container: it gets no loader cache: programs find the driver's "
        "libraries by LD_LIBRARY_PATH only",
    )
    box.assert_ours(FILES["soname"])
    assert not (box.rootfs / "etc").exists()
    nvc.detach(applied)
    box.assert_untouched()


def test_a_soname_that_nothing_is_mounted_for_is_kept(box: Box) -> None:
    at = box.inside(FILES["soname"])
    plant(at, "file")
    link = nvc.Symlink(
        origin="soname", path=f"{box.libs}/libcuda.so.1", target="libother.so.2", overwrite=True
    )
    box.watch()
    applied = nvc.apply(nvc.Plan(operations=(link,)), box.target)
    assert applied.warnings == (
        f"{box.libs}/libcuda.so.1: the image has a file of its own there: kept",
    )
    assert at.read_text() == "the image's"
    nvc.detach(applied)
    box.assert_untouched()
