# SPDX-License-Identifier: Apache-2.0
"""Lay out help, usage and hint texts as GNU argp does (79 columns, no ARGP_HELP_FMT)."""

from __future__ import annotations

from ._argp import BUILTIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._argp import Option, Parser

_WIDTH = 79
_TEXT_COLUMN = 29  # of what an option does
_USAGE_INDENT = 12
_NOTE = (
    "Mandatory or optional arguments to long options are also mandatory or optional for any "
    "corresponding short options."
)


def hint(parser: Parser) -> str:
    """Return the text that points to the help, one or two lines."""
    name = parser.name
    return _fill(f"Try `{name} --help' or `{name} --usage' for more information.")


def short_usage(parser: Parser) -> str:
    """Return the usage that does not list the options."""
    return _usage_lines(parser, [("[OPTION...]", False)])


def usage(parser: Parser) -> str:
    """Return the usage that lists every option."""
    options = [*_in_order(parser), *BUILTIN]
    bare = "".join(option.short for option in options if not option.arg)
    short = [o for o in options if o.short and o.arg]
    words = [(f"[-{bare}]", False)]
    words += [(f"[-{o.short}{_argument(o, ' ')}]", not o.optional) for o in short]
    words += [(f"[--{o.name}{_argument(o, '=')}]", False) for o in options]
    return _usage_lines(parser, words)


def help_text(parser: Parser) -> str:
    """Return the long help."""
    own = _in_order(parser)
    parts = [short_usage(parser), _fill(parser.doc), "\n"]
    parts += [_entry(_switches(option), option.doc) for option in own]
    if parser.commands:
        parts += ["\n Commands:\n"]
        parts += [_entry(f"  {name}", doc) for name, doc in sorted(parser.commands)]
        parts += ["\n"]
    parts += [_entry(_switches(option), option.doc) for option in BUILTIN]
    if any(option.short and option.arg for option in own):
        parts += ["\n", _fill(_NOTE)]
    return "".join(parts)


def _in_order(parser: Parser) -> list[Option]:
    def key(option: Option) -> tuple[str, bool, bool, str]:
        first = option.short or option.name[0]
        return first.lower(), bool(option.short), first.isupper(), option.name

    return sorted(parser.options, key=key)


def _switches(option: Option) -> str:
    short = f"  -{option.short}, " if option.short else "      "
    return f"{short}--{option.name}{_argument(option, '=')}"


def _argument(option: Option, before: str) -> str:
    if not option.arg:
        return ""
    if option.optional:
        return f"[{before.strip()}{option.arg}]"
    return before + option.arg


def _entry(switches: str, doc: str) -> str:
    if len(switches) > _TEXT_COLUMN + 3:
        return f"{switches}\n{' ' * _TEXT_COLUMN}{_fill(doc, _TEXT_COLUMN, _TEXT_COLUMN)}"
    gap = "   " if len(switches) >= _TEXT_COLUMN else " " * (_TEXT_COLUMN - len(switches))
    start = switches + gap
    return start + _fill(doc, len(start), _TEXT_COLUMN)


def _fill(text: str, column: int = 0, indent: int = 0) -> str:
    words = text.split()
    units = [(word, False) for word in words]
    return _wrap(units, column, indent)


def _usage_lines(parser: Parser, words: list[tuple[str, bool]]) -> str:
    if parser.arguments:
        words = [*words, (parser.arguments, True)]
    start = f"Usage: {parser.name} "
    return start + _wrap(words, len(start), _USAGE_INDENT)


def _wrap(words: list[tuple[str, bool]], column: int, indent: int) -> str:
    """Return the words in lines, the first of which begins at `column`.

    A word that may hold blanks is marked True. argp lets a line grow to the full width only where
    a blank follows that it has already seen: not before or with a marked word, nor at the end.
    """
    parts: list[str] = []
    fresh = True
    for index, (word, marked) in enumerate(words):
        tight = marked or index + 1 == len(words) or words[index + 1][1]
        end = column + len(word) + (not fresh)
        if not fresh and end > _WIDTH - tight:
            parts.append("\n" + " " * indent)
            end = indent + len(word)
        elif not fresh:
            parts.append(" ")
        parts.append(word)
        column, fresh = end, False
    return "".join(parts) + "\n"
