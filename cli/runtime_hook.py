# SPDX-License-Identifier: Apache-2.0
"""`nvidia-container-runtime-hook`: the prestart hook, `nvidia-container-cli configure` by a hook.

A small native program of the same name calls this for everything but the rest of a plan that the
runtime left for it (`runtime_create`).
"""

from __future__ import annotations

import gc
import os
import sys

from .container_common import CommandError
from .output import complain, one_line, put

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from libnvc._config.settings import Config
    from libnvc._oci.wanted import Wanted
    from libnvc.model import Target
    from libnvc.plan import Plan

    from .container_common import Keeper

_NAME = "nvidia-container-runtime-hook"
_USAGE = f"""\
Usage of {_NAME}: [-config FILE] [-debug] [-version] prestart | poststart | poststop

  prestart    give the container whose state is on standard input its GPUs
  poststart   do nothing
  poststop    do nothing

  -config FILE   read this configuration, which must exist
  -debug         write the log of nvidia-container-cli to standard error
  -version       print the version
"""
_NOT_LEGACY = (
    "invoking the NVIDIA Container Runtime Hook directly (e.g. specifying the docker --gpus flag) "
    "is not supported. Please use the NVIDIA Container Runtime (e.g. specify the --runtime=nvidia "
    "flag) instead"
)


class _UsageError(Exception):
    """Words that are not understood."""


def run() -> NoReturn:
    """Be the program: the words are its own path, its name as called, and its arguments."""
    gc.disable()
    program, name, *words = sys.argv[1:]
    os._exit(main(*words, called=(program, name)))


def main(*words: str, called: tuple[str, str] = ("", "")) -> int:
    """Do what the words say and return the exit status: 0 done, 1 failed, 2 not understood.

    Args:
        words: as typed.
        called: the path of the native program, and its name as called.
    """
    try:
        return _run(words, called)
    except _UsageError as error:
        complain(f"{error}\n{_USAGE}" if str(error) else _USAGE)
        return 2
    except BaseException as error:  # Ctrl-C too: never a traceback
        from .runtime_errors import describe

        complain(f"{_NAME}: {describe(error)}\n")
        return 1


def _run(words: Sequence[str], called: tuple[str, str]) -> int:
    config_file, is_debug, command = _read(words)
    if command == "-version":
        from libnvc import _build

        put(f"NVIDIA Container Runtime Hook version {_build.VERSION}\n")
        return 0
    if command == "prestart":
        return _prestart(config_file, called, is_debug=is_debug)
    return 0


def _read(words: Sequence[str]) -> tuple[str, bool, str]:
    """Return the configuration file, whether to debug, and the command or "-version"."""
    config_file, is_debug = "", False
    place = 0
    while place < len(words) and words[place].startswith("-"):
        flag, has_value, value = words[place].lstrip("-").partition("=")
        place += 1
        if flag == "version":
            return "", False, "-version"
        if flag == "debug":
            is_debug = value in ("", "1", "t", "T", "true", "True", "TRUE")
        elif flag == "config" and (has_value or place < len(words)):
            config_file = value if has_value else words[place]
            place += not has_value
        elif flag == "config":
            raise _UsageError("flag needs an argument: -config")
        else:
            raise _UsageError(f"flag provided but not defined: -{flag}")
    command = words[place] if place < len(words) else ""
    if command not in ("prestart", "poststart", "poststop"):
        raise _UsageError
    return config_file, is_debug, command


def _prestart(config_file: str, called: tuple[str, str], *, is_debug: bool) -> int:
    from libnvc._config.settings import DEFAULT_PATH, load_config
    from libnvc._oci.document import read, read_state
    from libnvc._oci.wanted import check_complete, decode, read_container

    from .runtime_front import Origin, identity, keep_front
    from .runtime_request import on_tegra

    named = config_file or os.environ.get("NVIDIA_CTK_CONFIG_FILE_PATH", "")
    path = named or DEFAULT_PATH
    known = identity(path)
    environment = dict(os.environ)
    config = load_config(path, required=bool(named))
    state = read_state(sys.stdin.buffer)
    bundle = _bundle(state)
    document = read(f"{bundle}/config.json")
    check_complete(document)
    container = read_container(document)
    wanted = decode(container, config, annotations=False)
    for line in wanted.refused:
        complain(f"{_NAME}: {one_line(line)}\n")
    if wanted.devices is None:
        return 0
    if not config.hook.skip_mode_detection:
        _check_mode(config)
    pid = state.get("pid")
    if type(pid) is not int or pid <= 0:
        raise CommandError("input", f"container state: pid: {pid!r}: not a running process")
    rootfs = os.path.realpath(os.path.join(bundle, container.rootfs))
    is_csv, platform = on_tegra(config)
    if is_csv:
        from libnvc import model

        from .runtime_csv import apply_csv

        apply_csv(container, wanted, config, model.Target(pid=pid, rootfs=rootfs))
        return 0
    argv = command_line(config, wanted, pid, rootfs, is_debug=is_debug)
    is_logged = is_debug or config.cli.debug
    if not config.cache or not all(called) or wanted.refused or is_logged:
        return _configure(config, argv)
    from .runtime_kept import keep_applied

    keep_front(config, known, environment)
    program, name = called
    origin = Origin(program=program, name=name, config=known, environment=environment, container="")
    place = f"{bundle}/config.json"

    def keep(target: Target) -> Callable[[Plan], object] | None:
        return keep_applied(target, place, config, origin, platform)

    return _configure(config, argv, keep)


def _bundle(state: dict[str, object]) -> str:
    """Return the bundle's directory; crun says "/" for those with a user namespace and devices."""
    bundle = state.get("bundle") or state.get("bundlePath")
    if not isinstance(bundle, str) or "\n" in bundle or "\0" in bundle:
        raise CommandError("input", "container state: bundle: missing, or not a path")
    if bundle == "/" and not os.path.exists("/config.json"):
        return os.getcwd()  # runtimes call hooks there
    return bundle


def _check_mode(config: Config) -> None:
    mode = config.runtime.mode
    if mode not in ("auto", "legacy"):
        raise CommandError("input", _NOT_LEGACY)


def command_line(
    config: Config, wanted: Wanted, pid: int, rootfs: str, *, is_debug: bool
) -> list[str]:
    """Return what `nvidia-container-cli` is called with, in the reference's order."""
    from libnvc._system.userns import in_user_namespace

    from .runtime_request import compat_mode

    cli = config.cli
    debug = "/dev/stderr" if is_debug else cli.debug
    devices = ",".join(wanted.devices or ())
    channels = ",".join(wanted.imex_channels)
    options = (
        (f"--root={cli.root}", cli.root),
        ("--load-kmods", cli.load_kmods),
        ("--no-create-imex-channels", "disable-imex-channel-creation" in config.features),
        ("--no-pivot", cli.no_pivot),
        (f"--debug={debug}", debug),
        (f"--ldcache={cli.ldcache}", cli.ldcache),
        (f"--user={cli.user}", cli.user),
        ("configure", True),
        (f"--cuda-compat-mode={compat_mode(config)}", True),
        (f"--ldconfig={cli.ldconfig}", cli.ldconfig),
        # The engine of an ordinary user has no device cgroup that we could change.
        ("--no-cgroups", cli.no_cgroups or in_user_namespace()),
        (f"--device={devices}", devices),
        (f"--mig-config={wanted.mig_config}", wanted.mig_config),
        (f"--mig-monitor={wanted.mig_monitor}", wanted.mig_monitor),
        (f"--imex-channel={channels}", channels),
        *((f"--{name}", True) for name in sorted(wanted.capabilities)),
        *((f"--require={text}", True) for text in wanted.requirements),
        (f"--pid={pid}", True),
        (rootfs, True),
    )
    return ["nvidia-container-cli", *(word for word, is_given in options if is_given)]


def _configure(
    config: Config,
    argv: list[str],
    keep: Keeper | None = None,
) -> int:
    from libnvc._system.programs import search_path

    from .container_cli import main
    from .runtime_request import ldconfig

    for entry in config.cli.environment:
        name, _, value = entry.partition("=")
        os.environ[name] = value
    os.environ["PATH"] = search_path(os.environ.get("PATH", ""))
    return main(argv, ldconfig=ldconfig(config), keep=keep, graphics=True)
