# SPDX-License-Identifier: Apache-2.0
"""`nvc sim`: make simulated drivers."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .output import put

app = typer.Typer(help="Simulate a driver: a directory that stands for a host with GPUs.")


@app.command("create")
def create(
    directory: Annotated[str, typer.Argument(help="A new or empty directory: the driver root.")],
    *,
    profile: Annotated[str, typer.Option(help="Which host; see 'nvc sim list'.")],
    fault: Annotated[str, typer.Option(help="What shall be wrong with it.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")] = False,
) -> None:
    """Make a simulated driver."""
    from libnvc import sim

    made = sim.create(profile, directory, fault=fault)
    if as_json:
        facts = {"root": made.root, "profile": profile, "warnings": list(made.warnings)}
        put(json.dumps(facts, indent=2) + "\n")
        return
    put(f"{made.root}\n")
    for warning in made.warnings:
        typer.echo(f"nvc: warning: {warning}", err=True)


@app.command("list")
def list_profiles(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profiles as JSON.")] = False,
) -> None:
    """List the hosts that can be simulated."""
    from libnvc import sim

    rows = [
        {
            "profile": profile.name,
            "driver": profile.driver,
            "cuda": ".".join(map(str, profile.cuda)),
            "gpus": len(profile.gpus),
            "description": profile.description,
        }
        for profile in sim.profiles()
    ]
    if as_json:
        put(json.dumps(rows, indent=2) + "\n")
        return
    for row in rows:
        put("{profile:<10} driver {driver:<11} CUDA {cuda:<5} {description}\n".format(**row))
