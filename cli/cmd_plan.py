# SPDX-License-Identifier: Apache-2.0
"""`nvc plan`: show what `nvidia-container-cli configure` would do, and do none of it."""

from __future__ import annotations

from typing import Annotated

import typer

from . import gpu_options
from .output import put


def plan(
    *,
    root: gpu_options.Root = "/",
    device: gpu_options.Devices = None,
    utility: gpu_options.Utility = False,
    compute: gpu_options.Compute = False,
    video: gpu_options.Video = False,
    graphics: gpu_options.Graphics = False,
    display: gpu_options.Display = False,
    ngx: gpu_options.Ngx = False,
    rootfs: Annotated[
        str | None,
        typer.Option(help="The container's root directory, as --pid sees it if given."),
    ] = None,
    pid: Annotated[int | None, typer.Option(min=1, help="A process of the container.")] = None,
    timeout: gpu_options.Timeout = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Show what would be done to a container, and do none of it.

    Without --rootfs and --pid, the container is taken to keep libraries in /usr/lib64.
    """
    import libnvc

    request = libnvc.Request(
        devices=tuple(device or ()),
        capabilities=gpu_options.named(
            utility=utility,
            compute=compute,
            video=video,
            graphics=graphics,
            display=display,
            ngx=ngx,
        ),
    )
    found = gpu_options.discover(root, request, timeout)
    if pid:
        layout = libnvc.inspect_container(libnvc.Target(pid=pid, rootfs=rootfs or ""))
    else:
        layout = libnvc.inspect_rootfs(rootfs) if rootfs else libnvc.Layout()
    made = libnvc.make_plan(found, request.replace(layout=layout))
    put(made.to_json() + "\n" if as_json else libnvc.plan_to_text(made))
