# SPDX-License-Identifier: Apache-2.0
"""What a driver release installs, as NVIDIA's own installer lays it out."""

from __future__ import annotations

#: library -> what follows its name in the SONAME; "V" is the driver's version
LIBRARIES = {
    "libEGL_nvidia.so": "0",
    "libGLESv1_CM_nvidia.so": "1",
    "libGLESv2_nvidia.so": "2",
    "libGLX_nvidia.so": "0",
    "libcuda.so": "1",
    "libcudadebugger.so": "1",
    "libnvcuvid.so": "1",
    "libnvidia-allocator.so": "1",
    "libnvidia-api.so": "1",
    "libnvidia-cfg.so": "1",
    "libnvidia-compiler.so": "V",
    "libnvidia-eglcore.so": "V",
    "libnvidia-encode.so": "1",
    "libnvidia-fbc.so": "1",
    "libnvidia-glcore.so": "V",
    "libnvidia-glsi.so": "V",
    "libnvidia-glvkspirv.so": "V",
    "libnvidia-gtk3.so": "V",
    "libnvidia-ml.so": "1",
    "libnvidia-ngx.so": "1",
    "libnvidia-nvvm.so": "4",
    "libnvidia-opencl.so": "1",
    "libnvidia-opticalflow.so": "1",
    "libnvidia-pkcs11-openssl3.so": "V",
    "libnvidia-ptxjitcompiler.so": "1",
    "libnvidia-rtcore.so": "V",
    "libnvidia-tls.so": "V",
    "libnvidia-wayland-client.so": "V",
    "libnvoptix.so": "1",
}

#: libraries of some releases only: a profile names those that it has
SOME_RELEASES = ("libnvidia-compiler.so", "libnvidia-pkcs11-openssl3.so")

#: library -> the libraries of the driver that it needs
NEEDED = {
    "libEGL_nvidia.so": ("libnvidia-glsi.so",),
    "libGLESv1_CM_nvidia.so": ("libnvidia-glsi.so",),
    "libGLESv2_nvidia.so": ("libnvidia-glsi.so",),
    "libGLX_nvidia.so": ("libnvidia-tls.so", "libnvidia-glcore.so"),
    "libnvidia-eglcore.so": ("libnvidia-tls.so",),
    "libnvidia-glcore.so": ("libnvidia-tls.so",),
    "libnvidia-opencl.so": ("libnvidia-tls.so",),
}

#: the thread-local storage library says which kernel interface it is for
ABI = {"libnvidia-tls.so": (2, 3, 99)}

#: link for the linker -> library
DEVELOPMENT_LINKS = ("libcuda.so", "libnvcuvid.so", "libnvidia-encode.so", "libnvidia-ml.so")

PROGRAMS = (
    "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server",
    "nvidia-debugdump",
    "nvidia-modprobe",
    "nvidia-persistenced",
)

#: configuration files, by path
FILES = {
    "etc/OpenCL/vendors/nvidia.icd": "libnvidia-opencl.so.1\n",
    "etc/vulkan/icd.d/nvidia_icd.json": '{"file_format_version": "1.0.0", "ICD": '
    '{"library_path": "libGLX_nvidia.so.0", "api_version": "1.3.242"}}\n',
    "usr/share/glvnd/egl_vendor.d/10_nvidia.json": '{"file_format_version": "1.0.0", "ICD": '
    '{"library_path": "libEGL_nvidia.so.0"}}\n',
    "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n",
}

PARAMS = """\
ResmanDebugLevel: 4294967295
RmLogonRC: 1
ModifyDeviceFiles: 1
DeviceFileUID: 0
DeviceFileGID: 0
DeviceFileMode: 438
InitializeSystemMemoryAllocations: 1
UsePageAttributeTable: 4294967295
EnableMSI: 1
EnablePCIeGen3: 0
MemoryPoolSize: 0
KMallocHeapMaxSize: 0
VMallocHeapMaxSize: 0
IgnoreMMIOCheck: 0
EnableStreamMemOPs: 0
EnableUserNUMAManagement: 1
NvLinkDisable: 0
RmProfilingAdminOnly: 1
PreserveVideoMemoryAllocations: 0
EnableS0ixPowerManagement: 0
S0ixPowerManagementVideoMemoryThreshold: 256
DynamicPowerManagement: 3
DynamicPowerManagementVideoMemoryThreshold: 200
RegisterPCIDriver: 1
EnablePCIERelaxedOrderingMode: 0
EnableResizableBar: 0
EnableGpuFirmware: 18
EnableDbgBreakpoint: 0
RegistryDwords: ""
RegistryDwordsPerDevice: ""
RmMsg: ""
GpuBlacklist: ""
TemporaryFilePath: ""
ExcludedGpus: ""
"""

VERSION = """\
NVRM version: NVIDIA UNIX {machine} Kernel Module  {driver}  Mon Jul 21 12:00:00 UTC 2025
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""

INFORMATION = """\
Model: \t\t {name}
IRQ:   \t\t {irq}
GPU UUID: \t {uuid}
Video BIOS: \t {vbios}
Bus Type: \t PCIe
DMA Size: \t 47 bits
DMA Mask: \t 0x7fffffffffff
Bus Location: \t 0000:{bus:02x}:00.0
Device Minor: \t {minor}
GPU Firmware: \t N/A
GPU Excluded:\t No
"""

POWER = """\
Runtime D3 status:          Disabled by default
Video Memory:               Active
"""

DEVICES = """\
Character devices:
  1 mem
  5 /dev/tty
195 nvidia-frontend
510 nvidia-uvm
511 nvidia-caps

Block devices:
259 blkext
"""
