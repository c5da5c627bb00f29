# SPDX-License-Identifier: Apache-2.0
"""The device nodes that a loaded driver gets."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libnvc.sim
from libnvc._system.load import load_driver, parse_fields

pytestmark = pytest.mark.root


class Messages:
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.infos: list[str] = []
        self.warnings: list[str] = []

    def info(self, text: str) -> None:
        self.infos.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a host whose driver is loaded."""
    libnvc.sim.create("t4", tmp_path / "root")
    return tmp_path / "root"


def load(root: Path, *channels: int) -> Messages:
    messages = Messages()
    load_driver(str(root), messages, imex_channels=channels)
    return messages


def nodes(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return major, minor and mode of the character devices, by name in /dev."""
    found = {}
    for path in (root / "dev").rglob("*"):
        status = path.lstat()
        if stat.S_ISCHR(status.st_mode):
            number = status.st_rdev
            mode = stat.S_IMODE(status.st_mode)
            name = str(path.relative_to(root / "dev"))
            found[name] = (os.major(number), os.minor(number), mode)
    return found


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


# --- nodes ---------------------------------------------------------------------------------


def test_missing_nodes_are_made(root: Path) -> None:
    before = nodes(root)
    assert {"nvidiactl", "nvidia0", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"} <= set(
        before
    )
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()
    assert load(root).warnings == []
    made = nodes(root)
    assert {name: made[name] for name in before} == before
    for name, (major, minor, _) in made.items():
        assert (root / f"dev/char/{major}:{minor}").readlink() == Path("..") / name


def test_a_node_of_an_earlier_load(root: Path) -> None:
    path = root / "dev/nvidia-uvm"
    right = nodes(root)["nvidia-uvm"]
    path.unlink()
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(499, 0))
    assert load(root).warnings == []
    assert nodes(root)["nvidia-uvm"] == right


def set_params(root: Path, **values: str) -> None:
    path = root / "proc/driver/nvidia/params"
    lines = path.read_text().splitlines()
    kept = [line for line in lines if line.partition(":")[0] not in values]
    path.write_text("\n".join([*kept, *(f"{name}: {v}" for name, v in values.items())]) + "\n")


def test_owner_and_mode_are_those_of_the_module(root: Path) -> None:
    set_params(root, DeviceFileUID="7", DeviceFileGID="8", DeviceFileMode="432")
    assert load(root).warnings == []
    for name in ("nvidiactl", "nvidia0", "nvidia-modeset"):
        status = (root / "dev" / name).stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 8, 0o660)
    status = (root / "dev/nvidia-uvm").stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o666)


def test_nodes_are_left_to_the_administrator(root: Path) -> None:
    set_params(root, ModifyDeviceFiles="0", DeviceFileMode="384")
    (root / "dev/nvidia0").unlink()
    (root / "dev/nvidia-uvm").unlink()
    before = nodes(root)
    messages = load(root)
    assert messages.warnings == []
    assert "leaving /dev/nvidia0 to the administrator" in messages.infos
    assert set(nodes(root)) == {
        *before,
        "nvidia-uvm",
        "nvidia-caps/nvidia-cap1",
        "nvidia-caps/nvidia-cap2",
    }
    assert nodes(root)["nvidiactl"] == before["nvidiactl"]
    assert not (root / "dev/char/195:255").is_symlink()


@pytest.mark.parametrize("text", ["", "DeviceFileMode: 0666x\nDeviceFileUID\n: 3\n", "\0\xff" * 9])
def test_malformed_params_mean_the_defaults(root: Path, text: str) -> None:
    before = nodes(root)
    (root / "proc/driver/nvidia/params").write_text(text)
    (root / "dev/nvidia0").unlink()
    assert load(root).warnings == []
    assert nodes(root)["nvidia0"] == before["nvidia0"]


def test_params_that_are_missing_mean_the_defaults(root: Path) -> None:
    before = nodes(root)
    (root / "proc/driver/nvidia/params").unlink()
    (root / "dev/nvidia0").unlink()
    assert load(root).warnings == []
    assert nodes(root)["nvidia0"] == before["nvidia0"]


def test_a_directory_for_devices_that_leads_out_of_the_root(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(root / "dev")
    (root / "dev").symlink_to(outside)
    assert load(root).warnings == [f"could not load the driver: {root}/dev: not a directory"]
    assert list(outside.iterdir()) == []


def test_a_node_that_cannot_be_made_stops_no_other(root: Path) -> None:
    (root / "dev/nvidia0").unlink()
    (root / "dev/nvidia0").mkdir()
    (root / "dev/nvidia-modeset").unlink()
    assert load(root).warnings == ["could not make the device node /dev/nvidia0: is a directory"]
    assert "nvidia-modeset" in nodes(root)


def test_no_number_for_uvm(root: Path) -> None:
    path = root / "proc/devices"
    path.write_text(path.read_text().replace(" nvidia-uvm\n", " other-nvidia-uvm\n"))
    assert load(root).warnings == ["no device number: the kernel has no nvidia-uvm"]


# --- rights --------------------------------------------------------------------------------

CAPABILITIES = "proc/driver/nvidia/capabilities"


def add_right(root: Path, path: str, minor: int, mode: int = 0o444, rest: str = "") -> None:
    text = f"DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\n{rest}"
    write(root, f"{CAPABILITIES}/{path}", text)


def caps(root: Path) -> dict[str, tuple[int, int, int]]:
    prefix = "nvidia-caps/nvidia-cap"
    return {n.removeprefix(prefix): f for n, f in nodes(root).items() if n.startswith(prefix)}


def test_nodes_of_mig_rights(root: Path) -> None:
    shutil.rmtree(root / CAPABILITIES)
    shutil.rmtree(root / "dev/nvidia-caps", ignore_errors=True)
    add_right(root, "mig/config", 1, 0o400)
    add_right(root, "mig/monitor", 2)
    add_right(root, "mig/other", 90)
    add_right(root, "gpu0/mig/gi1/access", 12)
    add_right(root, "gpu0/mig/gi1/ci0/access", 13)
    add_right(root, "gpu0/mig/gi2/access", 21, rest="DeviceFileModify: 0\n")
    add_right(root, "gpu1/mig/gi1/access", 147)  # there is one GPU only
    add_right(root, "gpu0x/mig/gi1/access", 91)
    add_right(root, "gpu0/mig/gi-1/access", 92)
    write(root, f"{CAPABILITIES}/gpu0/mig/gi1/ci1/access", "DeviceFileMinor: x\n")
    messages = load(root)
    where = root / CAPABILITIES
    assert messages.warnings == [f"{where}/gpu0/mig/gi1/ci1/access: no DeviceFileMinor"]
    assert caps(root) == {
        "1": (511, 1, 0o400),
        "2": (511, 2, 0o444),
        "12": (511, 12, 0o444),
        "13": (511, 13, 0o444),
    }


def test_rights_without_devices(root: Path) -> None:
    path = root / "proc/devices"
    path.write_text(path.read_text().replace(" nvidia-caps\n", " other-nvidia-caps\n"))
    before = caps(root)
    add_right(root, "mig/config", 1)
    assert load(root).warnings == ["no device number: the kernel has no nvidia-caps"]
    assert caps(root) == before


def test_imex_channels(root: Path) -> None:
    path = root / "proc/devices"
    text = path.read_text().replace(" nvidia-caps-imex-channels\n", " none\n")
    path.write_text(text)
    expected = ["no device number: the kernel has no nvidia-caps-imex-channels"]
    assert load(root, 0, 7).warnings == expected
    path.write_text(text.replace("Block", "509 nvidia-caps-imex-channels\n\nBlock"))
    assert load(root, 0, 7).warnings == []
    directory = "nvidia-caps-imex-channels"
    made = nodes(root)
    assert made[f"{directory}/channel0"] == (509, 0, 0o666)
    assert made[f"{directory}/channel7"] == (509, 7, 0o666)
    assert stat.S_IMODE((root / "dev" / directory).stat().st_mode) == 0o755


@given(st.binary() | st.text().map(lambda text: f"Name: {text}\n".encode()))
def test_fields_of_any_text(content: bytes) -> None:
    for name, number in parse_fields(content).items():
        assert name == name.strip()
        assert 0 <= number < 10**9


@given(st.dictionaries(st.sampled_from(["A", "DeviceFileUID", "Mode"]), st.integers(0, 10**9 - 1)))
def test_fields_are_read(fields: dict[str, int]) -> None:
    text = "".join(f"{name}: {number}\n" for name, number in fields.items())
    assert parse_fields(text.encode()) == fields
