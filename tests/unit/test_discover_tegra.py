# SPDX-License-Identifier: Apache-2.0
"""What CSV files name, looked for under a driver root."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from libnvc import DriverNotFoundError
from libnvc._discover.platform import is_tegra
from libnvc._discover.root import DriverRoot
from libnvc._discover.tegra import Tegra, cuda_of_release, find_tegra
from libnvc._discover.tegradirs import libraries_in_directories
from libnvc.model import DriverFile, Link
from libnvc.sim.elfwriter import write_library
from libnvc.sim.machine import this_machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Find = Callable[..., Tegra]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = tmp_path / "root"
    directory.mkdir()
    return directory


@pytest.fixture
def find(tmp_path: Path, root: Path) -> Find:
    """Return what finds what lines name."""

    def run(*lines: str, **options: tuple[str, ...]) -> Tegra:
        file = tmp_path / "t.csv"
        file.write_text("\n".join(lines))
        return find_tegra(DriverRoot(str(root)), [str(file)], **options)

    return run


def put(root: Path, path: str, content: bytes | str = b"x") -> Path:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    return place


def link(root: Path, path: str, target: str) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def library(soname: str, machine: int = 0) -> bytes:
    return write_library(bits=64, machine=machine or this_machine().elf, soname=soname)


def targets(found: Tegra) -> list[str]:
    return [file.target for file in found.files]


def test_a_chain_of_links(root: Path, find: Find) -> None:
    """Every link of it comes, and the file at its end, wherever that is."""
    put(root, "/usr/lib/x/data.json")
    link(root, "/etc/a/first", "/etc/alternatives/second")
    link(root, "/etc/alternatives/second", "../../usr/lib/x/third")
    link(root, "/usr/lib/x/third", "data.json")
    found = find("sym, /etc/a/first")
    assert targets(found) == ["/usr/lib/x/data.json"]
    assert found.links == (
        Link(path="/etc/a/first", target="/etc/alternatives/second"),
        Link(path="/etc/alternatives/second", target="../../usr/lib/x/third"),
        Link(path="/usr/lib/x/third", target="data.json"),
    )
    assert found.warnings == ()


def test_links_lead_nowhere_or_in_circles(root: Path, find: Find) -> None:
    put(root, "/there")
    link(root, "/dangling", "/nothing")
    link(root, "/circle", "/circle")
    link(root, "/outside", "../../../../there")
    found = find("lib, /there", "sym, /dangling", "sym, /circle", "sym, /outside", "sym, /gone")
    assert targets(found) == ["/there"]
    assert [warning.partition(": ")[0] for warning in found.warnings] == [
        *("t.csv:2", "t.csv:3", "t.csv:4", "t.csv:5")
    ]
    assert found.warnings[0] == "t.csv:2: sym /dangling: not on this host: left out"


def test_absolute_links_stay_under_the_root(root: Path, find: Find) -> None:
    link(root, "/name", "/etc/hostname-of-the-host")
    put(root, "/etc/hostname-of-the-host", "inside")
    found = find("sym, /name")
    assert found.files == (
        DriverFile(
            path="/etc/hostname-of-the-host", kind="sym", target="/etc/hostname-of-the-host"
        ),
    )


def test_ignored_links(root: Path, find: Find) -> None:
    for name in ("a", "b"):
        put(root, f"/lib/{name}.1")
        link(root, f"/lib/{name}", f"{name}.1")
    lines = ("sym, /lib/a", "sym, /lib/b", "lib, /lib/a.1")
    assert targets(find(*lines, ignored=("**/a",))) == ["/lib/b.1", "/lib/a.1"]
    assert targets(find(*lines, ignored=("/lib/*",))) == ["/lib/a.1"]


def test_libraries(root: Path, find: Find) -> None:
    """Data among them is mounted, and no library; so is what is for another machine."""
    put(root, "/lib/libok.so.1.2", library("libok.so.1"))
    put(root, "/lib/libother.so", library("libother.so", machine=8))
    put(root, "/lib/libdata.so", "no library")
    put(root, "/lib/firmware.bin", library("libfirmware.so"))
    put(root, "/lib/libodd.so", library("../libodd.so"))
    found = find(*(f"lib, /lib/{name}" for name in sorted(os.listdir(root / "lib"))))
    assert len(found.files) == 5
    names = [(lib.path, lib.soname) for lib in found.libraries]
    assert names == [("/lib/libodd.so", ""), ("/lib/libok.so.1.2", "libok.so.1")]
    assert len(found.warnings) == 1
    assert found.warnings[0].endswith("/lib/libdata.so: mounted, but no library")


def test_wildcards_of_libraries(root: Path, find: Find) -> None:
    for name in ("liba.so", "libb.so", "c"):
        put(root, f"/lib/{name}", library(name))
    put(root, "/opt/x/lib/libx.so", library("libx.so"))
    assert targets(find("lib, /lib/lib*.so")) == ["/lib/liba.so", "/lib/libb.so"]
    found = find("lib, /lib/lib?.so", search=("/opt/x",))
    assert targets(found) == ["/lib/liba.so", "/lib/libb.so", "/opt/x/lib/libx.so"]
    assert find("lib, /lib/c", "lib, /lib/*.none").warnings == (
        "t.csv:2: lib /lib/*.none: not on this host: left out",
    )


def test_names_that_cannot_be_said(root: Path, find: Find) -> None:
    put(root, "/lib/ok.so")
    put(root, "/lib/a::b.so")
    put(root, "/lib/a\nb.so")
    assert targets(find("lib, /lib/*.so")) == ["/lib/ok.so"]
    found = find("lib, /lib/ok.so", "lib, /lib/a::b.so")
    assert targets(found) == ["/lib/ok.so"]
    assert found.warnings[0].startswith("t.csv:2: lib /lib/a::b.so: it leads to a path with ")


def test_directories(root: Path, find: Find) -> None:
    """What is in one that is mounted comes by it: nothing is linked into the host's own."""
    put(root, "/usr/lib/fw/a.bin")
    link(root, "/lib", "usr/lib")
    link(root, "/usr/lib/fw/latest", "a.bin")
    put(root, "/usr/lib/libz.so")
    lines = ("lib, /lib/fw/a.bin", "sym, /lib/fw/latest", "lib, /lib/libz.so", "dir, /lib/fw")
    found = find(*lines)
    assert [(f.path, f.target, f.file_type) for f in found.files] == [
        ("/usr/lib/fw", "/lib/fw", "directory"),
        ("/usr/lib/libz.so", "/usr/lib/libz.so", "file"),
    ]
    assert found.links == ()


def test_things_of_another_kind(root: Path, find: Find) -> None:
    put(root, "/file")
    (root / "dir").mkdir()
    found = find("lib, /file", "dir, /file", "lib, /dir", "dev, /file", "sym, /dir")
    assert targets(found) == ["/dir", "/file"]
    assert [warning.removesuffix(": left out") for warning in found.warnings] == [
        "t.csv:2: dir /file: no directory",
        "t.csv:3: lib /dir: no regular file",
        "t.csv:4: dev /file: no character device",
    ]


def test_libraries_in_directories(root: Path, find: Find) -> None:
    """Where the loader of the image looks: by the link that has the name asked for."""
    place = "/usr/local/cuda-10.2/lib64"
    put(root, f"{place}/liba.so.1.9", library("liba.so.1"))
    put(root, f"{place}/liba.so.1.10", library("liba.so.1"))
    link(root, f"{place}/liba.so.1", "liba.so.1.10")
    put(root, f"{place}/libb.so.2.1", library("libb.so.2"))
    put(root, f"{place}/libc.so", "no library")
    put(root, f"{place}/libd.so", library("libd.so", machine=8))
    put(root, f"{place}/deep/libe.so", library("libe.so"))
    link(root, "/usr/local/cuda", "cuda-10.2")
    found = find("dir, /usr/local/cuda")
    view = DriverRoot(str(root))
    configured = ("/usr/local/cuda/lib64", "/usr/local/cuda-10.2/lib64", "/usr/lib", "/none")
    assert libraries_in_directories(view, found, configured) == (
        ("libb.so.2", "/usr/local/cuda/lib64/libb.so.2.1", 64),
        ("liba.so.1", "/usr/local/cuda/lib64/liba.so.1", 64),
    )
    assert libraries_in_directories(view, found, ()) == ()


@pytest.mark.root
def test_devices(tmp_path: Path, root: Path) -> None:
    for name, mode, gid in (("nvmap", 0o660, 44), ("a0", 0o666, 7), ("a1", 0o600, 0)):
        put(root, f"/dev/{name}").unlink()
        os.mknod(root / "dev" / name, stat.S_IFCHR | mode, os.makedev(240, 3))
        (root / "dev" / name).chmod(mode)
        os.chown(root / "dev" / name, 0, gid)
    (root / "dev/alias").symlink_to("/dev/nvmap")
    file = tmp_path / "t.csv"
    file.write_text("dev, /dev/nvmap\ndev, /dev/a?\ndev, /dev/alias\ndev, /dev/none\n")
    (tmp_path / "empty").mkdir()
    view = DriverRoot(str(tmp_path / "empty"), dev_root=str(root))
    found = find_tegra(view, [str(file)])
    assert found.dev_root == str(root)
    assert [(node.path, node.real, node.gid) for node in found.nodes] == [
        ("/dev/nvmap", "/dev/nvmap", 44),
        ("/dev/a0", "/dev/a0", 0),
        ("/dev/a1", "/dev/a1", 0),
        ("/dev/alias", "/dev/nvmap", 44),
    ]
    assert {(node.major, node.minor) for node in found.nodes} == {(240, 3)}
    assert found.warnings == ("t.csv:4: dev /dev/none: not on this host: left out",)


def test_nothing_that_is_there(tmp_path: Path, find: Find) -> None:
    with pytest.raises(DriverNotFoundError) as caught:
        find("lib, /none")
    assert str(caught.value) == (
        f"no usable entry in {tmp_path}/t.csv: t.csv:1: lib /none: not on this host: left out"
    )
    assert caught.value.code == "csv-missing"
    assert "mount-spec-path" in caught.value.hint


def test_it_rests_on_all_that_was_looked_at(tmp_path: Path, root: Path, find: Find) -> None:
    put(root, "/a")
    link(root, "/l", "a")
    found = {identity.path: identity.ino for identity in find("sym, /l", "lib, /none").dependencies}
    for path in (f"{root}/a", f"{root}/l", f"{tmp_path}/t.csv"):
        assert found[path] == os.lstat(path).st_ino
    assert found[f"{root}/none"] == 0


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# R32 (release), REVISION: 7.1, GCID: 1", "10.2"),
        ("# R35 (release), REVISION: 4.1, GCID: 1", "11.4"),
        ("# R36 (release), REVISION: 3.0, GCID: 1", "12.2"),
        ("# R36 (release), REVISION: 4.7, GCID: 1\nmore", "12.6"),
        ("# R38 (release), REVISION: 2.0, GCID: 1", "13.0"),
        ("# R36 (release), REVISION: 9.0, GCID: 1", ""),
        ("# R99 (release), REVISION: 1.0", ""),
        ("", ""),
        ("R36", ""),
    ],
)
def test_cuda_by_release(text: str, version: str) -> None:
    assert cuda_of_release(text) == version


# --- which hosts ----------------------------------------------------------------------------------

GPU = "/proc/driver/nvidia/gpus/0000:01:00.0/information"
RELEASE, FAMILY = "/etc/nv_tegra_release", "/sys/devices/soc0/family"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, False),
        ({RELEASE: ""}, True),
        ({FAMILY: "Tegra\n"}, True),
        ({FAMILY: "tegra234"}, True),
        ({FAMILY: "Snapdragon"}, False),
        ({GPU: "Model: NVIDIA A100\n"}, False),
        ({RELEASE: "", GPU: "Model: NVIDIA RTX 6000\n"}, False),
        ({RELEASE: "", GPU: "Model: NVIDIA Thor\n"}, True),
        ({RELEASE: "", GPU: "Model: NVIDIA RTX 6000\n", "/sys/module/nvgpu/initstate": ""}, True),
    ],
)
def test_platform(root: Path, files: dict[str, str], expected: bool) -> None:
    """A GPU in a slot of a Tegra has the driver of other hosts, unless its own is in use, too."""
    for path, text in files.items():
        put(root, path, text)
    seen = DriverRoot(str(root))
    assert is_tegra(seen) is expected
    assert seen.identities


def test_what_the_platform_rests_on_is_recorded(root: Path) -> None:
    """Whatever changes the answer changes what was recorded."""
    before = DriverRoot(str(root))
    assert not is_tegra(before)
    for path, text in ((FAMILY, "Tegra\n"), (RELEASE, ""), (GPU, "Model: NVIDIA RTX 6000\n")):
        put(root, path, text)
        after = DriverRoot(str(root))
        is_tegra(after)
        assert after.identities != before.identities
        before = after
