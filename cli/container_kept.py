# SPDX-License-Identifier: Apache-2.0
"""Print, and keep what is printed, so that the native program prints it to who asks the same."""

from __future__ import annotations

import os

from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libnvc.model import Identity, Inventory

    from .container_common import Settings


def put_kept(text: str, found: Inventory, settings: Settings) -> None:
    """Print a text; then keep it, unless settings or configuration say otherwise.

    Args:
        text: what is printed.
        found: what it was made from.
        settings: the global options.

    Raises:
        OutputError: it could not be written.
    """
    put(text)
    if not settings.origin or settings.no_cache or settings.debug or os.geteuid() != 0:
        return
    from libnvc._kept import header, keep
    from libnvc._native.kept import strings

    config = _config()
    if config is None:
        return
    program, name, *words = settings.origin
    key = header(program, name, "", os.environ) + strings([f"w{word}" for word in words])
    keep(key, found.dependencies and (*found.dependencies, config), os.fsencode(text))


def _config() -> Identity | None:
    """Return the identity of config.toml, None if it says that nothing is kept, or cannot."""
    from libnvc._config.settings import find_config, load_config
    from libnvc._discover.root import DriverRoot
    from libnvc.errors import NvcError

    try:
        path = os.path.realpath(find_config(os.environ))
        root = DriverRoot("/")
        root.note(path)
        return root.identities[path] if load_config(path, required=False).cache else None
    except (NvcError, OSError):
        return None
