# SPDX-License-Identifier: Apache-2.0
"""Say why a driver cannot be used: a code and a hint for the error that discovery ended with.

Imported only after a failure. The message stays as it is: people search for it. docs/errors.md
lists the codes.
"""

from __future__ import annotations

import os

from ..errors import DiscoveryError, DriverNotFoundError, MalformedFileError, NvcError, ProbeError
from .kernelfacts import KernelFacts
from .root import DriverRoot
from .search import library_directories
from .tables import NVIDIACTL, NVML_SONAME, PROC_DIRECTORY

_Finding = tuple[str, str]  # code and hint

# Where a driver may lie that no rule finds. The walk is cut: this is a hint, not a search.
_ODD_PLACES = ("/opt", "/usr/local", "/usr/lib", "/usr/lib64", "/snap", "/nix/store")
_ODD_DEPTH = 4
_ODD_DIRECTORIES = 4000


def explain(root: DriverRoot, cache: str, error: DiscoveryError) -> None:
    """Give an error of discovery its code and hint, if the cause is known.

    Args:
        root: the driver root.
        cache: path of the loader cache under the root.
        error: what discovery ended with; its message stays.
    """
    try:
        error.code, error.hint = _find_cause(root, cache, error)
    except (NvcError, OSError):  # what the user asked for failed, not this
        return


def _find_cause(root: DriverRoot, cache: str, error: DiscoveryError) -> _Finding:
    if isinstance(error, ProbeError):
        return _nvml(root, error)
    if isinstance(error, MalformedFileError):
        return _cache(root, cache, error)
    if not isinstance(error, DriverNotFoundError):
        return error.code, error.hint
    platform = _other_platform(root)
    if platform:
        return "unsupported-platform", platform
    if error.code == "userland-missing":
        return _no_library(root, cache)
    if error.code == "wrong-machine":
        machine = os.uname().machine
        return error.code, f"{error.path} is not for this machine ({machine}): install its driver"
    if error.code == "version-mismatch":
        return error.code, _mismatch(KernelFacts(root))
    return _no_module(KernelFacts(root))


# --- libraries ----------------------------------------------------------------------------------


def _no_library(root: DriverRoot, cache: str) -> _Finding:
    directories = [path for path in library_directories(root) if root.resolve(path) is not None]
    if root.prefix and not directories and root.resolve(cache) is None:
        return "empty-root", (
            f"{root.prefix} has neither a loader cache nor a directory for libraries: "
            "name the root of the driver's files, or wait until the driver container is ready"
        )
    kernel = KernelFacts(root)
    if kernel.gpus() == {} and not kernel.is_loaded():
        return _no_gpu(kernel)
    looked = f"{NVML_SONAME} is neither in {root.host(cache)} nor in {_places(root, directories)}"
    odd = _find_elsewhere(root)
    if odd:
        return "library-not-found", (
            f"{looked}, but {root.host(odd)} is there: add its directory to "
            f"{root.host('/etc/ld.so.conf.d')} and run ldconfig there"
        )
    return "userland-missing", f"{looked}: install the driver's libraries there"


def _places(root: DriverRoot, directories: list[str]) -> str:
    return ", ".join(root.host(path) for path in directories) or "any known directory"


def _find_elsewhere(root: DriverRoot) -> str:
    """Return a libnvidia-ml that lies in none of the known places, under the root, or ""."""
    left = _ODD_DIRECTORIES
    for place in _ODD_PLACES:
        top = root.resolve(place)
        for directory, below, names in os.walk(root.host(top)) if top else ():
            left -= 1
            if left == 0:
                return ""
            for name in sorted(names):
                if name.startswith("libnvidia-ml.so."):
                    return f"{directory}/{name}".removeprefix(root.prefix)
            depth = directory.count("/") - root.host(top or "").count("/")
            below[:] = sorted(below) if depth < _ODD_DEPTH else []
    return ""


def _other_platform(root: DriverRoot) -> str:
    if root.resolve("/dev/dxg") is not None:
        return (
            f"this is Windows (WSL 2: {root.host('/dev/dxg')}), whose driver is not supported yet"
        )
    if root.resolve("/etc/nv_tegra_release") is not None:
        release = root.host("/etc/nv_tegra_release")
        return (
            f"this is a Jetson or other Tegra ({release}): its containers get GPUs from "
            "nvidia-container-runtime, or by CDI files (nvidia-ctk cdi generate)"
        )
    return ""


def _cache(root: DriverRoot, cache: str, error: DiscoveryError) -> _Finding:
    real = root.resolve(cache)
    if real is None or error.path != root.host(real):
        return error.code, error.hint
    where = f" -r {root.prefix}" if root.prefix else ""
    return "cache-broken", (
        f"{error.path} is no loader cache of glibc for this machine: run ldconfig{where}"
    )


# --- the kernel module --------------------------------------------------------------------------


def _no_module(kernel: KernelFacts) -> _Finding:
    gpus = kernel.gpus()
    if gpus == {}:
        return _no_gpu(kernel)
    bound = _bound_elsewhere(gpus or {})
    if bound:
        return bound
    version = kernel.proc("/driver/nvidia/version")
    if kernel.is_loaded():
        return "proc-hidden", (
            f"{kernel.sys('/module/nvidia')} says that the module is loaded, but {version} is "
            "missing: run this where /proc is not masked, outside of containers and snaps"
        )
    return _not_loaded(kernel)


def _not_loaded(kernel: KernelFacts) -> _Finding:
    module = kernel.module_file()
    if not module:
        return "module-missing", (
            f"no nvidia.ko in {' or '.join(kernel.module_directories())}, for the running kernel: "
            "build or install the driver's module for it (dkms autoinstall)"
        )
    blacklist = kernel.blacklist()
    if blacklist:
        return "module-blacklisted", (
            f"{module} is there, but {blacklist} forbids to load it: "
            "remove that line, then run modprobe nvidia"
        )
    return "module-not-loaded", (
        f"{module} is there, but {kernel.proc('/driver/nvidia/version')} is missing: run "
        "modprobe nvidia; if the kernel refuses, dmesg says why (Secure Boot wants it signed)"
    )


def _no_gpu(kernel: KernelFacts) -> _Finding:
    hint = (
        f"no device in {kernel.sys('/bus/pci/devices')} is an NVIDIA GPU (vendor 0x10de, class "
        "0x03): check that one is plugged in, or passed through to this virtual machine"
    )
    if "linuxkit" in kernel.release:
        hint += "; this one is Docker Desktop's, which gets none"
    return "no-gpu", hint


def _bound_elsewhere(gpus: dict[str, str]) -> _Finding | None:
    nouveau = [address for address, driver in gpus.items() if driver == "nouveau"]
    if nouveau:
        return "nouveau", (
            f"the driver nouveau has {', '.join(nouveau)}: blacklist nouveau in /etc/modprobe.d, "
            "build the initramfs anew and reboot"
        )
    if gpus and set(gpus.values()) == {"vfio-pci"}:
        return "vfio", (
            f"vfio-pci has {', '.join(gpus)}, for virtual machines: "
            "give a GPU back to the driver nvidia (driverctl unset-override ADDRESS)"
        )
    return None


def _mismatch(kernel: KernelFacts) -> str:
    users = kernel.users()
    used = f" ({kernel.sys('/module/nvidia/refcnt')}: used {users} times)" if users else ""
    return (
        f"{kernel.proc('/driver/nvidia/version')} has the version of the loaded module{used}: "
        "reboot, or stop what uses the GPUs and load the nvidia modules anew"
    )


# --- NVML ---------------------------------------------------------------------------------------


def _nvml(root: DriverRoot, error: ProbeError) -> _Finding:
    if error.message.startswith("driver rpc error:"):
        return _nvml_ended(error)
    if error.step == "dlopen":
        return "nvml-not-loaded", (
            f"the loader refused {error.path or NVML_SONAME}: install the driver's libraries and "
            "the C library they need anew"
        )
    if not error.step.startswith("nvml"):
        return error.code, error.hint
    if "version mismatch" in error.message:
        return "version-mismatch", _mismatch(KernelFacts(root))
    node = root.host(NVIDIACTL[0])
    if not os.path.lexists(node):
        return "nodes-missing", (
            f"{root.host(PROC_DIRECTORY)} says that the module is loaded, but {node} is missing: "
            "run nvidia-modprobe, or mount the host's /dev below this root"
        )
    if "insufficient permissions" in error.message:
        status = os.lstat(node)
        return "nodes-forbidden", (
            f"{node} has mode {status.st_mode & 0o777:o}, owner {status.st_uid}:{status.st_gid}: "
            "name a user that may open it (--user), or change the module's NVreg_DeviceFileMode"
        )
    return "nvml-failed", (
        f"NVML refused at {error.step}: the kernel's log (dmesg, NVRM and Xid) says what is wrong "
        "with the driver or a GPU"
    )


def _nvml_ended(error: ProbeError) -> _Finding:
    call = "NVML" if error.step == "nvml" else error.step
    call += f" ({error.path})" if error.path else ""
    if "timed out" in error.message:
        return "nvml-timeout", (
            f"{call} did not return before the deadline: a GPU hangs (see dmesg for Xid), "
            "or takes long to start (run nvidia-persistenced)"
        )
    return "nvml-crashed", (f"{call} crashed: see dmesg, and install the driver's libraries anew")
