"""How the commands speak to a person: tables, a progress bar.

Colours are click's, which drops them if the output is not a terminal.
"""

import sys
from collections.abc import Iterable
from typing import Any

import click


def table(rows: Iterable[tuple[str, str]]) -> str:
    """One line a row, the values in one column."""
    filled = [row for row in rows if row[1]]
    width = max((len(name) for name, _ in filled), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in filled)


def progress(length: int, label: str) -> Any:
    """A progress bar of click's on standard error, if that is a terminal."""
    return click.progressbar(
        length=length, label=label, show_pos=True, file=sys.stderr, hidden=not sys.stderr.isatty()
    )
