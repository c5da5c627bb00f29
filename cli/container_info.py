# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-cli info`: the driver's version and its GPUs."""

from __future__ import annotations

from ._argp import Option, Parser
from .container_common import Settings, discover, events, start
from .container_kept import put_kept

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from libnvc.model import Gpu, Inventory

PARSER = Parser(
    name="nvidia-container-cli info",
    doc="Show the driver's version and its GPUs.",
    options=(Option(name="csv", doc="Print comma-separated values"),),
)

_DRIVER_LABELS = ("NVRM version", "CUDA version")
_GPU_LABELS = (
    "Device Index",
    "Device Minor",
    "Model",
    "Brand",
    "GPU UUID",
    "Bus Location",
    "Architecture",
)


def info(settings: Settings, argv: Sequence[str]) -> int:
    """Print the driver's versions and one block or row a GPU."""
    csv = any(name == "csv" for name, _, _ in events(PARSER, argv))
    with start(settings) as log:
        found = discover(settings, log, None)
        put_kept(as_csv(found) if csv else as_text(found), found, settings)
    return 0


def as_text(found: Inventory) -> str:
    """Return the text form: labels in 15 columns, a blank line before each GPU."""
    blocks = [_block(_DRIVER_LABELS, (found.driver_version, found.cuda_version))]
    blocks += [_block(_GPU_LABELS, _values(gpu)) for gpu in found.gpus]
    return "\n".join(blocks)


def as_csv(found: Inventory) -> str:
    """Return the CSV form: no quoting, the header of the GPUs even if there is none."""
    rows = [_DRIVER_LABELS, (found.driver_version, found.cuda_version), (), _GPU_LABELS]
    rows += [_values(gpu) for gpu in found.gpus]
    return "".join(",".join(row) + "\n" for row in rows)


def _block(labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    lines = zip(labels, values, strict=True)
    return "".join(f"{label + ':':<15} {value}\n" for label, value in lines)


def _values(gpu: Gpu) -> tuple[str, ...]:
    return str(gpu.index), str(gpu.minor), gpu.model, gpu.brand, gpu.uuid, gpu.pci, gpu.arch
