# SPDX-License-Identifier: Apache-2.0
"""The Typer application behind `nvc`: its commands and global options."""

from __future__ import annotations

from typing import Annotated  # noqa: TID253  (only `nvc` loads this module)

import typer  # noqa: TID253

from libnvc import _build

from . import cmd_cache, cmd_sim
from .cmd_attach import attach
from .cmd_demo import demo
from .cmd_detach import detach
from .cmd_plan import plan
from .output import put

app = typer.Typer(
    help="Plan, give, take away and try out GPU access for containers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(plan)
app.command()(attach)
app.command()(detach)
app.command()(demo)
app.add_typer(cmd_sim.app, name="sim")
app.add_typer(cmd_cache.app, name="cache")


def _show_version(wanted: bool) -> None:
    if wanted:
        put(f"nvc {_build.VERSION}\n")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Hold the options that come before a command."""
