# SPDX-License-Identifier: Apache-2.0
"""The command line of `nvidia-cdi-hook`: what each hook takes, and reading it."""

from __future__ import annotations

from libnvc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Options of each hook, all with a value; other names are of newer CDI files.
HOOKS: dict[str, tuple[str, ...]] = {
    "chmod": ("mode", "path"),
    "create-symlinks": ("link",),
    "disable-device-node-modification": (),
    "enable-cuda-compat": (
        "host-driver-version",
        "host-cuda-version",
        "cuda-compat-container-root",
    ),
    "noop": (),
    "update-application-profile": (),
    "update-ldcache": ("folder", "ldconfig-path"),
}
_ANY_HOOK = ("container-spec",)
#: Several hooks in one call, for the sake of time; generated files have it where the program is
#: this one.
SEQUENCE, THEN = "sequence", "then"
_LONG = {"d": "debug", "h": "help", "v": "version"}
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")

USAGE = """\
Usage: nvidia-cdi-hook [--debug] [--quiet] HOOK [OPTION...]

  create-symlinks --link TARGET::LINK...
                    make links
  update-ldcache --folder DIRECTORY...
                    have the loader find what directories hold
  enable-cuda-compat --host-driver-version V | --host-cuda-version V
                    have it prefer the image's CUDA compatibility libraries where they are newer
                    (--cuda-compat-container-root DIRECTORY, /usr/local/cuda/compat)
  disable-device-node-modification
                    have the driver's libraries make no device nodes
  update-application-profile
                    have EGL show the container's GPUs only
  chmod --mode MODE --path PATH...
                    change modes of what is there
  sequence HOOK [OPTION...] [then HOOK [OPTION...]]...
                    several of them, one after the other

An engine calls it as a createContainer hook, with the container's state on standard input.

  --container-spec FILE   of a hook: read the state there; - is standard input
  -d, --debug             say what is done (NVIDIA_CTK_DEBUG)
      --quiet             no warnings (NVIDIA_CTK_QUIET)
  -h, --help              print this
  -v, --version           print the version
"""


class UsageError(Exception):
    """Words that are not understood."""


class Words(Record):
    """A command line.

    Attributes:
        hook: its name, known or not; "" if none is named.
        flags: of "debug", "quiet", "help", "version".
        values: of each option of the hook, as often as it was given.
        parts: of a sequence.
        given: the words themselves, where a hook of which something may be kept has nothing else.
    """

    hook: str = ""
    flags: frozenset[str] = frozenset()
    values: tuple[tuple[str, str], ...] = ()
    parts: tuple[Words, ...] = ()
    given: tuple[str, ...] = ()

    def all(self, option: str) -> list[str]:
        """Return all values of an option."""
        return [value for name, value in self.values if name == option]

    def last(self, option: str, default: str = "") -> str:
        """Return the value of an option that counts."""
        return (self.all(option) or [default])[-1]


def read_words(words: Sequence[str], environment: Mapping[str, str]) -> Words:
    """Read a command line.

    What follows the name of an unknown hook is not looked at.

    Raises:
        UsageError: an unknown option, or one without its value.
    """
    flags = {
        flag
        for flag in ("debug", "quiet")
        for prefix in ("NVIDIA_CTK_", "NVIDIA_CDI_")
        if environment.get(prefix + flag.upper()) in _TRUE
    }
    place = 0
    while place < len(words) and _is_option(words[place]):
        flag, _, value = words[place].lstrip("-").partition("=")
        flag = _LONG.get(flag, flag)
        if flag not in ("debug", "quiet", "help", "version"):
            raise UsageError(f"flag provided but not defined: -{flag}")
        flags.add(flag)
        if value in _FALSE:
            flags.discard(flag)
        place += 1
    hook = words[place] if place < len(words) else ""
    if hook in ("help", "h"):
        return Words(flags=frozenset({"help"}))
    if hook == SEQUENCE:
        parts = [read_words(part, {}) for part in _split(words[place + 1 :])]
        flags |= {flag for part in parts for flag in part.flags}
        return Words(hook=hook, flags=frozenset(flags), parts=tuple(parts))
    if hook not in HOOKS:
        return Words(hook=hook, flags=frozenset(flags))
    values = _read_values(words[place + 1 :], (*HOOKS[hook], *_ANY_HOOK))
    if values is None:
        flags.add("help")
    is_whole = place == 0 and not any(name in _ANY_HOOK for name, _ in values or ())
    return Words(
        hook=hook,
        flags=frozenset(flags),
        values=tuple(values or ()),
        given=tuple(words) if is_whole else (),
    )


def _split(words: Sequence[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == THEN:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _is_option(word: str) -> bool:
    return word.startswith("-") and word.strip("-") != ""


def _read_values(words: Sequence[str], known: tuple[str, ...]) -> list[tuple[str, str]] | None:
    """Return the options with their values; None if help is asked for."""
    values = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            break
        if not _is_option(word):
            continue
        name, has_value, value = word.lstrip("-").partition("=")
        if name in ("h", "help"):
            return None
        if name not in known:
            raise UsageError(f"flag provided but not defined: -{name}")
        if not has_value:
            following = next(rest, None)
            if following is None:
                raise UsageError(f"flag needs an argument: -{name}")
            value = following
        values.append((name, value))
    return values
