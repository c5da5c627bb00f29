# SPDX-License-Identifier: Apache-2.0
"""Keep what a container was given, so that the native program gives it to the next one like it.

It is kept only after the native program's own edit of this container's configuration was found to
be the same as Python's.
"""

from __future__ import annotations

import os

from libnvc._discover.root import read_file
from libnvc._kept import header, image_root, keep
from libnvc._native.flat import encode
from libnvc._native.kept import Document, Edit, strings
from libnvc._oci.document import dumps, loads
from libnvc.errors import NvcError

from .runtime_front import asks
from .runtime_log import LEVELS, NOWHERE, escaped
from .runtime_request import ldconfig as ldconfig_of
from .runtime_request import rest_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from libnvc._config.settings import Config
    from libnvc.model import Identity, Target
    from libnvc.plan import Plan

    from .runtime_create import Made
    from .runtime_front import Origin
    from .runtime_log import RuntimeLog


def keep_made(made: Made, path: str, config: Config, origin: Origin, log: RuntimeLog) -> None:
    """Keep it, unless something about it is not for the native program.

    Args:
        made: what was made.
        path: of the container's configuration, which is as it was.
        config: the runtime's.
        origin: what called this.
        log: what was said of it.
    """
    runtime = config.runtime
    is_logged = runtime.debug not in NOWHERE or config.cli.debug
    if not config.cache or is_logged or LEVELS.index(runtime.log_level) < LEVELS.index("info"):
        return
    try:
        text = read_file(path)
        document = Document(text)
        edit = _edit(made, text)
        if loads(document.edit(edit, made.file, made.rootfs)) != made.edited:
            return
        key = document.key(_header(origin), asks(config), made.rootfs)
    except (NvcError, ValueError):
        return
    keep(
        key,
        made.dependencies,
        edit.nodes,
        edit.rules,
        strings(edit.node_paths),
        strings(edit.majors),
        edit.hook_head,
        edit.hook_tail,
        strings([_message(origin.container, *message) for message in log.messages]),
        b"" if made.plan is None else encode(made.plan),
    )


def keep_applied(
    target: Target, path: str, config: Config, origin: Origin, platform: tuple[Identity, ...]
) -> Callable[[Plan], object] | None:
    """Look at a container before the hook changes it; return what keeps the plan for it.

    None if nothing is kept for it.

    Args:
        target: the container, which still shows the host's files.
        path: of its configuration.
        config: the runtime's.
        origin: what called this.
        platform: what it rests on that the plan is made at all.
    """
    ldconfig = ldconfig_of(config)
    try:
        document = Document(read_file(os.path.realpath(path)))
        key = document.key(_header(origin), asks(config), image_root(target))
    except (NvcError, ValueError):
        return None
    words = strings(() if ldconfig is None else (ldconfig,))
    return lambda plan: keep(key, rest_on(plan.dependencies, platform), words, encode(plan))


def _header(origin: Origin) -> bytes:
    return header(origin.program, origin.name, origin.config, origin.environment)


def _edit(made: Made, text: bytes) -> Edit:
    """Return the edit; what cannot be told from it, the comparison finds."""
    was, linux = loads(text).get("linux") or {}, made.edited.get("linux") or {}
    nodes = _more(was, linux)
    rules = _more(was.get("resources") or {}, linux.get("resources") or {})
    head, tail = dumps(made.hook).rstrip(b"\n"), b""
    if made.plan is not None:
        head, tail = head.split(_items([made.file, made.rootfs]))
    return Edit(
        nodes=_items(nodes),
        rules=_items(rules),
        node_paths=tuple(node["path"] for node in nodes),
        majors=tuple(sorted({str(rule["major"]) for rule in rules})),
        hook_head=head,
        hook_tail=tail,
    )


def _more(was: dict[str, Any], now: dict[str, Any]) -> list[Any]:
    return (now.get("devices") or [])[len(was.get("devices") or []) :]


def _items(items: list[Any]) -> bytes:
    """Return the elements of a list with commas between."""
    return dumps({"": items})[len('{"":[') : -len("]}\n")]


def _message(container: str, level: str, text: str) -> str:
    """Return a message as csrc/launcher/create.h has it."""
    start = f"container {container}: "
    is_named = text.startswith(start)
    return f"{level[0]}{'c' if is_named else '-'}{escaped(text.removeprefix(start))}"
