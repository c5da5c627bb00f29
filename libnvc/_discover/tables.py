# SPDX-License-Identifier: Apache-2.0
"""Names of the driver's files: the one place to edit when a driver release brings a new one.

All names are prefixes of file names ("libcuda.so" stands for "libcuda.so.1"). Their order is the
order in which files are listed and mounted.
"""

from __future__ import annotations

from .._record import Record

#: Libraries by driver capability. A library that two of them need stands in both.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "utility": (
        "libnvidia-ml.so",
        "libnvidia-cfg.so",
        "libnvidia-nscq.so",
        "libnvsdm.so",
        "libnvidia-sandboxutils.so",
    ),
    "compute": (
        "libcuda.so",
        "libcudadebugger.so",
        "libnvidia-opencl.so",
        "libnvidia-gpucomp.so",
        "libnvidia-ptxjitcompiler.so",
        "libnvidia-fatbinaryloader.so",
        "libnvidia-allocator.so",
        "libnvidia-compiler.so",
        "libnvidia-pkcs11.so",
        "libnvidia-pkcs11-openssl3.so",
        "libnvidia-nvvm.so",
        "libnvidia-nvvm70.so",
        "libnvidia-tileiras.so",
    ),
    "ngx": ("libnvidia-ngx.so",),
    "video": (
        "libvdpau_nvidia.so",
        "libnvidia-encode.so",
        "libnvidia-opticalflow.so",
        "libnvcuvid.so",
    ),
    "graphics": (
        "libnvidia-eglcore.so",
        "libnvidia-glcore.so",
        "libnvidia-tls.so",
        "libnvidia-glsi.so",
        "libnvidia-fbc.so",
        "libnvidia-ifr.so",
        "libnvidia-rtcore.so",
        "libnvoptix.so",
        "libGLX_nvidia.so",
        "libEGL_nvidia.so",
        "libGLESv2_nvidia.so",
        "libGLESv1_CM_nvidia.so",
        "libnvidia-glvkspirv.so",
        "libnvidia-cbl.so",
        "libnvidia-gpucomp.so",
        "libnvidia-present.so",
        "libnvidia-vksc-core.so",
    ),
}

#: Libraries whose file names end in a number of their own ("libnvidia-nvvm70.so.4"), not in the
#: driver's version. They count where they lie beside the libraries of that version.
UNVERSIONED = ("libnvidia-nvvm70.so",)

#: Libraries of the driver that containers do not get, and why. With the tables above these are all
#: libraries whose files carry the driver's version; a test holds them against simulated drivers.
LEFT_OUT: dict[str, str] = {
    "libglxserver_nvidia.so": "a module of the X server",
    "libnvidia-gtk2.so": "a part of nvidia-settings",
    "libnvidia-gtk3.so": "a part of nvidia-settings",
    "libnvidia-wayland-client.so": "a part of nvidia-settings",
    "libnvidia-vulkan-producer.so": "the reference leaves it out, and drivers after 535 have none",
}

#: Programs by driver capability.
BINARIES: dict[str, tuple[str, ...]] = {
    "utility": (
        "nvidia-smi",
        "nvidia-debugdump",
        "nvidia-persistenced",
        "nv-fabricmanager",
        "nvidia-imex",
        "nvidia-imex-ctl",
    ),
    "compute": ("nvidia-cuda-mps-control", "nvidia-cuda-mps-server"),
}

#: Where programs are looked for when the caller has no PATH.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Every driver has it; its absence means that there is no driver.
NVML = "libnvidia-ml.so"
NVML_SONAME = "libnvidia-ml.so.1"

#: Of this one two variants may exist; the one for current C libraries carries this ABI note.
TLS = "libnvidia-tls.so"
TLS_ABI = (2, 3, 99)

#: Sockets by the word that leaves them out, in listing order, then the MPS pipe directory.
SOCKETS: tuple[tuple[str, str], ...] = (
    ("persistenced", "/var/run/nvidia-persistenced/socket"),
    ("fabricmanager", "/var/run/nvidia-fabricmanager/socket"),
)
MPS_DIRECTORY = "/tmp/nvidia-mps"  # noqa: S108 (the driver's own name for it)

FIRMWARE_DIRECTORY = "/lib/firmware/nvidia"
PROC_DIRECTORY = "/proc/driver/nvidia"
PROC_FILES = ("params", "version", "registry")

#: Character devices with a fixed number; that of nvidia-uvm is given out at module load.
NVIDIA_MAJOR = 195
NVIDIACTL = ("/dev/nvidiactl", 255)
MODESET = ("/dev/nvidia-modeset", 254)
UVM_MODULE = "nvidia-uvm"
UVM = (("/dev/nvidia-uvm", 0), ("/dev/nvidia-uvm-tools", 1))

#: Devices of rights to MIG, and IMEX channels: a directory named after what /proc/devices has.
CAPS_MODULE = "nvidia-caps"
CAPS_DIRECTORY = f"/dev/{CAPS_MODULE}"
IMEX_MODULE = "nvidia-caps-imex-channels"
IMEX_DIRECTORY = f"/dev/{IMEX_MODULE}"


class Architecture(Record):
    """How a machine's libraries are marked, and where Debian keeps them.

    Attributes:
        elf, elf32: e_machine of its 64-bit and its 32-bit libraries; -1: it has none.
        cache_flags, cache_flags32: of both, bits 8-15 of a loader-cache entry's flags; -1: none.
        libs_dir, libs32_dir: of both, Debian's multiarch directories.
    """

    elf: int
    cache_flags: int
    libs_dir: str
    elf32: int = -1
    cache_flags32: int = -1
    libs32_dir: str = "/var/empty"


#: By the kernel's name of the machine.
ARCHITECTURES: dict[str, Architecture] = {
    "x86_64": Architecture(
        elf=62,
        cache_flags=0x0300,
        libs_dir="/usr/lib/x86_64-linux-gnu",
        elf32=3,
        cache_flags32=0x0000,
        libs32_dir="/usr/lib/i386-linux-gnu",
    ),
    "aarch64": Architecture(
        elf=183,
        cache_flags=0x0A00,
        libs_dir="/usr/lib/aarch64-linux-gnu",
        elf32=40,
        cache_flags32=0x0900,
    ),
    "ppc64le": Architecture(elf=21, cache_flags=0x0500, libs_dir="/usr/lib/powerpc64le-linux-gnu"),
}

#: A machine that no driver exists for.
OTHER_MACHINE = Architecture(elf=-1, cache_flags=-1, libs_dir="/usr/lib64", libs32_dir="/usr/lib32")

#: Where libraries are looked for that the loader cache does not list, first match first.
#: "{libs}" stands for the multiarch directories.
LIBRARY_DIRECTORIES = (
    "/run/opengl-driver/lib",
    "/run/opengl-driver-32/lib",
    "{libs}/nvidia/current",
    "/usr/lib/nvidia/current",
    "{libs}",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/lib64",
    "/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/home/kubernetes/bin/nvidia/lib64",
    "/usr/local/glibc/usr/lib",
    "/opt/nvidia/lib64",
    "/opt/nvidia/lib",
    "/opt/nvidia",
)
