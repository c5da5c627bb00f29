# SPDX-License-Identifier: Apache-2.0
"""Options of the `nvc` commands that say what a container shall get."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from libnvc.model import Inventory

Root = Annotated[str, typer.Option(help="Find the driver below this directory.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device", help="GPUs: index, UUID, PCI address or 'all'; several separated by commas."
    ),
]
Utility = Annotated[bool, typer.Option("--utility", help="nvidia-smi and its needs.")]
Compute = Annotated[bool, typer.Option("--compute", help="CUDA and OpenCL.")]


def discover(root: str) -> Inventory:
    """Read the driver below a root, with the programs that PATH leads to."""
    import libnvc

    return libnvc.discover(root, path=os.environ.get("PATH", os.defpath))


def capabilities(utility: bool, compute: bool) -> tuple[str, ...]:
    """Return the capabilities that are switched on."""
    return tuple(name for name, on in (("utility", utility), ("compute", compute)) if on)
