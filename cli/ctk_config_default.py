# SPDX-License-Identifier: Apache-2.0
"""`nvidia-ctk config default`: the default `config.toml` of this machine."""

from __future__ import annotations

from libnvc._config.template import Host, default_text

from .ctk_config import OUTPUT, write_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .ctk import Log

FLAGS = (OUTPUT,)


def run(values: dict[str, Any], log: Log) -> None:
    """Run the command.

    Raises:
        ConfigError: the file cannot be written.
    """
    write_config(default_text(Host()).encode(), values["output"], log)
