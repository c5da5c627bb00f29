# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's own libraries and programs, in both layouts: found, planned, mounted, loaded."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

import libnvc
from libnvc._discover.tables import BINARIES, LIBRARIES
from libnvc.plan import BindMount
from libnvc.testing import OciContainer, configure_hook, mounts, multiarch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from libnvc.model import Library
    from tests.conftest import CompileC, Run
    from tests.integration.debian.conftest import Driver

pytestmark = pytest.mark.root

LIBS = f"/usr/lib/{multiarch()}"
LAYOUT = libnvc.Layout(libs_dir=LIBS, libs32_dir="/usr/lib/i386-linux-gnu")
CAPABILITIES = ("utility", "compute", "video", "graphics", "display", "ngx")

#: Names of the table that are not found, and why.
ABSENT = {
    "libnvidia-cbl.so": "in releases up to 470",
    "libnvidia-compiler.so": "in releases up to 525",
    "libnvidia-fatbinaryloader.so": "in releases up to 440",
    "libnvidia-gpucomp.so": "since 550",
    "libnvidia-nvvm70.so": "since 580",
    "libnvidia-present.so": "in later releases",
    "libnvidia-sandboxutils.so": "since 570, in no package of this Debian",
    "libnvidia-vksc-core.so": "for safety-critical Vulkan, not in these packages",
    "libnvsdm.so": "a package of its own, for NVSwitch",
    "libnvidia-ifr.so": "in releases up to 470",
    "libnvidia-nscq.so": "a package of its own, for NVSwitch",
    "libnvidia-pkcs11.so": "for OpenSSL 1.1, which this Debian does not have",
    "libnvidia-tileiras.so": "in later releases",
    "libnvoptix.so": "its package is too large to be fetched by tests",
    "libvdpau_nvidia.so": "in a directory that the loader cache does not list",
}

#: What the recordings have and the fetched packages do not.
NOT_FETCHED = re.compile(r"libnvoptix\.so")

#: Every image that runs programs built for GPUs has a C library, and the compiler's.
C_LIBRARY = {
    *("ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0"),
    *("librt.so.1", "libutil.so.1", "libgcc_s.so.1"),
}

#: What the driver's libraries need besides: an image has it if it uses that part of the driver.
X11 = {"libX11.so.6", "libXext.so.6"}
FROM_THE_IMAGE = {
    "libGLX_nvidia.so": X11,
    "libnvidia-fbc.so": {"libGL.so.1", *X11},
    "libnvidia-pkcs11-openssl3.so": {"libcrypto.so.3"},
}

RECORDED = Path(__file__).parents[2] / "data/reference/cli.json"
#: The driver's version in the recordings.
RECORDED_VERSION = "535.261.03"

#: Names of the driver's libraries, among those of the image.
DRIVER = re.compile(r"lib(nv|cuda|GLX_|EGL_nv|GLES.*_nv)")

TOOLS = Path(__file__).parents[2] / "tools"


class Elf(NamedTuple):
    """DT_SONAME and DT_NEEDED of a library, as pyelftools reads them."""

    soname: str
    needed: set[str]


def read_elf(path: Path) -> Elf:
    with path.open("rb") as stream:
        section = ELFFile(stream).get_section_by_name(".dynamic")
        assert isinstance(section, DynamicSection)
        tags: list[Any] = list(section.iter_tags())
    (soname,) = [tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"]
    return Elf(soname, {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"})


def planned_libraries(driver: Driver, *capabilities: str) -> tuple[Library, ...]:
    """Return the libraries that come into a container with some capabilities."""
    inventory = libnvc.discover(str(driver.root))
    request = libnvc.Request(devices=("0",), capabilities=capabilities, layout=LAYOUT)
    plan = libnvc.make_plan(inventory, request)
    sources = {op.source for op in plan.operations if isinstance(op, BindMount)}
    return tuple(lib for lib in inventory.libraries if inventory.root + lib.path in sources)


def elf_of(driver: Driver, library: Library) -> Elf:
    return read_elf(driver.root / library.path[1:])


# --- the driver ---------------------------------------------------------------------------------


def test_all_files_but_nvml_are_those_of_the_packages(
    debian_driver: Driver, packages: tuple[Path, ...]
) -> None:
    names = [path.name.partition("_")[0] for path in packages]
    done = subprocess.run(
        ["dpkg", f"--root={debian_driver.root}", "--verify", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    changed = [line.split()[-1] for line in done.stdout.splitlines()]
    assert changed == [f"{LIBS}/nvidia/current/libnvidia-ml.so.{debian_driver.version}"]


def test_the_flat_layout_has_the_same_files(debian_driver: Driver, flat_driver: Driver) -> None:
    here, there = (libnvc.discover(str(d.root)).libraries for d in (debian_driver, flat_driver))
    for one, other in zip(here, there, strict=True):
        path = Path(f"{debian_driver.root}{one.path}")
        assert path.samefile(f"{flat_driver.root}{other.path}"), one.name


# --- discovery ----------------------------------------------------------------------------------


def test_every_library_of_the_table_is_found(driver: Driver) -> None:
    inventory = libnvc.discover(str(driver.root))
    assert inventory.warnings == ()
    table = {name for names in LIBRARIES.values() for name in names}
    assert {library.name for library in inventory.libraries} == table - ABSENT.keys()
    for library in inventory.libraries:
        assert PurePosixPath(library.path).name == f"{library.name}.{driver.version}"
        assert library.bits == 64
        assert library.soname == elf_of(driver, library).soname


def test_libraries_are_where_the_layout_has_them(driver: Driver) -> None:
    inventory = libnvc.discover(str(driver.root))
    directories = {str(PurePosixPath(library.path).parent) for library in inventory.libraries}
    assert (
        directories
        == {
            "debian": {LIBS, f"{LIBS}/nvidia/current"},
            "flat": {LIBS},
        }[driver.layout]
    )


def test_every_program_is_found(driver: Driver) -> None:
    inventory = libnvc.discover(str(driver.root))
    # Fabric manager and IMEX are packages of their own.
    others = {"nv-fabricmanager", "nvidia-imex", "nvidia-imex-ctl"}
    expected = {name for names in BINARIES.values() for name in names} - others
    assert {PurePosixPath(file.path).name for file in inventory.binaries} == expected


# --- plans --------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [CAPABILITIES, *((name,) for name in CAPABILITIES)])
def test_what_a_planned_library_needs_is_planned_too(
    driver: Driver, capabilities: Sequence[str]
) -> None:
    planned = {lib.name: elf_of(driver, lib) for lib in planned_libraries(driver, *capabilities)}
    sonames = {elf.soname for elf in planned.values()}
    outside = {name: elf.needed - sonames - C_LIBRARY for name, elf in planned.items()}
    assert {name: needed for name, needed in outside.items() if needed} == {
        name: needed for name, needed in FROM_THE_IMAGE.items() if name in planned
    }


# --- against the recordings ---------------------------------------------------------------------


def recorded(case: str, aspect: str, version: str) -> list[str]:
    """Return the recorded lines that the fetched packages can lead to."""
    cases = {entry["name"]: entry["expect"] for entry in json.loads(RECORDED.read_text())}
    return [
        line.replace(RECORDED_VERSION, version)
        for line in cases[case][aspect]
        if not NOT_FETCHED.search(line)
    ]


def test_list_prints_what_was_recorded(driver: Driver, container_cli: Run) -> None:
    listed = container_cli(f"--root={driver.root}", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    expected = recorded("list", "stdout", driver.version)
    lines = sorted(listed.stdout.splitlines())
    if driver.layout == "flat":
        assert lines == expected
    else:
        names = [PurePosixPath(line).name for line in lines]
        assert sorted(names) == sorted(PurePosixPath(line).name for line in expected)


@pytest.fixture(scope="module")
def container(
    driver: Driver,
    commands: Path,
    debian: Path,
    compile_c: CompileC,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[OciContainer]:
    """Run a Debian container that is given all GPUs and all that the driver has."""
    directory = tmp_path_factory.mktemp("container")
    rootfs = directory / "rootfs"
    subprocess.run(["cp", "-a", "--reflink=auto", debian, rootfs], check=True)
    compile_c(rootfs / "usr/bin/loads", TOOLS / "loads.c")
    command = [str(commands / "nvidia-container-cli"), f"--root={driver.root}", "configure"]
    command += ["--device=all", *(f"--{capability}" for capability in CAPABILITIES)]
    hook = configure_hook(directory / "hook", command, rootfs)
    with OciContainer(directory / "oci", rootfs, prestart=[hook]) as container:
        yield container


def test_the_recorded_files_are_mounted(driver: Driver, container: OciContainer) -> None:
    mounted = {
        mount.path: mount.root.removeprefix(str(driver.root))
        for mount in mounts(container.pid)
        if mount.path.startswith("/usr/")
    }
    lines = "\n".join(recorded("cap-all", "mounts", driver.version))
    expected = dict(re.findall(r"^(/usr/\S+) <- DRV(\S+)", lines, re.MULTILINE))
    assert mounted.keys() == expected.keys()
    if driver.layout == "flat":
        assert mounted == expected


def test_the_recorded_links_are_made(driver: Driver, container: OciContainer) -> None:
    lines = "\n".join(recorded("cap-all", "tree", driver.version))
    links = re.findall(r"^l (\S+) -> (\S+)$", lines, re.MULTILINE)
    made = {
        f"{LIBS}/{path.name}": str(path.readlink())
        for path in (container.rootfs / LIBS[1:]).iterdir()
        if path.is_symlink() and DRIVER.match(path.name)
    }
    assert made == dict(links)


# --- in the container ---------------------------------------------------------------------------


def test_the_loader_finds_every_soname(driver: Driver, container: OciContainer) -> None:
    cache = container.exec("ldconfig", "-p").stdout
    listed = dict(re.findall(r"^\t(\S+) \(libc6,[^)]*\) => (\S+)$", cache, re.MULTILINE))
    libraries = planned_libraries(driver, *CAPABILITIES)
    sonames = {elf_of(driver, library).soname for library in libraries}
    assert {soname: listed.get(soname) for soname in sonames} == {
        soname: f"{LIBS}/{soname}" for soname in sonames
    }


def test_libraries_load_in_the_container(driver: Driver, container: OciContainer) -> None:
    """All but those that need what this image does not have."""
    sonames = {
        library.name: elf_of(driver, library).soname
        for library in planned_libraries(driver, *CAPABILITIES)
    }
    done = container.exec("loads", *sonames.values())
    assert (done.returncode, done.stderr) == (0, "")
    *loaded, counted = done.stdout.splitlines()
    assert counted == "GPUs: 8"
    results = dict(line.split(": ", 1) for line in loaded)
    for name, soname in sonames.items():
        missing = FROM_THE_IMAGE.get(name)
        if missing is None:
            assert (soname, results[soname]) == (soname, "ok")
        else:
            first, _, cause = results[soname].partition(": ")
            assert first in missing
            assert cause == "cannot open shared object file: No such file or directory"


def test_nvidias_programs_reach_the_simulated_nvml(container: OciContainer) -> None:
    """They want a function of NVML that no header has: nvmlInternalGetExportTable.

    nvidia-smi asks for it after nvmlInit: without the devices its message is another.
    """
    smi = container.exec("nvidia-smi", "-L")
    assert (smi.returncode, smi.stdout.splitlines()[0]) == (
        255,
        "Mismatch in versions between nvidia-smi and NVML.",
    )
    dump = container.exec("nvidia-debugdump", "--list")
    assert "undefined symbol: nvmlInternalGetExportTable" in dump.stderr
    control = container.exec("nvidia-cuda-mps-control", "-h")
    assert control.stdout.startswith("CUDA MPS Control for Linux/Unix.\n")
