# SPDX-License-Identifier: Apache-2.0
"""`nvc detach`: undo what was applied to a container."""

from __future__ import annotations

from typing import Annotated

import typer

from . import gpu_options


def detach(
    pid: Annotated[int, typer.Option(min=1, help="A process of the container.")],
) -> None:
    """Take the GPUs out of a container again: undo everything that was put into it."""
    import libnvc

    gpu_options.check_process(pid)
    libnvc.detach(libnvc.Target(pid=pid))
