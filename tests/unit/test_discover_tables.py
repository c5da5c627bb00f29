# SPDX-License-Identifier: Apache-2.0
"""The tables of names against the simulated releases: nothing of a driver is overlooked."""

from __future__ import annotations

import pytest

import libnvc.sim
from libnvc._discover.tables import BINARIES, LEFT_OUT, LIBRARIES, UNVERSIONED
from libnvc.sim.libraries import driver_libraries

RELEASES = sorted({host.driver_version for host in libnvc.sim.profiles() if not host.jetson})
NAMES = tuple(name for names in LIBRARIES.values() for name in names)


@pytest.mark.parametrize("version", RELEASES)
def test_every_versioned_library_is_classified(version: str) -> None:
    """A capability has it, or a row says why none does; never both."""
    for library in driver_libraries(version):
        file = library.file_name(version)
        if file.endswith(f".{version}"):
            wanted, left_out = file.startswith(NAMES), file.startswith(tuple(LEFT_OUT))
            assert wanted != left_out, f"{file}: put it into a table of libnvc/_discover/tables.py"


@pytest.mark.parametrize("version", RELEASES)
def test_what_a_library_needs_comes_with_it(version: str) -> None:
    """No capability has a library without those of the driver that it is linked to.

    Video comes with compute; a SONAME begins with the name in the table.
    """
    for capability, names in LIBRARIES.items():
        rows = names + (LIBRARIES["compute"] if capability == "video" else ())
        for library in driver_libraries(version):
            if library.name in names:
                missing = [need for need in library.needed if not need.startswith(rows)]
                assert missing == [], f"{capability}: {library.name}"


def test_rows_left_out_have_a_reason() -> None:
    assert all(reason for reason in LEFT_OUT.values())
    assert not set(LEFT_OUT) & set(NAMES)


def test_names_are_unambiguous() -> None:
    """No name is a prefix of another, so one row is meant by a file."""
    names = sorted({*NAMES, *LEFT_OUT})
    assert [(a, b) for a in names for b in names if a != b and b.startswith(a)] == []
    assert set(UNVERSIONED) <= set(NAMES)
    programs = [name for names in BINARIES.values() for name in names]
    assert len(programs) == len(set(programs))


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("libnvidia-gpucomp.so", ["compute", "graphics"]),  # compiles shaders, too
        ("libnvidia-tileiras.so", ["compute"]),
        ("libnvidia-nvvm70.so", ["compute"]),
        ("libnvidia-sandboxutils.so", ["utility"]),
        ("libnvsdm.so", ["utility"]),
        ("libnvidia-present.so", ["graphics"]),
        ("libnvidia-egl-gbm.so", []),
    ],
)
def test_where_newer_names_belong(name: str, capabilities: list[str]) -> None:
    assert [key for key, names in LIBRARIES.items() if name in names] == capabilities
