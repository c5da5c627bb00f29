# SPDX-License-Identifier: Apache-2.0
"""Decide which of the driver's files a capability means."""

from __future__ import annotations

from .._discover.tables import BINARIES, LIBRARIES, MODESET, NVIDIACTL, SOCKETS, UVM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ..model import DeviceFile, DriverFile, Library, Request

#: Which rows of the tables a capability means.
_LIBRARIES = {
    "utility": LIBRARIES["utility"],
    "compute": LIBRARIES["compute"],
    "video": LIBRARIES["video"] + LIBRARIES["compute"],
    "graphics": LIBRARIES["graphics"],
    "display": LIBRARIES["graphics"],
    "ngx": LIBRARIES["ngx"],
}

#: Links beside a mounted library that its SONAME does not give: file prefix, link, target; "" is
#: the file itself.
EXTRA_LINKS = (
    ("libcuda.so", "libcuda.so", "libcuda.so.1"),
    ("libGLX_nvidia.so", "libGLX_indirect.so.0", ""),
    ("libnvidia-opticalflow.so", "libnvidia-opticalflow.so", "libnvidia-opticalflow.so.1"),
)

#: The same beside libraries of graphics.
GRAPHICS_LINKS = (
    ("libnvidia-allocator.so", "gbm/nvidia-drm_gbm.so", "../libnvidia-allocator.so.1"),
    ("libnvidia-vulkan-producer.so", "libnvidia-vulkan-producer.so", ""),
)

_GL = (
    *("libEGL_nvidia.so", "libGLX_nvidia.so", "libnvidia-eglcore.so", "libnvidia-glcore.so"),
    *("libnvidia-glsi.so", "libnvidia-tls.so"),
)

#: Without which files a capability cannot work, and what brings them.
_REQUIRED = {
    "utility": (("nvidia-smi",), "utilities"),
    "compute": (("libcuda.so", "libnvidia-ptxjitcompiler.so"), "CUDA libraries"),
    "video": (("libnvcuvid.so", "libnvidia-encode.so"), "video libraries"),
    "graphics": (_GL, "OpenGL libraries"),
    "display": (_GL, "OpenGL libraries"),
    "ngx": (("libnvidia-ngx.so",), "NGX library"),
}

_SOCKET_ENDS = tuple(path.removeprefix("/var/run") for _, path in SOCKETS)
_UVM_PATHS = tuple(path for path, _ in UVM)


def granting_capability(path: str, capabilities: Collection[str]) -> str:
    """Return the requested capability that a program or library belongs to, or ""."""
    name = path.rpartition("/")[2]
    for capability, libraries in _LIBRARIES.items():
        prefixes = libraries + BINARIES.get(capability, ())
        if capability in capabilities and name.startswith(prefixes):
            return capability
    return ""


def shows_pictures(capabilities: Collection[str]) -> bool:
    """Tell whether a container gets what programs with displays need.

    That is DRM nodes, files that no library's name covers, and an application profile by which EGL
    shows its GPUs only.
    """
    return "graphics" in capabilities or "display" in capabilities


def ipc_capability(file: DriverFile) -> str:
    """Return the capability that needs a socket or pipe directory."""
    return "utility" if file.path.endswith(_SOCKET_ENDS) else "compute"


def is_left_out(device: DeviceFile, request: Request) -> bool:
    """Tell whether a control device may be missing: that of displays, unless they were asked for.

    A container that is not known yet may not need it, and hosts without displays do not have it.
    """
    return request.layout.mirrors_host and device.path == MODESET[0] and not device.present


def is_granted(library: Library, capabilities: Collection[str]) -> bool:
    """Tell whether a container with these capabilities gets a library."""
    wanted = library.bits == 64 or "compat32" in capabilities
    return wanted and granting_capability(library.path, capabilities) != ""


def needs_control(device: DeviceFile, capabilities: Collection[str]) -> bool:
    """Tell whether a container with these capabilities gets a control device.

    nvidiactl always; nvidia-uvm for CUDA, which video needs, too; nvidia-modeset for displays.
    """
    if device.path in _UVM_PATHS:
        return needs_cuda(capabilities)
    if device.path == MODESET[0]:
        return "display" in capabilities
    return device.path == NVIDIACTL[0]


def is_made_where_missing(device: DeviceFile) -> bool:
    """Tell whether a container gets a node of its own where the host lacks one.

    The nodes of nvidia-uvm: without them the reference starts containers whose CUDA then fails.
    For all others it refuses, and so do we: their absence means that the driver is not set up.
    """
    return device.path in _UVM_PATHS


def needs_cuda(capabilities: Collection[str]) -> bool:
    """Tell whether CUDA must work for these capabilities."""
    return "compute" in capabilities or "video" in capabilities


def missing_parts(
    files: Collection[str],
    control: Collection[str],
    capabilities: Collection[str],
    *,
    has_32bit: bool,
) -> list[str]:
    """Return a warning for each thing without which a requested capability cannot work.

    Args:
        files: table names of the 64-bit libraries and names of the programs that were found.
        control: paths of the control devices that were found.
        capabilities: what was requested.
        has_32bit: whether 32-bit libraries were found.
    """
    warnings = []
    for capability, (names, package) in _REQUIRED.items():
        missing = [name for name in names if name not in files]
        if capability in capabilities and missing:
            warnings.append(
                f"{capability}: the driver has no {', '.join(missing)}: install its {package}"
            )
    if "compat32" in capabilities and not has_32bit:
        warnings.append(
            "compat32: the driver has no 32-bit libraries: install its packages for i386"
        )
    if needs_cuda(capabilities) and _UVM_PATHS[0] not in control:
        warnings.append(
            f"compute: {_UVM_PATHS[0]} is missing, CUDA will fail to start: "
            "run nvidia-modprobe -u -c=0 on the host"
        )
    return warnings


def application_profile(minors: Iterable[int]) -> str:
    """Return the application profile by which EGL shows these GPUs only: the bits of a mask."""
    mask = sum(1 << minor for minor in set(minors))
    return (
        '{"profiles":[{"name":"_container_",'
        f'"settings":["EGLVisibleDGPUDevices",{mask:#x}]}}],'
        '"rules":[{"pattern":[],"profile":"_container_"}]}'
    )
