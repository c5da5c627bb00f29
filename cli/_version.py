# SPDX-License-Identifier: Apache-2.0
"""The text of `nvidia-container-cli --version`."""

from __future__ import annotations

import os
import time

from libnvc import _build


def build_revision() -> str:
    """Return what it was built from: a commit, or the version where there was none."""
    return _build.REVISION or _build.VERSION


def version_text() -> str:
    """Return the reference's seven lines."""
    facts = {
        "cli-version": _build.VERSION,
        "lib-version": _build.VERSION,
        "build date": time.strftime("%Y-%m-%dT%H:%M+00:00", time.gmtime(_build.DATE)),
        "build revision": build_revision(),
        "build compiler": _build.COMPILER,
        "build platform": os.uname().machine,
        "build flags": _build.FLAGS,
    }
    return "".join(f"{key}: {value}\n" for key, value in facts.items())
