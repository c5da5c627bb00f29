# SPDX-License-Identifier: Apache-2.0
"""Which GPU a selector means: the forms of the reference, and what they are not."""

from __future__ import annotations

import pytest

import libnvc
from libnvc._planner.select import parse_index, parse_pci, select
from libnvc.model import DeviceFile, Gpu, Inventory


def gpu(index: int, pci: str, *, minor: int, uuid: str) -> Gpu:
    device = DeviceFile(path=f"/dev/nvidia{minor}", major=195, minor=minor)
    return Gpu(index=index, minor=minor, uuid=uuid, pci=pci, model="X", device=device)


def inventory(*gpus: Gpu) -> Inventory:
    return Inventory(
        root="",
        proc="/proc/driver/nvidia",
        driver_version="535.261.03",
        gpus=gpus,
        control=(),
        libraries=(),
        binaries=(),
        firmware=(),
        ipcs=(),
        proc_files=(),
    )


# Minors in another order than the PCI addresses, as on real boards.
HOST = inventory(
    gpu(0, "00000000:07:00.0", minor=2, uuid="GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c"),
    gpu(1, "00000000:0f:00.0", minor=0, uuid="GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23d"),
    gpu(2, "00000001:07:00.0", minor=1, uuid=""),
)


@pytest.mark.parametrize(
    ("selectors", "indices"),
    [
        ((), []),
        (("",), []),
        ((",,",), []),
        (("0",), [0]),
        (("1", "0"), [1, 0]),
        (("1,0",), [1, 0]),
        (("0", "0", "00"), [0]),
        (("+1",), [1]),
        ((" 1",), [1]),
        (("all",), [0, 1, 2]),
        (("ALL",), [0, 1, 2]),
        (("2", "all"), [2, 0, 1]),
        (("all", "no such thing"), [0, 1, 2]),
        (("GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23d",), [1]),
        (("gpu-4404041A-04CF-1CCF-9E70-F139A9B1E23D",), [1]),
        (("0000:07:00.0",), [0]),
        (("00000000:07:00.0",), [0]),
        (("0:f:0",), [1]),
        (("0:0F:00.7",), [1]),
        (("0:7:0xyz",), [0]),
        (("1:7:0.0",), [2]),
        (("0:7:0", "0", "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23c", "1"), [0, 1]),
    ],
)
def test_selected(selectors: tuple[str, ...], indices: list[int]) -> None:
    assert [found.index for found in select(HOST, selectors).gpus] == indices


@pytest.mark.parametrize(
    "selector",
    [
        "3",
        "-1",
        "-0",
        "1 ",
        "1x",
        "0x1",
        "1_0",
        "٣",
        "9" * 5000,
        "none",
        "void",
        "allx",
        " all",
        "GPU-",
        "GPU-4404041a",
        "GPU-4404041a-04cf-1ccf-9e70-f139a9b1e23cx",
        "MIG-a0000000-0000-4000-8000-000002000000",
        "0:0",
        "0:7",
        "0:007:0",
        "000000000:7:0",
        "g:7:0",
        "2:7:0.0",
    ],
)
def test_unknown(selector: str) -> None:
    with pytest.raises(libnvc.UnknownDeviceError) as failure:
        select(HOST, ("0", selector))
    assert str(failure.value) == f"{selector}: unknown device"
    assert isinstance(failure.value, LookupError)


def test_message_is_one_line() -> None:
    with pytest.raises(libnvc.UnknownDeviceError) as failure:
        select(HOST, ("0\n\x1b[2J\udc80",))
    assert str(failure.value) == r"0\n\x1b[2J\udc80: unknown device"


def test_host_without_gpus_knows_no_unknown_device() -> None:
    assert select(inventory(), ("all", "7", "junk")).gpus == ()


def test_work_grows_with_the_selectors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [gpu(n, f"00000000:{n:02x}:00.0", minor=n, uuid=f"GPU-{n}") for n in range(128)]
    read = []

    def count(token: str) -> str | None:
        read.append(token)
        return parse_pci(token)

    monkeypatch.setitem(select.__globals__, "parse_pci", count)
    found = select(inventory(*gpus), (",".join(each.pci for each in gpus),))
    assert len(found.gpus) == len(read) == 128


@pytest.mark.parametrize(
    ("text", "pci"),
    [
        ("0000:07:00.0", "00000000:07:00.0"),
        ("ffffffff:FF:1f.0", "ffffffff:ff:1f.0"),
        ("1:0:123", "00000001:00:12.0"),
        ("1:0:", None),
        (":0:0", None),
        ("", None),
    ],
)
def test_pci_addresses(text: str, pci: str | None) -> None:
    assert parse_pci(text) == pci


def test_index_of_any_length_is_read() -> None:
    assert parse_index("0" * 5000 + "7") == 7
    assert parse_index("1" * 10) is None
