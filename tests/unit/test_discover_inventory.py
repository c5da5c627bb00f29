# SPDX-License-Identifier: Apache-2.0
"""Discovery of a whole driver root: what is found, in which order, and what is refused."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

import libnvc
from libnvc._discover import discover
from libnvc.errors import DiscoveryError
from libnvc.model import DeviceFile, Identity, Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERSION = "535.261.03"


def test_gpus(dgx_a100: Path) -> None:
    found = discover(str(dgx_a100))
    assert (found.root, found.driver_version) == (str(dgx_a100), VERSION)
    assert found.proc == f"{dgx_a100}/proc/driver/nvidia"
    assert [(gpu.index, gpu.pci, gpu.proc_dir) for gpu in found.gpus] == [
        (index, f"00000000:{bus}:00.0", f"0000:{bus}:00.0")
        for index, bus in enumerate(["07", "0f", "47", "4e", "87", "90", "b7", "bd"])
    ]
    assert len({gpu.uuid for gpu in found.gpus}) == 8
    assert len({gpu.minor for gpu in found.gpus}) == 8
    assert {gpu.model for gpu in found.gpus} == {"NVIDIA A100-SXM4-40GB"}
    for gpu in found.gpus:
        assert gpu.device == DeviceFile(
            path=f"/dev/nvidia{gpu.minor}", major=195, minor=gpu.minor, present=True
        )
    assert found.warnings == ()


def test_driver_of_another_profile(mx150: Path) -> None:
    found = discover(str(mx150))
    assert found.driver_version == "515.86.01"
    assert [gpu.model for gpu in found.gpus] == ["NVIDIA GeForce MX150"]
    assert all(library.path.endswith(".515.86.01") for library in found.libraries)


def test_control_devices(dgx_a100: Path) -> None:
    control = discover(str(dgx_a100)).control
    assert [device.path for device in control] == [
        "/dev/nvidiactl",
        "/dev/nvidia-uvm",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-modeset",
    ]
    assert [(device.major, device.minor) for device in control[::3]] == [(195, 255), (195, 254)]
    assert [device.minor for device in control[1:3]] == [0, 1]


def test_same_root_same_inventory(tree: Path) -> None:
    assert discover(str(tree)) == discover(f"{tree}/")
    link = tree.parent / "link"
    link.symlink_to(tree)
    assert discover(str(link)) == discover(str(tree))


def test_moved_root_gives_the_same_plan(tree: Path, dgx_a100: Path) -> None:
    request = Request(devices=("all",), capabilities=("utility", "compute"))
    here = libnvc.make_plan(discover(str(tree)), request).replace(dependencies=())
    there = libnvc.make_plan(discover(str(dgx_a100)), request).replace(dependencies=())
    assert here.to_json().replace(str(tree), "ROOT") == there.to_json().replace(
        str(dgx_a100), "ROOT"
    )


# --- devices -------------------------------------------------------------------------------------


def test_missing_uvm_is_left_out_with_a_warning(tree: Path) -> None:
    for path in tree.glob("dev/nvidia-uvm*"):
        path.unlink()
    (tree / "proc/devices").unlink(missing_ok=True)
    found = discover(str(tree))
    assert [d.path for d in found.control] == ["/dev/nvidiactl", "/dev/nvidia-modeset"]
    assert found.warnings == (
        "missing device /dev/nvidia-uvm",
        "missing device /dev/nvidia-uvm-tools",
    )


def test_missing_uvm_whose_number_is_known_can_be_made(tree: Path) -> None:
    for path in tree.glob("dev/nvidia-uvm*"):
        path.unlink()
    (tree / "proc/devices").write_text("Character devices:\n507 nvidia-uvm\n")
    found = discover(str(tree))
    assert found.control[1:3] == (
        DeviceFile(path="/dev/nvidia-uvm", major=507, minor=0, present=False),
        DeviceFile(path="/dev/nvidia-uvm-tools", major=507, minor=1, present=False),
    )
    assert found.warnings == ()


def test_kernel_knows_the_number_better_than_an_old_node(tree: Path) -> None:
    (tree / "proc/devices").write_text("Character devices:\n507 nvidia-uvm\n")
    assert discover(str(tree)).control[1].major == 507


def test_missing_nodes_are_known_as_such(tree: Path) -> None:
    (tree / "dev/nvidia0").unlink()
    (tree / "dev/nvidiactl").unlink()
    found = discover(str(tree))
    assert not found.control[0].present
    assert [gpu.device.path for gpu in found.gpus if not gpu.device.present] == ["/dev/nvidia0"]


def test_gpu_without_uuid_is_kept(tree: Path) -> None:
    path = tree / "proc/driver/nvidia/gpus/0000:0f:00.0/information"
    lines = path.read_text().splitlines()
    unknown = "GPU UUID: \t GPU-????????-????-????-????-????????????"
    path.write_text("\n".join(unknown if "UUID" in line else line for line in lines))
    found = discover(str(tree))
    assert [gpu.uuid == "" for gpu in found.gpus] == [False, True] + [False] * 6
    assert len(found.warnings) == 1
    assert found.warnings[0].startswith("GPU 1 (00000000:0f:00.0) has no UUID")
    assert libnvc.probe(found).gpus[1].uuid.startswith("GPU-")


# --- NVML ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "cuda", "brand", "arch"),
    [("dgx_a100", "12.2", "Nvidia", "8.0"), ("mx150", "11.7", "GeForce", "6.1")],
)
def test_probe_adds_what_only_nvml_knows(
    request: pytest.FixtureRequest, profile: str, cuda: str, brand: str, arch: str
) -> None:
    root = str(request.getfixturevalue(profile))
    plain = discover(root)
    probed = libnvc.probe(plain, fresh=True)
    assert probed.cuda_version == cuda
    assert {(gpu.brand, gpu.arch) for gpu in probed.gpus} == {(brand, arch)}
    bare = tuple(gpu.replace(brand="", arch="") for gpu in probed.gpus)
    assert probed.replace(gpus=bare) == plain


# --- dependencies --------------------------------------------------------------------------------


def new_gpu(tree: Path) -> None:
    gpus = tree / "proc/driver/nvidia/gpus"
    shutil.copytree(gpus / "0000:07:00.0", gpus / "0000:ff:00.0")


def rewrite(path: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        (file,) = tree.glob(path)
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content + b"\n")

    return change


def create(path: str) -> Callable[[Path], None]:
    def change(tree: Path) -> None:
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    return change


def remove(path: str) -> Callable[[Path], None]:
    return lambda tree: (tree / path).unlink()


@pytest.mark.parametrize(
    "change",
    [
        rewrite("etc/ld.so.cache"),
        rewrite(f"usr/lib/*/libcuda.so.{VERSION}"),
        rewrite("proc/driver/nvidia/params"),
        rewrite("proc/driver/nvidia/version"),
        rewrite("proc/driver/nvidia/gpus/0000:0f:00.0/information"),
        rewrite("usr/bin/nvidia-smi"),
        create("usr/bin/nv-fabricmanager-new"),
        create("proc/devices"),
        create(f"lib/firmware/nvidia/{VERSION}/gsp_new.bin"),
        create("usr/local/bin/nvidia-smi"),
        remove("dev/nvidia3"),
        remove("dev/nvidiactl"),
        new_gpu,
    ],
)
def test_every_input_is_a_dependency(tree: Path, change: Callable[[Path], None]) -> None:
    (tree / "proc/devices").unlink(missing_ok=True)
    before = discover(str(tree)).dependencies
    assert discover(str(tree)).dependencies == before
    change(tree)
    assert discover(str(tree)).dependencies != before


def test_dependencies_are_sorted_unique_and_under_the_root(dgx_a100: Path) -> None:
    paths = [identity.path for identity in discover(str(dgx_a100)).dependencies]
    assert paths == sorted(set(paths))
    assert all(path.startswith(f"{dgx_a100}/") for path in paths)


def test_a_link_does_not_lead_out_to_a_file_for_the_container(tree: Path) -> None:
    """The content of these files goes into containers."""
    registry = tree / "proc/driver/nvidia/registry"
    registry.unlink(missing_ok=True)
    registry.symlink_to("/etc/shadow")
    with pytest.raises(DiscoveryError) as caught:
        discover(str(tree))
    assert str(caught.value) == f"open failed: {registry}: too many levels of symbolic links"


def test_missing_is_an_identity_too(tree: Path) -> None:
    (tree / "proc/driver/nvidia/registry").unlink(missing_ok=True)
    path = f"{tree}/proc/driver/nvidia/registry"
    assert Identity(path=path, dev=0, ino=0, size=0, mtime_ns=0, ctime_ns=0) in (
        discover(str(tree)).dependencies
    )
