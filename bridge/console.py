"""How the commands speak to a person: tables, colours, a progress bar.

Colours are click's, which drops them if the output is not a terminal.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

_COLOURS: dict[object, str] = {"delivered": "green", "undelivered": "red", "pending": "yellow"}


def table(rows: Iterable[tuple[str, str]]) -> str:
    """One line a row, the values in one column."""
    filled = [row for row in rows if row[1]]
    width = max((len(name) for name, _ in filled), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in filled)


def columns(rows: Sequence[Sequence[str]], indent: int = 2) -> str:
    """One line a row, each cell as wide as the widest of its column; colours take no room."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        " " * indent
        + "  ".join(
            cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def _width(cell: str) -> int:
    return len(click.unstyle(cell))


def coloured(text: str, outcome: object) -> str:
    """Text about a status, in the colour of its outcome."""
    return click.style(text, fg=_COLOURS.get(outcome, "magenta"))


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
