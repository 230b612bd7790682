"""The `simulate` command: one run of the simulated provider, its progress and its closing table."""

from collections.abc import Iterator, Mapping
from typing import Any

import click
import uvloop

from bridge.console import Progress, printable, progress, table
from bridge.simulate import Plan, Report, Tally, simulate


class Watch:
    """Follows a run and keeps the newest figures, for a run that is cut short."""

    def __init__(self, bar: Progress) -> None:
        self.tally: Tally | None = None
        self._bar = bar

    def __call__(self, tally: Tally) -> None:
        """Take note of how far the run has come."""
        self.tally = tally
        self._bar.at(tally.acknowledged + tally.unacknowledged)


def run(plan: Plan) -> Report | None:
    """Run the plan with a progress bar and print what came of it; None where it was interrupted."""
    with progress(plan.messages, "posting") as bar:
        watch = Watch(bar)
        try:
            report = uvloop.run(simulate(plan, on_progress=watch))
        except KeyboardInterrupt:
            report = None
    if report is not None:
        click.echo(table(_rows(report)))
    else:
        click.echo("interrupted; until then:")
        click.echo(table(_tally_rows(watch.tally)) if watch.tally else "nothing was posted")
    return report


def _tally_rows(tally: Tally) -> Iterator[tuple[str, str]]:
    yield "sent", f"{tally.posted:,} of {tally.messages:,} states"
    yield "acknowledged", _good(tally.acknowledged, tally.acknowledged == tally.messages)
    yield "retried", f"{tally.retried:,}"
    yield "unacknowledged", _good(tally.posted - tally.acknowledged, not tally.unacknowledged)


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    yield from _tally_rows(report.tally)
    yield "posts", f"{report.tally.posts:,}"
    yield "answers", _counts(report.answers)
    yield "no answer", _counts(report.faults)
    yield "last fault", printable(report.last_fault or "")
    if report.unreadable_answers:
        yield "unreadable", f"{report.unreadable_answers:,} answers without a <response>"
    if report.foreign_ids:
        sample = printable(", ".join(report.foreign_id_sample))
        yield "foreign ids", _good(f"{report.foreign_ids:,}: {sample}", False)
    if report.latency is not None:
        figures = report.latency
        yield (
            "latency",
            f"p50 {figures.p50:.1f} ms, p99 {figures.p99:.1f} ms, max {figures.max:.1f} ms",
        )
    yield "duration", f"{report.duration_seconds:.1f} s, {report.states_per_second:,.0f} states/s"


def _counts(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items())


def _good(value: object, good: bool) -> str:
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return click.style(text, fg="green" if good else "red")
