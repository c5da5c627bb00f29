# SPDX-License-Identifier: Apache-2.0
"""The public functions, gathered from the layers below.

A name is loaded on first use (see `libnvc/__init__.py`), so importing libnvc stays cheap.
"""

from __future__ import annotations

from ._apply.direct import apply, detach
from ._discover import discover
from ._discover.container import inspect_container, inspect_rootfs
from ._planner.build import make_plan
from ._planner.probe import needs_probe
from ._render.text import plan_to_text

__all__ = [
    "apply",
    "detach",
    "discover",
    "inspect_container",
    "inspect_rootfs",
    "make_plan",
    "needs_probe",
    "plan_to_text",
]
