# SPDX-License-Identifier: Apache-2.0
"""CDI files that are generated: what each device gets, names, modes, versions, style."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import libnvc.sim
from libnvc import (
    DiscoveryError,
    DriverNotFoundError,
    MissingDeviceError,
    NvcError,
    RequestError,
    UnknownDeviceError,
)
from libnvc import plan as ops
from libnvc._cdi.generate import Generated, generate
from libnvc._cdi.options import Options, option_words, read_stamp, stamp
from libnvc._cdi.spec import read_spec
from libnvc._cdi.write import output_path, to_text, write_file
from libnvc._render.cdi import HookProgram, cdi_edits

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.root

UUID = "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e2{:02x}"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"


@pytest.fixture
def make(tmp_path: Path, validate_cdi: Callable[[object], None]) -> Callable[..., dict[str, Any]]:
    """Generate a document; it must pass the schema and our own strict reader."""

    def run(root: Path, **options: Any) -> dict[str, Any]:
        made = generated(root, **options)
        validate_cdi(made.document)
        path = tmp_path / "made.yaml"
        path.write_text(to_text(made.document, "yaml"))
        assert read_spec(str(path)).version == made.document["cdiVersion"]
        assert yaml.safe_load(path.read_text()) == made.document
        return made.document

    return run


def generated(root: Path, **options: Any) -> Generated:
    return generate(Options(driver_root=str(root), **options))


def edits(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        device["containerEdits"] for device in document["devices"] if device["name"] == name
    )
    return found


def nodes(document: dict[str, Any], name: str) -> list[str]:
    return [node["path"] for node in edits(document, name).get("deviceNodes", ())]


def names(document: dict[str, Any]) -> list[str]:
    return [device["name"] for device in document["devices"]]


def hooks(part: dict[str, Any]) -> list[str]:
    return [hook["args"][1] for hook in part.get("hooks", ())]


# --- what devices get -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dgx-a100", "mx150", "t4", "gb200", "workstation", "rack-128"])
def test_each_device_grants_exactly_its_nodes(
    make: Callable[..., dict[str, Any]], tmp_path: Path, name: str
) -> None:
    profile = next(p for p in libnvc.sim.profiles() if p.name == name)
    libnvc.sim.create(profile, tmp_path / "sim")
    document = make(tmp_path / "sim")
    every = set()
    for index, gpu in enumerate(profile.gpus):
        drm = ("dri/card0", "dri/renderD128") if gpu.display else ()
        own = [f"/dev/{node}" for node in (f"nvidia{gpu.minor}", *drm)]
        assert nodes(document, str(index)) == own
        assert nodes(document, gpu.uuid) == own
        every |= set(own)
    assert set(nodes(document, "all")) == every
    assert len(document["devices"]) == 2 * len(profile.gpus) + 1
    common = {node["path"] for node in document["containerEdits"]["deviceNodes"]}
    assert common == {
        *("/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")
    }


def test_a_mig_device_has_its_rights_and_its_gpu(
    make: Callable[..., dict[str, Any]], dgx_a100_mig: Path
) -> None:
    document = make(dgx_a100_mig, device_name_strategy=("type-index", "index"))
    assert names(document)[:3] == ["0:0", "0:1", "1:0"]
    assert {"mig0:0", "gpu2", "2", "all"} <= set(names(document))
    assert not {"0", "1", "gpu0"} & set(names(document))
    caps = "/dev/nvidia-caps/nvidia-cap"
    assert nodes(document, "mig0:1") == ["/dev/nvidia0", f"{caps}21", f"{caps}22"]


def test_mig_mode_without_mig_devices_is_no_device(
    make: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    profile = next(p for p in libnvc.sim.profiles() if p.name == "dgx-a100-mig")
    gpus = tuple(gpu.replace(mig=()) for gpu in profile.gpus)
    libnvc.sim.create(profile.replace(gpus=gpus), tmp_path / "sim")
    assert names(make(tmp_path / "sim", device_name_strategy=("index",))) == [
        *("2", "3", "4", "5", "6", "7", "all")
    ]


def test_all_devices_get_the_driver(make: Callable[..., dict[str, Any]], dgx_a100: Path) -> None:
    common = make(dgx_a100)["containerEdits"]
    assert list(common) == ["env", "deviceNodes", "hooks", "mounts"]
    assert common["env"] == [
        f"NVIDIA_CTK_LIBCUDA_DIR={LIBRARIES}",
        "NVIDIA_VISIBLE_DEVICES=void",
    ]
    assert hooks(common) == [
        *("create-symlinks", "create-symlinks", "enable-cuda-compat", "update-ldcache"),
        *("disable-device-node-modification", "update-application-profile"),
    ]
    mounts = {mount["containerPath"]: mount for mount in common["mounts"]}
    sockets = ["nosuid", "nodev", "rbind", "rprivate", "noexec"]
    assert mounts["/run/nvidia-persistenced/socket"]["options"] == sockets
    assert mounts["/usr/bin/nvidia-smi"] == {
        "hostPath": f"{dgx_a100}/usr/bin/nvidia-smi",
        "containerPath": "/usr/bin/nvidia-smi",
        "options": ["ro", "nosuid", "nodev", "rbind", "rprivate"],
    }
    assert f"{LIBRARIES}/libnvidia-wayland-client.so.535.261.03" in mounts
    depths = [(path.count("/"), path) for path in mounts]
    assert depths == sorted(depths)


def test_hooks_are_called_as_the_reference_calls_them(
    make: Callable[..., dict[str, Any]], dgx_a100: Path
) -> None:
    path = "/opt/bin/nvidia-ctk"
    common = make(dgx_a100, nvidia_cdi_hook_path=path, ldconfig_path="/sbin/ldconfig")
    hook = common["containerEdits"]["hooks"][3]
    assert hook == {
        "hookName": "createContainer",
        "path": path,
        "args": [
            *("nvidia-ctk", "hook", "update-ldcache", "--ldconfig-path", "/sbin/ldconfig"),
            *("--folder", LIBRARIES, "--folder", f"{LIBRARIES}/vdpau"),
        ],
        "env": ["NVIDIA_CTK_DEBUG=false"],
    }


@pytest.mark.parametrize(
    ("disabled", "enabled", "left"),
    [
        (("all",), (), []),
        (("all",), ("update-ldcache",), ["update-ldcache"]),
        (
            ("create-symlinks", "enable-cuda-compat"),
            (),
            ["update-ldcache", "disable-device-node-modification", "update-application-profile"],
        ),
    ],
)
def test_disabled_hooks(
    make: Callable[..., dict[str, Any]],
    mx150: Path,
    disabled: tuple[str, ...],
    enabled: tuple[str, ...],
    left: list[str],
) -> None:
    document = make(mx150, disable_hook=disabled, enable_hook=enabled)
    assert hooks(document["containerEdits"]) == left


def test_one_call_is_all_hooks_where_the_program_is_ours(
    make: Callable[..., dict[str, Any]], mx150: Path, commands: Path, tmp_path: Path
) -> None:
    """A copy of it is; another program might not know of that."""
    apart = [hook["args"] for hook in make(mx150)["containerEdits"]["hooks"]]
    copy = tmp_path / "nvidia-cdi-hook"
    shutil.copy(commands / "nvidia-cdi-hook", copy)
    document = make(mx150, nvidia_cdi_hook_path=str(copy))
    assert [part for part in document["devices"] if "hooks" in part["containerEdits"]] == []
    (hook,) = document["containerEdits"]["hooks"]
    program, sequence, *words = hook["args"]
    assert (program, sequence) == ("nvidia-cdi-hook", "sequence")
    joined = " ".join(words).split(" then ")
    assert joined == [" ".join(words[1:]) for words in apart]
    left: Any = {"disable_hook": ("all",), "enable_hook": ("update-ldcache",)}
    one = make(mx150, nvidia_cdi_hook_path=str(copy), **left)
    assert hooks(one["containerEdits"]) == ["update-ldcache"]
    copy.write_bytes(copy.read_bytes()[::-1])
    other = make(mx150, nvidia_cdi_hook_path=str(copy))["containerEdits"]["hooks"]
    assert [hook["args"] for hook in other] == apart


def add_drm(root: Path, *, with_links: bool = True) -> None:
    """Give GPU 0 of a DGX A100 DRM nodes."""
    for name, minor in (("card1", 1), ("renderD128", 128)):
        directory = root / "sys/bus/pci/devices/0000:07:00.0/drm" / name
        directory.mkdir(parents=True)
        (directory / "dev").write_text(f"226:{minor}\n")
        (root / "dev/dri/by-path").mkdir(parents=True, exist_ok=True)
        os.mknod(root / f"dev/dri/{name}", stat.S_IFCHR | 0o660, os.makedev(226, minor))
        (root / f"dev/dri/{name}").chmod(0o660)
        os.chown(root / f"dev/dri/{name}", 0, 44 if name == "card1" else 105)
    if with_links:
        links = root / "dev/dri/by-path"
        (links / "pci-0000:07:00.0-card").symlink_to("../card1")
        (links / "pci-0000:07:00.0-render").symlink_to("../renderD128")
        (links / "pci-0000:0f:00.0-card").symlink_to("../card1")


def test_drm_nodes_links_and_groups(make: Callable[..., dict[str, Any]], tree: Path) -> None:
    add_drm(tree)
    document = make(tree)
    own = edits(document, "0")
    assert nodes(document, "0") == ["/dev/nvidia0", "/dev/dri/card1", "/dev/dri/renderD128"]
    assert own["deviceNodes"][1] == {
        "path": "/dev/dri/card1",
        "hostPath": f"{tree}/dev/dri/card1",
        "major": 226,
        "minor": 1,
        "fileMode": 0o660,
        "permissions": "rwm",
        "gid": 44,
    }
    assert own["additionalGids"] == [44, 105]
    assert own["hooks"][0]["args"][1:] == [
        *("create-symlinks", "--link", "../card1::/dev/dri/by-path/pci-0000:07:00.0-card"),
        *("--link", "../renderD128::/dev/dri/by-path/pci-0000:07:00.0-render"),
    ]
    assert nodes(document, "1") == ["/dev/nvidia1"]
    assert document["cdiVersion"] == "0.7.0"
    without = make(tree, no_additional_gids=True)
    assert "additionalGids" not in edits(without, "0")
    assert without["cdiVersion"] == "0.5.0"


def test_a_drm_node_that_is_missing_is_left_out(
    make: Callable[..., dict[str, Any]], tree: Path
) -> None:
    add_drm(tree)
    (tree / "dev/dri/card1").unlink()
    assert nodes(make(tree), "0") == ["/dev/nvidia0", "/dev/dri/renderD128"]
    assert generated(tree).warnings == (f"missing device {tree}/dev/dri/card1",)


def test_graphics_are_where_containers_look_for_them(
    make: Callable[..., dict[str, Any]], tree: Path
) -> None:
    (tree / "usr/local/share/nvidia").mkdir(parents=True)
    (tree / "usr/local/share/nvidia/nvoptix.bin").write_bytes(b"")
    (tree / "usr/bin/nvidia-xconfig").write_bytes(b"")
    shutil.move(tree / "etc/vulkan", tree / "usr/share/vulkan")
    drivers = tree / "usr/lib/xorg/modules/drivers"
    drivers.mkdir(parents=True)
    shutil.move(tree / f"{LIBRARIES[1:]}/nvidia/xorg/nvidia_drv.so", drivers)
    common = make(tree)["containerEdits"]
    mounts = {m["containerPath"]: m["hostPath"].removeprefix(str(tree)) for m in common["mounts"]}
    assert mounts["/usr/share/nvidia/nvoptix.bin"] == "/usr/local/share/nvidia/nvoptix.bin"
    assert mounts["/usr/bin/nvidia-xconfig"] == "/usr/bin/nvidia-xconfig"
    assert mounts["/etc/vulkan/icd.d/nvidia_icd.json"] == "/usr/share/vulkan/icd.d/nvidia_icd.json"
    module = "/usr/lib/xorg/modules/drivers/nvidia_drv.so"
    assert mounts[module] == module
    own = make(tree, config_search_path=(f"{tree}/usr/share",))["containerEdits"]["mounts"]
    assert "/usr/share/nvidia/nvoptix.bin" not in {mount["containerPath"] for mount in own}


def test_a_link_out_of_the_driver_root_is_resolved_in_it(
    make: Callable[..., dict[str, Any]], tree: Path
) -> None:
    """On the host, an absolute link below a driver root leads somewhere else."""
    place = tree / "usr/share/glvnd/egl_vendor.d"
    (place / "10_nvidia.json").rename(tree / "usr/share/real.json")
    (place / "10_nvidia.json").symlink_to("/usr/share/real.json")
    mounts = make(tree)["containerEdits"]["mounts"]
    target = "/usr/share/glvnd/egl_vendor.d/10_nvidia.json"
    assert [m["hostPath"] for m in mounts if m["containerPath"] == target] == [
        f"{tree}/usr/share/real.json"
    ]


def test_devices_of_another_root(make: Callable[..., dict[str, Any]], tree: Path) -> None:
    other = tree.parent / "devices"
    other.mkdir()
    shutil.move(tree / "dev", other / "dev")
    document = make(tree, dev_root=str(other))
    assert edits(document, "2")["deviceNodes"][0]["hostPath"] == f"{other}/dev/nvidia2"
    # NVML looks for devices beside its own files.
    assert generated(tree, dev_root=str(other)).warnings == (
        "GPUs are taken to be without MIG: nvml error: driver not loaded",
    )
    with pytest.raises(MissingDeviceError) as caught:
        generated(tree)
    assert caught.value.path == f"{tree}/dev/nvidiactl"
    assert caught.value.code == "nodes-missing"


def test_a_host_without_displays(make: Callable[..., dict[str, Any]], tree: Path) -> None:
    (tree / "dev/nvidia-modeset").unlink()
    common = make(tree)["containerEdits"]["deviceNodes"]
    assert "/dev/nvidia-modeset" not in {node["path"] for node in common}


def test_a_missing_node_of_nvidia_uvm_is_made_in_containers(
    make: Callable[..., dict[str, Any]], tree: Path
) -> None:
    (tree / "dev/nvidia-uvm").unlink()
    common = make(tree)["containerEdits"]["deviceNodes"]
    assert {
        "path": "/dev/nvidia-uvm",
        "type": "c",
        "major": 510,
        "fileMode": 0o666,
        "permissions": "rwm",
    } in common


# --- which devices --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("3",), ["3", "all"]),
        (("3", UUID.format(0x3D)), ["1", "3", "all"]),
        (("all", "3"), [*"01234567", "all"]),
    ],
)
def test_chosen_devices(
    make: Callable[..., dict[str, Any]], dgx_a100: Path, asked: tuple[str, ...], found: list[str]
) -> None:
    document = make(dgx_a100, device_id=asked, device_name_strategy=("index",))
    assert names(document) == found


@pytest.mark.parametrize("mode", ["nvml", "management"])
def test_devices_of_some_capabilities(
    make: Callable[..., dict[str, Any]], workstation: Path, mode: str
) -> None:
    """Only files change: devices are the same. No link leads to what is left out."""
    full = make(workstation, mode=mode)
    document = make(workstation, mode=mode, capabilities=("compute", "utility"))
    assert names(document) == names(full)
    for name in names(document):
        assert set(nodes(document, name)) <= set(nodes(full, name))
    files = paths(document)
    assert files < paths(full)
    libraries = {path.rpartition("/")[2].partition(".so")[0] for path in files if ".so" in path}
    assert {"libcuda", "libnvidia-ml"} <= libraries
    assert not libraries & {"libnvidia-encode", "libnvcuvid", "libGLX_nvidia", "libnvidia-glcore"}
    bins = {path.rpartition("/")[2] for path in files if "/bin/" in path}
    assert "nvidia-smi" in bins
    given = {path.rpartition("/")[2] for path in files}
    for hook in document["containerEdits"]["hooks"]:
        links = [arg for arg in hook["args"] if "::" in arg]
        made = {link.rpartition("/")[2] for link in links}
        for link in links:
            assert link.partition("::")[0].rpartition("/")[2] in given | made, link


def test_devices_for_computing_have_no_tools(
    make: Callable[..., dict[str, Any]], dgx_a100: Path
) -> None:
    files = paths(make(dgx_a100, capabilities=("compute",)))
    assert not [path for path in files if "nvidia-smi" in path or "libnvidia-ml" in path]
    assert [path for path in files if "libcuda.so" in path]


def paths(document: dict[str, Any]) -> set[str]:
    """Return the files that all devices of a document come with."""
    return {mount["containerPath"] for mount in document["containerEdits"]["mounts"]}


def test_no_device_called_all(make: Callable[..., dict[str, Any]], mx150: Path) -> None:
    assert names(make(mx150, no_all_device=True, device_name_strategy=("index",))) == ["0"]


def test_the_dummy_device(make: Callable[..., dict[str, Any]], dgx_a100: Path) -> None:
    document = make(dgx_a100, device_id=("none",))
    assert document["devices"] == [
        {"name": "none", "containerEdits": {"env": ["NVCT_EMPTY_DEVICE="]}}
    ]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "bogus"}, RequestError, "invalid discovery mode: bogus"),
        (
            {"device_name_strategy": ("x",)},
            RequestError,
            "invalid device name strategy: x",
        ),
        ({"vendor": "-"}, RequestError, "invalid CDI vendor name: -"),
        ({"device_class": "a b"}, RequestError, "invalid CDI class name: a b"),
        ({"max_cdi_version": "9"}, RequestError, "unknown CDI version: 9"),
        ({"mode": "wsl"}, RequestError, "discovery mode wsl: not supported: "),
        ({"mode": "csv"}, DriverNotFoundError, "no usable entry in "),
        (
            {"device_id": ("x",)},
            UnknownDeviceError,
            'identifier is not a valid UUID or index: "x"',
        ),
        ({"device_id": ("9",)}, UnknownDeviceError, "9: unknown device"),
        (
            {"mode": "gds"},
            MissingDeviceError,
            'invalid CDI Spec: failed add device "all": invalid device, empty device edits',
        ),
        ({"mode": "imex"}, MissingDeviceError, 'invalid CDI Spec: failed add device "all": '),
        ({"mode": "imex", "device_id": ("a",)}, RequestError, 'invalid IMEX channel: "a"'),
        (
            {"capabilities": ("compute", "x")},
            RequestError,
            "discovery mode nvml: unsupported driver capability: x",
        ),
        (
            {"capabilities": ("compute",), "mode": "gds"},
            RequestError,
            "discovery mode gds: unsupported driver capability: compute",
        ),
        (
            {"capabilities": ("graphics",), "mode": "management"},
            RequestError,
            "discovery mode management: unsupported driver capability: graphics",
        ),
        ({"config_search_path": ("/x",)}, RequestError, "/x: not below the driver root "),
    ],
)
def test_what_cannot_be_generated(
    dgx_a100: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        generated(dgx_a100, **options)
    assert type(caught.value) is error
    assert str(caught.value).startswith(message)


def test_no_gpu(tree: Path) -> None:
    shutil.rmtree(tree / "proc/driver/nvidia/gpus")
    with pytest.raises(MissingDeviceError, match="^no devices found: "):
        generated(tree)


# --- modes ----------------------------------------------------------------------------------------


def add_nodes(root: Path, *paths: str) -> None:
    for minor, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.mknod(root / path, stat.S_IFCHR | 0o666, os.makedev(500, minor + 1))
        (root / path).chmod(0o666)


@pytest.mark.parametrize(
    ("mode", "there", "given"),
    [
        ("mofed", ("infiniband/rdma_cm", "infiniband/uverbs0", "infiniband/umad0"), (0, 1)),
        ("gdrcopy", ("gdrdrv",), (0,)),
        ("nvswitch", ("nvidia-nvswitch0", "nvidia-nvswitchctl", "nvidia-nvlink"), (0, 1)),
        ("gds", ("nvidia-fs0", "nvidia-fs1"), (0, 1)),
    ],
)
def test_modes_that_know_no_gpus(
    make: Callable[..., dict[str, Any]],
    tmp_path: Path,
    mode: str,
    there: tuple[str, ...],
    given: tuple[int, ...],
) -> None:
    root = tmp_path / "root"
    add_nodes(root, *(f"dev/{name}" for name in there))
    document = make(root, mode=mode)
    assert names(document) == ["all"]
    assert nodes(document, "all") == [f"/dev/{there[index]}" for index in given]
    assert document["containerEdits"] == {"env": ["NVIDIA_VISIBLE_DEVICES=void"]}


def test_files_of_gds(make: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    add_nodes(tmp_path / "root", "dev/nvidia-fs0")
    (tmp_path / "root/run/udev").mkdir(parents=True)
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/cufile.json").write_text("{}")
    mounts = edits(make(tmp_path / "root", mode="gds"), "all")["mounts"]
    assert [mount["containerPath"] for mount in mounts] == ["/etc/cufile.json", "/run/udev"]


def test_imex_channels(make: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    place = "dev/nvidia-caps-imex-channels"
    add_nodes(tmp_path / "root", *(f"{place}/channel{number}" for number in (0, 1, 2047)))
    document = make(tmp_path / "root", mode="imex")
    assert names(document) == ["0", "1", "2047", "all"]
    assert nodes(document, "2047") == [f"/{place}/channel2047"]
    chosen = make(tmp_path / "root", mode="imex", device_id=("channel1",))
    assert names(chosen) == ["1", "all"]
    with pytest.raises(MissingDeviceError) as caught:
        generated(tmp_path / "root", mode="imex", device_id=("5",))
    assert caught.value.path == f"{tmp_path}/root/{place}/channel5"


def test_management(make: Callable[..., dict[str, Any]], tree: Path) -> None:
    add_nodes(tree, "dev/nvidia-fs0", "dev/nvidia-nvswitch0", "dev/nvidia-nvlink")
    document = make(tree, mode="management", vendor="management.nvidia.com")
    assert document["kind"] == "management.nvidia.com/gpu"
    assert nodes(document, "all") == [
        *("/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"),
        *(f"/dev/nvidia{index}" for index in range(8)),
        "/dev/nvidiactl",
        *("/dev/nvidia-caps/nvidia-cap1", "/dev/nvidia-caps/nvidia-cap2"),
    ]
    common = document["containerEdits"]
    assert "deviceNodes" not in common
    assert hooks(common) == ["create-symlinks", "enable-cuda-compat", "update-ldcache"]
    shutil.rmtree(tree / "dev")
    with pytest.raises(MissingDeviceError, match="^no NVIDIA device nodes found$"):
        generated(tree, mode="management")


def test_the_mode_follows_the_platform(tmp_path: Path) -> None:
    for mode, path, message in (
        ("wsl", "usr/lib/wsl/lib/libdxcore.so", "discovery mode wsl: not supported"),
        ("csv", "etc/nv_tegra_release", "no usable entry in "),
    ):
        (tmp_path / mode / path).parent.mkdir(parents=True)
        (tmp_path / mode / path).write_bytes(b"")
        with pytest.raises(NvcError, match=f"^{message}"):
            generated(tmp_path / mode)


# --- versions -------------------------------------------------------------------------------------


def test_groups_are_left_out_for_older_readers(tree: Path) -> None:
    (tree / "dev/nvidia1").chmod(0o660)
    os.chown(tree / "dev/nvidia1", 0, 44)
    made = generated(tree, max_cdi_version="0.5.0")
    assert made.document["cdiVersion"] == "0.5.0"
    assert "additionalGids" not in json.dumps(made.document)
    assert [warning.partition(":")[0] for warning in made.warnings] == [
        "additionalGids are left out"
    ]


def test_what_an_older_reader_cannot_be_told_is_refused(mx150: Path) -> None:
    with pytest.raises(RequestError) as caught:
        generated(mx150, max_cdi_version="0.4.0")
    assert str(caught.value).startswith("CDI 0.4.0 cannot say this: devices[0]")
    assert str(caught.value).endswith(" needs 0.5.0")


def test_a_class_with_a_dot_needs_a_newer_version(
    make: Callable[..., dict[str, Any]], mx150: Path
) -> None:
    assert make(mx150, device_class="gpu.x")["cdiVersion"] == "0.6.0"


# --- the sink -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operation",
    [
        ops.Tmpfs(origin="o", path="/x"),
        ops.Directory(origin="o", path="/x"),
        ops.WriteFile(origin="o", path="/x", content=b""),
        ops.DeviceAccess(origin="o", path="", major=195, minor=0),
        ops.LoaderCache(origin="o", path="/etc/ld.so.cache", directories=("/compat",)),
    ],
)
def test_an_operation_that_cdi_cannot_say_is_refused_by_name(operation: ops.Operation) -> None:
    with pytest.raises(RequestError) as caught:
        cdi_edits(ops.Plan(operations=(operation,)), HookProgram())
    kind = type(operation).__name__
    assert str(caught.value) == f"{kind} (o): cannot be said in a CDI file"
    assert caught.value.origin == "o"


def test_a_node_that_is_gone(tmp_path: Path) -> None:
    node = ops.DeviceNode(origin="o", path="/dev/x", major=1, minor=3, source=f"{tmp_path}/x")
    with pytest.raises(MissingDeviceError) as caught:
        cdi_edits(ops.Plan(operations=(node,)), HookProgram())
    assert caught.value.path == f"{tmp_path}/x"


def test_a_path_that_is_not_utf8() -> None:
    mount = ops.BindMount(origin="o", path="/x", source=os.fsdecode(b"/a\xff"))
    with pytest.raises(DiscoveryError, match="not UTF-8"):
        cdi_edits(ops.Plan(operations=(mount,)), HookProgram())


# --- files ----------------------------------------------------------------------------------------


def test_the_style_of_yaml() -> None:
    document = {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/a", "major": 195}]}}
        ],
        "containerEdits": {"env": ["A=b c", "true", "--link"], "hooks": [{"args": ["../x::/y"]}]},
    }
    assert to_text(document, "yaml", ("said",)) == (
        "---\n"
        "# said\n"
        "cdiVersion: 0.5.0\n"
        "kind: nvidia.com/gpu\n"
        "devices:\n"
        '    - name: "0"\n'
        "      containerEdits:\n"
        "        deviceNodes:\n"
        "            - path: /dev/a\n"
        "              major: 195\n"
        "containerEdits:\n"
        "    env:\n"
        '        - "A=b c"\n'
        '        - "true"\n'
        "        - --link\n"
        "    hooks:\n"
        "        - args:\n"
        "            - ../x::/y\n"
    )


@pytest.mark.parametrize(
    ("path", "form", "result"),
    [
        ("", "", ("", "yaml")),
        ("/a/x.json", "", ("/a/x.json", "json")),
        ("/a/x.yml", "", ("/a/x.yml", "yaml")),
        ("/a/x", "json", ("/a/x.json", "json")),
        ("/a/nvidia.com-gpu", "", ("/a/nvidia.com-gpu.yaml", "yaml")),
        ("/a/x.yaml", "json", ("/a/x.yaml", "json")),
    ],
)
def test_names_of_outputs(path: str, form: str, result: tuple[str, str]) -> None:
    assert output_path(path, form) == result


def test_a_file_is_for_everybody_to_read(tmp_path: Path) -> None:
    path = tmp_path / "a/b/nvidia.yaml"
    before = os.umask(0o077)
    try:
        assert write_file(str(path), "one")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    path.chmod(0o600)
    assert write_file(str(path), "two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not write_file(str(path), "two")
    assert os.listdir(path.parent) == ["nvidia.yaml"]


def test_a_stamp_says_the_options(tmp_path: Path) -> None:
    options = Options(
        driver_root="/a b",
        device_id=("0", "1"),
        no_all_device=True,
        capabilities=("compute", "utility"),
        no_ipc=True,
    )
    lines = stamp(options, "535.1")
    flags, version = read_stamp(to_text({"a": 1}, "yaml", lines))
    assert flags == option_words(options)
    assert flags == [
        *("--driver-root=/a b", "--device-id=0,1", "--no-all-device"),
        "--capabilities=compute,utility",
        "--feature-flag=disable-ipc-discoverer",
    ]
    assert version == "535.1"
    assert stamp(Options(driver_root="/a\nkind: x"), "") == ()
    assert read_stamp("---\nkind: x\n") == (None, "")
