# SPDX-License-Identifier: Apache-2.0
"""Parse command lines as Go's urfave/cli does, from small tables.

`nvidia-ctk` is called by scripts that know its behaviour, and by container starts that must not
wait. Help texts are made in `_flagshelp`, loaded when asked for.
"""

from __future__ import annotations

from libnvc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class Flag(Record):
    """One flag.

    Attributes:
        name: without dashes.
        doc: what it does, for the help text.
        aliases: other names.
        kind: bool, str or list; a list's flag may be given more than once.
        default: its value if it is not given; of a list, a tuple.
        variable: the environment variable that gives it, or "".
        is_split: whether commas divide a list's value.
        is_hidden: whether the help text leaves it out.
    """

    name: str
    doc: str = ""
    aliases: tuple[str, ...] = ()
    kind: type = str
    default: Any = None
    variable: str = ""
    is_split: bool = True
    is_hidden: bool = False


class Given(Record):
    """A command line, read.

    Attributes:
        values: by flag, also of those that were not given.
        given: the flags that were given, or whose variables are set.
        words: what is no flag.
    """

    values: dict[str, Any]
    given: frozenset[str]
    words: tuple[str, ...]


class UsageError(Exception):
    """A command line that cannot be read; the text is urfave/cli's."""


HELP = Flag(name="help", aliases=("h",), kind=bool, doc="Show help")

_EMPTY = {bool: False, str: "", list: ()}


def parse_bool(text: str) -> bool:
    """Return what a word says.

    Raises:
        ValueError: it says neither; the text is Go's.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse(
    flags: Sequence[Flag],
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    stops: bool = False,
) -> Given:
    """Read a command line.

    Args:
        flags: what may be given.
        words: without the command's name.
        environment: variables that give flags.
        stops: whether the first word that is no flag ends the reading, as a command's name does.

    Raises:
        UsageError: a flag is not known, or its value is missing or of the wrong type.
    """
    by_name = {name: flag for flag in flags for name in (flag.name, *flag.aliases)}
    values: dict[str, Any] = {}
    rest: list[str] = []
    index = 0
    while index < len(words):
        word = words[index]
        index += 1
        if word == "--":
            rest += words[index:]
            break
        if not word.startswith("-") or word == "-":
            rest.append(word)
            if stops:
                rest += words[index:]
                break
            continue
        name, equals, text = word[1:].removeprefix("-").partition("=")
        if name not in by_name:
            raise UsageError(f"flag provided but not defined: -{name}")
        flag = by_name[name]
        if not equals and flag.kind is not bool:
            if index == len(words):
                raise UsageError(f"flag needs an argument: -{name}")
            text = words[index]
            index += 1
        _add(values, flag, text if equals or flag.kind is not bool else "true")
    for flag in flags:
        if flag.name not in values and environment.get(flag.variable):
            _add(values, flag, environment[flag.variable])
    defaults = {f.name: _EMPTY[f.kind] if f.default is None else f.default for f in flags}
    return Given(values={**defaults, **values}, given=frozenset(values), words=tuple(rest))


def _add(values: dict[str, Any], flag: Flag, text: str) -> None:
    if flag.kind is bool:
        try:
            values[flag.name] = parse_bool(text)
        except ValueError as error:
            raise UsageError(f'invalid value "{text}" for flag -{flag.name}: {error}') from None
    elif flag.kind is list:
        parts = [part.strip() for part in text.split(",")] if flag.is_split else [text]
        values[flag.name] = (*values.get(flag.name, ()), *parts)
    else:
        values[flag.name] = text
