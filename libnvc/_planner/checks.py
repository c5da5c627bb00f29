# SPDX-License-Identifier: Apache-2.0
"""Refuse what no plan may hold."""

from __future__ import annotations

from ..errors import DiscoveryError, RequestError
from ..model import CAPABILITIES, CUDA_COMPAT_MODES, Extras, Graphics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..model import Capability, Inventory, Request


def check_request(request: Request) -> None:
    """Refuse unknown capabilities and modes, and directories that are not plain.

    Raises:
        RequestError: the object is named.
    """
    for capability in request.capabilities:
        if capability not in CAPABILITIES:
            raise RequestError(f"{printable(capability)}: unknown capability")
    if request.cuda_compat_mode not in CUDA_COMPAT_MODES:
        mode = printable(request.cuda_compat_mode)
        raise RequestError(
            f"invalid option: cuda-compat-mode={mode}: known are {', '.join(CUDA_COMPAT_MODES)}"
        )
    layout = request.layout
    for path in (layout.bins_dir, layout.libs_dir, layout.libs32_dir):
        if not is_plain(path):
            raise RequestError(f"invalid path: {printable(path)}", path=path)


def check_inventory(inventory: Inventory) -> None:
    """Refuse paths that are not plain: nothing with a line break or ".." reaches a mount.

    Raises:
        DiscoveryError: the path is named.
    """
    for path in _paths(inventory):
        if not is_plain(path):
            raise DiscoveryError(f"invalid path: {printable(path)}", path=path)


def is_plain(path: str) -> bool:
    """Tell whether a path is absolute, without control characters and without ".."."""
    # isprintable() settles nearly all at once; other bytes than controls are legal in names.
    clean = path.isprintable() or not any(c < " " or c == "\x7f" for c in path)
    return path.startswith("/") and clean and ".." not in path.split("/")


def printable(text: str) -> str:
    """Return a text fit for one line of a message; a tab may stay."""
    return "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in text)


def _paths(inventory: Inventory) -> Iterator[str]:
    yield inventory.root or "/"
    yield inventory.proc or "/"
    for library in inventory.libraries:
        yield library.path
    for file in (*inventory.binaries, *inventory.firmware, *inventory.ipcs):
        yield file.path
        yield file.target or "/"
    for device in (
        *inventory.control,
        *inventory.imex_channels,
        *(gpu.device for gpu in inventory.gpus),
    ):
        yield device.path
    yield inventory.dev_root or "/"
    yield from _extra_paths(inventory)
    for capability in _capabilities(inventory):
        yield f"/{capability.path}"
        if capability.device is not None:
            yield capability.device.path
    for proc_file in inventory.proc_files:
        yield f"/{proc_file.name}"
    for gpu in inventory.gpus:
        yield f"/{gpu.proc_dir}"


def _extra_paths(inventory: Inventory) -> Iterator[str]:
    for gpu in inventory.gpus:
        for device in gpu.drm:
            yield device.path
        for link in gpu.drm_links:
            yield link.path
    extras, graphics = inventory.extras or Extras(), inventory.graphics or Graphics()
    yield from extras.directories
    for library in (*extras.libraries, *graphics.libraries):
        yield library.path
    for file in (*graphics.files, *extras.firmware):
        yield file.path
        yield file.target
    for link in (*extras.links, *graphics.links):
        yield link.path


def _capabilities(inventory: Inventory) -> Iterator[Capability]:
    yield from filter(None, (inventory.mig.config, inventory.mig.monitor))
    for gpu in inventory.gpus:
        for mig in gpu.mig_devices:
            yield mig.gpu_access
            yield mig.compute_access
