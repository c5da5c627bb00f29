# SPDX-License-Identifier: Apache-2.0
"""What a plan holds for each capability and switch, in the reference's order."""

from __future__ import annotations

from errno import ENOENT

import pytest

import libnvc
from libnvc import plan as ops
from libnvc._planner.build import make_plan
from libnvc.model import (
    DeviceFile,
    DriverFile,
    Gpu,
    Identity,
    Inventory,
    Layout,
    Library,
    ProcFile,
    Request,
)

VERSION = "535.261.03"
DIRECTORY = "/usr/lib/x86_64-linux-gnu"
ROOT = "/run/nvidia/driver"


def library(name: str, soname: str) -> Library:
    return Library(path=f"{DIRECTORY}/{name}.{VERSION}", name=name, soname=soname)


def gpu(index: int, minor: int, *, present: bool = True) -> Gpu:
    device = DeviceFile(path=f"/dev/nvidia{minor}", major=195, minor=minor, present=present)
    return Gpu(
        index=index,
        minor=minor,
        uuid=f"GPU-{index}",
        pci=f"00000000:{index:02x}:00.0",
        model="X",
        device=device,
        proc_dir=f"0000:{index:02x}:00.0",
    )


HOST = Inventory(
    root=ROOT,
    proc="/proc/driver/nvidia",
    driver_version=VERSION,
    gpus=(gpu(0, 1), gpu(1, 0)),
    control=(
        DeviceFile(path="/dev/nvidiactl", major=195, minor=255),
        DeviceFile(path="/dev/nvidia-uvm", major=510, minor=0),
        DeviceFile(path="/dev/nvidia-uvm-tools", major=510, minor=1),
        DeviceFile(path="/dev/nvidia-modeset", major=195, minor=254),
    ),
    libraries=(
        library("libnvidia-ml.so", "libnvidia-ml.so.1"),
        library("libcuda.so", "libcuda.so.1"),
        library("libnvidia-ptxjitcompiler.so", "libnvidia-ptxjitcompiler.so.1"),
        library("libnvidia-pkcs11-openssl3.so", f"libnvidia-pkcs11-openssl3.so.{VERSION}"),
        library("libnvidia-encode.so", "libnvidia-encode.so.1"),
    ),
    binaries=(
        DriverFile(path="/usr/lib/nvidia/current/nvidia-smi", kind="binary"),
        DriverFile(path="/usr/bin/nvidia-cuda-mps-control", kind="binary"),
    ),
    firmware=(
        DriverFile(
            path=f"/usr/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin",
            kind="firmware",
            target=f"/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin",
        ),
    ),
    ipcs=(
        DriverFile(
            path="/run/nvidia-persistenced/socket",
            kind="ipc",
            file_type="socket",
            target="/run/nvidia-persistenced/socket",
        ),
        DriverFile(
            path="/tmp/nvidia-mps", kind="ipc", file_type="directory", target="/tmp/nvidia-mps"
        ),
    ),
    proc_files=(
        ProcFile(name="params", content=b"A: 1\nModifyDeviceFiles: 1\nB: 2\n", mode=0o444),
        ProcFile(name="version", content=b"NVRM version: x\n", mode=0o444),
        ProcFile(name="registry", content=b"", mode=0o644),
    ),
    warnings=("from discovery",),
    dependencies=(Identity(path="/x", dev=1, ino=2, size=3, mtime_ns=4, ctime_ns=5),),
)

BOTH = Request(
    devices=("all",), capabilities=("compute", "utility"), layout=Layout(libs_dir=DIRECTORY)
)


def paths(plan: ops.Plan, *kinds: type[ops.Operation]) -> list[str]:
    return [op.path for op in plan.operations if isinstance(op, kinds)]


def rules(plan: ops.Plan) -> list[tuple[str, int, int, str]]:
    return [
        (op.origin, op.major, op.minor, op.access)
        for op in plan.operations
        if isinstance(op, ops.DeviceAccess)
    ]


def test_everything_in_order() -> None:
    plan = make_plan(HOST, BOTH)
    proc = "/proc/driver/nvidia"
    assert [(type(op).__name__, op.path) for op in plan.operations] == [
        ("Tmpfs", proc),
        ("WriteFile", f"{proc}/params"),
        ("WriteFile", f"{proc}/version"),
        ("WriteFile", f"{proc}/registry"),
        ("BindMount", "/usr/bin/nvidia-smi"),
        ("BindMount", "/usr/bin/nvidia-cuda-mps-control"),
        ("BindMount", f"{DIRECTORY}/libnvidia-ml.so.{VERSION}"),
        ("BindMount", f"{DIRECTORY}/libcuda.so.{VERSION}"),
        ("BindMount", f"{DIRECTORY}/libnvidia-ptxjitcompiler.so.{VERSION}"),
        ("BindMount", f"{DIRECTORY}/libnvidia-pkcs11-openssl3.so.{VERSION}"),
        ("Symlink", f"{DIRECTORY}/libnvidia-ml.so.1"),
        ("Symlink", f"{DIRECTORY}/libcuda.so.1"),
        ("Symlink", f"{DIRECTORY}/libcuda.so"),
        ("Symlink", f"{DIRECTORY}/libnvidia-ptxjitcompiler.so.1"),
        ("BindMount", f"/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin"),
        ("BindMount", "/run/nvidia-persistenced/socket"),
        ("BindMount", "/tmp/nvidia-mps"),
        ("DeviceNode", "/dev/nvidiactl"),
        ("DeviceAccess", ""),
        ("DeviceNode", "/dev/nvidia-uvm"),
        ("DeviceAccess", ""),
        ("DeviceNode", "/dev/nvidia-uvm-tools"),
        ("DeviceAccess", ""),
        ("DeviceNode", "/dev/nvidia1"),
        ("BindMount", f"{proc}/gpus/0000:00:00.0"),
        ("DeviceAccess", ""),
        ("DeviceNode", "/dev/nvidia0"),
        ("BindMount", f"{proc}/gpus/0000:01:00.0"),
        ("DeviceAccess", ""),
        ("LoaderCache", "/etc/ld.so.cache"),
    ]
    assert plan.driver_version == VERSION
    assert plan.dependencies == HOST.dependencies
    assert plan.warnings == ("from discovery",)


def cached(plan: ops.Plan) -> ops.LoaderCache:
    (cache,) = (op for op in plan.operations if isinstance(op, ops.LoaderCache))
    return cache


def test_the_cache_lists_each_library_by_what_programs_ask_for() -> None:
    """Not by a link for linkers, which the same plan makes."""
    libs32 = "/usr/lib/i386-linux-gnu"
    small = Library(
        path=f"/usr/lib32/libcuda.so.{VERSION}", name="libcuda.so", soname="libcuda.so.1", bits=32
    )
    odd = library("libnvidia-encode.so", "a/b")
    host = HOST.replace(libraries=(*HOST.libraries[1:4], small, odd))
    layout = Layout(libs_dir=DIRECTORY, libs32_dir=libs32)
    capabilities = ("compute", "video", "compat32")
    plan = make_plan(host, BOTH.replace(capabilities=capabilities, layout=layout))
    assert f"{DIRECTORY}/libcuda.so" in paths(plan, ops.Symlink)
    names = (
        *("libcuda.so.1", "libnvidia-ptxjitcompiler.so.1"),
        f"libnvidia-pkcs11-openssl3.so.{VERSION}",
    )
    assert cached(plan).libraries == (
        *((name, f"{DIRECTORY}/{name}", 64) for name in names),
        ("libcuda.so.1", f"{libs32}/libcuda.so.1", 32),
        (odd.path.rpartition("/")[2], odd.path, 64),
    )
    assert cached(plan).directories == ()
    # Each is there before the cache is written.
    *before, last = plan.operations
    assert isinstance(last, ops.LoaderCache)
    assert {path for _, path, _ in last.libraries} <= {op.path for op in before}


def test_operations_are_complete() -> None:
    by_path = {op.path: op for op in make_plan(HOST, BOTH).operations}
    assert by_path["/proc/driver/nvidia"] == ops.Tmpfs(
        origin="proc", path="/proc/driver/nvidia", mode=0o555, fallback="/proc/driver"
    )
    assert by_path["/proc/driver/nvidia/params"] == ops.WriteFile(
        origin="proc",
        path="/proc/driver/nvidia/params",
        content=b"A: 1\nModifyDeviceFiles: 0\nB: 2\n",
        mode=0o444,
    )
    assert by_path["/usr/bin/nvidia-smi"] == ops.BindMount(
        origin="capability:utility",
        path="/usr/bin/nvidia-smi",
        source=f"{ROOT}/usr/lib/nvidia/current/nvidia-smi",
        options=("ro", "nodev", "nosuid"),
    )
    assert by_path["/run/nvidia-persistenced/socket"] == ops.BindMount(
        origin="capability:utility",
        path="/run/nvidia-persistenced/socket",
        source=f"{ROOT}/run/nvidia-persistenced/socket",
        file_type="socket",
        options=("nodev", "nosuid", "noexec"),
    )
    assert by_path["/proc/driver/nvidia/gpus/0000:01:00.0"] == ops.BindMount(
        origin="gpu:1",
        path="/proc/driver/nvidia/gpus/0000:01:00.0",
        source="/proc/driver/nvidia/gpus/0000:01:00.0",
        file_type="directory",
        options=("ro", "nodev", "nosuid", "noexec"),
    )
    assert by_path[f"{DIRECTORY}/libcuda.so.1"] == ops.Symlink(
        origin="soname",
        path=f"{DIRECTORY}/libcuda.so.1",
        target=f"libcuda.so.{VERSION}",
        overwrite=True,
    )
    assert by_path[f"{DIRECTORY}/libcuda.so"] == ops.Symlink(
        origin="link", path=f"{DIRECTORY}/libcuda.so", target="libcuda.so.1", overwrite=False
    )
    assert by_path["/etc/ld.so.cache"] == ops.LoaderCache(
        origin="loader-cache",
        path="/etc/ld.so.cache",
        libraries=tuple(
            (name, f"{DIRECTORY}/{name}", 64)
            for name in (
                *("libnvidia-ml.so.1", "libcuda.so.1", "libnvidia-ptxjitcompiler.so.1"),
                f"libnvidia-pkcs11-openssl3.so.{VERSION}",
            )
        ),
    )


def test_node_is_bound_where_the_host_has_it() -> None:
    by_path = {op.path: op for op in make_plan(HOST, BOTH).operations}
    assert by_path["/dev/nvidia1"] == ops.DeviceNode(
        origin="gpu:0", path="/dev/nvidia1", major=195, minor=1, source=f"{ROOT}/dev/nvidia1"
    )


def test_uvm_node_is_made_where_the_host_has_none() -> None:
    uvm = HOST.control[1].replace(present=False)
    by_path = {op.path: op for op in make_plan(HOST.replace(control=(uvm,)), BOTH).operations}
    assert by_path["/dev/nvidia-uvm"] == ops.DeviceNode(
        origin="control", path="/dev/nvidia-uvm", major=510, minor=0, source="", mode=0o666
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"gpus": (gpu(0, 7, present=False),)}, "nvidia7"),
        ({"control": (HOST.control[0].replace(present=False),)}, "nvidiactl"),
    ],
)
def test_missing_node_is_refused(changes: dict[str, object], name: str) -> None:
    host = HOST.replace(**changes)
    with pytest.raises(libnvc.MissingDeviceError) as failure:
        make_plan(host, BOTH)
    path = f"{ROOT}/dev/{name}"
    assert str(failure.value) == f"stat failed: {path}: no such file or directory"
    assert (failure.value.path, failure.value.errno) == (path, ENOENT)
    assert failure.value.code == "nodes-missing"
    assert "nvidia-modprobe" in failure.value.hint
    make_plan(host, BOTH.replace(device_nodes=False))  # the caller puts the nodes there


def test_only_the_first_modify_device_files_is_changed() -> None:
    content = b"ModifyDeviceFiles: 1\nModifyDeviceFiles: 1\n"
    files = (ProcFile(name="params", content=content, mode=0o444),)
    plan = make_plan(HOST.replace(proc_files=files), Request())
    written = [op.content for op in plan.operations if isinstance(op, ops.WriteFile)]
    assert written == [b"ModifyDeviceFiles: 0\nModifyDeviceFiles: 1\n"]


def test_utility_alone() -> None:
    plan = make_plan(HOST, BOTH.replace(capabilities=("utility",), devices=("0",)))
    assert paths(plan, ops.BindMount) == [
        "/usr/bin/nvidia-smi",
        f"{DIRECTORY}/libnvidia-ml.so.{VERSION}",
        f"/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin",
        "/run/nvidia-persistenced/socket",
        "/proc/driver/nvidia/gpus/0000:00:00.0",
    ]
    assert paths(plan, ops.Symlink) == [f"{DIRECTORY}/libnvidia-ml.so.1"]
    assert rules(plan) == [("control", 195, 255, "rw"), ("gpu:0", 195, 1, "rw")]


def test_compute_alone() -> None:
    plan = make_plan(HOST, BOTH.replace(capabilities=("compute",), devices=("1",)))
    assert paths(plan, ops.BindMount) == [
        "/usr/bin/nvidia-cuda-mps-control",
        f"{DIRECTORY}/libcuda.so.{VERSION}",
        f"{DIRECTORY}/libnvidia-ptxjitcompiler.so.{VERSION}",
        f"{DIRECTORY}/libnvidia-pkcs11-openssl3.so.{VERSION}",
        f"/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin",
        "/tmp/nvidia-mps",
        "/proc/driver/nvidia/gpus/0000:01:00.0",
    ]
    assert rules(plan) == [
        ("control", 195, 255, "rw"),
        ("control", 510, 0, "rw"),
        ("control", 510, 1, "rw"),
        ("gpu:1", 195, 0, "rw"),
    ]


def test_nothing_asked_for() -> None:
    plan = make_plan(HOST, Request())
    assert paths(plan, ops.BindMount) == [f"/lib/firmware/nvidia/{VERSION}/gsp_tu10x.bin"]
    assert paths(plan, ops.DeviceNode) == ["/dev/nvidiactl"]
    assert (cached(plan).libraries, cached(plan).directories) == ((), ())


def test_switches() -> None:
    no_nodes = make_plan(HOST, BOTH.replace(device_nodes=False))
    assert paths(no_nodes, ops.DeviceNode) == []
    assert len(rules(no_nodes)) == 5
    no_rules = make_plan(HOST, BOTH.replace(device_rules=False))
    assert len(paths(no_rules, ops.DeviceNode)) == 5
    assert rules(no_rules) == []
    assert paths(make_plan(HOST, BOTH.replace(loader_cache=False)), ops.LoaderCache) == []


def test_missing_uvm_is_told_with_its_remedy() -> None:
    host = HOST.replace(control=HOST.control[:1])
    warnings = make_plan(host, BOTH).warnings
    assert len(warnings) == 2
    assert "/dev/nvidia-uvm" in warnings[1]
    assert "nvidia-modprobe -u -c=0" in warnings[1]
    assert make_plan(host, BOTH.replace(capabilities=("utility",))).warnings == HOST.warnings


def test_missing_libcuda_is_told() -> None:
    plan = make_plan(HOST.replace(libraries=HOST.libraries[:1], binaries=()), BOTH)
    assert plan.warnings[1:] == (
        "utility: the driver has no nvidia-smi: install its utilities",
        "compute: the driver has no libcuda.so, libnvidia-ptxjitcompiler.so: "
        "install its CUDA libraries",
    )


def test_same_place_is_used_once() -> None:
    """The first wins; a second file of that name, or a link over a file, is left out."""
    twin = DriverFile(path="/opt/nvidia-smi", kind="binary")
    clash = library("libnvidia-cfg.so", f"libcuda.so.{VERSION}")
    host = HOST.replace(binaries=(*HOST.binaries, twin), libraries=(*HOST.libraries, clash))
    placed = [op for op in make_plan(host, BOTH).operations if op.path]
    assert len({op.path for op in placed}) == len(placed)
    by_path = {op.path: op for op in placed}
    assert isinstance(by_path[f"{DIRECTORY}/libcuda.so.{VERSION}"], ops.BindMount)


@pytest.mark.parametrize("soname", ["", ".", "..", "a/b", "/etc/passwd"])
def test_soname_that_is_no_file_name_makes_no_link(soname: str) -> None:
    host = HOST.replace(libraries=(library("libnvidia-ml.so", soname),))
    assert paths(make_plan(host, BOTH), ops.Symlink) == []


def test_unknown_capability() -> None:
    with pytest.raises(libnvc.RequestError) as failure:
        make_plan(HOST, Request(capabilities=("utility", "tensor")))
    assert str(failure.value) == "tensor: unknown capability"


@pytest.mark.parametrize("path", ["", "usr/bin", "/usr/\nbin", "/usr/\0bin", "/a/../b", "/\x7f"])
@pytest.mark.parametrize("field", ["bins_dir", "libs_dir", "libs32_dir"])
def test_odd_directories_are_refused(field: str, path: str) -> None:
    with pytest.raises(libnvc.RequestError) as failure:
        make_plan(HOST, Request(layout=Layout().replace(**{field: path})))
    assert str(failure.value).startswith("invalid path: ")
    assert "\n" not in str(failure.value)
    assert failure.value.path == path


@pytest.mark.parametrize(
    "changes",
    [
        {"root": "/run/nv\nidia"},
        {"root": "relative"},
        {"proc": "proc"},
        {"libraries": (Library(path="lib.so", name="libcuda.so", soname=""),)},
        {"binaries": (DriverFile(path="/bin/\x01", kind="binary"),)},
        {"firmware": (DriverFile(path="/a", kind="firmware", target="b"),)},
        {"ipcs": (DriverFile(path="/../a", kind="ipc", target="/a"),)},
        {"control": (DeviceFile(path="dev", major=1, minor=1),)},
        {"gpus": (gpu(0, 0).replace(proc_dir="../.."),)},
        {"proc_files": (ProcFile(name="a\nb", content=b"", mode=0),)},
    ],
)
def test_odd_paths_of_the_host_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(libnvc.DiscoveryError) as failure:
        make_plan(HOST.replace(**changes), BOTH)
    assert str(failure.value).startswith("invalid path: ")
    assert "\n" not in str(failure.value)


def test_odd_but_legal_bytes_pass() -> None:
    """File names need not be UTF-8."""
    name = "/usr/lib/\udcff x/libcuda.so." + VERSION
    host = HOST.replace(libraries=(Library(path=name, name="libcuda.so", soname=""),))
    sources = [op.source for op in make_plan(host, BOTH).operations if hasattr(op, "source")]
    assert ROOT + name in sources
