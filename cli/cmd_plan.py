# SPDX-License-Identifier: Apache-2.0
"""`nvc plan`: show what `nvidia-container-cli configure` would do, and do none of it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from .output import put


def plan(
    *,
    root: Annotated[str, typer.Option(help="Find the driver below this directory.")] = "/",
    device: Annotated[
        list[str] | None,
        typer.Option(help="GPU: index, UUID, PCI address or 'all'. May be repeated."),
    ] = None,
    utility: Annotated[bool, typer.Option("--utility", help="nvidia-smi and its needs.")] = False,
    compute: Annotated[bool, typer.Option("--compute", help="CUDA and OpenCL.")] = False,
    rootfs: Annotated[
        str | None,
        typer.Option(help="The container's root directory, as --pid sees it if given."),
    ] = None,
    pid: Annotated[int | None, typer.Option(min=1, help="A process of the container.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show what would be done to a container, and do none of it.

    Without --rootfs and --pid, the container is taken to keep libraries in /usr/lib64.
    """
    import libnvc

    found = libnvc.discover(root, path=os.environ.get("PATH", os.defpath))
    if pid:
        layout = libnvc.inspect_container(libnvc.Target(pid=pid, rootfs=rootfs or ""))
    else:
        layout = libnvc.inspect_rootfs(rootfs) if rootfs else libnvc.Layout()
    wanted = {"utility": utility, "compute": compute}
    request = libnvc.Request(
        devices=tuple(device or ()),
        capabilities=tuple(name for name, on in wanted.items() if on),
        layout=layout,
    )
    made = libnvc.make_plan(found, request)
    put(made.to_json() + "\n" if as_json else libnvc.plan_to_text(made))
