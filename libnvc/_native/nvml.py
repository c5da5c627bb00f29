# SPDX-License-Identifier: Apache-2.0
"""Ask the driver's management library (NVML), in a child process."""

from __future__ import annotations

import os

from libnvc._core import ffi, lib

from .._record import Record
from ..errors import ProbeError, RequestError
from .check import encode_path, raise_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: nvmlBrandType_t, by its number
BRANDS = (
    "Unknown",
    "Quadro",
    "Tesla",
    "NVS",
    "GRID",
    "GeForce",
    "TITAN",
    "VApps",
    "VPC",
    "VCS",
    "VWS",
    "CloudGaming",
    "QuadroRTX",
    "NvidiaRTX",
    "Nvidia",
    "GeForceRTX",
    "TitanRTX",
)

_SONAME = "libnvidia-ml.so.1"
_NOT_FOUND = "cannot open shared object file: no such file or directory"
_TIMEOUT_MAX = 86400.0


class NvmlMig(Record):
    """One MIG device, as NVML sees it: place in its list, which may have holes, and numbers."""

    index: int
    gpu_instance: int
    compute_instance: int
    uuid: str


class NvmlGpu(Record):
    """One GPU, as NVML sees it.

    Attributes:
        index: in NVML's order, from 0.
        minor: the N of /dev/nvidiaN.
        uuid: "GPU-…".
        pci: "00000000:07:00.0".
        name: marketing name.
        brand: one of `BRANDS`.
        arch: compute capability, "8.0"; "" if NVML does not know.
        mig_capable: whether it can be divided (MIG).
        mig_enabled: whether it is now.
        mig_devices: by index.
    """

    index: int
    minor: int
    uuid: str
    pci: str
    name: str
    brand: str
    arch: str
    mig_capable: bool
    mig_enabled: bool
    mig_devices: tuple[NvmlMig, ...] = ()


class NvmlFacts(Record):
    """What NVML says: versions ("535.261.03", "12.2") and GPUs by index."""

    driver_version: str
    cuda_version: str
    gpus: tuple[NvmlGpu, ...]


def probe(
    root: str,
    library: str,
    *,
    uid: int | None,
    gid: int | None,
    timeout: float = 10.0,
    devices: tuple[str, ...] = (),
) -> NvmlFacts:
    """Load NVML in a child process and ask it everything, once.

    The child enters the driver root, gives up its privileges and is killed at the deadline. An
    ordinary user needs a kernel that allows user namespaces, unless the root is the host's.

    Args:
        root: driver root on the host, absolute; "" or "/" is the host itself.
        library: path of libnvidia-ml.so.1 under the root.
        uid: who the child becomes; None for the overflow user ("nobody") if the caller is root
            and that user exists in its user namespace, else the caller.
        gid: the same for its only group.
        timeout: seconds, for everything.
        devices: what the GPUs are called in errors, in NVML's order.

    Raises:
        ProbeError: no library, NVML failed, did not answer in time, or crashed. Its `step` is the
            call; its `path` the file or device that it was about, if that is known.
        RequestError: an unusable timeout, or a NUL or newline in a path.
    """
    if not 0 < timeout <= _TIMEOUT_MAX:
        raise RequestError(f"invalid timeout: {timeout}: not between 0 and {_TIMEOUT_MAX:.0f} s")
    # The struct only points at these two: they must outlive the call.
    root_text = ffi.new("char[]", encode_path(root))
    library_text = ffi.new("char[]", encode_path(library))
    options = ffi.new("struct nvc_nvml_options *")
    options.root = root_text
    options.library = library_text
    options.uid = _identity(uid, "overflowuid")
    options.gid = _identity(gid, "overflowgid")
    options.optional_ids = uid is None and gid is None
    options.timeout_ms = max(1, int(timeout * 1000))
    facts = ffi.new("struct nvc_nvml_facts *")
    err = ffi.new("struct nvc_error *")
    if lib.nvc_nvml_probe(options, facts, err) < 0:
        _raise_probe(err, library, _text(facts.blocked) or _device(facts.gpu_asked, devices))
    return _decode(facts)


def _identity(wanted: int | None, overflow: str) -> int:
    """Return the user or group the child becomes; unmapped by default, so that it owns nothing."""
    keep: int = lib.NVC_NVML_KEEP_ID
    if wanted is not None:
        if not 0 <= wanted < keep:
            raise RequestError(f"invalid user or group: {wanted}")
        return wanted
    if os.geteuid() != 0:
        return keep
    path = f"/proc/sys/kernel/{overflow}"
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except OSError as error:
        raise ProbeError(
            f"open failed: {path}: {(error.strerror or '').lower()}",
            errno=error.errno or 0,
            path=path,
            step="open",
        ) from error


def _device(asked: int, devices: tuple[str, ...]) -> str:
    # The index comes from where the driver's code ran.
    return devices[asked] if 0 <= asked < len(devices) else ""


def _raise_probe(err: Any, library: str, device: str) -> NoReturn:
    try:
        raise_error(err, discovery=True)
    except ProbeError as error:
        error.path = error.path or device
        # The reference asks the loader by name, and that is the name people search for.
        if error.message == f"load library failed: {library}: {_NOT_FOUND}":
            raise ProbeError(
                f"load library failed: {_SONAME}: {_NOT_FOUND}", path=library, step=error.step
            ) from None
        raise


def _decode(facts: Any) -> NvmlFacts:
    version = facts.cuda_version
    return NvmlFacts(
        driver_version=_text(facts.driver_version),
        cuda_version=f"{version // 1000}.{version % 1000 // 10}",
        gpus=tuple(_decode_gpu(i, facts.gpus[i]) for i in range(facts.gpu_count)),
    )


def _decode_gpu(index: int, gpu: Any) -> NvmlGpu:
    return NvmlGpu(
        index=index,
        minor=gpu.minor,
        uuid=_text(gpu.uuid),
        pci=f"{gpu.pci_domain:08x}:{gpu.pci_bus:02x}:{gpu.pci_device:02x}.0",
        name=_text(gpu.name),
        brand=BRANDS[gpu.brand] if gpu.brand < len(BRANDS) else BRANDS[0],
        arch=f"{gpu.arch_major}.{gpu.arch_minor}" if gpu.arch_major > 0 else "",
        mig_capable=bool(gpu.mig_capable),
        mig_enabled=bool(gpu.mig_enabled),
        mig_devices=tuple(_decode_mig(gpu.migs[i]) for i in range(gpu.mig_count)),
    )


def _decode_mig(mig: Any) -> NvmlMig:
    return NvmlMig(
        index=mig.index,
        gpu_instance=mig.gpu_instance,
        compute_instance=mig.compute_instance,
        uuid=_text(mig.uuid),
    )


def _text(field: Any) -> str:
    return os.fsdecode(ffi.string(field))
