# SPDX-License-Identifier: Apache-2.0
"""A driver root may be anywhere: the result is the same but for the root's own path."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import libnvc
from libnvc._discover import discover
from libnvc._discover.tables import LIBRARIES, LIBRARY_DIRECTORIES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from libnvc.model import Identity, Inventory

VERSIONS = ("535.261.03", "550.54.15")
DIRECTORIES = sorted(
    {place.format(libs="/usr/lib/x86_64-linux-gnu") for place in LIBRARY_DIRECTORIES}
)
NAMES = sorted({name for names in LIBRARIES.values() for name in names})

#: directory, library, version, e_machine
FILES = st.lists(
    st.tuples(
        st.sampled_from(DIRECTORIES),
        st.sampled_from(["libnvidia-ml.so", "libcuda.so", *NAMES]),
        st.sampled_from(VERSIONS),
        st.sampled_from([62, 3]),
    ),
    max_size=8,
)


def stripped(found: Inventory, root: str) -> object:
    """Return an inventory without the root's path and without what differs between copies."""
    bare = found.replace(
        root="",
        proc=found.proc.removeprefix(root),
        warnings=tuple(text.replace(root, "") for text in found.warnings),
        dependencies=(),
    )
    return bare, [_place(identity, root) for identity in found.dependencies]


def _place(identity: Identity, root: str) -> tuple[str, bool, str]:
    return identity.path.removeprefix(root), identity.ino != 0, identity.digest


def outcome(root: Path) -> object:
    try:
        return stripped(discover(str(root)), str(root))
    except libnvc.DiscoveryError as error:
        text = f"{type(error).__name__} {error} {error.code} {error.hint} {error.path}"
        return text.replace(str(root), "")


@given(files=FILES, listed=st.lists(st.booleans(), min_size=8, max_size=8), cached=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_copy_elsewhere_gives_the_same(
    tmp_path: Path,
    plant: Callable[..., str],
    show_module: Callable[..., None],
    write_cache: Callable[..., None],
    files: list[tuple[str, str, str, int]],
    listed: list[bool],
    cached: bool,
) -> None:
    """Whatever lies where, and whether the cache lists it: also the same failure."""
    here, there = tmp_path / "a", tmp_path / "deep/er/b"
    for root in (here, there):
        shutil.rmtree(root, ignore_errors=True)
    here.mkdir()
    show_module(here)
    entries = []
    for (directory, name, version, machine), wanted in zip(files, listed, strict=False):
        path = plant(here, directory, name, version=version, machine=machine)
        if wanted:
            entries.append((f"{name}.1", path, 0x0303 if machine == 62 else 0x0003))
    if cached:
        write_cache(here, *entries)
    shutil.copytree(here, there, symlinks=True)
    result = outcome(here)
    assert outcome(there) == result
    _check_versions(here)


def _check_versions(root: Path) -> None:
    """Never two versions of a driver in one inventory."""
    try:
        found = discover(str(root))
    except libnvc.DiscoveryError:
        return
    assert all(library.path.endswith(f".{found.driver_version}") for library in found.libraries)


def test_a_simulated_driver_elsewhere_gives_the_same(tmp_path: Path, dgx_a100: Path) -> None:
    subprocess.run(["cp", "-a", dgx_a100, tmp_path / "copy"], check=True)
    assert outcome(tmp_path / "copy") == outcome(dgx_a100)


@pytest.mark.root
def test_root_of_the_host_gives_the_same(tree: Path) -> None:
    """As "/" of a process, and as a directory of the host."""
    expected = outcome(tree)  # also loads every module: the child finds none below its root
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chroot(tree)
            os.chdir("/")
            answer = stripped(discover("/"), "")
            with open(write, "wb") as stream:
                pickle.dump(answer, stream)
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    assert pickle.loads(data) == expected
