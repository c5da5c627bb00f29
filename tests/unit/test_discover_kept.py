# SPDX-License-Identifier: Apache-2.0
"""What NVML answered is kept, and not used once anything that it rests on is different."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from libnvc.cli import container_cli

import libnvc
import libnvc.sim
from libnvc._discover import kept
from libnvc._native import nvml
from libnvc._native.nvml import NvmlFacts, NvmlGpu, NvmlMig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOBODY = 65534
GPU_1 = "proc/driver/nvidia/gpus/0000:0f:00.0"
MIG_1 = "proc/driver/nvidia/capabilities/gpu1/mig"


class Host:
    """A simulated host with MIG devices, and where its answers are kept.

    Attributes:
        root: the driver root.
        file: the kept answer.
        asked: how often NVML was.
    """

    def __init__(self, root: Path, directory: Path) -> None:
        self.root = root
        self.file = directory / "nvml"
        self.asked = 0

    def probe(self, *, fresh: bool = False) -> libnvc.Inventory:
        return libnvc.probe(libnvc.discover(str(self.root)), fresh=fresh)

    def now(self) -> str:
        """Return what an answer rests on."""
        inventory = libnvc.discover(str(self.root))
        library = next(lib.path for lib in inventory.libraries if lib.name == "libnvidia-ml.so")
        return kept.state(inventory, library)

    def load(self) -> NvmlFacts | None:
        """Return what is kept for the host as it is now."""
        return kept.load(self.now())

    def save(self, facts: NvmlFacts) -> None:
        """Keep another answer."""
        kept.save(self.now(), facts)


@pytest.fixture
def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Host]]:
    """Make a host whose NVML was asked once."""
    directory = tmp_path / "run"
    monkeypatch.setattr(kept, "DIRECTORY", str(directory))
    ask = nvml.probe

    def make(root: Path) -> Host:
        host = Host(root, directory)

        def count(*arguments: object, **options: object) -> NvmlFacts:
            host.asked += 1
            return ask(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(nvml, "probe", count)
        host.probe()
        assert host.asked == 1
        return host

    yield make
    left = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    assert left <= {"nvml"}


@pytest.fixture
def host(make_host: Callable[[Path], Host], dgx_a100_mig: Path) -> Host:
    """Return a host that stays as it is."""
    return make_host(dgx_a100_mig)


@pytest.fixture
def own_host(make_host: Callable[[Path], Host], tmp_path: Path) -> Host:
    """Return a host that may be changed."""
    libnvc.sim.create("dgx-a100-mig", tmp_path / "root")
    return make_host(tmp_path / "root")


pytestmark = pytest.mark.root  # the device nodes of simulated hosts; and only root keeps anything


def test_answer_is_kept(host: Host) -> None:
    first, second, third = host.probe(), host.probe(), host.probe(fresh=True)
    assert first == second == third
    assert [mig.uuid[:4] for mig in first.gpus[0].mig_devices] == ["MIG-"] * 2
    assert host.asked == 2
    assert (host.file.stat().st_mode, host.file.parent.stat().st_mode) == (0o100600, 0o040700)
    facts = host.load()
    assert facts is not None
    assert (facts.driver_version, facts.cuda_version, len(facts.gpus)) == ("535.261.03", "12.2", 8)


def test_info_prints_what_nvml_says_now(host: Host, capfd: pytest.CaptureFixture[str]) -> None:
    """And keeps it; what only needs an answer takes the kept one."""
    good = host.load()
    assert good is not None
    devices = tuple(mig.replace(index=mig.index + 5) for mig in good.gpus[0].mig_devices)
    gpus = (good.gpus[0].replace(mig_devices=devices), *good.gpus[1:])
    host.save(good.replace(cuda_version="99.9", gpus=gpus))
    words = ["nvidia-container-cli", f"--root={host.root}"]
    assert container_cli.main([*words, "list", "--device=0:6"]) == 0
    assert "capabilities/gpu0/mig/gi2/access\n" in capfd.readouterr().out
    assert container_cli.main([*words, "info"]) == 0
    assert "CUDA version:   12.2\n" in capfd.readouterr().out
    assert (host.asked, host.load()) == (2, good)
    assert container_cli.main([*words, "list", "--device=0:6"]) == 1
    assert "0:6: unknown device\n" in capfd.readouterr().err


# --- what changes ---------------------------------------------------------------------------------


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def library(host: Host) -> Path:
    return next((host.root / "usr/lib").glob("*/libnvidia-ml.so.535.261.03"))


def reboot(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    boot_id = host.root / "boot_id"
    boot_id.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(kept, "_BOOT_ID", str(boot_id))


def other_driver(host: Host, _: pytest.MonkeyPatch) -> None:
    for path in (host.root / "usr/lib").glob("*/*.535.261.03"):
        path.rename(str(path).replace("535.261.03", "535.261.04"))
        link = path.parent / f"{path.name.partition('.so')[0]}.so.1"
        if link.is_symlink():
            link.unlink()
            link.symlink_to(path.name.replace("535.261.03", "535.261.04"))
    edit(host.root / "proc/driver/nvidia/version", "535.261.03", "535.261.04")


def other_root(host: Host, _: pytest.MonkeyPatch) -> None:
    host.root = host.root.rename(host.root.with_name("moved"))


def touched_library(host: Host, _: pytest.MonkeyPatch) -> None:
    os.utime(library(host))


def other_library(host: Host, _: pytest.MonkeyPatch) -> None:
    """A copy with the same size and time."""
    copy = library(host).with_name("copy")
    shutil.copy2(library(host), copy)
    copy.rename(library(host))


def gpu_gone(host: Host, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(host.root / GPU_1)


def gpu_excluded(host: Host, _: pytest.MonkeyPatch) -> None:
    edit(host.root / GPU_1 / "information", "GPU Excluded:\t No", "GPU Excluded:\t Yes")


def other_uuid(host: Host, _: pytest.MonkeyPatch) -> None:
    edit(host.root / GPU_1 / "information", "f139a9b1e23d", "f139a9b1e2ff")


def other_minor(host: Host, _: pytest.MonkeyPatch) -> None:
    """Of a GPU without MIG devices, whose rights are named after the minor."""
    gpu = host.root / "proc/driver/nvidia/gpus/0000:47:00.0/information"
    edit(gpu, "Device Minor: \t 2", "Device Minor: \t 12")


def other_address(host: Host, _: pytest.MonkeyPatch) -> None:
    edit(host.root / GPU_1 / "information", "0000:0f:00.0", "0000:10:00.0")


def mig_gone(host: Host, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(host.root / MIG_1 / "gi3")


def new_mig(host: Host, _: pytest.MonkeyPatch) -> None:
    shutil.copytree(host.root / MIG_1 / "gi3", host.root / MIG_1 / "gi4")


def new_part(host: Host, _: pytest.MonkeyPatch) -> None:
    shutil.copytree(host.root / MIG_1 / "gi3/ci0", host.root / MIG_1 / "gi3/ci1")


def mig_made_anew(host: Host, _: pytest.MonkeyPatch) -> None:
    """The same instance in the same place: it has another UUID."""
    access = host.root / MIG_1 / "gi3/ci0/access"
    text = access.read_text()
    access.unlink()
    access.write_text(text)


def other_right(host: Host, _: pytest.MonkeyPatch) -> None:
    edit(host.root / MIG_1 / "gi3/access", "DeviceFileMinor: 165", "DeviceFileMinor: 166")


CHANGES = (
    reboot,
    other_driver,
    other_root,
    touched_library,
    other_library,
    gpu_gone,
    gpu_excluded,
    other_uuid,
    other_minor,
    other_address,
    mig_gone,
    new_mig,
    new_part,
    mig_made_anew,
    other_right,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_answer_is_dropped(
    own_host: Host, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]
) -> None:
    assert own_host.load() is not None
    change(own_host, monkeypatch)
    assert own_host.load() is None
    own_host.probe()
    assert own_host.asked == 2


def test_what_does_not_matter(own_host: Host) -> None:
    """Other files, and the time of those that were not changed."""
    (own_host.root / "etc/hostname").write_text("another")
    edit(own_host.root / GPU_1 / "information", "IRQ:   \t\t ", "IRQ:   \t\t 9")
    own_host.probe()
    assert own_host.asked == 1


# --- what may lie there ---------------------------------------------------------------------------


def linked(file: Path) -> None:
    file.rename(file.parent.parent / "elsewhere")
    file.symlink_to(file.parent.parent / "elsewhere")


def replace_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(file: Path) -> None:
        file.unlink()
        make(file)

    return replace


FILES: dict[str, Callable[[Path], object]] = {
    "link": linked,
    "fifo": replace_by(os.mkfifo),
    "missing": Path.unlink,
    "group may write": lambda file: file.chmod(0o620),
    "others may write": lambda file: file.chmod(0o602),
    "of another user": lambda file: os.chown(file, NOBODY, 0),
    "empty": lambda file: file.write_bytes(b""),
    "cut": lambda file: os.truncate(file, file.stat().st_size - 1),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\n"),
    "huge": lambda file: os.truncate(file, 1 << 40),
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_not_trusted(host: Host, name: str) -> None:
    FILES[name](host.file)
    assert host.load() is None
    host.probe()
    assert (host.asked, host.file.is_symlink()) == (2, False)
    host.probe()  # it was made anew
    assert host.asked == 2


def test_directory_in_place_of_the_file(host: Host) -> None:
    replace_by(Path.mkdir)(host.file)
    host.probe()
    host.probe()
    assert host.asked == 3


def test_damage(host: Host) -> None:
    """Each byte, and each length."""
    content = host.file.read_bytes()
    now = host.now()
    assert kept.load(now) is not None
    with host.file.open("r+b", buffering=0) as file:
        for place, byte in enumerate(content):
            os.pwrite(file.fileno(), bytes((byte ^ 1,)), place)
            assert kept.load(now) is None, place
            os.pwrite(file.fileno(), bytes((byte,)), place)
        assert kept.load(now) is not None
        for length in reversed(range(len(content))):
            os.truncate(file.fileno(), length)
            assert kept.load(now) is None, length


DIRECTORIES: dict[str, Callable[[Path], object]] = {
    "others may enter": lambda directory: directory.chmod(0o755),
    "of another user": lambda directory: os.chown(directory, NOBODY, 0),
    "link": linked,
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_directory_that_is_not_trusted(host: Host, name: str) -> None:
    directory = host.file.parent
    DIRECTORIES[name](directory)
    before = host.file.read_bytes()
    host.probe()
    host.probe()
    assert host.asked == 3
    assert host.file.read_bytes() == before


def test_no_room(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old answer stays, half of one never does."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = host.file.read_bytes()
    for name in ("write", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            host.probe(fresh=True)
        assert os.listdir(host.file.parent) == ["nvml"]
        assert host.file.read_bytes() == before


def test_nowhere_to_keep(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "DIRECTORY", "/proc/no/libnvc")
    host.probe()
    host.probe()
    assert host.asked == 3


def test_boot_that_is_not_known(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_BOOT_ID", "/nonexistent")
    host.probe()
    host.probe()
    assert host.asked == 3


# --- who asks, and what NVML says -----------------------------------------------------------------


def test_ordinary_user_keeps_nothing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.now()
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert host.now() == ""


def test_answer_that_lacks_a_gpu_is_not_kept(own_host: Host) -> None:
    own_host.file.unlink()
    (own_host.root / "dev/nvidia3").unlink()
    own_host.probe()
    assert own_host.asked == 2
    assert not own_host.file.exists()


def test_failure_is_not_kept(own_host: Host) -> None:
    good = own_host.file.read_bytes()
    (own_host.root / "dev/nvidiactl").unlink()
    for _ in range(2):
        with pytest.raises(libnvc.ProbeError, match="^nvml error: driver not loaded$"):
            own_host.probe(fresh=True)
    assert own_host.asked == 3
    assert own_host.file.read_bytes() == good


TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from("\t\n\udc80"), max_size=5)
MIGS = st.builds(
    NvmlMig,
    index=st.integers(0, 15),
    gpu_instance=st.integers(0, 2**32 - 1),
    compute_instance=st.integers(0, 2**32 - 1),
    uuid=TEXT,
)


@st.composite
def all_facts(draw: st.DrawFn) -> NvmlFacts:
    gpus = tuple(
        NvmlGpu(
            index=index,
            minor=draw(st.integers(0, 2**32 - 1)),
            uuid=draw(TEXT),
            pci=draw(TEXT),
            name=draw(TEXT),
            brand=draw(TEXT),
            arch=draw(TEXT),
            mig_capable=draw(st.booleans()),
            mig_enabled=draw(st.booleans()),
            mig_devices=tuple(draw(st.lists(MIGS, max_size=2))),
        )
        for index in range(draw(st.integers(0, 2)))
    )
    return NvmlFacts(driver_version=draw(TEXT), cuda_version=draw(TEXT), gpus=gpus)


@given(all_facts())
def test_answer_comes_back_or_is_not_kept(facts: NvmlFacts) -> None:
    """A tab or line break in a text must not make another answer of it."""
    back = kept._decode(kept._encode(facts))
    has_break = any(mark in repr(facts) for mark in ("\\t", "\\n"))
    assert back == facts or has_break


@given(st.binary(max_size=60) | st.text("driver\tgpumig01\n.", max_size=60).map(str.encode))
def test_anything_is_read(body: bytes) -> None:
    facts = kept._decode(body)
    assert facts is None or isinstance(facts, NvmlFacts)


def test_name_with_a_line_break_is_not_kept(host: Host) -> None:
    before = host.file.read_bytes()
    facts = host.load()
    assert facts is not None
    gpus = (facts.gpus[0].replace(name="a\nb"), *facts.gpus[1:])
    kept.save("now", facts.replace(gpus=gpus))
    assert host.file.read_bytes() == before
    kept.save("now", facts)
    assert kept.load("now") == facts
    assert kept.load("later") is None
