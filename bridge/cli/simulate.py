"""The `simulate` command: one run of the simulated provider, its progress and its closing table."""

import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import click
import uvloop

from bridge.cli.common import EXIT_FAILED, fail
from bridge.clip import printable
from bridge.config.types import similar_zone
from bridge.console import Progress, progress, table
from bridge.interrupts import EXIT_INTERRUPTED, interruptible
from bridge.model import Form
from bridge.simulate import Plan, Report, Tally, states, write_report
from bridge.simulate import simulate as post_states
from bridge.simulate.api import Api, ApiFault

NOWHERE = "http://127.0.0.1/"  # nothing is posted


@click.command()
@click.option("--url", help="URL to post to; user:password@ in it is basic authentication.")
@click.option("--messages", type=int, required=True, help="States to deliver.")
@click.option("--per-post", type=int, default=50, show_default=True, help="States in a document.")
@click.option("--rate", type=float, help="New states a second.  [default: as fast as possible]")
@click.option("--concurrency", type=int, default=4, show_default=True, help="Posts at once.")
@click.option("--attempts", type=int, default=5, show_default=True, help="Attempts for each state.")
@click.option(
    "--retry-seconds",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds to wait before a retry.",
)
@click.option(
    "--timeout-seconds",
    type=float,
    default=5.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice([form.value for form in Form]),
    default=Form.XML.value,
    show_default=True,
    help="Form of the documents.",
)
@click.option("--seed", type=int, help="Makes the states repeatable.  [default: random]")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all figures and ids to this file, as JSON.",
)
@click.option(
    "--serve-api",
    metavar="HOST:PORT",
    help="Also answer there as the provider's API, until Ctrl-C; without --url nothing is posted.",
)
@click.option("--api-token", help="The token that the API takes.  [default: any credentials]")
@click.option(
    "--api-timezone", default="UTC", show_default=True, help="Time zone of the API's clock."
)
@click.option(
    "--api-fault",
    "api_faults",
    type=click.Choice([fault.value for fault in ApiFault]),
    multiple=True,
    help="Answer a request with this fault; repeatable, in order, then it tells the truth.",
)
def simulate(url: str | None, report: Path | None, serve_api: str | None, **options: Any) -> None:
    """Simulate the provider against a gateway.

    Posts states and, as the provider does, posts again what the answer does not list. As its API it
    tells the states of the same messages, posted or not.
    """
    if url is None and serve_api is None:
        raise click.UsageError("--url or --serve-api: there is nothing to do")
    api_options = {name: options.pop(f"api_{name}") for name in ("token", "timezone", "faults")}
    plan = _plan(url=url or NOWHERE, **options)
    with _api(serve_api, plan, api_options) if serve_api else nullcontext() as api:
        if api is not None:
            click.echo(f"the provider's API is at {api.url}/xml and {api.url}/json, until Ctrl-C")
        failed = url is not None and _failed(plan, report)
        ended_by = _wait() if api is not None else 0
    if failed:
        sys.exit(EXIT_FAILED)
    if ended_by:
        sys.exit(128 + ended_by)


def _api(address: str, plan: Plan, options: Mapping[str, Any]) -> Api:
    host, _, port = address.rpartition(":")
    try:
        known = {state.id_sms: state for state in states(plan)}
        options = {**options, "faults": map(ApiFault, options["faults"])}
        return Api(known, host=host.strip("[]") or "127.0.0.1", port=int(port), **options)
    except ZoneInfoNotFoundError:
        what = f"not a time zone{similar_zone(options['timezone'])}"
        raise click.BadParameter(what, param_hint="--api-timezone") from None
    except (ValueError, OverflowError):
        raise click.BadParameter("must be host:port", param_hint="--serve-api") from None
    except OSError as exc:
        fail(f"cannot listen on {address}: {exc.strerror}")


def _wait() -> int:
    """Wait for Ctrl-C or SIGTERM; the signal's number."""
    came: SimpleQueue[int] = SimpleQueue()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: came.put(number)) for number in numbers]
    number = came.get()
    for each, handler in zip(numbers, before, strict=True):
        signal.signal(each, handler)
    return number


def _failed(plan: Plan, report: Path | None) -> bool:
    """Post the plan's states, and write down what came of it; whether a state was not acknowledged.

    Ends the program if it is interrupted.
    """
    result = _run(plan)
    if result is None:
        sys.exit(EXIT_INTERRUPTED)
    try:
        if report is not None:
            write_report(result, report)
    except OSError as exc:
        fail(f"cannot write {report}: {exc.strerror}")
    return not result.ok


def _plan(form: str, **options: Any) -> Plan:
    try:
        return Plan(**options, form=Form(form))
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


class Watch:
    """Follows a run and keeps the newest figures, for a run that is cut short."""

    def __init__(self, bar: Progress) -> None:
        self.tally: Tally | None = None
        self._bar = bar

    def __call__(self, tally: Tally) -> None:
        """Take note of how far the run has come."""
        self.tally = tally
        self._bar.at(tally.acknowledged + tally.unacknowledged)


def _run(plan: Plan) -> Report | None:
    """Run the plan with a progress bar and print what came of it; None if it was interrupted."""
    with progress(plan.messages, "posting") as bar:
        watch = Watch(bar)
        try:
            with interruptible():
                report: Report | None = uvloop.run(post_states(plan, on_progress=watch))
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
        yield "unreadable", f"{report.unreadable_answers:,} answers without a list of ids"
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
