# SPDX-License-Identifier: Apache-2.0
"""MIG devices: which one a selector means, and what configuring them takes."""

from __future__ import annotations

import pytest

import libnvc
from libnvc import plan as ops
from libnvc._planner.build import make_plan
from libnvc._planner.select import select
from libnvc.model import Capability, DeviceFile, Gpu, Inventory, Mig, MigDevice, Request

PROC = "/proc/driver/nvidia"
OPTIONS = ("ro", "nodev", "nosuid", "noexec")


def right(path: str, minor: int) -> Capability:
    node = DeviceFile(path=f"/dev/nvidia-caps/nvidia-cap{minor}", major=511, minor=minor)
    return Capability(path=f"capabilities/{path}", device=node)


def mig(minor: int, index: int, instance: int, part: int, uuid: str = "") -> MigDevice:
    first = 3 + 135 * minor + 9 * instance
    path = f"gpu{minor}/mig/gi{instance}"
    return MigDevice(
        index=index,
        gpu_instance=instance,
        compute_instance=part,
        gpu_access=right(f"{path}/access", first),
        compute_access=right(f"{path}/ci{part}/access", first + 1 + part),
        uuid=uuid,
    )


def gpu(index: int, minor: int, *migs: MigDevice, capable: bool = True) -> Gpu:
    return Gpu(
        index=index,
        minor=minor,
        uuid=f"GPU-{index}",
        pci=f"00000000:{index:02x}:00.0",
        model="X",
        device=DeviceFile(path=f"/dev/nvidia{minor}", major=195, minor=minor),
        mig_capable=capable,
        mig_devices=migs,
    )


# NVML's index 0 of GPU 0 was destroyed; minors are not in the order of the addresses.
HOST = Inventory(
    root="",
    proc=PROC,
    driver_version="535.261.03",
    gpus=(
        gpu(0, 1, mig(1, 1, 2, 0, "MIG-aa"), mig(1, 2, 2, 1, "MIG-bb")),
        gpu(1, 0, mig(0, 0, 1, 0)),
        gpu(2, 2, capable=False),
    ),
    control=(),
    libraries=(),
    binaries=(),
    firmware=(),
    ipcs=(),
    proc_files=(),
    mig=Mig(
        config=right("mig/config", 1),
        monitor=right("mig/monitor", 2),
        minors=((0, 3), (0, 4), (0, 5), (1, 138), (1, 140), (2, 273)),
        major=511,
    ),
)


def with_uuids(uuid: str) -> Inventory:
    """Return the host with that as the UUID of all MIG devices."""
    return HOST.replace(
        gpus=tuple(
            gpu.replace(mig_devices=tuple(mig.replace(uuid=uuid) for mig in gpu.mig_devices))
            for gpu in HOST.gpus
        )
    )


@pytest.mark.parametrize(
    ("selector", "gpus", "migs"),
    [
        ("0:1", [0], [(0, 1)]),
        ("0:2,0:1", [0], [(0, 2), (0, 1)]),
        ("MIG-aa", [0], [(0, 1)]),
        ("mig-AA", [0], [(0, 1)]),
        ("MIG-GPU-0/2/1", [0], [(0, 2)]),
        ("MIG-GPU-1/1/0", [1], [(1, 0)]),
        ("0", [0], []),  # a GPU alone does not bring its MIG devices
        ("0,0:1", [0], [(0, 1)]),
        ("all", [0, 1, 2], [(0, 1), (0, 2), (1, 0)]),
        ("2,1:0,all,junk", [2, 1, 0], [(1, 0), (0, 1), (0, 2)]),
    ],
)
def test_selected(selector: str, gpus: list[int], migs: list[tuple[int, int]]) -> None:
    selection = select(HOST, (selector,))
    assert [gpu.index for gpu in selection.gpus] == gpus
    assert [(gpu.index, mig.index) for gpu, mig in selection.mig] == migs
    assert selection.everything == ("all" in selector)


@pytest.mark.parametrize(
    "selector",
    [
        *("0:0", "0:3", "2:0", "3:0", ":1", "0:", "0:1:", "0:1x", "0:-1", "0: 1x"),
        *("MIG-", "MIG-a", "MIG-aax", "MIG-GPU-0/2/2", "MIG-GPU-0/2", "MIG-/2/0"),
    ],
)
def test_unknown(selector: str) -> None:
    with pytest.raises(libnvc.UnknownDeviceError) as failure:
        select(HOST, (selector,))
    assert str(failure.value) == f"{selector}: unknown device"
    assert failure.value.code == "unknown-device"
    assert failure.value.hint == (
        "GPUs are numbered 0 to 2 here; MIG devices are 0:1, 0:2, 1:0; "
        "nvidia-smi -L on the host shows their UUIDs"
    )


@pytest.mark.parametrize(
    ("selectors", "needed"),
    [
        ((), False),
        (("0,1", "all"), False),
        (("GPU-1", "0000:07:00.0", "0:7:0"), False),
        (("MIG-GPU-0/2/1",), False),
        (("0,MIG-aa",), True),
        (("mig-aa",), True),
        (("1", "0:1"), True),
        (("GPU-9",), False),
    ],
)
def test_what_only_nvml_can_tell(selectors: tuple[str, ...], needed: bool) -> None:
    request = Request(devices=selectors)
    assert libnvc.needs_probe(request, with_uuids("")) == needed
    assert not libnvc.needs_probe(request, with_uuids("MIG-aa"))  # it has told


@pytest.mark.parametrize("selectors", [("0:1",), ("MIG-aa",)])
def test_a_host_without_mig_devices_has_none_to_tell(selectors: tuple[str, ...]) -> None:
    gpus = tuple(gpu.replace(mig_devices=()) for gpu in HOST.gpus)
    assert not libnvc.needs_probe(Request(devices=selectors), HOST.replace(gpus=gpus))


@pytest.mark.parametrize(
    ("selector", "needed"), [("GPU-1", True), ("gpu-0", False), ("0", False), ("all", False)]
)
def test_the_uuid_of_a_gpu_that_is_not_initialised(selector: str, needed: bool) -> None:
    gpus = tuple(gpu.replace(uuid="" if gpu.index else gpu.uuid) for gpu in HOST.gpus)
    request = Request(devices=(selector,))
    assert libnvc.needs_probe(request, HOST.replace(gpus=gpus)) == needed


def rules(plan: ops.Plan) -> list[tuple[int, int, int]]:
    found = [op for op in plan.operations if isinstance(op, ops.DeviceAccess)]
    return [(op.major, op.minor, op.count) for op in found]


def test_mig_device_brings_its_rights() -> None:
    plan = make_plan(HOST, Request(devices=("0:2",), loader_cache=False))
    path = f"{PROC}/capabilities/gpu1/mig/gi2"
    origin = "mig:0:2"
    assert [op for op in plan.operations if op.origin == origin] == [
        ops.BindMount(
            origin=origin, path=f"{path}/access", source=f"{path}/access", options=OPTIONS
        ),
        ops.DeviceNode(
            origin=origin,
            path="/dev/nvidia-caps/nvidia-cap156",
            major=511,
            minor=156,
            source="/dev/nvidia-caps/nvidia-cap156",
        ),
        ops.DeviceAccess(origin=origin, path="", major=511, minor=156),
        ops.BindMount(
            origin=origin,
            path=f"{path}/ci1/access",
            source=f"{path}/ci1/access",
            options=OPTIONS,
        ),
        ops.DeviceNode(
            origin=origin,
            path="/dev/nvidia-caps/nvidia-cap158",
            major=511,
            minor=158,
            source="/dev/nvidia-caps/nvidia-cap158",
        ),
        ops.DeviceAccess(origin=origin, path="", major=511, minor=158),
    ]
    assert (195, 1, 1) in rules(plan)  # and the GPU it is part of


def test_rights_to_configure() -> None:
    plan = make_plan(HOST, Request(devices=("all",), mig_config=True, mig_monitor=True))
    placed = {op.path: op for op in plan.operations if op.origin.startswith("mig-")}
    directory = f"{PROC}/capabilities"
    assert placed[directory] == ops.BindMount(
        origin="mig-config",
        path=directory,
        source=directory,
        file_type="directory",
        options=OPTIONS,
    )
    assert placed["/dev/nvidia-caps"] == ops.BindMount(
        origin="mig-config",
        path="/dev/nvidia-caps",
        source="/dev/nvidia-caps",
        file_type="directory",
        options=("nosuid", "noexec"),
    )
    # Of the two GPUs that can be divided, neighbours as one rule.
    every = [(511, 3, 3), (511, 138, 1), (511, 140, 1)]
    assert [rule for rule in rules(plan) if rule[0] == 511] == [
        (511, 1, 1),
        *every,
        (511, 2, 1),
        *every,
    ]
    assert not [op for op in plan.operations if op.origin.startswith("mig:")]


def test_mixed_rights_are_refused_before_requirements_are_looked_at() -> None:
    request = Request(devices=("1:0",), mig_config=True, requirements=("driver>1000",))
    with pytest.raises(libnvc.MigConfigError) as refused:
        make_plan(HOST, request)
    text = "all: cannot enable mig-config with specific MIG devices selected"
    assert str(refused.value) == text


def test_nothing_to_configure() -> None:
    """As in the reference: no error where no GPU can be divided."""
    plan = make_plan(HOST, Request(devices=("2",), mig_config=True))
    assert not [op for op in plan.operations if op.origin.startswith("mig")]


def test_module_without_capability_devices() -> None:
    bare = HOST.gpus[1].replace(
        mig_devices=(
            HOST.gpus[1]
            .mig_devices[0]
            .replace(
                gpu_access=Capability(path="capabilities/gpu0/mig/gi1/access"),
                compute_access=Capability(path="capabilities/gpu0/mig/gi1/ci0/access"),
            ),
        )
    )
    host = HOST.replace(
        gpus=(bare,), mig=Mig(config=Capability(path="capabilities/mig/config"), minors=())
    )
    plan = make_plan(host, Request(devices=("1:0",)))
    assert [op.path for op in plan.operations if op.origin == "mig:1:0"] == [
        f"{PROC}/capabilities/gpu0/mig/gi1/access",
        f"{PROC}/capabilities/gpu0/mig/gi1/ci0/access",
    ]
    plan = make_plan(host, Request(devices=("1",), mig_config=True))
    assert [op.path for op in plan.operations if op.origin == "mig-config"] == [
        f"{PROC}/capabilities"
    ]
