# SPDX-License-Identifier: Apache-2.0
"""Help texts in the layout of urfave/cli."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._flags import Flag


def help_text(
    name: str, doc: str, flags: Sequence[Flag], commands: Sequence[tuple[str, str]]
) -> str:
    """Return the help text of a command.

    Args:
        name: in full, "nvidia-ctk config".
        doc: what it does.
        flags: what it takes.
        commands: names and sentences of the commands below it.
    """
    usage = f"{name} [options]{' [command [command options]]' if commands else ''}"
    parts = [f"NAME:\n   {name} - {doc}\n", f"USAGE:\n   {usage}\n"]
    if commands:
        parts.append(f"COMMANDS:\n{_table(commands)}")
    shown = [(_names(flag), _description(flag)) for flag in flags if not flag.is_hidden]
    parts.append(f"OPTIONS:\n{_table(shown)}")
    return "\n".join(parts)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(left) for left, _ in rows)
    return "".join(f"   {left:{width}}  {right}".rstrip() + "\n" for left, right in rows)


def _names(flag: Flag) -> str:
    names = (f"{'-' if len(name) == 1 else '--'}{name}" for name in (flag.name, *flag.aliases))
    value = "" if flag.kind is bool else " VALUE"
    return ", ".join(f"{name}{value}" for name in names)


def _description(flag: Flag) -> str:
    values = flag.default if flag.kind is list else (flag.default,)
    default = f' (default: "{",".join(map(str, values))}")' if flag.default else ""
    variable = f" [${flag.variable}]" if flag.variable else ""
    return f"{flag.doc}{default}{variable}"
