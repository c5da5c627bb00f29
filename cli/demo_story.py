# SPDX-License-Identifier: Apache-2.0
"""How the demo speaks: numbered steps, explanations, commands with what they print."""

from __future__ import annotations

import textwrap

from rich.console import Console
from rich.text import Text

_WIDTH = 88


class Story:
    """Tells what happens, as it happens; plain text where the output is not a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._steps = 0

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self._print(f"\n{self._steps}. {title}", "bold")

    def say(self, text: str) -> None:
        """Explain something."""
        self._print(textwrap.fill(" ".join(text.split()), _WIDTH), "")

    def command(self, where: str, command: str) -> None:
        """Show a command that is about to run, and where it runs."""
        self._print(f"\n   {where}# {command}", "cyan")

    def output(self, text: str) -> None:
        """Show what a command printed."""
        self._print(textwrap.indent(text.rstrip("\n"), "   "), "")

    def _print(self, text: str, style: str) -> None:
        self._console.print(Text(text, style=style))
