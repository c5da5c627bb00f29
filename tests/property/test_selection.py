# SPDX-License-Identifier: Apache-2.0
"""What every plan keeps to, for hosts and requests of all kinds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libnvc
from libnvc import plan as ops
from libnvc._discover.tables import BINARIES, LIBRARIES
from libnvc._planner import make_plan, select
from libnvc.model import (
    CAPABILITIES,
    DeviceFile,
    DriverFile,
    Gpu,
    Inventory,
    Layout,
    Library,
    ProcFile,
    Request,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

VERSION = "535.261.03"
PROC = "/proc/driver/nvidia"


def make_gpu(index: int, pci: tuple[int, int, int], minor: int) -> Gpu:
    domain, bus, device = pci
    return Gpu(
        index=index,
        minor=minor,
        uuid=f"GPU-{minor:08x}-04cf-1ccf-9e70-f139a9b1e23c",
        pci=f"{domain:08x}:{bus:02x}:{device:02x}.0",
        model="X",
        device=DeviceFile(path=f"/dev/nvidia{minor}", major=195, minor=minor),
        proc_dir=f"{domain:04x}:{bus:02x}:{device:02x}.0",
    )


@st.composite
def gpu_lists(draw: st.DrawFn) -> tuple[Gpu, ...]:
    address = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 31))
    addresses = sorted(draw(st.sets(address, max_size=16)))
    minors = draw(st.permutations(range(len(addresses))))
    return tuple(make_gpu(index, pci, minors[index]) for index, pci in enumerate(addresses))


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    def some(names: dict[str, tuple[str, ...]]) -> list[str]:
        every = [name for group in names.values() for name in group]
        return [name for name in every if draw(st.booleans())]

    uvm = draw(st.integers(200, 511))
    control = [
        DeviceFile(path="/dev/nvidiactl", major=195, minor=255),
        DeviceFile(path="/dev/nvidia-uvm", major=uvm, minor=0),
        DeviceFile(path="/dev/nvidia-uvm-tools", major=uvm, minor=1),
        DeviceFile(path="/dev/nvidia-modeset", major=195, minor=254),
    ]
    return Inventory(
        root=draw(st.sampled_from(["", "/run/nvidia/driver"])),
        proc=draw(st.sampled_from([PROC, f"/run/nvidia/driver{PROC}"])),
        driver_version=VERSION,
        gpus=draw(gpu_lists()),
        control=tuple(device for device in control if draw(st.integers(0, 4))),
        libraries=tuple(
            Library(
                path=f"{draw(st.sampled_from(['/usr/lib', '/opt']))}/{name}.{VERSION}",
                name=name,
                soname=draw(st.sampled_from([f"{name}.1", f"{name}.{VERSION}", "", "libx.so"])),
            )
            for name in some(LIBRARIES)
        ),
        binaries=tuple(
            DriverFile(path=f"/usr/bin/{name}", kind="binary") for name in some(BINARIES)
        ),
        firmware=(),
        ipcs=(),
        proc_files=(ProcFile(name="params", content=b"ModifyDeviceFiles: 1\n", mode=0o444),),
    )


JUNK = st.one_of(
    st.text(max_size=8).filter(lambda text: "," not in text),
    st.text("0123456789abcdefABCDEF:.+ ", max_size=8),
    st.sampled_from(["none", "void", "0:0", "MIG-1", "GPU-", "-1", "99", "0x0"]),
)


def spellings(gpu: Gpu) -> Iterator[str]:
    """Yield ways to name a GPU."""
    domain, bus, device = (int(part, 16) for part in gpu.pci.split(".")[0].split(":"))
    yield str(gpu.index)
    yield f"0{gpu.index}"
    yield gpu.uuid
    yield gpu.uuid.upper()
    yield gpu.pci
    yield f"{domain:x}:{bus:X}:{device:x}.7"


@st.composite
def hosts_and_requests(draw: st.DrawFn) -> tuple[Inventory, Request, tuple[Gpu, ...]]:
    """Draw a host, a request it can meet, and the GPUs the request means."""
    inventory = draw(inventories())
    wanted = draw(st.lists(st.sampled_from(inventory.gpus))) if inventory.gpus else []
    tokens = [draw(st.sampled_from(list(spellings(gpu)))) for gpu in wanted]
    if draw(st.integers(0, 9)) == 0:
        tokens += [draw(st.sampled_from(["all", "ALL", "All"])), *draw(st.lists(JUNK))]
        wanted += inventory.gpus
    request = Request(
        devices=(",".join(tokens),) if draw(st.booleans()) else tuple(tokens),
        capabilities=tuple(draw(st.lists(st.sampled_from(CAPABILITIES)))),
        layout=Layout(libs_dir=draw(st.sampled_from(["/usr/lib64", "/usr/lib/"]))),
        device_nodes=draw(st.booleans()),
        device_rules=draw(st.booleans()),
        loader_cache=draw(st.booleans()),
    )
    return inventory, request, tuple(dict.fromkeys(wanted))


@given(hosts_and_requests())
def test_selected_is_what_was_named(case: tuple[Inventory, Request, tuple[Gpu, ...]]) -> None:
    inventory, request, wanted = case
    assert select(inventory, request.devices).gpus == wanted


def means(token: str, gpu: Gpu) -> bool:
    """Tell by the documented forms whether a token names a GPU."""
    if token.lower() in ("all", gpu.uuid.lower()):
        return True
    digit = "[0-9a-fA-F]"
    pci = re.match(f"({digit}{{1,8}}):({digit}{{1,2}}):({digit}{{1,2}})", token)
    if pci:
        domain, bus, device = (int(part, 16) for part in pci.groups())
        return gpu.pci == f"{domain:08x}:{bus:02x}:{device:02x}.0"
    index = re.fullmatch(r"[ \t\n\v\f\r]*\+?([0-9]+)", token)
    return index is not None and int(index[1]) == gpu.index


@given(inventories().filter(lambda inventory: inventory.gpus), JUNK.filter(bool))
def test_a_token_is_one_of_the_forms_or_refused(inventory: Inventory, token: str) -> None:
    meant = tuple(gpu for gpu in inventory.gpus if means(token, gpu))
    if meant:
        assert select(inventory, (token,)).gpus == meant
    else:
        with pytest.raises(libnvc.UnknownDeviceError, match=r": unknown device$") as failure:
            select(inventory, (token,))
        assert len(str(failure.value).splitlines()) == 1


@given(hosts_and_requests())
def test_granted_is_within_requested(case: tuple[Inventory, Request, tuple[Gpu, ...]]) -> None:
    inventory, request, wanted = case
    plan = make_plan(inventory, request)
    allowed = {(gpu.device.major, gpu.device.minor) for gpu in wanted}
    control = {(device.major, device.minor) for device in inventory.control}
    for op in plan.operations:
        if isinstance(op, ops.DeviceNode | ops.DeviceAccess):
            number = (op.major, op.minor)
            assert number in (control if op.origin == "control" else allowed)
            assert not isinstance(op, ops.DeviceAccess) or op.access == "rw"
            assert op.minor != 254 or "display" in request.capabilities
        if op.path.startswith(f"{PROC}/gpus/"):
            assert op.path.rpartition("/")[2] in {gpu.proc_dir for gpu in wanted}
    nodes = [op.path for op in plan.operations if isinstance(op, ops.DeviceNode)]
    for gpu in wanted:
        assert (gpu.device.path in nodes) == request.device_nodes
    if not {"compute", "video"} & set(request.capabilities):
        assert not any("uvm" in path for path in nodes)


@given(hosts_and_requests())
def test_files_are_those_of_the_capabilities(
    case: tuple[Inventory, Request, tuple[Gpu, ...]],
) -> None:
    inventory, request, _ = case
    rows = {"display": ("graphics",), "video": ("video", "compute")}  # of libraries
    prefixes = [
        *(
            name
            for capability in request.capabilities
            for row in rows.get(capability, (capability,))
            for name in LIBRARIES[row]
        ),
        *(name for capability in request.capabilities for name in BINARIES.get(capability, ())),
    ]
    files: list[Library | DriverFile] = [*inventory.libraries, *inventory.binaries]
    expected = {
        inventory.root + file.path
        for file in files
        if file.path.rpartition("/")[2].startswith(tuple(prefixes))
    }
    mounted = {
        op.source
        for op in make_plan(inventory, request).operations
        if isinstance(op, ops.BindMount) and op.origin.startswith("capability:")
    }
    assert mounted == (expected if prefixes else set())


@given(hosts_and_requests())
def test_plan_is_deterministic(case: tuple[Inventory, Request, tuple[Gpu, ...]]) -> None:
    inventory, request, _ = case
    plan = make_plan(inventory, request)
    assert make_plan(inventory, request).to_json() == plan.to_json()
    shuffled = request.replace(capabilities=request.capabilities[::-1])
    assert make_plan(inventory, shuffled) == plan


@given(hosts_and_requests())
def test_places_are_unique_and_parents_come_first(
    case: tuple[Inventory, Request, tuple[Gpu, ...]],
) -> None:
    inventory, request, _ = case
    seen: list[str] = []
    for op in make_plan(inventory, request).operations:
        if op.path:
            assert op.path.startswith("/")
            assert "//" not in op.path
            assert op.path not in seen
            # What is mounted later must not hide what was put below it earlier.
            assert not any(path.startswith(f"{op.path}/") for path in seen)
            seen.append(op.path)


@given(hosts_and_requests())
def test_sources_lie_under_the_root_or_procfs(
    case: tuple[Inventory, Request, tuple[Gpu, ...]],
) -> None:
    inventory, request, _ = case
    for op in make_plan(inventory, request).operations:
        source = op.source if isinstance(op, ops.BindMount | ops.DeviceNode) else ""
        assert source == "" or source.startswith((f"{inventory.root}/", f"{inventory.proc}/"))
        assert source.startswith(f"{inventory.proc}/") == op.path.startswith(f"{PROC}/gpus/")
        assert "/../" not in source


@given(hosts_and_requests())
def test_links_lead_to_something_mounted(
    case: tuple[Inventory, Request, tuple[Gpu, ...]],
) -> None:
    inventory, request, _ = case
    plan = make_plan(inventory, request)
    placed = {op.path for op in plan.operations if isinstance(op, ops.BindMount | ops.Symlink)}
    for op in plan.operations:
        if isinstance(op, ops.Symlink) and op.origin == "soname":
            assert f"{op.path.rpartition('/')[0]}/{op.target}" in placed


@given(hosts_and_requests())
def test_another_root_changes_sources_only(
    case: tuple[Inventory, Request, tuple[Gpu, ...]],
) -> None:
    inventory, request, _ = case
    moved = make_plan(inventory.replace(root="/moved"), request)
    assert [_unrooted(op, "/moved") for op in moved.operations] == [
        _unrooted(op, inventory.root) for op in make_plan(inventory, request).operations
    ]


def _unrooted(op: ops.Operation, root: str) -> ops.Operation:
    if isinstance(op, ops.BindMount | ops.DeviceNode) and not op.path.startswith(f"{PROC}/"):
        return op.replace(source=op.source.removeprefix(root))
    return op
