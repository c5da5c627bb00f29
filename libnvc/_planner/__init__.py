# SPDX-License-Identifier: Apache-2.0
"""Turn what was found and what is asked for into a plan: no I/O, same input, same plan."""

from __future__ import annotations

from .build import make_plan
from .select import Selection, check_mig_control, select

__all__ = ["Selection", "check_mig_control", "make_plan", "select"]
