# SPDX-License-Identifier: Apache-2.0
"""The text of `nvidia-container-cli --version`."""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from importlib.util import find_spec

_UNKNOWN = "unknown"


def libnvc_version() -> str:
    """Return the version of the installed distribution."""
    return version("libnvc")


def version_text() -> str:
    """Return the reference's seven lines.

    What was not recorded when libnvc was built is said to be unknown.
    """
    own = libnvc_version()
    core = find_spec("libnvc._core")
    path = (core and core.origin) or __file__
    built = time.gmtime(os.stat(path).st_mtime)
    facts = {
        "cli-version": own,
        "lib-version": own,
        "build date": time.strftime("%Y-%m-%dT%H:%M+00:00", built),
        "build revision": _UNKNOWN,
        "build compiler": _compiler(path),
        "build platform": os.uname().machine,
        "build flags": _UNKNOWN,
    }
    return "".join(f"{key}: {value}\n" for key, value in facts.items())


def _compiler(path: str) -> str:
    """Return what the compiler wrote into the extension's `.comment` section."""
    with open(path, "rb") as file:
        content = file.read()
    for mark in (b"GCC: ", b"clang version "):
        at = content.find(b"\0" + mark)
        if at >= 0:
            return content[at + 1 : content.index(b"\0", at + 1)].decode("ascii", "replace")
    return _UNKNOWN
