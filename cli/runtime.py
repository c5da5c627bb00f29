# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-runtime`: give a container that is created its GPUs, then become runc or crun.

A small native program of the same name calls this where something is to be decided: for containers
that ask for GPUs, and where the configuration is not known to it yet (`runtime_front`).
"""

from __future__ import annotations

import gc
import os
import sys

from libnvc._config.settings import find_config, load_config
from libnvc._system.programs import find_program, identities, search_path
from libnvc.errors import NvcError

from .output import complain, put
from .runtime_args import FAILED, asks_version, read_call
from .runtime_front import Origin, identity, keep_front

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from libnvc._config.settings import RuntimeSettings

    from .runtime_args import Call

#: What the program's other names say about the mode.
_MODES = {".cdi": "cdi", ".legacy": "legacy"}

#: Files that are this program.
_NAMES = tuple(f"nvidia-container-runtime{suffix}" for suffix in ("", "-hook", *_MODES))


def run() -> NoReturn:
    """Be the program: the words are its own path, its name as called, and its arguments."""
    gc.disable()
    os._exit(main(*sys.argv[1:]))


def main(program: str, name: str, *words: str) -> int:
    """Do what must be done, and become the low-level runtime; return 1 if that fails.

    Args:
        program: the path of the native program.
        name: its name as called.
        words: what it was called with.
    """
    call = read_call(words)
    logs = [(call.log, call.log_format == "json")]
    try:
        _become(program, name, words, call, logs)
    except BaseException as error:  # Ctrl-C too: never a traceback
        _tell(error, logs)
        return 1


def _become(
    program: str, name: str, words: Sequence[str], call: Call, logs: list[tuple[str, bool]]
) -> NoReturn:
    environment = _own_environment()
    path = find_config(environment)
    known = identity(path)
    config = load_config(path, required=False)
    logs.append((config.runtime.debug, False))
    settings = _with_mode(config.runtime, name)
    os.environ["PATH"] = search_path(environment.get("PATH", ""))
    if asks_version(words):
        _print_version()
    keep_front(config, known, environment)
    programs = os.path.dirname(program)
    runtime = _low_level(settings.runtimes, programs)
    if call.is_create:
        from .runtime_create import create
        from .runtime_log import RuntimeLog

        origin = Origin(
            program=program,
            name=name,
            config=known,
            environment=environment,
            container=call.container,
        )
        level = "debug" if call.is_debug else settings.log_level
        with RuntimeLog(logs, level) as log:
            create(config.replace(runtime=settings), call, origin, log)
    _restore_signals()
    try:
        os.execve(runtime, [runtime, *words], environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        why = (error.strerror or "").lower()
        raise NvcError(f"{FAILED}could not exec '{runtime}': {why}") from None


def _own_environment() -> dict[str, str]:
    """Return the environment as we were given it: Python sets variables of its own."""
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(entry).partition("=") for entry in entries)
    return {name: value for name, equals, value in pairs if name and equals}


def _restore_signals() -> None:
    """Have signals do again what they do in programs that are not Python: all inherit that."""
    import _signal  # type: ignore[import-not-found]  # `signal` loads `enum`

    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def _with_mode(settings: RuntimeSettings, name: str) -> RuntimeSettings:
    for suffix, mode in _MODES.items():
        if name.endswith(suffix):
            return settings.replace(mode=mode)
    return settings


def _low_level(candidates: Sequence[str], programs: str) -> str:
    """Return the path of the runtime that does the work; never this program itself."""
    why = "at least one runtime candidate must be specified"
    own = identities(programs, _NAMES)
    for candidate in candidates:
        found = find_program(candidate, os.environ["PATH"], own)
        if found:
            return found
        names = " ".join(candidates)
        why = f"error locating runtime: no runtime binary found from candidate list: [{names}]"
    raise NvcError(
        f"{FAILED}error constructing low-level runtime: {why}",
        hint="install runc or crun, or name one in nvidia-container-runtime.runtimes",
    )


def _tell(error: BaseException, logs: Sequence[tuple[str, bool]]) -> None:
    from .runtime_errors import describe
    from .runtime_log import RuntimeLog, line

    text = describe(error)
    with RuntimeLog(logs, "error") as log:
        log.write("error", text)
    complain(line("error", text))


def _print_version() -> None:
    from libnvc import _build

    commit = f"commit: {_build.REVISION}\n" if _build.REVISION else ""
    put(f"NVIDIA Container Runtime version {_build.VERSION}\n{commit}spec: 1.3.0\n\n")
