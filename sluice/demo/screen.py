"""How the tour looks: on a terminal with colours and a spinner, elsewhere as plain lines."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table


class Screen:
    """Prints the tour and counts what did not come out as it should."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.failed = 0

    def title(self, text: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{escape(text)}", align="left")

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def command(self, argv: Sequence[str]) -> None:
        """What the user would type."""
        self._console.print(f"[dim]$ {escape(shlex.join(argv))}", highlight=False, soft_wrap=True)

    def output(self, text: str) -> None:
        """What a command printed."""
        for line in text.rstrip().splitlines():
            self._console.print(f"    [dim]{escape(line)}", highlight=False, soft_wrap=True)

    def see(self, holds: bool, text: str) -> None:
        """One piece of evidence; `holds` says whether it is what the step promised."""
        self.failed += not holds
        mark = "[green]✓" if holds else "[bold red]✗"
        self._console.print(f"  {mark}[/] {escape(text)}", highlight=False, soft_wrap=True)

    @contextlib.contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """Shows that something which takes a while is going on."""
        if self._console.is_terminal:
            with self._console.status(f"[dim]{escape(text)}"):
                yield
        else:
            self.say(f"  ... {text}")
            yield

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        table = Table(title=title, title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index < 2 else "right")
        for row in rows:
            table.add_row(*map(escape, row))
        self._console.print()
        self._console.print(table)
