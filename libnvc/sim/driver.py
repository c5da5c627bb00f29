# SPDX-License-Identifier: Apache-2.0
"""Lay a driver out as NVIDIA's installer does on Debian: flat, in the multiarch directory."""

from __future__ import annotations

import json

from .blob import patch
from .cachewriter import write_cache
from .capabilities import capability_directories, capability_files, minor_files
from .elfwriter import write_library
from .faults import NOT_LOADED, TWO_VERSIONS, VERSION_MISMATCH, older_version, parse_fault
from .installed import InstalledLibraries
from .jetson import write_jetson
from .kernel import dev_links, proc_files, sys_files
from .libraries import driver_libraries, driver_libraries32
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
_FIRMWARE = b"stands for the firmware of a simulated GPU\n"


def write_driver(
    tree: Tree, profile: Profile, machine: Machine, native: dict[str, bytes], fault: str
) -> None:
    """Write everything but device nodes."""
    _write_skeleton(tree)
    if profile.jetson:
        write_jetson(tree, profile, machine, native, fault)
        return
    _write_libraries(tree, profile, machine, native, fault)
    _write_programs(tree, profile, native)
    _write_data(tree, profile)
    for path, text in proc_files(profile, machine.name, fault).items():
        tree.file(path, text.encode("ascii"), 0o644 if path.endswith("/registry") else 0o444)
    if fault != NOT_LOADED:
        _write_capabilities(tree, profile)
    for path, data in sys_files(profile, fault).items():
        tree.file(path, data, 0o444)
    for path, target in dev_links(profile, fault).items():
        tree.link(path, target)
    for daemon in profile.daemons:
        tree.socket(f"/run/{daemon}/socket")


def _write_skeleton(tree: Tree) -> None:
    for path in _DIRECTORIES:
        tree.directory(path)
    tree.directory("/tmp", 0o1777)  # noqa: S108 (inside the tree)
    for name in ("bin", "sbin", "lib", "lib64"):
        tree.link(f"/{name}", f"usr/{name}")
    tree.link("/var/run", "/run")


def _write_libraries(
    tree: Tree, profile: Profile, machine: Machine, native: dict[str, bytes], fault: str
) -> None:
    """Write all libraries, and the loader's configuration and cache."""
    version = profile.driver_version
    current = InstalledLibraries(
        version=version,
        directory=machine.libs_dir,
        bits=64,
        elf=machine.elf,
        cache_flags=machine.cache_flags,
        native=_patch(native, profile, parse_fault(fault, profile)),
    )
    # In the order of the configuration files' names, in which the loader prefers them.
    installed = {f"{machine.name}-linux-gnu": (current, driver_libraries(version))}
    if profile.libs32 and machine.libs32_dir:
        other = current.replace(
            directory=machine.libs32_dir,
            bits=32,
            elf=machine.elf32,
            cache_flags=machine.cache_flags32,
        )
        installed["i386-linux-gnu"] = (other, driver_libraries32(version))
    if fault == TWO_VERSIONS:
        older = older_version(version)
        left = profile.replace(driver_version=older)
        other = current.replace(
            version=older,
            directory=f"/usr/lib/nvidia-{older}",
            native=_patch(native, left, parse_fault(VERSION_MISMATCH, left)),
        )
        installed["00-nvidia"] = (other, driver_libraries(older))
    cached: list[tuple[str, str, int]] = []
    tree.file("/etc/ld.so.conf", b"include /etc/ld.so.conf.d/*.conf\n")
    for name, (libraries, wanted) in sorted(installed.items()):
        tree.file(f"/etc/ld.so.conf.d/{name}.conf", f"{libraries.directory}\n".encode("ascii"))
        cached += libraries.write(tree, wanted)
    module = write_library(
        bits=64, machine=machine.elf, soname="nvidia_drv.so", needed=("libc.so.6",)
    )
    tree.file(f"{machine.libs_dir}/nvidia/xorg/nvidia_drv.so", module)
    tree.file("/etc/ld.so.cache", write_cache(cached))


def _patch(native: dict[str, bytes], profile: Profile, fault: tuple[int, int]) -> dict[str, bytes]:
    """Return the working libraries for a host."""
    return {name: patch(native[name], profile, fault) for name in ("libnvidia-ml.so", "libcuda.so")}


def _write_programs(tree: Tree, profile: Profile, native: dict[str, bytes]) -> None:
    tree.file("/usr/bin/nvidia-smi", native["nvidia-smi"], 0o755)
    for name in (*_IDLE_PROGRAMS, *profile.programs):
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
