# SPDX-License-Identifier: Apache-2.0
"""Keep what a hook of a CDI file did, so that the native program does it in containers like it."""

from __future__ import annotations

import os

from libnvc._kept import header, keep
from libnvc._native.flat import encode
from libnvc._native.kept import hook_key, strings

from .container_kept import identify_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libnvc.plan import Plan

    from .cdi_hook_words import Words


def keep_hook(origin: Sequence[str], words: Words, root: str) -> Callable[[Plan], object] | None:
    """Look at a container before a hook changes it; return what keeps the plan that it applies.

    None if nothing is kept for it. The plan may have no operations.

    Args:
        origin: the path and the name of the native program.
        words: of the hook.
        root: the container's.
    """
    config = identify_config()
    if config is None:
        return None
    try:
        seen = hook_key(root, words.hook)
    except ValueError:
        return None
    program, name = origin
    path = os.environ.get("NVIDIA_CTK_CONFIG_FILE_PATH", "")
    key = header(program, name, path, os.environ) + strings([f"w{word}" for word in words.given])

    def keep_plan(plan: Plan) -> None:
        applied = encode(plan) if plan.operations else b""
        keep(key + seen, (*plan.dependencies, config), b"", applied)

    return keep_plan
