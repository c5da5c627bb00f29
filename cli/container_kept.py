# SPDX-License-Identifier: Apache-2.0
"""Keep what is printed or applied, so that the native program does it for who asks the same."""

from __future__ import annotations

import os

from .output import put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from libnvc.model import Identity, Inventory, Target
    from libnvc.plan import Plan

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
    if _may_keep(settings):
        _keep(found.dependencies, settings, _words(settings), os.fsencode(text))


def keep_applied(settings: Settings, target: Target) -> Callable[[Plan], object] | None:
    """Look at a container before it is changed; return what keeps the plan that is applied to it.

    None if nothing is kept for it. The last word of the command line names its root, one that
    begins with "--pid=" its process: those may be others next time.

    Args:
        settings: the global options.
        target: the container.
    """
    if not _may_keep(settings):
        return None
    from libnvc._kept import image_root
    from libnvc._native.flat import encode
    from libnvc._native.kept import image_key
    from libnvc.errors import NvcError

    words = _words(settings)
    try:
        words[words.index(f"w--pid={target.pid}")] = "w--pid="
        words[-1] = "w/"
        image = image_key(image_root(target))
    except (NvcError, ValueError):
        return None
    return lambda plan: _keep(plan.dependencies, settings, words, b"", encode(plan), image=image)


def _may_keep(settings: Settings) -> bool:
    is_off = settings.no_cache or settings.debug
    return bool(settings.origin) and not is_off and os.geteuid() == 0


def _words(settings: Settings) -> list[str]:
    return [f"w{word}" for word in settings.origin[2:]]


def _keep(
    dependencies: Sequence[Identity],
    settings: Settings,
    words: Sequence[str],
    *sections: bytes,
    image: bytes = b"",
) -> None:
    from libnvc._kept import header, keep
    from libnvc._native.kept import strings

    config = identify_config()
    if config is None:
        return
    program, name, *_ = settings.origin
    key = header(program, name, "", os.environ) + strings(words) + image
    keep(key, dependencies and (*dependencies, config), *sections)


def identify_config() -> Identity | None:
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
