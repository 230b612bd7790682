"""The `reconcile` command: what the provider knows and the topic does not."""

import asyncio
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
import orjson

from bridge.cli.common import (
    EXIT_FAILED,
    config_option,
    json_option,
    load_settings,
    moment_option,
    now,
    run_with_kafka,
)
from bridge.clip import printable
from bridge.config.settings import Settings
from bridge.config.warnings import provider_warnings
from bridge.console import Progress, progress, table
from bridge.model import Message
from bridge.observability import logging as logs
from bridge.reconcile.asking import BATCH, REQUESTS_PER_SECOND, Pace
from bridge.reconcile.report import Report
from bridge.reconcile.run import Terms, Wanted
from bridge.reconcile.run import reconcile as run
from bridge.reconcile.work_list import read_work_list
from bridge.subscriber import StatusEvent, read

SHOWN = 20  # ids of a kind, for people
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@click.command()
@click.argument("file", type=click.File("r", errors="replace"), required=False)
@config_option
@click.option("--endpoint", help="Of this endpoint alone.  [default: all that have a provider]")
@click.option(
    "--from-topic", is_flag=True, help="Messages whose latest status in the topic is not final."
)
@click.option(
    "--since", help="Read the topic since a time (2026-11-23T09:15, UTC), or the last 12h, 7d."
)
@click.option(
    "--older-than",
    help="Also messages whose latest status is older, final or not: a time, or 12h, 7d.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 1000),
    default=BATCH,
    show_default=True,
    help="Messages to ask for at once.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.001, 1000),
    default=REQUESTS_PER_SECOND,
    show_default=True,
    help="Requests a second, at most.",
)
@click.option(
    "--timeout-seconds",
    type=click.FloatRange(0.1, 3600),
    default=30,
    show_default=True,
    help="Seconds for a request and its answer.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be published; publish nothing.")
@click.option(
    "--resume",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the place in this file, and go on from there if it exists.",
)
@json_option
def reconcile(file: TextIO | None, config_file: Path, in_json: bool, **options: Any) -> None:
    """Ask the provider for the latest states of messages, and publish what is new.

    For what came during an outage that outlasted the provider's five attempts. FILE, or - for
    standard input, has an id a line, or lines of the log in JSON, in which it finds the ids that
    were not listed. Events are those that serve would have published. The exit code is 0 only if
    every message was answered, and all that is new is published.
    """
    wanted = _wanted(file, options)
    settings = load_settings(config_file)
    logs.configure("error", "console")
    for warning in provider_warnings(settings):
        _say(f"warning: {warning}")
    for number, line in wanted.listed.unreadable.items():
        _say(f"line {number} is neither an id nor a line of the log: {printable(line)}")
    with progress(0, "reconciling") as bar:
        report, stopped_by = run_with_kafka(_run(settings, wanted, options, bar, in_json=in_json))
    click.echo(orjson.dumps(report.to_dict()).decode() if in_json else table(rows(report)))
    for why in report.stopped:
        _say(why)
    if not report.complete:
        _say_where(report, options["resume"])
    if stopped_by:
        sys.exit(128 + stopped_by)
    if not report.whole:
        sys.exit(EXIT_FAILED)


def _wanted(file: TextIO | None, options: Mapping[str, Any]) -> Wanted:
    """What is to be reconciled; click's usage error where that is not said, or said twice."""
    from_topic, since, older = (options[n] for n in ("from_topic", "since", "older_than"))
    if file is None and not from_topic and options["resume"] is None:
        raise click.UsageError("name the messages: FILE or -, --from-topic, or --resume")
    if not from_topic and (since or older):
        raise click.UsageError("--since and --older-than are about --from-topic")
    if options["dry_run"] and options["resume"]:
        raise click.UsageError("a --dry-run settles nothing that --resume could keep")
    return Wanted(
        endpoint=options["endpoint"],
        work=None if file is None else read_work_list(file),
        from_topic=from_topic,
        since=moment_option("--since", since),
        older_than=moment_option("--older-than", older),
        called_with=(since, older),
    )


async def _run(
    settings: Settings,
    wanted: Wanted,
    options: Mapping[str, Any],
    bar: Progress,
    *,
    in_json: bool,
) -> tuple[Report, int]:
    """The report, and the number of the signal that ended the run, or 0."""
    with _signals() as (stopped, numbers):
        terms = Terms(
            pace=Pace(batch=options["batch"], requests_per_second=options["rate"]),
            timeout_seconds=options["timeout_seconds"],
            tell=lambda line: bar.say(f"sms-bridge: {line}"),
            show=lambda settled, total: bar.at(settled, of=total),
            note=lambda message: click.echo(as_json(message) if in_json else as_line(message)),
            clock=now,
            stopped=stopped,
            dry_run=options["dry_run"],
            resume=options["resume"],
        )
        report = await run(settings, wanted, terms)
    return report, numbers[0] if numbers and not report.complete else 0


@contextmanager
def _signals() -> Iterator[tuple[asyncio.Event, list[int]]]:
    """An event that the first signal sets, and which one it was; a second one ends the process."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    numbers: list[int] = []

    def on_signal(number: int) -> None:
        numbers.append(number)
        stopped.set()
        for each in SIGNALS:
            loop.remove_signal_handler(each)

    for each in SIGNALS:
        loop.add_signal_handler(each, on_signal, each)
    try:
        yield stopped, numbers
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)


def _say(line: str) -> None:
    click.echo(f"sms-bridge: {line}", err=True)


# --- for people and programs -----------------------------------------------------------------


def as_json(message: Message) -> str:
    """One line: the record that would be published."""
    headers = {name: value.decode() for name, value in message.headers}
    record = {"topic": message.topic, "key": message.key.decode(), "headers": headers}
    return orjson.dumps({**record, "value": orjson.Fragment(message.value)}).decode()


def as_line(message: Message) -> str:
    """One line for people: what would be published of a message."""
    event = read(message.value, message.headers)
    if isinstance(event, StatusEvent):
        changed_at = event.data["changed_at"] or "-"
        what = [f"{event.id_sms:<12}", f"{event.status:<14}", f"{changed_at:<20}", event.id]
    else:
        what = [
            f"{printable(message.key.decode()):<12}",
            f"{'rejected':<14}",
            str(event.data["reason"]),
        ]
    return "  ".join(["would publish", *what])


def rows(report: Report) -> Iterator[tuple[str, str]]:
    """The report for people, one kind of message a line; what is as it should be stays out."""
    yield "asked", f"{report.asked:,}"
    yield "answered", f"{report.answered:,}"
    yield "unknown", _some("the provider does not know", report.unknown)
    yield "unanswered", _some("asked for in vain", report.unanswered)
    yield "new", f"{report.new:,}"
    yield "published", "none: a dry run" if report.dry_run else f"{report.published:,}"
    yield "unchanged", f"{report.unchanged:,}"
    yield "unpublished", _some("not acknowledged by Kafka", report.unpublished)
    yield "rejected", _some("invalid, now dead letters", report.rejected)
    yield "foreign", _some("not asked for, not published", report.foreign)
    yield "not asked", f"{report.not_asked:,}" if report.not_asked else ""
    yield "invalid ids", _some("no message has such an id", report.invalid)
    lines = [str(number) for number in report.unreadable_lines]
    yield "unreadable", _some("neither an id nor a line of the log: line", lines)
    if report.missing_ids:
        yield "missing", f"{report.missing_ids:,}  ids that the log counts and does not name"
    if report.dropped_lines:
        yield "dropped", f"{report.dropped_lines:,}  lines of the log, by its own account"
    left_out = [f"{count:,} of {name}" for name, count in report.left_out.items()]
    yield "left out", f"no provider is configured for {', '.join(left_out)}" if left_out else ""


def _some(what: str, ids: Sequence[str]) -> str:
    """How many, and some of them; empty if there are none."""
    more = ", …" if len(ids) > SHOWN else ""
    named = printable(", ".join(ids[:SHOWN]))
    return f"{len(ids):,}  {what}: {named}{more}" if ids else ""


def _say_where(report: Report, resume: Path | None) -> None:
    """Say what is left to do, and how to go on."""
    left = report.not_asked + len(report.unanswered) + len(report.unpublished)
    if report.interrupted and not left:
        _say("interrupted before anything was asked for")
        return
    where = f"{report.settled:,} of {report.settled + left:,} messages settled"
    then = (
        f"go on with --resume {resume}"
        if resume is not None
        else "without --resume FILE no place was kept: the next run begins anew"
    )
    _say(f"{'interrupted: ' * report.interrupted}{where}; {then}")
