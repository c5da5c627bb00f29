# SPDX-License-Identifier: Apache-2.0
"""Names of the driver's files: the one place to edit when a driver release brings a new one.

All names are prefixes of file names ("libcuda.so" stands for "libcuda.so.1"). Their order is the
order in which files are listed and mounted.
"""

from __future__ import annotations

from .._record import Record

#: Libraries by driver capability.
LIBRARIES: dict[str, tuple[str, ...]] = {
    "utility": (
        "libnvidia-ml.so",
        "libnvidia-cfg.so",
        "libnvidia-nscq.so",
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
    ),
}

#: Programs by driver capability.
BINARIES: dict[str, tuple[str, ...]] = {
    "utility": ("nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nv-fabricmanager"),
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


class Architecture(Record):
    """How a machine's 64-bit libraries are marked and where Debian keeps them.

    Attributes:
        cache_flags: bits 8-15 of a loader-cache entry's flags.
        libs_dir, libs32_dir: Debian's multiarch directories.
    """

    cache_flags: int
    libs_dir: str
    libs32_dir: str = "/var/empty"


#: By the kernel's name of the machine.
ARCHITECTURES: dict[str, Architecture] = {
    "x86_64": Architecture(
        cache_flags=0x0300,
        libs_dir="/usr/lib/x86_64-linux-gnu",
        libs32_dir="/usr/lib/i386-linux-gnu",
    ),
    "aarch64": Architecture(cache_flags=0x0A00, libs_dir="/usr/lib/aarch64-linux-gnu"),
    "ppc64le": Architecture(cache_flags=0x0500, libs_dir="/usr/lib/powerpc64le-linux-gnu"),
}

#: Library directories outside the multiarch one.
LIBRARY_DIRECTORIES = ("/usr/lib64", "/lib64", "/usr/lib", "/lib")
