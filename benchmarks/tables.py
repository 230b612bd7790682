"""Figures as the cells of a table in Markdown, and the tables."""

from collections.abc import Callable, Iterator, Sequence

from benchmarks.figures import Spread

Row = Sequence[str]


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table, whose first row is its head."""
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|" + "---|" * len(rows[0])
    for row in rows[1:]:
        yield "| " + " | ".join(row) + " |"


def cell(spread: Spread | None, form: Callable[[float], str]) -> str:
    """Return the median, and the range where there is one."""
    if spread is None:
        return ""
    if form(spread.low) == form(spread.high):
        return form(spread.median)
    return f"{form(spread.median)} ({form(spread.low)} to {form(spread.high)})"


def span(spread: Spread) -> str:
    """Return the range."""
    return f"{short(spread.low)} to {short(spread.high)}"


def whole(value: float) -> str:
    """Return it without a fraction."""
    return f"{value:,.0f}"


def short(value: float) -> str:
    """Return it with three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004


def percent(value: float) -> str:
    """Return a share of one."""
    return f"{100 * value:.0f} %"
