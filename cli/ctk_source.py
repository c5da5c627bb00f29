# SPDX-License-Identifier: Apache-2.0
"""Ask an engine's program for the configuration in effect."""

from __future__ import annotations

import subprocess

from libnvc._engines import toml
from libnvc.errors import ConfigError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .ctk import Log

_DEADLINE = 60  # seconds


def dumped(commands: Sequence[Sequence[str]], log: Log) -> dict[str, Any]:
    """Return what the first command that succeeds prints.

    Raises:
        ConfigError: none does, or it prints no TOML.
    """
    failures = []
    for command in commands:
        text = " ".join(command)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=_DEADLINE,
            )
        except FileNotFoundError:
            failures.append(f"{text}: no such program")
        except subprocess.TimeoutExpired:
            failures.append(f"{text}: no answer in {_DEADLINE} seconds")
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip()
            failures.append(f"{text}: exit status {error.returncode}: {shown(said)}")
        except OSError as error:
            failures.append(f"{text}: {error.strerror}")
        else:
            log.debug(f"Configuration from {text}")
            return toml.parse(text, done.stdout)
    raise ConfigError("; ".join(failures), hint="--config-source=file reads the engine's file")
