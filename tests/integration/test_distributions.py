# SPDX-License-Identifier: Apache-2.0
"""The loader cache of whole distributions: as their own ldconfig has it, and with the driver."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

import libnvc as nvc
from libnvc.model import CAPABILITIES
from libnvc.testing import NamespaceContainer

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root

LOADS = Path(__file__).parent.parent / "tools/loads.c"


class CompileC(Protocol):
    def __call__(self, output: Path, *sources: Path, flags: tuple[str, ...] = ()) -> Path: ...


@pytest.fixture(scope="module", params=["debian", "trixie"])
def distribution(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    whole: Path = request.getfixturevalue(request.param)
    rootfs = tmp_path_factory.mktemp(request.param) / "rootfs"
    subprocess.run(["cp", "-a", "--reflink=auto", whole, rootfs], check=True)
    subprocess.run(["chroot", str(rootfs), "/sbin/ldconfig"], check=True)
    return rootfs


@pytest.fixture
def container(distribution: Path) -> Iterator[NamespaceContainer]:
    """Return a container of the distribution that still shows the host's tree."""
    with NamespaceContainer(distribution) as made:
        yield made


def answers(rootfs: Path) -> list[str]:
    """Return what the loader finds: name, kind and file of each entry, in order."""
    command = ["chroot", str(rootfs), "/sbin/ldconfig", "-p"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.strip() for line in listed.splitlines() if "=>" in line]


def test_what_its_own_ldconfig_finds(container: NamespaceContainer) -> None:
    rootfs, target = container.rootfs, nvc.Target(pid=container.pid, rootfs=str(container.rootfs))
    expected = answers(rootfs)
    assert any(line.startswith("libc.so.6 (libc6") for line in expected)
    (rootfs / "etc/ld.so.cache").unlink()
    cache = nvc.LoaderCache(origin="test", path="/etc/ld.so.cache")
    applied = nvc.apply(nvc.Plan(operations=(cache,)), target)
    try:
        assert applied.warnings == ()
        assert answers(rootfs) == expected
    finally:
        nvc.detach(applied)
    assert not (rootfs / "etc/ld.so.cache").exists()
    subprocess.run(["chroot", rootfs, "/sbin/ldconfig"], check=True)


def test_every_library_of_the_driver_is_found(
    container: NamespaceContainer, dgx_a100: Path, compile_c: CompileC
) -> None:
    rootfs, target = container.rootfs, nvc.Target(pid=container.pid, rootfs=str(container.rootfs))
    compile_c(rootfs / "usr/bin/loads", LOADS)
    before = answers(rootfs)
    inventory = nvc.discover(str(dgx_a100))
    request = nvc.Request(
        devices=("all",),
        capabilities=tuple(name for name in CAPABILITIES if name != "compat32"),
        layout=nvc.inspect_container(target),
    )
    applied = nvc.apply(nvc.make_plan(inventory, request), target)
    try:
        sonames = [library.soname for library in inventory.libraries]
        assert len(sonames) > 20
        after = answers(rootfs)
        assert [line for line in after if line in before] == before
        assert {line.partition(" ")[0] for line in after if line not in before} == set(sonames)
        container.start()
        shown = container.exec("loads", *sonames)
        assert (shown.stderr, shown.returncode) == ("", 0)
        assert shown.stdout.splitlines()[:-1] == [f"{soname}: ok" for soname in sonames]
    finally:
        nvc.detach(applied)
    assert answers(rootfs) == before
