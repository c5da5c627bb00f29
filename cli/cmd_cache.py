# SPDX-License-Identifier: Apache-2.0
"""`nvc cache`: the plans that are kept for containers like those before them."""

from __future__ import annotations

import os
import time
from errno import EPERM
from typing import Annotated

import typer

from libnvc import _kept
from libnvc._kept_state import objection
from libnvc.errors import NvcError, shown

from .output import put

app = typer.Typer(help="Show or remove the plans that are kept.", no_args_is_help=True)


@app.command()
def show(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List what is kept, the newest first: when, for whom, how large, and why it is not used."""
    import json

    _need_root()
    found = [(entry, _kept.asked_by(entry), objection(entry)) for entry in _kept.entries()]
    if as_json:
        rows = [
            {
                "name": entry.name,
                "size": entry.size,
                "written": entry.written,
                "asked_by": list(words),
                "not_used": why_not,
            }
            for entry, words, why_not in found
        ]
        put(json.dumps(rows, indent=2) + "\n")
        return
    lines = [f"{'WRITTEN':<21}{'BYTES':>8}  ASKED BY\n"]
    for entry, words, why_not in found:
        written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.written))
        lines.append(f"{written:<21}{entry.size:>8}  {shown(' '.join(words))}\n")
        lines += [f"{'':<31}not used: {why_not}\n"] if why_not else []
    put("".join(lines))


@app.command()
def clear() -> None:
    """Remove all that is kept: the next container of each kind is planned anew."""
    _need_root()
    count = _kept.clear()
    put(f"removed {count} plan{'s' * (count != 1)}\n")


def _need_root() -> None:
    if os.geteuid() != 0:
        raise NvcError(
            f"{_kept.PLANS}: only root may look: run this as root", errno=EPERM, path=_kept.PLANS
        )
