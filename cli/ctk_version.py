# SPDX-License-Identifier: Apache-2.0
"""The version texts of the toolkit's programs."""

from __future__ import annotations

from libnvc import _build


def version_text(program: str) -> str:
    """Return a program's version, and the commit it was built from if that is known."""
    commit = f"commit: {_build.REVISION}\n" if _build.REVISION else ""
    return f"{program} version {_build.VERSION}\n{commit}"
