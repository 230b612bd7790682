"""How the commands speak to a person: tables, a progress bar.

Colours are click's, which drops them if the output is not a terminal.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click


def table(rows: Iterable[tuple[str, str]]) -> str:
    """One line a row, the values in one column."""
    filled = [row for row in rows if row[1]]
    width = max((len(name) for name, _ in filled), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in filled)


class Progress:
    """A progress bar that draws nothing without a terminal."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def at(self, position: int, label: str | None = None, of: int | None = None) -> None:
        """Move the bar to a position, counted from its start; `of` changes where its end is."""
        if self._bar is not None:
            self._bar.label = label or self._bar.label
            self._bar.length = of or self._bar.length
            self._bar.update(position - self._bar.pos)

    def say(self, line: str) -> None:
        """Write a line to standard error, above the bar."""
        if self._bar is None:
            click.echo(line, err=True)
            return
        click.echo(f"\r\x1b[2K{line}", err=True)
        self._bar.render_progress()


@contextmanager
def progress(length: int, label: str) -> Iterator[Progress]:
    """A progress bar on standard error, so that what is piped stays clean."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    with click.progressbar(length=length, label=label, show_pos=True, file=sys.stderr) as bar:
        yield Progress(bar)
