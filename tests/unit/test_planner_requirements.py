# SPDX-License-Identifier: Apache-2.0
"""Requirement expressions: what holds, what does not, what is no expression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import libnvc
from libnvc._planner.requirements import check_requirements
from libnvc.model import DeviceFile, Gpu, Inventory

ADVICE = ", please update your driver to a newer version, or use an earlier cuda container"


def gpu(arch: str = "8.0", brand: str = "Tesla") -> Gpu:
    node = DeviceFile(path="/dev/nvidia0", major=195, minor=0)
    return Gpu(
        index=0, minor=0, uuid="GPU-0", pci="", model="", device=node, brand=brand, arch=arch
    )


def host(driver: str = "535.261.03", cuda: str = "12.2") -> Inventory:
    return Inventory(
        root="",
        proc="",
        driver_version=driver,
        cuda_version=cuda,
        gpus=(),
        control=(),
        libraries=(),
        binaries=(),
        firmware=(),
        ipcs=(),
        proc_files=(),
    )


def check(*texts: str, gpus: tuple[Gpu, ...] = (gpu(),), cuda: str = "12.2") -> None:
    facts = [(gpu.arch, gpu.brand) for gpu in gpus]
    check_requirements(texts, cuda=cuda, driver=host().driver_version, gpus=facts)


def holds(*texts: str, gpus: tuple[Gpu, ...] = (gpu(),)) -> bool:
    try:
        check(*texts, gpus=gpus)
    except libnvc.RequirementError as error:
        assert str(error).startswith("unsatisfied condition: ")
        return False
    return True


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "cuda>=12.2",
        "cuda>12",
        "CUDA=12.2.0",
        "cuda!=12.1",
        "cuda!12.1",
        "cuda<13 nonsense",
        "driver>=535",
        "driver<=535.261.3",
        "driver<535.261.04",
        "arch>=7.5,arch<9",
        "brand=tesla",
        "brand!=GeForce",
        "cuda>=13 brand=tesla,driver>=470,driver<536",
        "cuda>=12.1,,driver>535",
    ],
)
def test_holds(text: str) -> None:
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    ["cuda>=12.3", "driver=535", "driver<471", "brand=geforce", "arch<8", "cuda>=13 brand=titan"],
)
def test_does_not_hold(text: str) -> None:
    with pytest.raises(libnvc.RequirementError) as caught:
        check(text)
    first = text.split(" ", maxsplit=1)[0]
    advice = ADVICE if first.startswith("cuda>=") else ""
    assert str(caught.value) == f"unsatisfied condition: {first}{advice}"


@pytest.mark.parametrize(
    "text",
    ["x", "cuda", "cuda>=", ">=12", "cuda==12", "cuda=>12", "gpu=1", "brand>tesla", "cuda>=1a"],
)
def test_is_no_expression(text: str) -> None:
    for cuda in ("12.2", ""):
        with pytest.raises(libnvc.RequirementError, match="^invalid expression$"):
            check(text, cuda=cuda)


def test_every_gpu_and_every_requirement_counts() -> None:
    assert not holds("arch>=8", gpus=(gpu(), gpu(arch="7.5")))
    assert not holds("cuda>12", "brand=geforce")
    assert holds("arch>=9,brand=none", gpus=())  # nothing selected: unknown, so it holds
    assert holds("arch>=9", gpus=(gpu(arch=""),))


IMAGE = "cuda>=12.2 brand=tesla,driver>=470,driver<471 brand=nvidia,driver>=535,driver<536"


@pytest.mark.parametrize(
    ("text", "cuda", "driver", "needed"),
    [
        ("driver>=470", "", "535.261.03", False),
        ("driver>=470 CUDA>12", "", "450.1", True),
        ("driver>=470 CUDA>12", "", "470.1", False),  # holds
        ("driver>=470,CUDA>12", "", "450.1", False),  # does not
        ("driver>=470,CUDA>12", "", "470.1", True),
        ("CUDA>12,driver>=470", "", "450.1", False),
        ("arch>=8", "12.2", "535.261.03", True),
        (IMAGE, "12.2", "535.261.03", False),  # the first clause holds
        (IMAGE, "12.1", "530.30.02", False),  # no clause can
        (IMAGE, "11.4", "470.57.02", True),
        ("junk brand=tesla", "12.2", "535.1", False),  # refused
        ("brand=tesla junk", "12.2", "535.1", True),  # refused, but for a Tesla
        ("brand=tesla,junk", "12.2", "535.1", True),  # refused for a Tesla
        ("driver<1,junk", "12.2", "535.1", False),
    ],
)
def test_nvml_is_asked_only_where_it_decides(
    text: str, cuda: str, driver: str, needed: bool
) -> None:
    request = libnvc.Request(requirements=("", text))
    for gpus in ((), (gpu(arch="", brand=""),) * 2):
        inventory = host(driver=driver, cuda=cuda).replace(gpus=gpus)
        assert libnvc.needs_probe(request, inventory) == needed


def test_nvml_is_not_asked_again() -> None:
    request = libnvc.Request(requirements=("brand=tesla,arch>=8,junk",))
    known = (gpu(), gpu(arch="9.0"))
    assert not libnvc.needs_probe(request, host().replace(gpus=known))
    assert libnvc.needs_probe(request, host().replace(gpus=(*known, gpu(arch=""))))


@given(st.text(), st.lists(st.sampled_from(["cuda", "driver", "=", "<", "1", ".", ",", " ", "!"])))
def test_anything_is_answered_in_one_line(text: str, parts: list[str]) -> None:
    for wanted in (text, "".join(parts)):
        try:
            check(wanted)
        except libnvc.RequirementError as error:
            assert len(str(error).splitlines()) == 1
