# SPDX-License-Identifier: Apache-2.0
"""Show or make the changes to configuration files."""

from __future__ import annotations

import difflib

from libnvc._engines.files import Change, commit

from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .ctk import Log


def apply(changes: Sequence[Change], values: Mapping[str, Any], log: Log) -> bool:
    """Show changes if the flags `dry-run` or `diff` say so, else make them.

    Returns:
        Whether a file was changed.
    """
    files = [change for change in changes if not change.original]
    if values["diff"]:
        put("".join(map(diff, files)))
        return False
    if values["dry-run"]:
        put("".join((change.after or b"").decode() for change in files))
        return False
    made = commit(changes)
    for change in made:
        if change.original:
            log.debug(f"{'Removed' if change.after is None else 'Wrote'} backup {change.path}")
        else:
            what = (
                "Removed empty config from" if change.after is None else "Wrote updated config to"
            )
            log.info(f"{what} {change.path}")
    for change in files:
        if change not in made:
            log.info(f"Nothing to change in {change.path}")
    return bool(made)


def diff(change: Change) -> str:
    """Return a unified diff of a change, "" if there is none."""
    lines = difflib.unified_diff(
        (change.before or b"").decode().splitlines(keepends=True),
        (change.after or b"").decode().splitlines(keepends=True),
        "/dev/null" if change.before is None else change.path,
        "/dev/null" if change.after is None else change.path,
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
