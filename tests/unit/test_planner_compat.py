# SPDX-License-Identifier: Apache-2.0
"""When the CUDA compatibility libraries of an image are used, and how."""

from __future__ import annotations

import pytest

import libnvc
from libnvc import plan as ops
from libnvc._planner.build import make_plan
from libnvc.model import Inventory, Layout, Library, Request

HOST = Inventory(
    root="",
    proc="/proc/driver/nvidia",
    driver_version="535.261.03",
    gpus=(),
    control=(),
    libraries=(
        Library(path="/usr/lib/libcuda.so.535.261.03", name="libcuda.so", soname="libcuda.so.1"),
    ),
    binaries=(),
    firmware=(),
    ipcs=(),
    proc_files=(),
)
DIRECTORY = "/usr/local/cuda-12.4/compat"
SEVERAL = (
    "compute: the image's CUDA compatibility libraries are not used: they are in several "
    "directories, or in one with an unusual name"
)


def plan_directories(paths: tuple[str, ...], **request: object) -> tuple[str, ...]:
    asked = Request(capabilities=("compute",), layout=Layout(cuda_compat=paths)).replace(**request)
    plan = make_plan(HOST, asked)
    assert not [op for op in plan.operations if DIRECTORY in getattr(op, "source", "")]
    (cache,) = (op for op in plan.operations if isinstance(op, ops.LoaderCache))
    assert not [path for _, path, _ in cache.libraries if path.startswith(DIRECTORY)]
    return cache.directories


@pytest.mark.parametrize("mode", ["ldconfig", "mount"])
@pytest.mark.parametrize("capability", ["compute", "video"])
def test_directory_comes_first(mode: str, capability: str) -> None:
    files = (f"{DIRECTORY}/libcuda.so.550.54.15", f"{DIRECTORY}/libnvidia-nvvm.so.550.54.15")
    request = {"cuda_compat_mode": mode, "capabilities": (capability,)}
    assert plan_directories(files, **request) == (DIRECTORY,)


@pytest.mark.parametrize(
    "paths",
    [
        (),
        (f"{DIRECTORY}/libcuda.so.535.54.03",),  # the same branch
        (f"{DIRECTORY}/libcuda.so.99.1",),  # lower, though its text is greater
        (f"{DIRECTORY}/libcuda.so.550x.1",),
        (f"{DIRECTORY}/libcuda.so.",),
        (f"{DIRECTORY}/libnvidia-nvvm.so.550.54.15",),  # no libcuda
    ],
)
def test_not_used(paths: tuple[str, ...]) -> None:
    assert plan_directories(paths) == ()


def test_other_capabilities_and_modes() -> None:
    files = (f"{DIRECTORY}/libcuda.so.550.54.15",)
    assert plan_directories(files) == (DIRECTORY,)
    assert plan_directories(files, cuda_compat_mode="disabled") == ()
    assert plan_directories(files, capabilities=("utility",)) == ()


@pytest.mark.parametrize(
    "paths",
    [
        (f"{DIRECTORY}/libcuda.so.550.54.15", "/opt/libnvidia-nvvm.so.550.54.15"),
        ("/opt/a\nb/libcuda.so.550.54.15",),
        ("opt/libcuda.so.550.54.15",),
    ],
)
def test_odd_places_are_told(paths: tuple[str, ...]) -> None:
    plan = make_plan(HOST, Request(capabilities=("compute",), layout=Layout(cuda_compat=paths)))
    assert SEVERAL in plan.warnings
    assert plan_directories(paths) == ()


def test_unknown_mode() -> None:
    with pytest.raises(libnvc.RequestError) as failure:
        make_plan(HOST, Request(cuda_compat_mode="moun\nt"))
    assert str(failure.value) == (
        "invalid option: cuda-compat-mode=moun\\nt: known are ldconfig, mount, disabled"
    )
