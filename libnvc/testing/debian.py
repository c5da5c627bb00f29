# SPDX-License-Identifier: Apache-2.0
"""Fetch Debian's packages of any suite with this machine's apt sources; nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_QUIET = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
}


class CannotFetchError(Exception):
    """The packages cannot be had here; the message says why."""


def fetch_packages(
    directory: Path, suite: str, packages: Sequence[str], components: Sequence[str] = ("main",)
) -> tuple[Path, ...]:
    """Return packages' files, sorted by name: fetched into a directory unless they are there.

    Args:
        directory: for these alone; made if missing. Its neighbour of the same name and ".new" is
            used meanwhile.
        suite: "trixie".
        packages: their names, without what they depend on.
        components: of the suite.

    Raises:
        CannotFetchError: there is no apt, no Debian among its sources, or no network.
    """
    if sorted(path.name.partition("_")[0] for path in directory.glob("*.deb")) != sorted(packages):
        shutil.rmtree(directory, ignore_errors=True)
        new = directory.with_name(f"{directory.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        _fetch(new, f"{_mirror()} {suite} {' '.join(components)}", packages)
        new.rename(directory)
    return tuple(sorted(directory.glob("*.deb")))


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Unpack packages below a directory, without running their scripts."""
    for package in packages:
        subprocess.run(["dpkg-deb", "--extract", package, root], env=_QUIET, check=True)


def _fetch(directory: Path, source: str, packages: Sequence[str]) -> None:
    """Fetch packages into a new directory, with an apt state of its own."""
    state = directory / "apt"
    (state / "lists/partial").mkdir(parents=True)
    (state / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {source}\n")
    (state / "apt.conf").write_text(
        f'Dir::State::lists "{state}/lists";\n'
        # or a package of the same version that is installed would do
        f'Dir::State::status "/dev/null";\n'
        f'Dir::Cache "{state}";\n'
        f'Dir::Etc::sourcelist "{state}/sources.list";\n'
        'Dir::Etc::sourceparts "-";\n'
        'APT::Sandbox::User "root";\n'
        'APT::Update::Error-Mode "any";\n'
    )
    environment = {**_QUIET, "APT_CONFIG": f"{state}/apt.conf"}
    _apt("apt-get", "-qq", "update", cwd=directory, env=environment)
    _apt("apt-get", "-qq", "download", *packages, cwd=directory, env=environment)
    shutil.rmtree(state)


def _mirror() -> str:
    """Return the address from which the machine has its packages of Debian."""
    names = "$(REPO_URI)|$(ORIGIN)|$(COMPONENT)|$(SUITE)"
    listed = _apt("apt-get", "indextargets", "--format", names, "Created-By: Packages", env=_QUIET)
    for line in listed.splitlines():
        uri, origin, component, suite = line.split("|")
        if (origin, component) == ("Debian", "main") and "-" not in suite:
            return uri
    raise CannotFetchError("no Debian in this machine's apt sources")


def _apt(*command: str, env: dict[str, str], cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, env=env, cwd=cwd, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise CannotFetchError(f"no {command[0]} here") from None
    if done.returncode != 0:
        raise CannotFetchError(f"{' '.join(command[:3])}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout
