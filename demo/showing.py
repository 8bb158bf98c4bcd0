"""What the reader sees: short lines, a progress bar where somebody looks, two tables."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Sequence

    from comparing import Promise, Row

_WIDTH: Final = 100
# How often the plain lines tell of progress, where there is no terminal to draw a bar on.
_STEPS: Final = 4
_MAX_BROKEN: Final = 5
_INDENT: Final = (0, 0, 0, 2)
_WITNESSES: Final = (
    "expected and seen: what the results stream says; requests: what the simulator received;",
    "dead: the dead letters. Numbers are expected/seen, sums over all jobs of a line.",
)


class Show:
    """Talks to the reader on standard output."""

    def __init__(self) -> None:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a mark that the terminal lacks must not end the demo
        self._console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
        # On a narrower terminal the lines of tables go round the edge, which is better than numbers cut off.
        self._tables = Console(highlight=False, width=max(self._console.width, _WIDTH))
        self._began = time.monotonic()

    def say(self, text: str = "") -> None:
        """One line, however long: what is copied from it must not be broken."""
        self._console.print(text, soft_wrap=True)

    def step(self, title: str) -> None:
        """Begin a part."""
        self.say(f"\n[bold]{title}[/]")

    def done(self, text: str) -> None:
        """Something that came about."""
        self.say(f"  [green]✓[/] {text}")

    def wrong(self, text: str) -> None:
        """Something that did not."""
        self.say(f"  [bold red]✗[/] {escape(text)}")

    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    @contextmanager
    def busy(self, text: str) -> Iterator[None]:
        """Show that something is under way."""
        with self._console.status(text):
            yield

    @contextmanager
    def progress(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show how far it came: a bar on a terminal, now and then a line elsewhere."""
        if not self._console.is_terminal:
            yield self._in_lines(text, total)
            return
        bar_itself = BarColumn(complete_style="green")
        columns = (TextColumn("  " + text), bar_itself, MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task(text, total=total)
            yield lambda number: progress.update(bar, completed=number)

    def _in_lines(self, text: str, total: int) -> Callable[[int], None]:
        told = 0

        def tell(number: int) -> None:
            nonlocal told
            if (quarter := number * _STEPS // max(total, 1)) > told:
                told = quarter
                self.say(f"  {text} {number} of {total}")

        return tell

    def table(self, rows: Sequence[Row]) -> None:
        """Expected beside seen."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", collapse_padding=True)
        table.add_column("", no_wrap=True)
        table.add_column("what was sent", no_wrap=True)
        table.add_column("expected", no_wrap=True)
        table.add_column("seen", no_wrap=True)
        for heading in ("retries", "requests", "dead"):
            table.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            want, seen = row.expected, row.seen
            table.add_row(
                "[green]✓[/]" if row.ok else "[bold red]✗[/]",
                escape(row.label),
                _ends(want.ends),
                _ends(seen.ends),
                f"{want.retries}/{seen.retries}",
                f"{want.requests}/{seen.requests}",
                f"{want.letters.total()}/{seen.letters.total()}",
                style="" if row.ok else "bold red",
            )
            if want.letters.total() == seen.letters.total() and want.letters != seen.letters:
                table.add_row(
                    "", "", f"dead:\n{_ends(want.letters)}", f"dead:\n{_ends(seen.letters)}", style="bold red"
                )
        self._tables.print(Padding(table, _INDENT, expand=False))

    def explain_table(self) -> None:
        """Say where the numbers come from."""
        for line in _WITNESSES:
            self.say(f"  [dim]{line}[/]")

    def promises(self, promises: Sequence[Promise]) -> None:
        """The four promises, and what speaks against them."""
        for promise in promises:
            mark = "[green]✓[/]" if promise.ok else "[bold red]✗[/]"
            self.say(f"  {mark} {promise.name:<15} {escape(promise.found) if promise.ok else '[bold red]broken[/]'}")
            for line in promise.broken[:_MAX_BROKEN]:
                self.say(f"      [red]{escape(line)}[/]")
            if (more := len(promise.broken) - _MAX_BROKEN) > 0:
                self.say(f"      [red]and {more} more[/]")

    def command(self, line: str, output: str) -> None:
        """A command that the reader could have typed, and what it printed."""
        self.say(f"  [cyan]$ {escape(line)}[/]")
        for printed in output.rstrip().splitlines():
            self.say(f"    {escape(printed.rstrip())}")


def _ends(counts: Counter[str]) -> str:
    return escape("\n".join(f"{number} {what}" for what, number in sorted(counts.items()))) or "-"
