# SPDX-License-Identifier: Apache-2.0
"""Lay a driver out as NVIDIA's installer does on Debian: flat, in the multiarch directory."""

from __future__ import annotations

import json

from .blob import patch
from .cachewriter import write_cache
from .capabilities import capability_directories, capability_files, minor_files
from .elfwriter import abi_note, write_library
from .kernel import proc_files, sys_files
from .libraries import DriverLibrary, driver_libraries
from .machine import Machine
from .records import Profile
from .tree import Tree

#: Says that a directory is a simulated driver, and which. Nothing in the driver reads it.
MARKER = "/.nvc-sim.json"

_DIRECTORIES = ("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/sys", "/proc", "/var")
_IDLE_PROGRAMS = (
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-debugdump",
    "nvidia-modprobe",
    "nvidia-persistenced",
)
_TLS_NOTE = abi_note((2, 3, 99))
_FIRMWARE = b"stands for the firmware of a simulated GPU\n"


def write_driver(
    tree: Tree, profile: Profile, machine: Machine, native: dict[str, bytes], fault: tuple[int, int]
) -> None:
    """Write everything but device nodes."""
    _write_skeleton(tree, machine)
    for name in ("libnvidia-ml.so", "libcuda.so"):
        native = {**native, name: patch(native[name], profile, fault)}
    _write_libraries(tree, profile, machine, native)
    _write_programs(tree, native)
    _write_data(tree, profile)
    for path, text in proc_files(profile, machine.name).items():
        tree.file(path, text.encode("ascii"), 0o644 if path.endswith("/registry") else 0o444)
    _write_capabilities(tree, profile)
    for path, data in sys_files(profile).items():
        tree.file(path, data, 0o444)
    for daemon in profile.daemons:
        tree.socket(f"/run/{daemon}/socket")


def _write_skeleton(tree: Tree, machine: Machine) -> None:
    for path in _DIRECTORIES:
        tree.directory(path)
    tree.directory("/tmp", 0o1777)  # noqa: S108 (inside the tree)
    for name in ("bin", "sbin", "lib", "lib64"):
        tree.link(f"/{name}", f"usr/{name}")
    tree.link("/var/run", "/run")
    tree.file("/etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    configuration = f"/etc/ld.so.conf.d/{machine.name}-linux-gnu.conf"
    tree.file(configuration, f"{machine.libs_dir}\n".encode("ascii"))


def _write_libraries(
    tree: Tree, profile: Profile, machine: Machine, native: dict[str, bytes]
) -> None:
    version = profile.driver_version
    cached: list[tuple[str, str]] = []
    for library in driver_libraries(version):
        directory = f"{machine.libs_dir}/{library.directory}".rstrip("/")
        content = _content(library, version, machine, native)
        names = _write_library(tree, library, directory, content, version)
        if not library.directory:
            cached += [(name, f"{directory}/{name}") for name in names]
    tree.link(f"{machine.libs_dir}/gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1")
    module = write_library(machine=machine.elf, soname="nvidia_drv.so", needed=("libc.so.6",))
    tree.file(f"{machine.libs_dir}/nvidia/xorg/nvidia_drv.so", module)
    tree.file("/etc/ld.so.cache", write_cache(cached, machine.cache_flags))


def _write_library(
    tree: Tree, library: DriverLibrary, directory: str, content: bytes, version: str
) -> list[str]:
    """Write a library and its links; return the names that ldconfig lists."""
    file_name, soname = library.file_name(version), library.full_soname(version)
    tree.file(f"{directory}/{file_name}", content)
    if soname != file_name:
        tree.link(f"{directory}/{soname}", file_name)
    for link in library.links:
        tree.link(f"{directory}/{link}", soname if link.endswith(".so") else file_name)
    return [soname, *(link for link in library.links if link.endswith(".so"))]


def _content(
    library: DriverLibrary, version: str, machine: Machine, native: dict[str, bytes]
) -> bytes:
    if library.native:
        return native[library.native]
    needed = tuple(name.format(v=version) for name in library.needed)
    return write_library(
        machine=machine.elf,
        soname=library.full_soname(version),
        needed=(*needed, "libc.so.6"),
        note=_TLS_NOTE if library.tls else b"",
    )


def _write_programs(tree: Tree, native: dict[str, bytes]) -> None:
    tree.file("/usr/bin/nvidia-smi", native["nvidia-smi"], 0o755)
    for name in _IDLE_PROGRAMS:
        tree.file(f"/usr/bin/{name}", native["idle"], 0o755)


def _write_capabilities(tree: Tree, profile: Profile) -> None:
    for path, text in minor_files(profile).items():
        tree.file(path, text.encode("ascii"), 0o444)
    for path in capability_directories(profile):
        tree.directory(path)
    for right in capability_files(profile):
        tree.file(right.path, right.text.encode("ascii"), right.mode)


def _write_data(tree: Tree, profile: Profile) -> None:
    version = profile.driver_version
    for name in profile.firmware:
        tree.file(f"/usr/lib/firmware/nvidia/{version}/{name}", _FIRMWARE)
    tree.file("/etc/OpenCL/vendors/nvidia.icd", b"libnvidia-opencl.so.1\n")
    tree.file(f"/usr/share/nvidia/nvidia-application-profiles-{version}-rc", b"{}\n")
    documents = {
        "/etc/vulkan/icd.d/nvidia_icd.json": _vulkan("libGLX_nvidia.so.0"),
        "/etc/vulkan/implicit_layer.d/nvidia_layers.json": _vulkan_layer(),
        "/usr/share/glvnd/egl_vendor.d/10_nvidia.json": _icd("libEGL_nvidia.so.0"),
        "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json": _icd(
            "libnvidia-egl-wayland.so.1"
        ),
        "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json": _icd("libnvidia-egl-gbm.so.1"),
    }
    for path, document in documents.items():
        tree.file(path, json.dumps(document, indent=4).encode("ascii") + b"\n")


def _icd(library: str) -> dict[str, object]:
    return {"file_format_version": "1.0.0", "ICD": {"library_path": library}}


def _vulkan(library: str) -> dict[str, object]:
    return {
        "file_format_version": "1.0.0",
        "ICD": {"library_path": library, "api_version": "1.3.242"},
    }


def _vulkan_layer() -> dict[str, object]:
    return {
        "file_format_version": "1.0.0",
        "layer": {
            "name": "VK_LAYER_NV_optimus",
            "type": "INSTANCE",
            "library_path": "libGLX_nvidia.so.0",
            "api_version": "1.3.242",
            "implementation_version": "1",
            "description": "NVIDIA Optimus layer",
            "functions": {
                "vkGetInstanceProcAddr": "vk_optimusGetInstanceProcAddr",
                "vkGetDeviceProcAddr": "vk_optimusGetDeviceProcAddr",
            },
            "enable_environment": {"__NV_PRIME_RENDER_OFFLOAD": "1"},
            "disable_environment": {"DISABLE_LAYER_NV_OPTIMUS_1": ""},
        },
    }
