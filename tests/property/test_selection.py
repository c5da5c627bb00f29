# SPDX-License-Identifier: Apache-2.0
"""What every plan keeps to, for hosts and requests of all kinds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libnvc
from libnvc import plan as ops
from libnvc._discover.tables import BINARIES, LIBRARIES
from libnvc._planner.build import make_plan
from libnvc._planner.select import select
from libnvc.model import (
    CAPABILITIES,
    Capability,
    DeviceFile,
    DriverFile,
    Gpu,
    Inventory,
    Layout,
    Library,
    Mig,
    MigDevice,
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


def make_capability(path: str, minor: int | None) -> Capability:
    device = None
    if minor is not None:
        device = DeviceFile(path=f"/dev/nvidia-caps/nvidia-cap{minor}", major=511, minor=minor)
    return Capability(path=f"capabilities/{path}", device=device)


def make_mig(gpu: Gpu, index: int, instances: tuple[int, int], *, devices: bool) -> MigDevice:
    """Make a MIG device as the driver numbers them: docs/simulated-driver.md."""
    instance, part = instances
    first = 3 + 135 * gpu.minor + 9 * instance
    path = f"gpu{gpu.minor}/mig/gi{instance}"
    return MigDevice(
        index=index,
        gpu_instance=instance,
        compute_instance=part,
        gpu_access=make_capability(f"{path}/access", first if devices else None),
        compute_access=make_capability(
            f"{path}/ci{part}/access", first + 1 + part if devices else None
        ),
        uuid=f"MIG-{gpu.minor:08x}-0000-4000-8000-{instance:06x}{part:06x}",
    )


@st.composite
def gpu_lists(draw: st.DrawFn, *, devices: bool) -> tuple[Gpu, ...]:
    """Draw GPUs, with minors in another order than their addresses, some of them divided."""
    count = draw(st.one_of(st.integers(0, 8), st.just(128)))
    step = draw(st.integers(1, 0x1FFFF))
    minors = draw(st.permutations(range(count)))
    gpus = []
    for index, minor in enumerate(minors):
        number = index * step
        gpu = make_gpu(index, (number >> 8, number & 0xFF, number % 32), minor)
        if index < 8 and draw(st.booleans()):
            instance = st.tuples(st.integers(0, 14), st.integers(0, 7))
            instances = sorted(draw(st.sets(instance, max_size=4)))
            holes = draw(st.integers(0, 3))
            migs = [
                make_mig(gpu, place + holes, pair, devices=devices)
                for place, pair in enumerate(instances)
            ]
            gpu = gpu.replace(mig_capable=True, mig_devices=tuple(migs))
        gpus.append(gpu)
    return tuple(gpus)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    def some(names: dict[str, tuple[str, ...]]) -> list[str]:
        every = dict.fromkeys(name for group in names.values() for name in group)
        return [name for name in every if draw(st.booleans())]

    uvm = draw(st.integers(200, 510))
    devices = draw(st.booleans())
    gpus = draw(gpu_lists(devices=devices))
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
        gpus=gpus,
        control=tuple(device for device in control if draw(st.integers(0, 4))),
        libraries=tuple(
            Library(
                path=f"{draw(st.sampled_from(['/usr/lib', '/opt']))}/{name}.{VERSION}",
                name=name,
                soname=draw(st.sampled_from([f"{name}.1", f"{name}.{VERSION}", "", "libx.so"])),
                bits=bits,
            )
            for bits in (64, 32)
            for name in some(LIBRARIES)
        ),
        binaries=tuple(
            DriverFile(path=f"/usr/bin/{name}", kind="binary") for name in some(BINARIES)
        ),
        firmware=(),
        ipcs=(),
        proc_files=(ProcFile(name="params", content=b"ModifyDeviceFiles: 1\n", mode=0o444),),
        mig=Mig(
            config=make_capability("mig/config", 1 if devices else None),
            monitor=make_capability("mig/monitor", 2 if devices else None),
            minors=tuple(
                (gpu.minor, 3 + 135 * gpu.minor + place) for gpu in gpus for place in range(135)
            ),
            major=511 if devices else None,
        ),
        imex_channels=tuple(
            DeviceFile(path=f"/dev/nvidia-caps-imex-channels/channel{n}", major=509, minor=n)
            for n in range(draw(st.integers(0, 4)))
        ),
    )


JUNK = st.one_of(
    st.text(max_size=8).filter(lambda text: "," not in text),
    st.text("0123456789abcdefABCDEF:.+ ", max_size=8),
    st.sampled_from(["none", "void", "0:9", "MIG-1", "MIG-", "GPU-", "-1", "999", "0x0"]),
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


def mig_spellings(gpu: Gpu, mig: MigDevice) -> Iterator[str]:
    """Yield ways to name a MIG device."""
    yield f"{gpu.index}:{mig.index}"
    yield mig.uuid
    yield mig.uuid.upper()
    yield f"MIG-{gpu.uuid}/{mig.gpu_instance}/{mig.compute_instance}"


class Wanted(NamedTuple):
    """What a request means, in order of first appearance."""

    gpus: tuple[Gpu, ...]
    migs: tuple[tuple[Gpu, MigDevice], ...]


Case = tuple[Inventory, Request, Wanted]


@st.composite
def hosts_and_requests(draw: st.DrawFn) -> Case:
    """Draw a host, a request it can meet, and the devices the request means."""
    inventory = draw(inventories())
    migs = [(gpu, mig) for gpu in inventory.gpus for mig in gpu.mig_devices]
    names: list[tuple[Gpu, MigDevice | None]] = [(gpu, None) for gpu in inventory.gpus]
    names += migs
    named = draw(st.lists(st.sampled_from(names), max_size=6)) if names else []
    tokens = [
        draw(st.sampled_from(list(spellings(gpu) if mig is None else mig_spellings(gpu, mig))))
        for gpu, mig in named
    ]
    wanted = [gpu for gpu, _ in named]
    divided = [(gpu, mig) for gpu, mig in named if mig is not None]
    everything = draw(st.integers(0, 9)) == 0
    if everything:
        tokens += [draw(st.sampled_from(["all", "ALL", "All"])), *draw(st.lists(JUNK))]
        wanted += inventory.gpus
        divided += migs
    may_control = everything or not divided
    request = Request(
        devices=(",".join(tokens),) if draw(st.booleans()) else tuple(tokens),
        capabilities=tuple(draw(st.lists(st.sampled_from(CAPABILITIES)))),
        mig_config=may_control and draw(st.integers(0, 3)) == 0,
        mig_monitor=may_control and draw(st.integers(0, 3)) == 0,
        imex_channels=tuple(
            draw(st.lists(st.sampled_from(range(len(inventory.imex_channels)))))
            if inventory.imex_channels
            else ()
        ),
        layout=Layout(libs_dir=draw(st.sampled_from(["/usr/lib64", "/usr/lib/"]))),
        device_nodes=draw(st.booleans()),
        device_rules=draw(st.booleans()),
        loader_cache=draw(st.booleans()),
    )
    return inventory, request, Wanted(tuple(dict.fromkeys(wanted)), tuple(dict.fromkeys(divided)))


@given(hosts_and_requests())
def test_selected_is_what_was_named(case: Case) -> None:
    inventory, request, wanted = case
    selection = select(inventory, request.devices)
    assert selection.gpus == wanted.gpus
    assert selection.mig == wanted.migs


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
    divided = tuple(
        (gpu, mig)
        for gpu in inventory.gpus
        for mig in gpu.mig_devices
        if token.upper() in {name.upper() for name in mig_spellings(gpu, mig)}
    )
    if meant or divided:
        selection = select(inventory, (token,))
        assert selection.gpus == (meant or tuple(gpu for gpu, _ in divided))
        assert selection.mig == (() if meant else divided)
    else:
        with pytest.raises(libnvc.UnknownDeviceError, match=r": unknown device$") as failure:
            select(inventory, (token,))
        assert len(str(failure.value).splitlines()) == 1


def allowed_numbers(inventory: Inventory, request: Request, wanted: Wanted) -> set[tuple[int, int]]:
    """Return the device numbers that a request may reach, control devices apart."""
    allowed = {(gpu.device.major, gpu.device.minor) for gpu in wanted.gpus}
    allowed |= {(509, channel) for channel in request.imex_channels}
    capable = {gpu.minor for gpu in wanted.gpus if gpu.mig_capable}
    rights = [right for _, mig in wanted.migs for right in (mig.gpu_access, mig.compute_access)]
    if request.mig_config or request.mig_monitor:
        rights = []
        allowed |= {(511, minor) for gpu, minor in inventory.mig.minors if gpu in capable}
    if request.mig_config and capable and inventory.mig.config:
        rights.append(inventory.mig.config)
    if request.mig_monitor and capable and inventory.mig.monitor:
        rights.append(inventory.mig.monitor)
    return allowed | {(511, right.device.minor) for right in rights if right.device}


@given(hosts_and_requests())
def test_granted_is_within_requested(case: Case) -> None:
    inventory, request, wanted = case
    plan = make_plan(inventory, request)
    allowed = allowed_numbers(inventory, request, wanted)
    control = {(device.major, device.minor) for device in inventory.control}
    granted = set()
    for op in plan.operations:
        if isinstance(op, ops.DeviceNode | ops.DeviceAccess):
            count = op.count if isinstance(op, ops.DeviceAccess) else 1
            numbers = {(op.major, minor) for minor in range(op.minor, op.minor + count)}
            assert numbers <= (control if op.origin == "control" else allowed)
            granted |= numbers - control if isinstance(op, ops.DeviceAccess) else set()
            assert not isinstance(op, ops.DeviceAccess) or op.access == "rw"
            assert (op.major, op.minor) != (195, 254) or "display" in request.capabilities
        if op.path.startswith(f"{PROC}/gpus/"):
            assert op.path.rpartition("/")[2] in {gpu.proc_dir for gpu in wanted.gpus}
    if request.device_rules and (inventory.mig.major or not request.mig_config):
        has_caps = inventory.mig.major is not None
        assert granted - control == {number for number in allowed if has_caps or number[0] != 511}
    nodes = [op.path for op in plan.operations if isinstance(op, ops.DeviceNode)]
    for gpu in wanted.gpus:
        assert (gpu.device.path in nodes) == request.device_nodes
    if not {"compute", "video"} & set(request.capabilities):
        assert not any("uvm" in path for path in nodes)


@given(hosts_and_requests())
def test_rights_are_those_of_the_mig_devices(case: Case) -> None:
    """Each MIG device brings its two files; configuring or watching brings the whole directory."""
    inventory, request, wanted = case
    prefix = f"{PROC}/capabilities"
    paths = {op.path for op in make_plan(inventory, request).operations if prefix in op.path}
    if request.mig_config or request.mig_monitor:
        assert paths == ({prefix} if any(gpu.mig_capable for gpu in wanted.gpus) else set())
    else:
        rights = {r for _, mig in wanted.migs for r in (mig.gpu_access, mig.compute_access)}
        assert paths == {f"{PROC}/{right.path}" for right in rights}


@given(hosts_and_requests().filter(lambda case: case[2].migs), st.booleans())
def test_one_cannot_configure_mig_with_specific_devices(case: Case, monitor: bool) -> None:
    inventory, request, _ = case
    if select(inventory, request.devices).everything:
        return
    name, error = (
        ("monitor", libnvc.MigMonitorError) if monitor else ("config", libnvc.MigConfigError)
    )
    with pytest.raises(error) as failure:
        make_plan(inventory, request.replace(mig_config=not monitor, mig_monitor=monitor))
    assert str(failure.value) == (
        f"all: cannot enable mig-{name} with specific MIG devices selected"
    )


@given(inventories(), st.integers(0, 2**20 - 1))
def test_imex_channel_that_is_not_there_is_refused(inventory: Inventory, channel: int) -> None:
    request = Request(imex_channels=(channel,))
    path = f"{inventory.root}/dev/nvidia-caps-imex-channels/channel{channel}"
    if channel < len(inventory.imex_channels):
        assert channel in {
            op.minor
            for op in make_plan(inventory, request).operations
            if isinstance(op, ops.DeviceNode)
        }
        return
    with pytest.raises(libnvc.MissingDeviceError) as failure:
        make_plan(inventory, request)
    assert str(failure.value) == f"stat failed: {path}: no such file or directory"


@given(hosts_and_requests())
def test_files_are_those_of_the_capabilities(
    case: Case,
) -> None:
    inventory, request, _ = case
    rows = {"display": ("graphics",), "video": ("video", "compute")}  # of libraries
    prefixes = [
        *(
            name
            for capability in request.capabilities
            for row in rows.get(capability, (capability,))
            for name in LIBRARIES.get(row, ())
        ),
        *(name for capability in request.capabilities for name in BINARIES.get(capability, ())),
    ]
    files: list[Library | DriverFile] = [*inventory.libraries, *inventory.binaries]
    expected = {
        inventory.root + file.path
        for file in files
        if file.path.rpartition("/")[2].startswith(tuple(prefixes))
        and (getattr(file, "bits", 64) == 64 or "compat32" in request.capabilities)
    }
    mounted = {
        op.source
        for op in make_plan(inventory, request).operations
        if isinstance(op, ops.BindMount) and op.origin.startswith("capability:")
    }
    assert mounted == (expected if prefixes else set())


@given(hosts_and_requests())
def test_plan_is_deterministic(case: Case) -> None:
    inventory, request, _ = case
    plan = make_plan(inventory, request)
    assert make_plan(inventory, request).to_json() == plan.to_json()
    shuffled = request.replace(capabilities=request.capabilities[::-1])
    assert make_plan(inventory, shuffled) == plan


@given(hosts_and_requests())
def test_places_are_unique_and_parents_come_first(
    case: Case,
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
    case: Case,
) -> None:
    inventory, request, _ = case
    for op in make_plan(inventory, request).operations:
        source = op.source if isinstance(op, ops.BindMount | ops.DeviceNode) else ""
        assert source == "" or source.startswith((f"{inventory.root}/", f"{inventory.proc}/"))
        assert source.startswith(f"{inventory.proc}/") == (
            isinstance(op, ops.BindMount) and op.path.startswith(f"{PROC}/")
        )
        assert "/../" not in source


@given(hosts_and_requests())
def test_links_lead_to_something_mounted(
    case: Case,
) -> None:
    inventory, request, _ = case
    plan = make_plan(inventory, request)
    placed = {op.path for op in plan.operations if isinstance(op, ops.BindMount | ops.Symlink)}
    for op in plan.operations:
        if isinstance(op, ops.Symlink) and op.origin == "soname":
            assert f"{op.path.rpartition('/')[0]}/{op.target}" in placed


@given(hosts_and_requests())
def test_another_root_changes_sources_only(
    case: Case,
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
