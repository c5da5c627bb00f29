# SPDX-License-Identifier: Apache-2.0
"""MIG rights and IMEX channels as the kernel module shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

import libnvc
from libnvc._discover.mig import Capabilities, find_imex_channels
from libnvc._discover.root import DriverRoot
from libnvc.model import Capability, DeviceFile, Gpu, Mig

DEVICES = """Character devices:
195 nvidia
509 nvidia-caps-imex-channels
510 nvidia-uvm
511 nvidia-caps

Block devices:
  8 nvidia-caps
"""
BOTH = frozenset({"config", "monitor"})
FILE = "DeviceFileMinor: {}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A host with one divided GPU (minor 1), one that can be, and one that cannot."""
    proc = tmp_path / "proc/driver"
    capabilities = proc / "nvidia/capabilities"
    write(tmp_path / "proc/devices", DEVICES)
    write(capabilities / "mig/config", FILE.format(1))
    write(capabilities / "mig/monitor", FILE.format(2))
    for name, minor in (
        ("gi10/access", 228),
        ("gi10/ci0/access", 229),
        ("gi2/access", 156),
        ("gi2/ci1/access", 158),
        ("gi2/ci0/access", 157),
        ("gi2/ciX/access", 1),
        ("other/access", 1),
    ):
        write(capabilities / f"gpu1/mig/{name}", FILE.format(minor))
    (capabilities / "gpu0/mig").mkdir(parents=True)
    (capabilities / "gpu2").mkdir()
    write(
        proc / "nvidia-caps/mig-minors",
        "config 1\nmonitor 2\ngpu0/gi0/access 3\ngpu0/gi0/ci0/access 4\ngpu1/gi2/access 156\n"
        "gpu1 x\ngpuX/gi0 7\n\n",
    )
    for minor in (1, 2, 156, 157):
        write(tmp_path / f"dev/nvidia-caps/nvidia-cap{minor}", "")
    return tmp_path


def capabilities(tree: Path) -> tuple[DriverRoot, Capabilities]:
    root = DriverRoot(str(tree))
    return root, Capabilities(root, f"{tree}/proc/driver/nvidia")


def gpu(minor: int) -> Gpu:
    device = DeviceFile(path=f"/dev/nvidia{minor}", major=195, minor=minor)
    return Gpu(index=0, minor=minor, uuid="GPU-0", pci="", model="", device=device)


def right(path: str, minor: int, *, present: bool = True) -> Capability:
    node = f"/dev/nvidia-caps/nvidia-cap{minor}"
    device = DeviceFile(path=node, major=511, minor=minor, present=present)
    return Capability(path=f"capabilities/{path}", device=device)


def test_devices_by_the_numbers_of_their_instances(tree: Path) -> None:
    _, found = capabilities(tree)
    divided = found.add_to(gpu(1))
    assert divided.mig_capable
    assert [
        (mig.index, mig.gpu_instance, mig.compute_instance, mig.uuid) for mig in divided.mig_devices
    ] == [(0, 2, 0, ""), (1, 2, 1, ""), (2, 10, 0, "")]
    second = divided.mig_devices[1]
    assert second.gpu_access == right("gpu1/mig/gi2/access", 156)
    assert second.compute_access == right("gpu1/mig/gi2/ci1/access", 158, present=False)


def test_what_can_be_divided(tree: Path) -> None:
    _, found = capabilities(tree)
    for minor, capable in ((0, True), (2, False), (3, False)):
        unchanged = found.add_to(gpu(minor))
        assert (unchanged.mig_capable, unchanged.mig_devices) == (capable, ())


def test_rights_to_configure(tree: Path) -> None:
    _, found = capabilities(tree)
    assert found.control(BOTH) == Mig(
        config=right("mig/config", 1),
        monitor=right("mig/monitor", 2),
        minors=((0, 3), (0, 4), (1, 156)),
        major=511,
    )


def test_module_without_capability_devices(tree: Path) -> None:
    (tree / "proc/devices").write_text(DEVICES.replace("511 nvidia-caps\n", ""))
    _, found = capabilities(tree)
    assert found.control(BOTH) == Mig(
        config=Capability(path="capabilities/mig/config"),
        monitor=Capability(path="capabilities/mig/monitor"),
    )
    assert found.add_to(gpu(1)).mig_devices[0].gpu_access == Capability(
        path="capabilities/gpu1/mig/gi2/access"
    )


@pytest.mark.parametrize("text", ["", "DeviceFileMinor: \n", "DeviceFileMinor: -1\n", "x\n\xff"])
def test_right_without_a_minor_has_no_device(tree: Path, text: str) -> None:
    (tree / "proc/driver/nvidia/capabilities/mig/config").write_text(text, encoding="latin-1")
    _, found = capabilities(tree)
    assert found.control(BOTH).config == Capability(path="capabilities/mig/config")


def test_host_without_mig(tmp_path: Path) -> None:
    root, found = capabilities(tmp_path)
    assert found.control(BOTH) == Mig()
    assert found.add_to(gpu(0)) == gpu(0)
    # A module that learns of MIG later changes the result.
    assert root.identities[f"{tmp_path}/proc/driver/nvidia/capabilities"].ino == 0


def test_a_new_instance_changes_what_the_result_rests_on(tree: Path) -> None:
    def digests() -> dict[str, str]:
        root, found = capabilities(tree)
        found.add_to(gpu(1))
        return {path: identity.digest for path, identity in root.identities.items()}

    before = digests()
    write(tree / "proc/driver/nvidia/capabilities/gpu1/mig/gi3/access", FILE.format(165))
    after = digests()
    assert before != after
    assert f"{tree}/proc/driver/nvidia/capabilities/gpu1/mig" in before


def test_imex_channels(tmp_path: Path) -> None:
    root = DriverRoot(str(tmp_path))
    proc = f"{tmp_path}/proc/driver/nvidia"
    assert find_imex_channels(root, proc) == ()
    for name in ("channel10", "channel2", "channel", "channelx", "other"):
        write(tmp_path / f"dev/nvidia-caps-imex-channels/{name}", "")
    assert find_imex_channels(root, proc) == ()  # the major is not known
    write(tmp_path / "proc/devices", DEVICES)
    assert find_imex_channels(root, proc) == tuple(
        DeviceFile(path=f"/dev/nvidia-caps-imex-channels/channel{n}", major=509, minor=n)
        for n in (2, 10)
    )


@pytest.mark.parametrize("name", ["gi2/access", "gi2/ci1/access"])
def test_instance_that_is_just_destroyed_is_left_out(tree: Path, name: str) -> None:
    (tree / "proc/driver/nvidia/capabilities/gpu1/mig" / name).unlink()
    root, found = capabilities(tree)
    left = {(mig.gpu_instance, mig.compute_instance) for mig in found.add_to(gpu(1)).mig_devices}
    assert left == ({(10, 0)} if name == "gi2/access" else {(2, 0), (10, 0)})
    path = f"{tree}/proc/driver/nvidia/capabilities/gpu1/mig/{name}"
    assert root.identities[path].ino == 0  # that it comes back changes the result


def test_unreadable_capability_is_told(tree: Path) -> None:
    path = tree / "proc/driver/nvidia/capabilities/mig/config"
    path.unlink()
    path.mkdir()
    _, found = capabilities(tree)
    with pytest.raises(libnvc.MalformedFileError) as failure:
        found.control(BOTH)
    assert str(failure.value) == f"unsupported file format: {path}"


@pytest.mark.parametrize(("wanted", "other"), [("config", "monitor"), ("monitor", "config")])
def test_right_that_is_not_wanted_is_not_read(tree: Path, wanted: str, other: str) -> None:
    """Root alone may read the file of the right to configure."""
    path = tree / "proc/driver/nvidia/capabilities/mig" / other
    path.unlink()
    path.mkdir()
    _, found = capabilities(tree)
    mig = found.control(frozenset({wanted}))
    assert getattr(mig, wanted) is not None
    assert getattr(mig, other) is None
    assert len(mig.minors) == 3


def test_no_right_wanted(tree: Path) -> None:
    _, found = capabilities(tree)
    assert found.control(frozenset()) == Mig()
