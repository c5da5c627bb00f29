# SPDX-License-Identifier: Apache-2.0
"""The tree of a simulated driver: what is in it, and what `create` refuses."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import libnvc.sim
from libnvc._native import ldcache
from libnvc.errors import NvcError, RequestError
from libnvc.sim import Profile
from libnvc.sim.faults import older_version

Faulty = Callable[..., Path]

#: Jetsons have another layout: tests/unit/test_sim_jetson.py.
PROFILES = {profile.name: profile for profile in libnvc.sim.profiles() if not profile.jetson}
#: Of the GPUs' devices in /proc/devices, by release.
MAJORS = {
    **dict.fromkeys(("515", "535"), ("nvidia-frontend",)),
    **dict.fromkeys(("550", "580"), ("nvidia", "nvidia-modeset", "nvidiactl")),
}
#: Files that only root may read.
FOR_ROOT = ("/fabric-imex-mgmt", "/fabric-mgmt", "/mig/config", "/nvidia-cap1")
#: Capability devices and their modes, by profile.
CAPABILITIES = {
    **{name: {1: 0o400, 2: 0o444} for name in ("dgx-a100", "dgx-h100", "gb200")},
    "dgx-a100-mig": {1: 0o400, **dict.fromkeys((2, 12, 13, 21, 22, 165, 166), 0o444)},
}
GOLDEN_LIBRARIES = (Path(__file__).parent.parent / "data/dgx-a100.list").read_text().split()


@pytest.fixture(params=sorted(PROFILES))
def profile(request: pytest.FixtureRequest) -> Profile:
    return PROFILES[str(request.param)]


@pytest.fixture
def root(request: pytest.FixtureRequest, profile: Profile) -> Path:
    path = request.getfixturevalue(profile.name.replace("-", "_"))
    assert isinstance(path, Path)
    return path


def pci_address(gpu: libnvc.sim.SimGpu) -> str:
    return f"{gpu.pci[0]:04x}:{gpu.pci[1]:02x}:{gpu.pci[2]:02x}.0"


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """Give type, mode and content of everything below a directory, whatever the time is."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root, *root.rglob("*")]:
        status = path.lstat()
        content: object = b""
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        elif stat.S_ISCHR(status.st_mode):
            content = status.st_rdev
        found[str(path.relative_to(root))] = (oct(status.st_mode), content)
    return found


# --- what is there ------------------------------------------------------------------------------


def test_two_make_the_same(tmp_path: Path, profile: Profile, root: Path) -> None:
    again = libnvc.sim.create(profile.name, tmp_path / "again")
    assert describe(Path(again.root)) == describe(root)


def test_umask_does_not_matter(tmp_path: Path, mx150: Path) -> None:
    before = os.umask(0o077)
    try:
        libnvc.sim.create("mx150", tmp_path / "driver")
    finally:
        os.umask(before)
    assert describe(tmp_path / "driver") == describe(mx150)


def test_everybody_may_read_everything(root: Path) -> None:
    for path in [root, *root.rglob("*")]:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            assert mode & 0o555 == 0o555, path
        elif str(path).endswith(FOR_ROOT):
            assert stat.S_IMODE(mode) == 0o400, path
        elif path.parent.name == "dri":
            assert stat.S_IMODE(mode) == 0o660, path
        else:
            assert mode & 0o444 == 0o444, path


def test_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = libnvc.sim.create("mx150", "driver", fault="nvml-hang")
    assert made.root == str(tmp_path / "driver")
    assert (made.profile, made.fault) == (PROFILES["mx150"], "nvml-hang")


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    libnvc.sim.create("mx150", tmp_path / "driver")
    assert capfd.readouterr() == ("", "")


def test_links_lead_to_files(root: Path) -> None:
    links = [path for path in root.rglob("*") if path.is_symlink()]
    assert len(links) > 20
    for link in links:
        target = os.readlink(link)
        assert (root / target[1:] if target.startswith("/") else link.parent / target).exists()


def test_libraries_of_the_reference_are_there(dgx_a100: Path) -> None:
    wanted = [path for path in GOLDEN_LIBRARIES if path.startswith("/usr/")]
    assert len(wanted) > 25
    assert [path for path in wanted if not (dgx_a100 / path[1:]).is_file()] == []


def test_library_links_lead_to_cuda(root: Path, profile: Profile) -> None:
    directory = next(root.glob("usr/lib/*-linux-gnu"))
    assert os.readlink(directory / "libcuda.so") == "libcuda.so.1"
    assert os.readlink(directory / "libcuda.so.1") == f"libcuda.so.{profile.driver_version}"


def test_programs(root: Path, profile: Profile) -> None:
    programs = {path.name: path for path in (root / "usr/bin").iterdir()}
    assert set(programs) == {
        "nvidia-cuda-mps-control",
        "nvidia-cuda-mps-server",
        "nvidia-debugdump",
        "nvidia-modprobe",
        "nvidia-persistenced",
        "nvidia-smi",
        *profile.programs,
    }
    for path in programs.values():
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
        assert path.read_bytes()[:4] == b"\x7fELF"


def test_firmware_is_behind_the_merged_usr(root: Path, profile: Profile) -> None:
    assert os.readlink(root / "lib") == "usr/lib"
    directory = root / "lib/firmware/nvidia" / profile.driver_version
    assert sorted(path.name for path in directory.iterdir()) == sorted(profile.firmware)


def test_sockets(root: Path, profile: Profile) -> None:
    assert os.readlink(root / "var/run") == "/run"
    for daemon in profile.daemons:
        assert stat.S_ISSOCK((root / "run" / daemon / "socket").lstat().st_mode)


@pytest.mark.root
def test_device_nodes(root: Path, profile: Profile) -> None:
    paths = [path for path in (root / "dev").rglob("*") if not path.is_dir()]
    found = {
        str(path.relative_to(root / "dev")): (oct(path.lstat().st_mode), path.lstat().st_rdev)
        for path in paths
    }
    numbers = {"nvidiactl": (195, 255), "nvidia-modeset": (195, 254)}
    numbers |= {"nvidia-uvm": (510, 0), "nvidia-uvm-tools": (510, 1)}
    numbers |= {f"nvidia{gpu.minor}": (195, gpu.minor) for gpu in profile.gpus}
    numbers |= {
        f"nvidia-caps-imex-channels/channel{channel}": (509, channel)
        for channel in range(profile.imex_channels)
    }
    expected = {
        name: (oct(stat.S_IFCHR | 0o666), os.makedev(*number)) for name, number in numbers.items()
    }
    expected |= {
        f"nvidia-caps/nvidia-cap{minor}": (oct(stat.S_IFCHR | mode), os.makedev(511, minor))
        for minor, mode in CAPABILITIES.get(profile.name, {}).items()
    }
    if profile.name == "workstation":
        expected["dri/card0"] = (oct(stat.S_IFCHR | 0o660), os.makedev(226, 0))
        expected["dri/renderD128"] = (oct(stat.S_IFCHR | 0o660), os.makedev(226, 128))
        links = root / "dev/dri/by-path"
        for name, target in (("card", "../card0"), ("render", "../renderD128")):
            link = links / f"pci-0000:01:00.0-{name}"
            assert os.readlink(link) == target
            del found[str(link.relative_to(root / "dev"))]
    assert found == expected
    for path in paths:
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755


def test_proc(root: Path, profile: Profile) -> None:
    driver = root / "proc/driver/nvidia"
    assert re.fullmatch(
        r"NVRM version: NVIDIA UNIX (\w+ Kernel Module|Open Kernel Module for \w+)  "
        rf"{profile.driver_version}  .*UTC \d{{4}}\n"
        r"GCC version:  gcc version .*\n",
        (driver / "version").read_text(),
    )
    assert "\nModifyDeviceFiles: 1\n" in (driver / "params").read_text()
    assert (driver / "registry").read_text() == 'Binary: ""\n'
    devices = (root / "proc/devices").read_text()
    majors = re.findall(r"^ *(\d+) (nvidia\S*)$", devices, re.MULTILINE)
    assert majors == [
        *(("195", name) for name in MAJORS[profile.driver_version[:3]]),
        *([("509", "nvidia-caps-imex-channels")] if profile.imex_channels else []),
        ("510", "nvidia-uvm"),
        ("511", "nvidia-caps"),
    ]
    gpus = sorted(path.name for path in (driver / "gpus").iterdir())
    assert gpus == [pci_address(gpu) for gpu in profile.gpus]
    for name, gpu in zip(gpus, profile.gpus, strict=True):
        lines = (driver / "gpus" / name / "information").read_text().splitlines()
        fields = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
        assert fields == {
            "Model": gpu.name,
            "IRQ": str(gpu.irq),
            "GPU UUID": gpu.uuid,
            "Video BIOS": gpu.vbios,
            "Bus Type": "PCIe",
            "DMA Size": "47 bits",
            "DMA Mask": "0x7fffffffffff",
            "Bus Location": name,
            "Device Minor": str(gpu.minor),
            "GPU Firmware": "N/A",
            "GPU Excluded": "No",
        }
        assert {path.name for path in (driver / "gpus" / name).iterdir()} == {
            "information",
            "power",
            "registry",
        }


def test_sys(root: Path, profile: Profile) -> None:
    for gpu in profile.gpus:
        device = root / "sys/bus/pci/devices" / pci_address(gpu)
        vendor, number = gpu.pci_id & 0xFFFF, gpu.pci_id >> 16
        assert (device / "vendor").read_text() == "0x10de\n"
        assert (device / "device").read_text() == f"0x{number:04x}\n"
        kind = 0x00 if gpu.display else 0x02
        assert (device / "class").read_text() == f"0x03{kind:02x}00\n"
        config = (device / "config").read_bytes()
        assert len(config) == 256
        assert config[:4] == vendor.to_bytes(2, "little") + number.to_bytes(2, "little")
        assert (config[11], config[10]) == (0x03, kind)


def test_configuration_files_are_json(root: Path) -> None:
    documents = [json.loads(path.read_text()) for path in root.rglob("*.json")]
    assert len(documents) == 6


def test_gpus_of_the_recorded_host() -> None:
    gpus = PROFILES["dgx-a100"].gpus
    assert [gpu.uuid[-3:] for gpu in gpus] == [
        "23c",
        "23d",
        "23e",
        "23f",
        "240",
        "241",
        "242",
        "243",
    ]
    assert [f"{gpu.pci[1]:02x}" for gpu in gpus] == ["07", "0f", "47", "4e", "87", "90", "b7", "bd"]


def test_gpus_of_a_dgx_h100() -> None:
    gpus = PROFILES["dgx-h100"].gpus
    assert [f"{gpu.pci[1]:02x}" for gpu in gpus] == ["1b", "43", "52", "61", "9d", "c3", "d1", "df"]
    assert [gpu.minor for gpu in gpus] == list(range(8))


def test_no_gpu_is_there_twice() -> None:
    hosts = [profile for name, profile in PROFILES.items() if name != "dgx-a100-mig"]
    uuids = [gpu.uuid for profile in hosts for gpu in profile.gpus]
    assert len(set(uuids)) == len(uuids) == 151
    assert all(re.fullmatch(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", u) for u in uuids)


# --- capabilities -------------------------------------------------------------------------------


def test_minors_of_the_recorded_host(dgx_a100_mig: Path) -> None:
    """All that are possible, whether they exist or not."""
    directory = dgx_a100_mig / "proc/driver/nvidia-caps"
    lines = (directory / "mig-minors").read_text().splitlines()
    assert lines[:4] == ["config 1", "monitor 2", "gpu0/gi0/access 3", "gpu0/gi0/ci0/access 4"]
    assert lines[-1] == "gpu31/gi14/ci7/access 4322"
    expected = ["config 1", "monitor 2"]
    for gpu in range(32):
        for instance in range(15):
            minor = 3 + 135 * gpu + 9 * instance
            path = f"gpu{gpu}/gi{instance}"
            expected.append(f"{path}/access {minor}")
            expected += [f"{path}/ci{compute}/access {minor + 1 + compute}" for compute in range(8)]
    assert lines == expected
    assert (directory / "sys-minors").read_text() == "fabric-imex-mgmt 0\n"


def capability_files(root: Path) -> dict[str, str]:
    directory = root / "proc/driver/nvidia/capabilities"
    return {
        str(path.relative_to(directory)): path.read_text()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_capability_files(dgx_a100_mig: Path) -> None:
    rights = {
        "fabric-imex-mgmt": (0, 256),
        "mig/config": (1, 256),
        "mig/monitor": (2, 292),
        "gpu0/mig/gi1/access": (12, 292),
        "gpu0/mig/gi1/ci0/access": (13, 292),
        "gpu0/mig/gi2/access": (21, 292),
        "gpu0/mig/gi2/ci0/access": (22, 292),
        "gpu1/mig/gi3/access": (165, 292),
        "gpu1/mig/gi3/ci0/access": (166, 292),
    }
    assert capability_files(dgx_a100_mig) == {
        path: f"DeviceFileMinor: {minor}\nDeviceFileMode: {mode}\nDeviceFileModify: 1\n"
        for path, (minor, mode) in rights.items()
    }


def test_capability_directories(root: Path, profile: Profile) -> None:
    """One for each GPU that can be divided, whether it is or not."""
    directory = root / "proc/driver/nvidia/capabilities"
    found = {path.parent.name for path in directory.glob("gpu*/mig")}
    assert found == {f"gpu{gpu.minor}" for gpu in profile.gpus if gpu.mig_devices}


def test_capabilities_of_an_old_release(mx150: Path) -> None:
    assert set(capability_files(mx150)) == {"mig/config", "mig/monitor"}
    assert (mx150 / "proc/driver/nvidia-caps/nvlink-minors").read_text() == "fabric-mgmt 0\n"
    assert (mx150 / "proc/driver/nvidia-nvlink/capabilities/fabric-mgmt").is_file()


def test_instances_share_a_gpu_instance(tmp_path: Path) -> None:
    gpu = PROFILES["dgx-a100-mig"].gpus[0]
    mig = gpu.mig[0].replace(slice="1c.3g.20gb")
    gpu = gpu.replace(mig=(mig, mig.replace(compute_instance=2, uuid="MIG-2")))
    libnvc.sim.create(PROFILES["dgx-a100-mig"].replace(gpus=(gpu,)), tmp_path / "root")
    assert {path for path in capability_files(tmp_path / "root") if path.startswith("gpu0")} == {
        *("gpu0/mig/gi1/access", "gpu0/mig/gi1/ci0/access", "gpu0/mig/gi1/ci2/access")
    }


@pytest.mark.root
def test_imex_channels_of_the_recorded_host(tmp_path: Path) -> None:
    profile = PROFILES["dgx-a100"].replace(imex_channels=3)
    libnvc.sim.create(profile, tmp_path / "root")
    directory = tmp_path / "root/dev/nvidia-caps-imex-channels"
    assert {path.name: path.lstat().st_rdev for path in directory.iterdir()} == {
        f"channel{channel}": os.makedev(509, channel) for channel in range(3)
    }
    assert "\n509 nvidia-caps-imex-channels\n" in (tmp_path / "root/proc/devices").read_text()


def test_minors_of_a_rack() -> None:
    gpus = PROFILES["rack-128"].gpus
    minors = [gpu.minor for gpu in gpus]
    assert sorted(minors) == list(range(128))
    assert minors != sorted(minors)
    assert len({gpu.pci for gpu in gpus}) == 128


# --- faults in files ----------------------------------------------------------------------------


def test_not_loaded(faulty: Faulty) -> None:
    root = faulty("not-loaded", "dgx-a100-mig")
    assert list((root / "dev").iterdir()) == []
    assert not (root / "proc/driver").exists()
    devices = (root / "proc/devices").read_text()
    assert "nvidia" not in devices
    assert devices.endswith("136 pts\n\nBlock devices:\n  8 sd\n259 blkext\n")
    assert list(root.glob("usr/lib/*/libcuda.so.535.261.03"))
    assert len(list((root / "sys/bus/pci/devices").iterdir())) == 8


@pytest.mark.root
def test_uvm_missing(faulty: Faulty, mx150: Path) -> None:
    root = faulty("uvm-missing")
    before, after = ({path.name for path in (r / "dev").iterdir()} for r in (mx150, root))
    assert before - after == {"nvidia-uvm", "nvidia-uvm-tools"}
    assert after < before
    assert "uvm" not in (root / "proc/devices").read_text()
    assert "511 nvidia-caps\n" in (root / "proc/devices").read_text()


@pytest.mark.parametrize(
    ("profile", "kernel"), [("mx150", "515.85.01"), ("dgx-a100", "535.260.03")]
)
def test_version_mismatch(faulty: Faulty, profile: str, kernel: str) -> None:
    root = faulty("version-mismatch", profile)
    text = (root / "proc/driver/nvidia/version").read_text()
    assert text.partition("Module  ")[2].split()[0] == kernel
    version = PROFILES[profile].driver_version
    libraries = [path.name for path in root.glob("usr/lib/*/libnvidia-ml.so.*.*")]
    assert libraries == [f"libnvidia-ml.so.{version}"]


def test_two_versions(faulty: Faulty) -> None:
    root = faulty("two-versions", "t4")
    libraries = sorted(path.name for path in root.glob("usr/lib/*/libcuda.so.5*"))
    assert libraries == ["libcuda.so.550.53.15", "libcuda.so.550.54.15"]
    cache = ldcache.parse((root / "etc/ld.so.cache").read_bytes(), "cache")
    paths = [entry.path for entry in cache if entry.soname == "libcuda.so.1"]
    assert len(paths) == 2
    assert paths[0] == "/usr/lib/nvidia-550.53.15/libcuda.so.1"
    assert paths[1].endswith("-linux-gnu/libcuda.so.1")
    assert "  550.54.15  " in (root / "proc/driver/nvidia/version").read_text()


@pytest.mark.parametrize(
    ("version", "older"),
    [("515.86.01", "515.85.01"), ("550.100", "550.099"), ("535.261.03", "535.260.03")],
)
def test_older_version(version: str, older: str) -> None:
    assert older_version(version) == older


# --- what is refused ----------------------------------------------------------------------------


def test_unknown_profile(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match="^dgx: unknown profile; known: mx150, t4, dgx-a100, dgx-a100-mig, "
    ):
        libnvc.sim.create("dgx", tmp_path / "driver")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "fault",
    [
        *("hang", "nvml-hang=1", "nvml-error", "nvml-error=", "nvml-error=0", "nvml-error=1000"),
        *("nvml-error=-1", "nvml-error=" + "9" * 5000, "gpu-lost", "gpu-lost=", "gpu-lost=-1"),
        *("gpu-lost=GPU-0", "gpu-lost=\u0663", "gpu-lost=" + "9" * 5000),
    ],
)
def test_unknown_fault(tmp_path: Path, fault: str) -> None:
    with pytest.raises(RequestError, match=f"^{fault}: unknown fault; known: nvml-hang, "):
        libnvc.sim.create("mx150", tmp_path / "driver", fault=fault)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("profile", "last"), [("mx150", 0), ("t4", 0), ("dgx-a100", 7)])
def test_lost_gpu_that_never_was(tmp_path: Path, profile: str, last: int) -> None:
    fault = f"gpu-lost={last + 1}"
    with pytest.raises(RequestError) as caught:
        libnvc.sim.create(profile, tmp_path / "driver", fault=fault)
    assert str(caught.value) == f"{fault}: no such GPU; the last one of {profile} is {last}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("gpus", "migs", "numbers"), [(129, 0, "129 GPUs and 0"), (65, 1, "65 GPUs and 65")]
)
def test_more_than_fits(tmp_path: Path, gpus: int, migs: int, numbers: str) -> None:
    gpu = PROFILES["dgx-a100-mig"].gpus[0]
    gpu = gpu.replace(mig=gpu.mig[:migs])
    profile = PROFILES["dgx-a100-mig"].replace(gpus=(gpu,) * gpus)
    with pytest.raises(RequestError) as caught:
        libnvc.sim.create(profile, tmp_path / "driver")
    assert str(caught.value) == (
        f"dgx-a100-mig: {numbers} MIG devices; at most 128 and 64 can be simulated"
    )
    assert list(tmp_path.iterdir()) == []


def test_directory_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(RequestError) as caught:
        libnvc.sim.create("mx150", tmp_path)
    assert str(caught.value) == f"{tmp_path}: directory is not empty"
    assert (caught.value.errno, caught.value.path) == (errno.ENOTEMPTY, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_directory_with_a_simulated_driver(tmp_path: Path) -> None:
    libnvc.sim.create("mx150", tmp_path)
    before = describe(tmp_path)
    with pytest.raises(RequestError) as caught:
        libnvc.sim.create("dgx-a100", tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: already holds a simulated driver; remove it or name another directory"
    )
    assert describe(tmp_path) == before


def test_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestError) as caught:
        libnvc.sim.create("mx150", tmp_path / "file")
    assert str(caught.value) == f"{tmp_path}/file: not a directory"
    assert caught.value.errno == errno.ENOTDIR


def test_directory_that_cannot_be_made() -> None:
    with pytest.raises(NvcError) as caught:
        libnvc.sim.create("mx150", "/proc/self/driver")
    assert caught.value.errno == errno.ENOENT
    assert str(caught.value) == (
        "/proc/self/driver: cannot create the simulated driver: No such file or directory"
    )


@pytest.mark.parametrize("exists", [False, True])
def test_failure_leaves_nothing(tmp_path: Path, exists: bool) -> None:
    directory = tmp_path / "driver"
    if exists:
        directory.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))  # empty libraries fit, NVML does not
    try:
        with pytest.raises(NvcError) as caught:
            libnvc.sim.create("mx150", directory)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert str(caught.value).endswith(": cannot create the simulated driver: File too large")
    assert list(tmp_path.rglob("*")) == ([directory] if exists else [])


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Return a directory that every user may enter and write."""
    with tempfile.TemporaryDirectory(prefix="nvc-sim-") as name:
        directory = Path(name)
        directory.chmod(0o777)
        yield directory


@pytest.mark.root
def test_ordinary_user_gets_no_nodes(open_directory: Path) -> None:
    directory = open_directory / "driver"
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            made = libnvc.sim.create("mx150", directory)
            (open_directory / "warnings").write_text("\n".join(made.warnings))
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    assert (open_directory / "warnings").read_text() == (
        f"{directory}/dev: no device nodes: making them needs root (CAP_MKNOD); "
        "the simulated NVML and CUDA will find no driver"
    )
    assert list((directory / "dev").iterdir()) == []
    assert stat.S_ISSOCK((directory / "run/nvidia-persistenced/socket").lstat().st_mode)
