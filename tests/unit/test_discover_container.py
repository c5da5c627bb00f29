# SPDX-License-Identifier: Apache-2.0
"""Which directories of a container get the driver's files."""

from __future__ import annotations

import os
import platform
from errno import EACCES
from typing import TYPE_CHECKING

import pytest

import libnvc
from libnvc._discover.container import inspect_container, inspect_rootfs
from libnvc.model import Layout, Target

if TYPE_CHECKING:
    from pathlib import Path

MACHINES = {
    "x86_64": Layout(libs_dir="/usr/lib/x86_64-linux-gnu", libs32_dir="/usr/lib/i386-linux-gnu"),
    "aarch64": Layout(libs_dir="/usr/lib/aarch64-linux-gnu", libs32_dir="/var/empty"),
    "ppc64le": Layout(libs_dir="/usr/lib/powerpc64le-linux-gnu", libs32_dir="/var/empty"),
    "riscv64": Layout(),
}
MULTIARCH = MACHINES[platform.machine()]


def make(root: Path, *directories: str, **links: str) -> str:
    for directory in directories:
        (root / directory).mkdir(parents=True)
    for name, target in links.items():
        (root / "usr").mkdir(exist_ok=True)
        (root / "usr" / name).symlink_to(target)
    return str(root)


def test_debian(tmp_path: Path) -> None:
    make(tmp_path, "etc", "usr/lib64")
    (tmp_path / "etc/debian_version").write_text("12.0\n")
    assert inspect_rootfs(str(tmp_path)) == MULTIARCH


@pytest.mark.parametrize("machine", MACHINES)
def test_debian_on_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    this = os.uname()
    other = os.uname_result((this.sysname, this.nodename, this.release, this.version, machine))
    monkeypatch.setattr(os, "uname", lambda: other)
    make(tmp_path, "etc")
    (tmp_path / "etc/debian_version").touch()
    assert inspect_rootfs(str(tmp_path)) == MACHINES[machine]


def test_debian_behind_a_link_inside_the_image(tmp_path: Path) -> None:
    make(tmp_path, "rw")
    (tmp_path / "etc").symlink_to("/rw")
    (tmp_path / "rw/debian_version").touch()
    assert inspect_rootfs(str(tmp_path)) == MULTIARCH


@pytest.mark.parametrize(
    ("directories", "links", "libs32"),
    [
        ((), {}, "/usr/lib32"),
        (("usr/lib64", "usr/lib"), {}, "/usr/lib"),
        (("usr/lib64", "usr/lib", "usr/lib32"), {}, "/usr/lib32"),
        (("usr/lib64",), {"lib": "lib64"}, "/usr/lib32"),
        (("usr/lib",), {"lib64": "/usr/lib"}, "/usr/lib32"),
        (("usr/lib",), {}, "/usr/lib"),
    ],
)
def test_others(
    tmp_path: Path, directories: tuple[str, ...], links: dict[str, str], libs32: str
) -> None:
    rootfs = make(tmp_path, *directories, **links)
    assert inspect_rootfs(rootfs) == Layout(
        bins_dir="/usr/bin", libs_dir="/usr/lib64", libs32_dir=libs32
    )


def test_container_of_a_process(tmp_path: Path) -> None:
    make(tmp_path, "image/etc")
    (tmp_path / "image/etc/debian_version").touch()
    (tmp_path / "link").symlink_to("image")
    assert inspect_container(Target(pid=os.getpid(), rootfs=f"{tmp_path}/link")) == MULTIARCH


def test_container_that_has_pivoted_already() -> None:
    expected = inspect_rootfs("/")
    assert inspect_container(Target(pid=os.getpid())) == expected


def test_image_cannot_point_to_the_host(tmp_path: Path) -> None:
    """/etc/debian_version of the host is not the image's, whatever the image says."""
    make(tmp_path, "host/etc", "image")
    (tmp_path / "host/etc/debian_version").touch()
    (tmp_path / "image/etc").symlink_to(tmp_path / "host/etc")
    assert inspect_rootfs(f"{tmp_path}/image").libs_dir == "/usr/lib64"


def test_image_with_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/etc")
    with pytest.raises(libnvc.ContainerError, match="too many levels of symbolic links"):
        inspect_rootfs(str(tmp_path))


def test_image_that_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("../etc")
    with pytest.raises(libnvc.ContainerError, match="resolves outside of") as failure:
        inspect_container(Target(pid=os.getpid(), rootfs=str(tmp_path)))
    assert "\n" not in str(failure.value)


def test_no_such_process() -> None:
    with open("/proc/sys/kernel/pid_max") as file:
        pid = int(file.read()) + 1
    with pytest.raises(libnvc.ContainerError) as failure:
        inspect_container(Target(pid=pid, rootfs="/x"))
    error = failure.value
    assert str(error) == f"stat failed: /proc/{pid}: no such file or directory"
    assert (error.errno, error.path, error.step) == (2, f"/proc/{pid}", "stat")


def test_no_such_rootfs(tmp_path: Path) -> None:
    base = f"/proc/{os.getpid()}/root"
    with pytest.raises(libnvc.ContainerError) as failure:
        inspect_container(Target(pid=os.getpid(), rootfs=f"{tmp_path}/none"))
    error = failure.value
    assert str(error) == f"open failed: {base}{tmp_path}/none: no such file or directory"
    assert (error.errno, error.step) == (2, "open")


def test_rootfs_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(libnvc.ContainerError) as failure:
        inspect_rootfs(f"{tmp_path}/file")
    assert str(failure.value) == f"open failed: {tmp_path}/file: not a directory"


def test_ordinary_user_is_told_to_be_root() -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.geteuid() == 0:
                os.setresuid(65534, 65534, 65534)
            inspect_container(Target(pid=1, rootfs="/srv"))
        except libnvc.ContainerError as error:
            os.write(writer, f"{error}\n{error.errno}\n{error.code}\n{error.hint}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with open(reader, encoding="utf-8") as told:
        text, errno, code, hint = told.read().split("\n")
    assert text == "path error: /proc/1/root: permission denied"
    assert (int(errno), code) == (EACCES, "not-permitted")
    assert hint == (
        "only root, or the user who made the container's user namespace, may look into the "
        "container: run this as root"
    )
