# SPDX-License-Identifier: Apache-2.0
"""What was found on a host, and what is asked for a container: plain data, no I/O.

Paths are strings as the kernel gives them (`os.fsdecode`, surrogates for odd bytes). A path
"under the driver root" is absolute and does not contain the root: on the host it is
``inventory.root + path``.
"""

from __future__ import annotations

from ._record import Record

#: Driver capabilities that a request may name.
CAPABILITIES = ("utility", "compute", "video", "graphics", "display", "ngx", "compat32")

#: What becomes of the CUDA compatibility libraries of an image. "mount" and "ldconfig" mean the
#: same: their directory comes first in the loader cache. Image content is never mounted.
CUDA_COMPAT_MODES = ("ldconfig", "mount", "disabled")


class Identity(Record):
    """What makes a file the same file: the values of one lstat.

    Attributes:
        path: absolute, on the host (driver root included).
        dev, ino: device and inode number; 0 and 0 when the path did not exist.
        size: bytes.
        mtime_ns, ctime_ns: nanoseconds since the epoch.
        digest: hex SHA-256 of the content for small files without a usable mtime (/proc), or "".
    """

    path: str
    dev: int
    ino: int
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str = ""


class DriverFile(Record):
    """A file of the driver that a container may need.

    Attributes:
        path: the real file, under the driver root, free of symbolic links.
        target: absolute path inside the container if it does not depend on the container's
            layout (firmware, sockets), or "" (binaries, libraries).
        kind: "binary", "library", "firmware", "ipc" or "graphics".
        file_type: "file", "directory" or "socket".
    """

    path: str
    kind: str
    file_type: str = "file"
    target: str = ""


class Library(Record):
    """A shared library of the driver.

    Attributes:
        path: the real file, under the driver root, free of symbolic links.
        name: the entry of the capability table that matched, "libcuda.so".
        soname: DT_SONAME, or "" if the file has none.
        bits: 64 or 32.
    """

    path: str
    name: str
    soname: str
    bits: int = 64


class DeviceFile(Record):
    """A character device of the driver.

    Attributes:
        path: under the driver root, and the same path inside the container.
        major, minor: the number it must have.
        present: whether the host has the node.
    """

    path: str
    major: int
    minor: int
    present: bool = True


class ProcFile(Record):
    """A small file of /proc/driver/nvidia: name below that directory, content, mode bits."""

    name: str
    content: bytes
    mode: int


class Link(Record):
    """A symbolic link: its path inside a container, and the text it has."""

    path: str
    target: str


class Capability(Record):
    """A right that the kernel module hands out as a file, and perhaps as a device.

    Attributes:
        path: the file, below /proc/driver/nvidia: "capabilities/mig/config",
            "capabilities/gpu0/mig/gi1/access".
        device: its device, or None where the module has files only.
    """

    path: str
    device: DeviceFile | None = None


class MigDevice(Record):
    """A MIG device: one compute instance of a GPU.

    Attributes:
        index: in NVML's order, which may have holes; without a probe, by the instances' numbers.
        gpu_instance, compute_instance: their numbers.
        gpu_access, compute_access: the rights to use them.
        uuid: "MIG-…"; known only after a probe, else "".
    """

    index: int
    gpu_instance: int
    compute_instance: int
    gpu_access: Capability
    compute_access: Capability
    uuid: str = ""


class Mig(Record):
    """What configuring and watching MIG take.

    Attributes:
        config, monitor: the rights to do so, None where the module does not have them.
        minors: for each right of a GPU, there or not, the minors of GPU and capability device.
        major: of the capability devices, None where the module has files only.
    """

    config: Capability | None = None
    monitor: Capability | None = None
    minors: tuple[tuple[int, int], ...] = ()
    major: int | None = None


class Gpu(Record):
    """One GPU.

    Attributes:
        index: position in NVML's order (sorted by PCI address), from 0.
        minor: the N of /dev/nvidiaN.
        uuid: "GPU-…".
        pci: "00000000:07:00.0" (32-bit domain, lower case).
        model: marketing name.
        device: its node.
        proc_dir: its directory under /proc/driver/nvidia/gpus, e.g. "0000:07:00.0", or "".
        brand, arch: brand name and compute capability ("8.0"); known only after a probe, else "".
        mig_capable: whether it can be divided; without a probe, whether the module says so.
        mig_enabled: whether it is set to be divided; known only after a probe, else False.
        mig_devices: by index.
        drm: its nodes in /dev/dri, those that are there; looked for only with graphics.
        drm_links: links to them by PCI address, as the host has them.
    """

    index: int
    minor: int
    uuid: str
    pci: str
    model: str
    device: DeviceFile
    proc_dir: str = ""
    brand: str = ""
    arch: str = ""
    mig_capable: bool = False
    mig_enabled: bool = False
    mig_devices: tuple[MigDevice, ...] = ()
    drm: tuple[DeviceFile, ...] = ()
    drm_links: tuple[Link, ...] = ()


class Extras(Record):
    """What a driver has beside what capabilities name, for containers that get all of it.

    Attributes:
        directories: of the driver's 64-bit libraries, that of libnvidia-ml first.
        libraries: all 64-bit libraries of the driver's version in there, those of the capability
            tables included.
        links: by names without a number ("libcuda.so"), where the host has such links, too.
        firmware: wherever the kernel looks for it.
    """

    directories: tuple[str, ...] = ()
    libraries: tuple[Library, ...] = ()
    links: tuple[Link, ...] = ()
    firmware: tuple[DriverFile, ...] = ()


class Graphics(Record):
    """What programs with displays load or read, and no capability names.

    Attributes:
        libraries: 64-bit ones: EGL's platforms, and those beside which there are links for others.
        files: manifests, modules of the X server, programs.
        links: to such files.
    """

    libraries: tuple[Library, ...] = ()
    files: tuple[DriverFile, ...] = ()
    links: tuple[Link, ...] = ()


class Inventory(Record):
    """Everything discovery found; sorted, no duplicates.

    Attributes:
        root: the driver root on the host, absolute, symlink-free, "" for "/" (so that
            ``root + path`` is always right).
        proc: directory on the host that stands for /proc/driver/nvidia, "" if there is none.
        driver_version: "535.261.03".
        cuda_version: "12.2": what NVML said, without a probe what drivers of this branch support;
            "" for a branch that is not known.
        gpus: by index.
        control: control devices in the order nvidiactl, uvm, uvm-tools, modeset.
        libraries, binaries, firmware, ipcs: in the order of the capability tables; 32-bit libraries
            after all others.
        mig: what configuring MIG takes; found only when asked for.
        imex_channels: devices of the IMEX channels that the host has, by number.
        proc_files: params, version, registry, those that exist, content unchanged.
        extras, graphics: what no capability names; found only when asked for.
        dev_root: directory on the host that has the driver's /dev, None for `root`.
        warnings: one line each.
        dependencies: what the inventory was computed from.
    """

    root: str
    proc: str
    driver_version: str
    gpus: tuple[Gpu, ...]
    control: tuple[DeviceFile, ...]
    libraries: tuple[Library, ...]
    binaries: tuple[DriverFile, ...]
    firmware: tuple[DriverFile, ...]
    ipcs: tuple[DriverFile, ...]
    proc_files: tuple[ProcFile, ...]
    mig: Mig = Mig()
    imex_channels: tuple[DeviceFile, ...] = ()
    cuda_version: str = ""
    extras: Extras | None = None
    graphics: Graphics | None = None
    dev_root: str | None = None
    warnings: tuple[str, ...] = ()
    dependencies: tuple[Identity, ...] = ()


class Layout(Record):
    """Where a container keeps things; absolute paths inside the container.

    Attributes:
        bins_dir: for binaries.
        libs_dir: for 64-bit libraries.
        libs32_dir: for 32-bit libraries.
        cuda_compat: real paths of the image's CUDA compatibility libraries.
        mirrors_host: whether this is a container that is not known yet: libraries lie where the
            driver root has them, and all of them come, whatever the capabilities.
    """

    bins_dir: str = "/usr/bin"
    libs_dir: str = "/usr/lib64"
    libs32_dir: str = "/usr/lib32"
    cuda_compat: tuple[str, ...] = ()
    mirrors_host: bool = False


class Request(Record):
    """What a container asks for.

    Attributes:
        devices: selectors as written: index, UUID, PCI address, "GPU:MIG" indices, UUID of a MIG
            device, or "all"; may be empty.
        capabilities: names from `CAPABILITIES`.
        requirements: expressions that must all hold for each GPU, "cuda>=12.1 brand=tesla"; what
            they name beside "driver" and "cuda" is known only after a probe.
        mig_config, mig_monitor: whether MIG may be configured or watched, on the GPUs given.
        imex_channels: numbers of IMEX channels.
        cuda_compat_mode: one of `CUDA_COMPAT_MODES`.
        layout: the container's directories.
        device_nodes: whether device nodes are put into the container.
        device_rules: whether device-cgroup rules are added.
        loader_cache: whether the container's loader cache is updated.
    """

    devices: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    mig_config: bool = False
    mig_monitor: bool = False
    imex_channels: tuple[int, ...] = ()
    cuda_compat_mode: str = "ldconfig"
    layout: Layout = Layout()
    device_nodes: bool = True
    device_rules: bool = True
    loader_cache: bool = True


class Target(Record):
    """The container a plan is applied to.

    Attributes:
        pid: a process of the container, in the caller's pid namespace. 0: the caller is in the
            container's user and mount namespaces itself, as a hook that the engine runs in there
            ("standalone"); then there are no device rules, since the container's cgroup is not
            known, and only the caller can detach.
        rootfs: the container's root, as an absolute path in that process's mount namespace; ""
            for the process's own root (a container that has already pivoted), not with pid 0.
    """

    pid: int
    rootfs: str = ""


class Applied(Record):
    """A plan that was applied: what `libnvc.detach` takes.

    Attributes:
        target: the container.
        warnings: one line each, of the plan and of applying it.
        journal: path of the journal, by which any process of root can detach, or "".
        journal_fd: the journal where it has no path: it ends with this process.
        journal_inode: its inode, by which a number that was closed and reused is told.
    """

    target: Target
    warnings: tuple[str, ...] = ()
    journal: str = ""
    journal_fd: int = -1
    journal_inode: int = 0
