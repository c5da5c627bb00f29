# SPDX-License-Identifier: Apache-2.0
"""What each hook of a CDI file looks at, and does by a plan."""

from __future__ import annotations

import io
import os
import stat
import sys
from errno import EROFS

from libnvc._planner import cdihooks
from libnvc.errors import NvcError, shown
from libnvc.plan import Plan

from .container_common import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .cdi_hook_words import Words

    #: Writes a message: its kind, "warning" or "debug", and its text.
    Say = Callable[[str, str], None]
    #: Finds the container's root.
    Root = Callable[[], str]

_PROC = "/proc/driver/nvidia"
_PARAMS = f"{_PROC}/params"
_PARAMS_MAX = 1 << 16  # bytes
COMPAT = "/usr/local/cuda/compat"
_NAMES_MAX = 4096  # that are looked at in a directory of the container
_NOTHING = Plan(operations=())


def work(parts: Sequence[Words], say: Say, origin: tuple[str, ...] = ()) -> None:
    """Be the hooks that the words name, one after the other.

    Args:
        parts: a hook each.
        say: takes messages.
        origin: the path and the name of the native program that called this; then it keeps what
            was done.

    Raises:
        CommandError: the container's state, or the words, say nothing usable.
        NvcError: the container's root, or what could not be done there; nothing was done by that
            hook then.
    """
    known: list[str | Exception] = []
    for words in parts:

        def root(words: Words = words) -> str:
            if not known:  # standard input can be read once
                known.append(_root_or_error(words))
            if isinstance(known[0], Exception):
                raise known[0]
            return known[0]

        _work(words, say, root, origin)


def _root_or_error(words: Words) -> str | Exception:
    try:
        return container_root(words)
    except (CommandError, NvcError) as error:
        return error


def _work(words: Words, say: Say, find_root: Root, origin: tuple[str, ...]) -> None:
    said = []

    def say_all(kind: str, text: str) -> None:
        said.append(kind)
        say(kind, text)

    keep = _keeper(words, find_root, origin) if origin and words.given else None
    done = _HOOKS[words.hook](words, say_all, find_root)
    # What was said once is to be said again.
    if keep is not None and done is not None and "warning" not in said:
        keep(done)


def _keeper(
    words: Words, find_root: Root, origin: tuple[str, ...]
) -> Callable[[Plan], object] | None:
    if os.geteuid() != 0:
        return None
    from .cdi_hook_kept import keep_hook

    try:
        return keep_hook(origin, words, find_root())
    except (CommandError, NvcError):
        return None  # not every hook needs the root


def _create_symlinks(words: Words, say: Say, find_root: Root) -> Plan | None:
    """Be a hook, as those below: return what was done and can be done again."""
    plan = cdihooks.plan_links(words.all("link"))
    root = find_root()
    try:
        _apply(plan, say, root)
    except NvcError as error:
        if error.errno != EROFS:
            raise
        # crun calls hooks when the root is read-only already; libraries are found all the same.
        for operation in plan.operations:
            _apply_or_warn(plan.replace(operations=(operation,)), say, root)
        return None
    return plan


def _update_ldcache(words: Words, say: Say, find_root: Root) -> Plan | None:
    plan = cdihooks.plan_folders(words.all("folder"))
    _apply(plan, say, find_root())
    return plan


def _enable_cuda_compat(words: Words, say: Say, find_root: Root) -> Plan | None:
    driver, cuda = words.last("host-driver-version"), words.last("host-cuda-version")
    if not driver and not cuda:
        return None
    root = find_root()
    place = words.last("cuda-compat-container-root", COMPAT)
    path = newer_compat(root, place, host_driver=driver, host_cuda=cuda, say=say)
    plan = cdihooks.plan_compat(path) if path else _NOTHING
    if path:
        _apply(plan, say, root)
    return plan if place == COMPAT else None


def newer_compat(
    root: str, place: str, *, host_driver: str = "", host_cuda: str = "", say: Say
) -> str:
    """Return the real path of CUDA compatibility libraries that are to be preferred, or "".

    Args:
        root: the container's root.
        place: the directory in it where they would be.
        host_driver: version of the host's driver, "" where not known.
        host_cuda: version of CUDA that it is for, "" where not known.
        say: takes warnings.
    """
    directory = _find_compat(root, place)
    if directory is None:
        return ""
    path, library = directory
    note = _read_note(root, f"{path}/{library}", say)
    version = library.removeprefix("libcuda.so.")
    return path if cdihooks.prefers_compat(note, version, host_driver, host_cuda) else ""


def _find_compat(root: str, directory: str) -> tuple[str, str] | None:
    """Return the real path of the directory, inside the root, and the name of its one libcuda."""
    from libnvc._native.path import Finder

    finder = Finder(root)
    found = finder.find(cdihooks.inside(directory))
    if found is None or not stat.S_ISDIR(found.mode):
        return None
    libraries = []
    for name in _list(root + found.path):
        if not name.startswith("libcuda.so.") or "." not in name.removeprefix("libcuda.so."):
            continue
        library = finder.find(f"{found.path}/{name}")
        if library is not None and stat.S_ISREG(library.mode):
            libraries.append(name)
    return (found.path, libraries[0]) if len(libraries) == 1 else None


def _read_note(root: str, path: str, say: Say) -> dict[str, object] | None:
    from libnvc._discover.compatnote import read_note
    from libnvc._native.path import Finder
    from libnvc._oci.document import loads

    try:
        fd = Finder(root).open(path)
        try:
            text = read_note(fd)
        finally:
            os.close(fd)
        return None if text is None else loads(text)
    except (NvcError, OSError) as error:
        say("warning", f"{path}: its note of compatible drivers cannot be read: {error}")
        return None


def _disable_modification(_: Words, say: Say, find_root: Root) -> Plan | None:
    from libnvc._discover.root import DriverRoot

    host = DriverRoot("/")
    try:
        params = host.note_content(_PARAMS)
    except NvcError:
        return None
    if params is None or not cdihooks.may_modify(params[0]):
        return _NOTHING.replace(dependencies=tuple(host.identities.values()))
    root = find_root()
    if not _may_modify_inside(root):
        return None
    types = {}
    for name in host.note_names(_PROC) or ():
        mode = os.lstat(f"{_PROC}/{name}").st_mode
        if not stat.S_ISLNK(mode):
            types[name] = "directory" if stat.S_ISDIR(mode) else "file"
    plan = cdihooks.plan_params(params[0], types)
    _apply(plan, say, root)
    return plan.replace(dependencies=tuple(host.identities.values()))


def _may_modify_inside(root: str) -> bool:
    """Tell whether the parameters that the container sees are not changed yet."""
    from libnvc._native.path import Finder

    try:
        return cdihooks.may_modify(_read(Finder(root).open(_PARAMS)))
    except (NvcError, OSError):
        return True


def _update_profile(_: Words, say: Say, find_root: Root) -> Plan | None:
    from libnvc._native.path import Finder

    root = find_root()
    finder = Finder(root)
    dev = finder.find("/dev")
    minors = set()
    for name in _list(root + dev.path) if dev is not None else ():
        digits = name.removeprefix("nvidia")
        if name == digits or not (digits.isascii() and digits.isdigit()):
            continue
        node = finder.find(f"/dev/{name}")
        if node is None or not stat.S_ISCHR(node.mode):
            say("warning", f"/dev/{name}: not a character device")
        else:
            minors.add(os.minor(node.rdev))
    plan = cdihooks.plan_profile(minors) if minors else _NOTHING
    if minors:
        _apply_or_warn(plan, say, root)
    return plan


def _chmod(words: Words, say: Say, find_root: Root) -> None:
    from libnvc._native.path import chmod

    text, paths = words.last("mode"), words.all("path")
    if not text or len(text) > 5 or not set(text) <= set("01234567") or int(text, 8) > 0o7777:
        raise CommandError("input", f"invalid mode {text!r}: not an octal number up to 7777")
    mode, root = int(text, 8), find_root()
    changed: list[tuple[str, int]] = []
    try:
        for path in dict.fromkeys(cdihooks.inside(path) for path in paths):
            was = chmod(root, path, mode)
            if was is not None:
                changed.append((path, was))
                say("debug", f"mode of {path}: {was:o} to {mode:o}")
    except BaseException:
        for path, was in reversed(changed):
            chmod(root, path, was)
        raise


_HOOKS: dict[str, Callable[[Words, Say, Root], Plan | None]] = {
    "chmod": _chmod,
    "create-symlinks": _create_symlinks,
    "disable-device-node-modification": _disable_modification,
    "enable-cuda-compat": _enable_cuda_compat,
    "update-application-profile": _update_profile,
    "update-ldcache": _update_ldcache,
}


def _apply(plan: Plan, say: Say, root: str) -> None:
    from libnvc._apply.direct import apply
    from libnvc.model import Target

    applied = apply(plan, Target(pid=0, rootfs=root))
    for operation in plan.operations:
        say("debug", f"{type(operation).__name__} {operation.path}")
    for warning in applied.warnings:
        say("warning", warning)


def _apply_or_warn(plan: Plan, say: Say, root: str) -> None:
    """Apply a plan, or leave it where the root is read-only: containers are to start there."""
    try:
        _apply(plan, say, root)
    except NvcError as error:
        if error.errno != EROFS:
            raise
        say("warning", f"{error}: left out")


def _list(directory: str) -> list[str]:
    """Return names in a directory of the container; what is hostile there may only be missed."""
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry, _ in zip(entries, range(_NAMES_MAX), strict=False)]
    except OSError:
        return []


def _read(fd: int) -> bytes:
    """Return the beginning of a file, and close it."""
    try:
        return os.read(fd, _PARAMS_MAX)
    finally:
        os.close(fd)


# --- the container's root -----------------------------------------------------------------------


def container_root(words: Words) -> str:
    """Return the root of the container whose state is on standard input.

    Raises:
        CommandError: it says nothing usable.
        NvcError: the container's configuration cannot be read.
    """
    root = os.path.realpath(_root_of(_read_state(words.last("container-spec", "-"))))
    if root == "/":
        raise CommandError("input", "container state: the container's root is that of the host")
    return root


def _root_of(state: dict[str, object]) -> str:
    from libnvc._oci.document import read

    bundle = state.get("bundle") or state.get("bundlePath")
    root = state.get("root")
    if not root:
        if not isinstance(bundle, str) or not bundle.startswith("/"):
            raise CommandError("input", "container state: bundle: missing, or not a path")
        part = read(f"{bundle}/config.json").get("root")
        root = part.get("path") if isinstance(part, dict) else None
    if not isinstance(root, str) or not root:
        raise CommandError("input", "container state: the container's root: missing, or not a path")
    if not root.startswith("/"):
        if not isinstance(bundle, str) or not bundle.startswith("/"):
            raise CommandError("input", "container state: bundle: missing, or not a path")
        root = f"{bundle}/{root}"
    if not root.isprintable() and any(c < " " or c == "\x7f" for c in root):
        raise CommandError("input", f"container state: {shown(root)}: not a usable path")
    return root


def _read_state(path: str) -> dict[str, object]:
    from libnvc._oci.document import MAX_SIZE, read_state

    where = "failed to load container state"
    try:
        if path in ("", "-"):
            data = sys.stdin.buffer.read(MAX_SIZE + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise CommandError("input", f"{where}: {shown(path)}: {error.strerror}") from error
    if not data.strip():
        raise CommandError("input", f"{where}: failed to decode container state: EOF")
    try:
        return read_state(io.BytesIO(data))
    except NvcError as error:
        why = error.message.removeprefix("could not decode container state: ")
        text = f"{where}: failed to decode container state: {why}"
        raise CommandError("input", text) from error
