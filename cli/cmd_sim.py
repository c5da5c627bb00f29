# SPDX-License-Identifier: Apache-2.0
"""`nvc sim`: simulated drivers, for machines without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import complain, one_line, put

if TYPE_CHECKING:
    from libnvc.sim import Profile

app = typer.Typer(
    help="Create simulated NVIDIA drivers, for machines without a GPU.", no_args_is_help=True
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def create(
    *,
    directory: Annotated[Path, typer.Argument(help="Where; missing or empty.")],
    profile: Annotated[str, typer.Option(help="The host; `nvc sim list` shows them.")],
    fault: Annotated[
        str,
        typer.Option(
            help="nvml-hang, nvml-crash, nvml-crash-query, nvml-error=N, gpu-lost=N, not-loaded, "
            "uvm-missing, version-mismatch or two-versions."
        ),
    ] = "",
    as_json: _Json = False,
) -> None:
    """Create a simulated driver: a driver root for --root."""
    from libnvc import sim

    made = sim.create(profile, directory, fault=fault)
    for warning in made.warnings:
        complain(f"nvc: warning: {one_line(warning)}\n")
    described = {
        "root": made.root,
        **_describe(made.profile),
        "fault": made.fault,
        "warnings": list(made.warnings),
    }
    put(_to_json(described) if as_json else f"{made.root}\n")


@app.command("list")
def list_profiles(*, as_json: _Json = False) -> None:
    """List the hosts that can be simulated."""
    from libnvc import sim

    if as_json:
        put(_to_json([_describe(profile) for profile in sim.profiles()]))
        return
    lines = [("PROFILE", "DRIVER", "CUDA", "HOST")]
    lines += [(p.name, p.driver_version, p.cuda_version, p.title) for p in sim.profiles()]
    put(
        "".join(f"{name:<12} {driver:<11} {cuda:<5} {host}\n" for name, driver, cuda, host in lines)
    )


def _describe(profile: Profile) -> dict[str, object]:
    return {
        "profile": profile.name,
        "title": profile.title,
        "driver_version": profile.driver_version,
        "cuda_version": profile.cuda_version,
        "gpus": [{"uuid": gpu.uuid, "model": gpu.name} for gpu in profile.gpus],
    }


def _to_json(document: object) -> str:
    import json

    return json.dumps(document, indent=2) + "\n"
