# SPDX-License-Identifier: Apache-2.0
"""Options of the `nvc` commands that say what a container shall get."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from libnvc.model import Inventory, Request

Root = Annotated[str, typer.Option(help="Find the driver below this directory.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="GPUs: index, UUID, PCI address or 'all'; MIG devices: GPU:INDEX or UUID; several "
        "separated by commas.",
    ),
]
Utility = Annotated[bool, typer.Option("--utility", help="nvidia-smi and its needs.")]
Compute = Annotated[bool, typer.Option("--compute", help="CUDA and OpenCL.")]
Video = Annotated[bool, typer.Option("--video", help="Coding of video; CUDA included.")]
Graphics = Annotated[bool, typer.Option("--graphics", help="OpenGL and Vulkan.")]
Display = Annotated[bool, typer.Option("--display", help="X11 displays; graphics included.")]
Ngx = Annotated[bool, typer.Option("--ngx", help="NGX.")]
Timeout = Annotated[
    float, typer.Option(min=0.001, metavar="SECONDS", help="Give up after that long, all in all.")
]


def discover(root: str, request: Request, timeout: float) -> Inventory:
    """Read the driver below a root, with the programs that PATH leads to.

    NVML is asked only if the request needs it.

    Args:
        root: the driver root.
        request: for what.
        timeout: seconds that NVML has.
    """
    import libnvc

    try:
        found = libnvc.discover(root, path=os.environ.get("PATH", os.defpath))
    except libnvc.DriverNotFoundError as error:
        where = "on this host" if root == "/" else f"below {root}"
        text = f"no usable NVIDIA driver {where}: {error} (--root names another place)"
        raise libnvc.DriverNotFoundError(text, code=error.code, hint=error.hint) from error
    return libnvc.probe(found, timeout=timeout) if libnvc.needs_probe(request, found) else found


def named(**switches: bool) -> tuple[str, ...]:
    """Return the names of what is switched on."""
    return tuple(name for name, on in switches.items() if on)


def check_process(pid: int) -> None:
    """Refuse a process that does not exist, and an ordinary user.

    Raises:
        NvcError: it says what to do.
    """
    import libnvc

    if not os.path.exists(f"/proc/{pid}"):
        raise libnvc.ContainerError(
            f"process {pid}: no such process: name a running one of the container; when a "
            "container ends, what was attached to it is gone"
        )
    if os.geteuid() != 0:
        raise libnvc.ContainerError("only root may change a container: run this with sudo")
