# SPDX-License-Identifier: Apache-2.0
"""Requirement expressions agree with a small oracle, and nothing makes them fail otherwise."""

from __future__ import annotations

from itertools import zip_longest

from hypothesis import given
from hypothesis import strategies as st

from libnvc import needs_probe
from libnvc._planner.requirements import check_requirements
from libnvc.errors import RequirementError
from libnvc.model import DeviceFile, Gpu, Inventory, Request

#: a test: name, operator, value
Test = tuple[str, str, str]

ADVICE = ", please update your driver to a newer version, or use an earlier cuda container"
INVALID = "invalid expression"

versions = st.lists(st.sampled_from(["0", "1", "12", "02", "535", ""]), min_size=1, max_size=4).map(
    ".".join
)
version_tests = st.tuples(
    st.sampled_from(["cuda", "CUDA", "driver", "arch"]),
    st.sampled_from(["=", "!=", "!", "<", "<=", ">", ">="]),
    versions.filter(bool),
)
brand_tests = st.tuples(
    st.sampled_from(["brand", "Brand"]),
    st.sampled_from(["=", "!=", "!"]),
    st.sampled_from(["tesla", "TESLA", "unknown", "x"]),
)
bad_tests = st.sampled_from(
    [
        *(("cuda", "==", "1"), ("cuda", "=>", "1"), ("cuda", ">", "1a"), ("cuda", ">", "")),
        *(
            ("", "=", "1"),
            ("gpu", "=", "1"),
            ("brand", "<", "x"),
            ("cuda", "", ""),
            ("arch", "=", "é"),
        ),
    ]
)
expressions = st.lists(
    st.lists(st.one_of(version_tests, version_tests, brand_tests, bad_tests), max_size=3),
    max_size=4,
)


@st.composite
def hosts(draw: st.DrawFn) -> Inventory:
    device = DeviceFile(path="/dev/nvidia0", major=195, minor=0)
    gpus = tuple(
        Gpu(
            index=index,
            minor=index,
            uuid="",
            pci="",
            model="",
            device=device,
            brand=draw(st.sampled_from(["", "Tesla", "Unknown"])),
            arch=draw(st.sampled_from(["", "8.0", "12"])),
        )
        for index in range(draw(st.integers(0, 2)))
    )
    return Inventory(
        root="",
        proc="",
        driver_version=draw(st.sampled_from(["535.1.02", "1", "12.0.0"])),
        cuda_version=draw(st.sampled_from(["", "12.2", "12", "0.1"])),
        gpus=gpus,
        control=(),
        libraries=(),
        binaries=(),
        firmware=(),
        ipcs=(),
        proc_files=(),
    )


def order(one: str, other: str) -> int:
    """Compare part by part; what one side lacks counts as 0."""
    for a, b in zip_longest(one.split("."), other.split("."), fillvalue="0"):
        if int(a or 0) != int(b or 0):
            return int(a or 0) - int(b or 0)
    return 0


def holds(test: Test, host: Inventory, gpu: Gpu | None) -> bool:
    """Evaluate one test; ValueError if it is none."""
    name, operator, value = test
    known = (
        {
            "cuda": host.cuda_version,
            "driver": host.driver_version,
            "arch": gpu.arch if gpu else "",
            "brand": gpu.brand if gpu else "",
        }[name.lower()]
        if name.lower() in ("cuda", "driver", "arch", "brand")
        else None
    )
    is_brand = name.lower() == "brand"
    if known is None or operator not in (
        "=",
        "!=",
        "!",
        *(() if is_brand else ("<", "<=", ">", ">=")),
    ):
        raise ValueError(test)
    if not value or (not is_brand and not set(value) <= set("0123456789.")):
        raise ValueError(test)
    if not known:
        return True
    if is_brand:
        return (known.lower() == value.lower()) == (operator == "=")
    sign = order(known, value)
    return {
        "=": sign == 0,
        "!": sign != 0,
        "!=": sign != 0,
        "<": sign < 0,
        "<=": sign <= 0,
        ">": sign > 0,
        ">=": sign >= 0,
    }[operator]


def oracle(clauses: list[list[Test]], host: Inventory) -> str:
    """Return the message, "" if all is well. What needs no evaluation is not looked at."""
    for gpu in host.gpus or (None,):
        try:
            satisfied = not clauses or any(
                all(holds(test, host, gpu) for test in clause) for clause in clauses
            )
        except ValueError:
            return INVALID
        if not satisfied:
            return "unsatisfied"
    return ""


def as_text(clauses: list[list[Test]]) -> str:
    # A clause of nothing but a comma is true; one that is empty does not exist.
    return " ".join(",".join("".join(test) for test in clause) or "," for clause in clauses)


def check(host: Inventory, *texts: str) -> str:
    """Return the message of a refusal, "" if there is none."""
    gpus = [(gpu.arch, gpu.brand) for gpu in host.gpus]
    try:
        check_requirements(texts, cuda=host.cuda_version, driver=host.driver_version, gpus=gpus)
    except RequirementError as error:
        return str(error)
    return ""


@given(expressions, hosts())
def test_agrees_with_the_oracle(clauses: list[list[Test]], host: Inventory) -> None:
    text = as_text(clauses)
    message = check(host, text)
    expected = oracle(clauses, host)
    if expected == "unsatisfied":
        first = text.partition(" ")[0]
        advice = ADVICE if first.startswith("cuda>=") else ""
        expected = f"unsatisfied condition: {first}{advice}"
    assert message == expected


@given(expressions, hosts(), st.data())
def test_what_is_not_known_does_not_matter_where_nvml_is_not_asked(
    clauses: list[list[Test]], host: Inventory, data: st.DataObject
) -> None:
    text = as_text(clauses)
    if needs_probe(Request(requirements=(text,)), host):
        return
    brands = st.sampled_from(["Tesla", "Unknown"])
    told = host.replace(
        cuda_version=host.cuda_version or data.draw(versions.filter(bool)),
        gpus=tuple(
            gpu.replace(
                brand=gpu.brand or data.draw(brands),
                arch=gpu.arch or data.draw(versions.filter(bool)),
            )
            for gpu in host.gpus
        ),
    )
    assert check(told, text) == check(host, text)


@given(
    st.lists(st.one_of(st.text(), st.text("cudriveachbn<>=!., 0123456789")), max_size=4), hosts()
)
def test_nothing_else_is_raised(texts: list[str], host: Inventory) -> None:
    message = check(host, *texts)
    assert not message or message.startswith((INVALID, "unsatisfied condition: "))
    assert len(message.splitlines()) <= 1
