# SPDX-License-Identifier: Apache-2.0
"""Lay a Jetson's driver out as Jetson Linux (L4T) 36 does, CSV files for containers included.

It is a choice of what the packages nvidia-l4t-* have: each kind of entry, links through several
directories, devices with a group of their own, and entries for what is not installed. Directories
have the name of the machine this runs on, so that its loader takes the libraries.
"""

from __future__ import annotations

from .._record import Record
from .blob import patch
from .cachewriter import write_cache
from .elfwriter import write_library
from .faults import NOT_LOADED, parse_fault
from .kernel import NVGPU_MAJOR, NVIDIA_MAJOR, SimNode, proc_files
from .machine import Machine
from .records import Profile
from .tree import Tree

#: Where the CSV files are.
CSV_DIRECTORY = "/etc/nvidia-container-runtime/host-files-for-container.d"

_VIDEO = 44  # the group of that name on Ubuntu
_FIRMWARE = b"stands for the firmware of a simulated Jetson\n"
_RELEASE = (
    "# R{major} (release), REVISION: {revision}, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    "# KERNEL_VARIANT: oot\n"
    "TARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH={libs}/nvidia\n"
)


class _Library(Record):
    """A library: file name, SONAME, links to it, what it needs, the working one in its place."""

    file: str
    soname: str
    links: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    native: str = ""


def _plain(*names: str) -> tuple[_Library, ...]:
    return tuple(_Library(file=name, soname=name) for name in names)


_LIBRARIES = (
    _Library(
        file="libcuda.so.1.1",
        soname="libcuda.so.1",
        links=("libcuda.so.1", "libcuda.so"),
        native="libcuda.so",
    ),
    _Library(
        file="libnvidia-ml.so.1",
        soname="libnvidia-ml.so.1",
        links=("libnvidia-ml.so",),
        native="libnvidia-ml.so",
    ),
    _Library(
        file="libnvidia-ptxjitcompiler.so.{v}",
        soname="libnvidia-ptxjitcompiler.so.1",
        links=("libnvidia-ptxjitcompiler.so.1",),
    ),
    _Library(
        file="libnvidia-nvvm.so.{v}", soname="libnvidia-nvvm.so.4", links=("libnvidia-nvvm.so.4",)
    ),
    _Library(
        file="libnvidia-eglcore.so.{v}",
        soname="libnvidia-eglcore.so.{v}",
        needed=("libnvidia-tls.so.{v}",),
    ),
    _Library(file="libnvidia-glsi.so.{v}", soname="libnvidia-glsi.so.{v}"),
    _Library(file="libnvidia-tls.so.{v}", soname="libnvidia-tls.so.{v}"),
    _Library(
        file="libEGL_nvidia.so.0", soname="libEGL_nvidia.so.0", needed=("libnvidia-glsi.so.{v}",)
    ),
    _Library(
        file="libnvbufsurface.so.1.0.0",
        soname="libnvbufsurface.so.1.0.0",
        links=("libnvbufsurface.so",),
        needed=("libnvrm_mem.so",),
    ),
    _Library(file="libnvbuf_fdmap.so.1.0.0", soname="libnvbuf_fdmap.so.1.0.0"),
    *_plain("libnvos.so", "libnvrm_chip.so", "libnvrm_gpu.so", "libnvrm_host1x.so"),
    *_plain("libnvrm_mem.so", "libnvsciipc.so", "libnvsocsys.so", "libnvvic.so"),
)

#: Links outside of the libraries' own directory: path and text.
_LINKS = {
    "{libs}/libcuda.so": "nvidia/libcuda.so",
    "{libs}/libnvv4l2.so": "nvidia/libnvv4l2.so",  # leads to nothing: the package is missing
    "/usr/share/glvnd/egl_vendor.d/10_nvidia.json": "/etc/alternatives/egl-nvidia",
    "/etc/alternatives/egl-nvidia": "../..{libs}/nvidia/nvidia.json",
    "/etc/vulkan/icd.d/nvidia_icd.json": "{libs}/nvidia/nvidia_icd.json",
}
_DOCUMENTS = ("{libs}/nvidia/nvidia.json", "{libs}/nvidia/nvidia_icd.json")
_MISSING = (
    "lib, {libs}/nvidia/libnvdla_compiler.so",
    "sym, {libs}/libnvv4l2.so",
    "dir, /usr/src/jetson_multimedia_api",
)
_PROGRAM = "/usr/sbin/nvidia-smi"

_NVGPU = ("as", "channel", "ctrl", "ctxsw", "dbg", "nvsched", "power", "prof", "sched", "tsg")


def jetson_nodes(fault: str) -> tuple[SimNode, ...]:
    """Return the devices of a Jetson's GPU and of what programs use with it."""
    if fault == NOT_LOADED:
        return ()
    nvgpu = (
        SimNode(name=f"nvgpu/igpu0/{name}", major=NVGPU_MAJOR, minor=minor)
        for minor, name in enumerate(_NVGPU)
    )
    return (
        SimNode(name="nvidia0", major=NVIDIA_MAJOR, minor=0),
        SimNode(name="nvidiactl", major=NVIDIA_MAJOR, minor=255),
        SimNode(name="nvidia-modeset", major=NVIDIA_MAJOR, minor=254),
        *nvgpu,
        SimNode(name="nvmap", major=10, minor=121, mode=0o660, gid=_VIDEO),
        SimNode(name="host1x-fence", major=10, minor=122, mode=0o660, gid=_VIDEO),
        SimNode(name="dri/renderD128", major=226, minor=128, mode=0o660, gid=_VIDEO),
        SimNode(name="v4l2-nvdec", major=81, minor=40, mode=0o660, gid=_VIDEO),
    )


def write_jetson(
    tree: Tree, profile: Profile, machine: Machine, native: dict[str, bytes], fault: str
) -> None:
    """Write everything but device nodes and directories that every root has."""
    _write_libraries(tree, profile, machine, native, fault)
    for path in _DOCUMENTS:
        tree.file(path.format(libs=machine.libs_dir), b'{"file_format_version": "1.0.0"}\n')
    for path, target in _LINKS.items():
        libs = machine.libs_dir
        tree.link(path.format(libs=libs), target.format(libs=libs))
    tree.file(_PROGRAM, native["nvidia-smi"], 0o755)
    for name in ("ga10b/gpmu_ucode_prod_image.bin", "ga10b/fecs.bin"):
        tree.file(f"/usr/lib/firmware/{name}", _FIRMWARE)
    _write_csv(tree, profile, machine)
    _write_facts(tree, profile, machine, fault)


def _write_libraries(
    tree: Tree, profile: Profile, machine: Machine, native: dict[str, bytes], fault: str
) -> None:
    version, directory = profile.driver_version, f"{machine.libs_dir}/nvidia"
    cached = []
    for library in _LIBRARIES:
        file, soname = library.file.format(v=version), library.soname.format(v=version)
        if library.native:
            content = patch(native[library.native], profile, parse_fault(fault, profile))
        else:
            needed = (*(name.format(v=version) for name in library.needed), "libc.so.6")
            content = write_library(bits=64, machine=machine.elf, soname=soname, needed=needed)
        tree.file(f"{directory}/{file}", content)
        for link in library.links:
            tree.link(f"{directory}/{link}", file)
        cached += [(name, f"{directory}/{name}", machine.cache_flags) for name in (soname,)]
    tree.file("/etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    for name, place in (("nvidia-tegra", directory), (f"{machine.name}-linux-gnu", None)):
        tree.file(
            f"/etc/ld.so.conf.d/{name}.conf", f"{place or machine.libs_dir}\n".encode("ascii")
        )
    tree.file("/etc/ld.so.cache", write_cache(cached))


def csv_lines(profile: Profile, machine: Machine) -> dict[str, list[str]]:
    """Return the lines of the CSV files by name."""
    version, libs = profile.driver_version, machine.libs_dir
    libraries = [f"lib, {libs}/nvidia/{item.file}" for item in _LIBRARIES]
    links = [f"sym, {libs}/nvidia/{link}" for item in _LIBRARIES for link in item.links]
    named = ("{libs}/libcuda.so", "/usr/share/glvnd/egl_vendor.d/10_nvidia.json")
    others = [
        *(f"sym, {path}" for path in (*named, "/etc/vulkan/icd.d/nvidia_icd.json")),
        f"lib, {_PROGRAM}",
        "dir, /lib/firmware/ga10b",
    ]
    drivers = [line.format(v=version, libs=libs) for line in (*libraries, *links, *others)]
    nodes = [f"dev, /dev/{node.name}" for node in jetson_nodes("") if "nvgpu/" not in node.name]
    return {
        "devices.csv": [*nodes, "dev, /dev/nvgpu/igpu0/*", "dev, /dev/nvhost-ctrl-pva0"],
        "drivers.csv": drivers,
        "l4t.csv": [line.format(libs=libs) for line in _MISSING],
    }


def _write_csv(tree: Tree, profile: Profile, machine: Machine) -> None:
    for name, lines in csv_lines(profile, machine).items():
        tree.file(f"{CSV_DIRECTORY}/{name}", "".join(f"{line}\n" for line in lines).encode("ascii"))


def _write_facts(tree: Tree, profile: Profile, machine: Machine, fault: str) -> None:
    """Write what tells that this is a Jetson, and what the kernel shows."""
    major, _, revision = profile.jetson.partition(".")
    release = _RELEASE.format(major=major, revision=revision, libs=machine.libs_dir.lstrip("/"))
    tree.file("/etc/nv_tegra_release", release.encode("ascii"))
    chip = {
        "family": "Tegra",
        "machine": "NVIDIA Jetson AGX Orin Developer Kit",
        "revision": "A01",
        "soc_id": "35",
    }
    for name, text in chip.items():
        tree.file(f"/sys/devices/soc0/{name}", f"{text}\n".encode("ascii"), 0o444)
    if fault != NOT_LOADED:
        for name in ("nvgpu", "nvidia", "nvidia_modeset"):
            tree.file(f"/sys/module/{name}/initstate", b"live\n", 0o444)
    bare = profile.replace(gpus=())  # its GPU is no PCI device
    for path, text in proc_files(bare, machine.name, fault).items():
        tree.file(path, text.encode("ascii"), 0o644 if path.endswith("/registry") else 0o444)
