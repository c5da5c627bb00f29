# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk cdi list`: show the devices that CDI files describe."""

from __future__ import annotations

from libnvc._cdi.registry import read_registry

from .ctk_cdi import SPEC_DIR, spec_dirs
from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .ctk import Log

FLAGS = (SPEC_DIR,)


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command."""
    found = read_registry(spec_dirs(values))
    for warning in found.warnings:
        log.warning(warning)
    log.info(f"Found {len(found.devices)} CDI devices")
    put("".join(f"{name}\n" for name in sorted(found.devices)))
