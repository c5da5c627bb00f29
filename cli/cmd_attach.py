# SPDX-License-Identifier: Apache-2.0
"""`nvc attach`: give a running container GPUs."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from . import gpu_options
from .output import complain, one_line, put


def attach(
    *,
    pid: Annotated[int, typer.Option(min=1, help="A process of the container.")],
    device: gpu_options.Devices = None,
    root: gpu_options.Root = "/",
    utility: gpu_options.Utility = False,
    compute: gpu_options.Compute = False,
    video: gpu_options.Video = False,
    graphics: gpu_options.Graphics = False,
    display: gpu_options.Display = False,
    ngx: gpu_options.Ngx = False,
    cgroups: Annotated[
        bool, typer.Option("--cgroups/--no-cgroups", help="Allow the devices in its cgroup.")
    ] = True,
    timeout: gpu_options.Timeout = 30.0,
) -> None:
    """Give a running container GPUs; `nvc detach` takes them away again.

    Unless capabilities are named it gets utility and compute. Its processes see the GPUs at once.
    """
    import libnvc

    if not device:
        raise typer.BadParameter("name the GPUs", param_hint="--device")
    gpu_options.check_process(pid)
    deadline = time.monotonic() + timeout
    request = libnvc.Request(
        devices=tuple(device),
        capabilities=gpu_options.named(
            utility=utility,
            compute=compute,
            video=video,
            graphics=graphics,
            display=display,
            ngx=ngx,
        )
        or ("utility", "compute"),
        device_rules=cgroups,
    )
    found = gpu_options.discover(root, request, timeout)
    target = libnvc.Target(pid=pid)
    plan = libnvc.make_plan(found, request.replace(layout=libnvc.inspect_container(target)))
    applied = libnvc.apply(plan, target, timeout=max(deadline - time.monotonic(), 0.001))
    for warning in applied.warnings:
        complain(one_line(f"nvc: warning: {warning}") + "\n")
    places = {operation.path for operation in plan.operations}
    for gpu in found.gpus:
        if gpu.device.path in places:
            put(one_line(f"GPU {gpu.index}: {gpu.model} ({gpu.uuid})") + "\n")
