# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk cdi check`: tell whether CDI files are what would be generated now."""

from __future__ import annotations

import os

from libnvc._cdi.check import BROKEN, FRESH, STALE, judge
from libnvc._cdi.generate import generate
from libnvc._cdi.options import read_stamp
from libnvc._cdi.raw import read_document
from libnvc.errors import NvcError

from ._flags import Flag, UsageError
from .ctk_cdi import SPEC_DIR, spec_dirs, stamped_options
from .output import one_line, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from libnvc._cdi.generate import Generated

    from .ctk import Log

FLAGS = (
    Flag(
        name="input",
        kind=list,
        doc="A file; all that say they were generated here, in the directories, if not given",
    ),
    SPEC_DIR,
)

_STATUS = {FRESH: 0, STALE: 1, BROKEN: 2}


def run(values: dict[str, Any], log: Log) -> int:
    """Run the command; return 0 if all files are fresh, 1 if one is stale, 2 if one is broken."""
    paths = [path for path in values["input"] if path] or _found(spec_dirs(values))
    if not paths:
        log.error(f"no CDI file of nvidia.com in {', '.join(spec_dirs(values))}")
        return _STATUS[BROKEN]
    status = 0
    for path in paths:
        verdict = judge(path, lambda flags: _again(flags, log))
        reasons = "; ".join(verdict.reasons)
        put(one_line(f"{path}: {verdict.state}{': ' if reasons else ''}{reasons}") + "\n")
        status = max(status, _STATUS[verdict.state])
    return status


def _again(flags: list[str] | None, log: Log) -> Generated | None:
    if flags is None:
        return None
    try:
        return generate(stamped_options(flags, log))
    except UsageError:
        return None


def _found(directories: tuple[str, ...]) -> list[str]:
    """Return the files that were generated here or describe devices of NVIDIA."""
    return [
        os.path.join(directory, name)
        for directory in directories
        for name in _names(directory)
        if name.endswith((".yaml", ".json")) and _is_ours(os.path.join(directory, name))
    ]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _is_ours(path: str) -> bool:
    try:
        document, text = read_document(path)
    except NvcError:
        return "nvidia" in os.path.basename(path)
    vendor: str = document["kind"].partition("/")[0]
    return vendor.endswith("nvidia.com") or read_stamp(text)[0] is not None
