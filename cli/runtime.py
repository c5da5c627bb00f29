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
from libnvc._system.programs import find_program, search_path
from libnvc.errors import NvcError

from .container_common import CommandError
from .output import complain, one_line, put
from .runtime_args import asks_version, read_call
from .runtime_front import identity, keep_front

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from libnvc._config.settings import Config, RuntimeSettings

    from .runtime_args import Call
    from .runtime_log import RuntimeLog

#: What the program's other names say about the mode.
_MODES = {".cdi": "cdi", ".legacy": "legacy"}


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
    environment = dict(os.environ)
    logs: list[RuntimeLog] = []
    try:
        _become(program, name, words, environment, logs)
    except BaseException as error:  # Ctrl-C too: never a traceback
        text = one_line(describe(error))
        for log in logs:
            log.write("error", text)
            log.__exit__()
        _complain(text)
        return 1


def _become(
    program: str,
    name: str,
    words: Sequence[str],
    environment: dict[str, str],
    logs: list[RuntimeLog],
) -> NoReturn:
    path = find_config(environment)
    known = identity(path)
    config = load_config(path, required=False)
    settings = _with_mode(config.runtime, name)
    os.environ["PATH"] = search_path(environment.get("PATH", ""))
    if asks_version(words):
        _print_version()
    keep_front(config, known, environment)
    runtime = _low_level(settings.runtimes, program)
    call = read_call(words)
    if call.is_create:
        _create(config.replace(runtime=settings), call, program, logs)
    _restore_signals()
    try:
        os.execve(runtime, [runtime, *words], environment)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise CommandError("input", f"could not exec '{runtime}': {error.strerror}") from None


def _restore_signals() -> None:
    """Have signals do again what they do in programs that are not Python: all inherit that."""
    import _signal  # type: ignore[import-not-found]  # `signal` loads `enum`

    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def _create(config: Config, call: Call, program: str, logs: list[RuntimeLog]) -> None:
    from .runtime_create import create
    from .runtime_log import RuntimeLog

    files = ((config.runtime.debug, False), (call.log, call.log_format == "json"))
    log = RuntimeLog(files, "debug" if call.is_debug else config.runtime.log_level)
    logs.append(log)
    create(config, call, os.path.dirname(program), log)
    logs.remove(log)
    log.__exit__()


def _with_mode(settings: RuntimeSettings, name: str) -> RuntimeSettings:
    for suffix, mode in _MODES.items():
        if name.endswith(suffix):
            return settings.replace(mode=mode)
    return settings


def _low_level(candidates: Sequence[str], program: str) -> str:
    """Return the path of the runtime that does the work; never the program itself."""
    if not candidates:
        raise _unusable("at least one runtime candidate must be specified")
    for candidate in candidates:
        found = find_program(candidate, os.environ["PATH"])
        if found and not (os.path.exists(program) and os.path.samefile(found, program)):
            return found
    names = " ".join(candidates)
    raise _unusable(
        f"error locating runtime: no runtime binary found from candidate list: [{names}]"
    )


def _unusable(why: str) -> CommandError:
    return CommandError("input", f"error constructing low-level runtime: {why}")


def describe(error: BaseException) -> str:
    """Return the line for an error; texts that engines and users look for are the reference's."""
    if isinstance(error, CommandError):
        return f"failed to create NVIDIA Container Runtime: {error.text}"
    if isinstance(error, NvcError):
        hint = f" ({error.hint})" if error.hint else ""
        return f"{error}{hint}"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"internal error: {type(error).__name__}: {error}"


def _complain(text: str) -> None:
    from .runtime_log import line

    complain(line("error", text))


def _print_version() -> None:
    from libnvc import _build

    commit = f"commit: {_build.REVISION}\n" if _build.REVISION else ""
    put(f"NVIDIA Container Runtime version {_build.VERSION}\n{commit}spec: 1.3.0\n\n")
