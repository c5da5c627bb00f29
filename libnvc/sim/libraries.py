# SPDX-License-Identifier: Apache-2.0
"""Which libraries a driver release has: names, SONAMEs, dependencies, links.

Left out are those that distributions bring themselves: libglvnd and the OpenCL loader.
"""

from __future__ import annotations

from .._record import Record


class DriverLibrary(Record):
    """A library of a driver.

    Attributes:
        name: file name up to and with ".so".
        soname: what follows the name in DT_SONAME, "" if that is the whole file name.
        version: what follows the name in the file name, "" for the driver's version.
        needed: DT_NEEDED besides the C library; "{v}" is the driver's version.
        directory: below the directory for libraries, "" for itself.
        links: further links to the file, in its directory.
        tls: whether it carries the ABI note of the thread-local storage library.
        native: the working library that is installed in place of an empty one, or "".
    """

    name: str
    soname: str = ""
    version: str = ""
    needed: tuple[str, ...] = ()
    directory: str = ""
    links: tuple[str, ...] = ()
    tls: bool = False
    native: str = ""

    def file_name(self, driver_version: str) -> str:
        """Return the name of the file."""
        return f"{self.name}.{self.version or driver_version}"

    def full_soname(self, driver_version: str) -> str:
        """Return DT_SONAME."""
        return f"{self.name}.{self.soname}" if self.soname else self.file_name(driver_version)


def _plain(name: str, *needed: str, soname: str = "1", link: bool = False) -> DriverLibrary:
    return DriverLibrary(
        name=f"{name}.so", soname=soname, needed=needed, links=(f"{name}.so",) if link else ()
    )


def _whole(name: str, *needed: str) -> DriverLibrary:
    return _plain(name, *needed, soname="")


_COMMON = (
    DriverLibrary(
        name="libnvidia-ml.so", soname="1", links=("libnvidia-ml.so",), native="libnvidia-ml.so"
    ),
    DriverLibrary(name="libcuda.so", soname="1", links=("libcuda.so",), native="libcuda.so"),
    _plain("libnvidia-cfg", link=True),
    _plain("libnvidia-opencl"),
    _plain("libnvidia-ptxjitcompiler", link=True),
    _plain("libnvidia-allocator", link=True),
    _plain("libnvidia-ngx"),
    _plain("libnvcuvid", "libcuda.so.1", link=True),
    _plain("libnvidia-encode", "libnvcuvid.so.1", link=True),
    _plain("libnvidia-opticalflow", "libcuda.so.1", link=True),
    _plain("libnvidia-fbc", link=True),
    DriverLibrary(
        name="libvdpau_nvidia.so", soname="1", directory="vdpau", links=("libvdpau_nvidia.so",)
    ),
    DriverLibrary(name="libnvidia-tls.so", tls=True),
    _whole("libnvidia-glcore", "libnvidia-tls.so.{v}"),
    _whole("libnvidia-eglcore", "libnvidia-tls.so.{v}"),
    _whole("libnvidia-glsi"),
    _whole("libnvidia-glvkspirv"),
    _whole("libnvidia-rtcore"),
    _plain("libnvoptix", "libnvidia-rtcore.so.{v}"),
    DriverLibrary(
        name="libGLX_nvidia.so",
        soname="0",
        needed=("libnvidia-glcore.so.{v}", "libnvidia-glsi.so.{v}", "libnvidia-tls.so.{v}"),
        links=("libGLX_indirect.so.0",),
    ),
    _plain("libEGL_nvidia", "libnvidia-eglcore.so.{v}", "libnvidia-glsi.so.{v}", soname="0"),
    _plain("libGLESv1_CM_nvidia", "libnvidia-eglcore.so.{v}"),
    _plain("libGLESv2_nvidia", "libnvidia-eglcore.so.{v}", soname="2"),
    _whole("libnvidia-wayland-client"),
    _whole("libnvidia-gtk2"),
    _whole("libnvidia-gtk3"),
    DriverLibrary(
        name="libglxserver_nvidia.so",
        directory="nvidia/xorg",
        links=("libglxserver_nvidia.so",),
    ),
)

_VULKAN_PRODUCER = DriverLibrary(
    name="libnvidia-vulkan-producer.so", links=("libnvidia-vulkan-producer.so",)
)

#: The last release before CUDA 11.8: OpenCL's compiler apart, NVVM under a number of its own.
_R515 = (
    *_COMMON,
    _VULKAN_PRODUCER,
    _whole("libnvidia-compiler"),
    DriverLibrary(name="libnvidia-nvvm.so", soname="4", version="4.0.0"),
    DriverLibrary(name="libnvidia-egl-gbm.so", soname="1", version="1.1.0"),
    DriverLibrary(name="libnvidia-egl-wayland.so", soname="1", version="1.1.9"),
)

_R535 = (
    *_COMMON,
    _VULKAN_PRODUCER,
    _plain("libcudadebugger", "libcuda.so.1"),
    DriverLibrary(name="libnvidia-nvvm.so", soname="4", links=("libnvidia-nvvm.so",)),
    _whole("libnvidia-pkcs11-openssl3"),
    DriverLibrary(name="libnvidia-egl-gbm.so", soname="1", version="1.1.0"),
    DriverLibrary(name="libnvidia-egl-wayland.so", soname="1", version="1.1.10"),
)

#: What the archive of 550.100 has. The compiler for shaders is a library of its own.
_R550 = (
    *_COMMON,
    _plain("libcudadebugger", "libcuda.so.1"),
    DriverLibrary(name="libnvidia-nvvm.so", soname="4", links=("libnvidia-nvvm.so",)),
    _whole("libnvidia-gpucomp"),
    _whole("libnvidia-pkcs11"),
    _whole("libnvidia-pkcs11-openssl3"),
    DriverLibrary(name="libnvidia-api.so", soname="1", version="1"),
    DriverLibrary(name="libnvidia-egl-gbm.so", soname="1", version="1.1.1"),
    DriverLibrary(name="libnvidia-egl-wayland.so", soname="1", version="1.1.13"),
)

#: The first release of CUDA 13, with a second NVVM for older GPUs.
_R580 = (
    *(library for library in _COMMON if library.name != "libnvidia-gtk2.so"),
    _plain("libcudadebugger", "libcuda.so.1"),
    DriverLibrary(name="libnvidia-nvvm.so", soname="4", links=("libnvidia-nvvm.so",)),
    DriverLibrary(name="libnvidia-nvvm70.so", soname="4", version="4"),
    _whole("libnvidia-gpucomp"),
    _whole("libnvidia-pkcs11"),
    _whole("libnvidia-pkcs11-openssl3"),
    _whole("libnvidia-present"),
    _plain("libnvidia-sandboxutils", link=True),
    _plain("libnvidia-vksc-core"),
    DriverLibrary(name="libnvidia-api.so", soname="1", version="1"),
    DriverLibrary(name="libnvidia-egl-gbm.so", soname="1", version="1.1.2"),
    DriverLibrary(name="libnvidia-egl-wayland.so", soname="1", version="1.1.19"),
    DriverLibrary(name="libnvidia-egl-xcb.so", soname="1", version="1.0.3"),
    DriverLibrary(name="libnvidia-egl-xlib.so", soname="1", version="1.0.3"),
)

_RELEASES = {"515": _R515, "535": _R535, "550": _R550, "580": _R580}

#: What the archives have in 32 bits, too: no debugger, ray tracing, NGX, tools or encryption.
_IN_32_BITS = frozenset(
    (
        *("libcuda.so", "libnvidia-ml.so", "libnvidia-opencl.so", "libnvidia-compiler.so"),
        *("libnvidia-ptxjitcompiler.so", "libnvidia-nvvm.so", "libnvidia-allocator.so"),
        *("libnvcuvid.so", "libnvidia-encode.so", "libnvidia-opticalflow.so", "libnvidia-fbc.so"),
        *("libvdpau_nvidia.so", "libnvidia-tls.so", "libnvidia-glcore.so", "libnvidia-eglcore.so"),
        *("libnvidia-glsi.so", "libnvidia-glvkspirv.so", "libnvidia-gpucomp.so"),
        *("libGLX_nvidia.so", "libEGL_nvidia.so", "libGLESv1_CM_nvidia.so", "libGLESv2_nvidia.so"),
    )
)


def driver_libraries(driver_version: str) -> tuple[DriverLibrary, ...]:
    """Return the libraries of a release, by file name."""
    release = _RELEASES[driver_version.partition(".")[0]]
    return tuple(sorted(release, key=lambda library: library.name))


def driver_libraries32(driver_version: str) -> tuple[DriverLibrary, ...]:
    """Return the 32-bit libraries of a release, none of them working, by file name."""
    return tuple(
        library.replace(native="")
        for library in driver_libraries(driver_version)
        if library.name in _IN_32_BITS
    )
