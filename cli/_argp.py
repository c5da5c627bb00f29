# SPDX-License-Identifier: Apache-2.0
"""Parse command lines as GNU argp does, from small tables.

The drop-in commands need argp's exact wordings and order of events, and a start-up that neither
`argparse` nor Typer allows. What each program accepts is a `Parser` record; `parse` turns a
command line into events. Help and usage texts are made in `_argphelp`, loaded when asked for.
"""

from __future__ import annotations

from libnvc._record import Record

from .output import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: name, value and index of the next unread word; the name of a positional argument is ""
Event = tuple[str, str | None, int]


class Option(Record):
    """One option.

    Attributes:
        name: long name, without dashes.
        doc: what it does, for the help text.
        short: its letter, or "".
        arg: name of its argument in the help text, "" if it takes none.
        optional: whether the argument may be left out (it must then be attached).
    """

    name: str
    doc: str
    short: str = ""
    arg: str = ""
    optional: bool = False


#: Accepted by every parser, after its own options. argp lists these last.
BUILTIN = (
    Option(name="help", short="?", doc="Give this help list"),
    Option(name="usage", doc="Give a short usage message"),
    Option(name="version", short="V", doc="Print program version"),
)


class Parser(Record):
    """What one program or command accepts.

    Attributes:
        name: its name in help and messages, "nvidia-container-cli list".
        doc: what it does, one sentence.
        options: in the order in which argp would know them.
        arguments: the positional arguments in the usage line, "ROOTFS".
        commands: name and sentence of each command. A parser that has commands stops at the first
            word that is not an option; one that has none reads options after words too.
    """

    name: str
    doc: str
    options: tuple[Option, ...] = ()
    arguments: str = ""
    commands: tuple[tuple[str, str], ...] = ()


class ParserExit(Exception):  # noqa: N818  (asking for help is no error)
    """End the program now.

    Attributes:
        text: what to print, whole lines: to standard output if status is 0, else standard error.
        status: the exit status.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


def usage_error(parser: Parser) -> ParserExit:
    """Return the exit for a command line that does not have the right words."""
    from ._argphelp import hint, short_usage

    return ParserExit(short_usage(parser) + hint(parser), 1)


def too_many_arguments(parser: Parser) -> ParserExit:
    """Return the exit for a word that the command does not take."""
    return _failure(parser, parser.name, "Too many arguments")


def parse(parser: Parser, argv: Sequence[str]) -> Iterator[Event]:
    """Yield the events of a command line, in the order in which argp would report them.

    Options come as they stand; positional arguments after all options, or, for a parser with
    commands, the first one at once and last.

    Args:
        parser: what is accepted.
        argv: the words; the first is the name to put before getopt's messages.

    Raises:
        ParserExit: an option error (status 1), `--help` or `--usage` (status 0).
    """
    words: list[tuple[str, int]] = []
    index = 1
    while index < len(argv):
        word = argv[index]
        index += 1
        if word == "--":
            words += [(argv[i], i + 1) for i in range(index, len(argv))]
            break
        if word.startswith("-") and word != "-":
            read = _read_long if word.startswith("--") else _read_cluster
            for event in read(parser, argv, index):
                _answer_builtin(parser, event[0])
                index = event[2]
                yield event
            continue
        words.append((word, index))
        if parser.commands:
            break
    for word, after in words[:1] if parser.commands else words:
        yield "", word, after


def _answer_builtin(parser: Parser, name: str) -> None:
    if name in ("help", "usage"):
        from . import _argphelp

        text = _argphelp.help_text if name == "help" else _argphelp.usage
        raise ParserExit(text(parser), 0)


def _read_long(parser: Parser, argv: Sequence[str], index: int) -> Iterator[Event]:
    typed = argv[index - 1][2:]
    name, equals, attached = typed.partition("=")
    option = _find_long(parser, argv[0], name, typed)
    value = attached if equals else None
    if equals and not option.arg:
        raise _failure(parser, argv[0], f"option '--{option.name}' doesn't allow an argument")
    if not equals and option.arg and not option.optional:
        if index == len(argv):
            raise _failure(parser, argv[0], f"option '--{option.name}' requires an argument")
        value = argv[index]
        index += 1
    yield option.name, value, index


def _find_long(parser: Parser, program: str, name: str, typed: str) -> Option:
    known = parser.options + BUILTIN
    found = [o for o in known if o.name == name] or [o for o in known if o.name.startswith(name)]
    if not found:
        raise _failure(parser, program, f"unrecognized option '--{typed}'")
    if len(found) > 1:
        listed = "".join(f" '--{option.name}'" for option in found)
        text = f"option '--{typed}' is ambiguous; possibilities:{listed}"
        raise _failure(parser, program, text)
    return found[0]


def _read_cluster(parser: Parser, argv: Sequence[str], index: int) -> Iterator[Event]:
    known = {o.short: o for o in parser.options + BUILTIN if o.short}
    cluster = argv[index - 1]
    for at in range(1, len(cluster)):
        option = known.get(cluster[at])
        if option is None:
            raise _failure(parser, argv[0], f"invalid option -- '{cluster[at]}'")
        if not option.arg:
            yield option.name, None, index
            continue
        value: str | None = cluster[at + 1 :]
        if not value and option.optional:
            value = None
        elif not value:
            if index == len(argv):
                text = f"option requires an argument -- '{option.short}'"
                raise _failure(parser, argv[0], text)
            value = argv[index]
            index += 1
        yield option.name, value, index
        return


def _failure(parser: Parser, program: str, text: str) -> ParserExit:
    from ._argphelp import hint

    return ParserExit(f"{one_line(f'{program}: {text}')}\n{hint(parser)}", 1)
