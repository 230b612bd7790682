"""The `find` command: what became of a message."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson

from bridge.cli.common import (
    EXIT_FAILED,
    config_option,
    json_option,
    load_settings,
    run_with_kafka,
    since_option,
)
from bridge.clip import DETAIL_CHARACTERS, clipped, printable
from bridge.config.settings import Settings
from bridge.console import coloured, columns, progress
from bridge.find import Findings, Found, Missing, Trail
from bridge.find import find as run
from bridge.kafka.consumer import Record
from bridge.subscriber import RejectedEvent, StatusEvent

MISSING = {
    Missing.OUTCOME: "an outcome: the latest status tells none",
    Missing.FINAL_STATE: "a final state: the provider may send another, and need not",
    Missing.FIRST_STATE: "a state of rank 0: it never came, or is not in what was read",
}
STATE_HEADER = ("rank", "status", "outcome", "channels", "changed at", "received at", "place")
LETTER_HEADER = ("reason", "endpoint", "received at", "detail", "place")


def _usable(_context: click.Context, _parameter: click.Parameter, ids: tuple[str, ...]) -> Any:
    if "" in ids:
        raise click.BadParameter("an id is empty")
    try:
        "".join(ids).encode()
    except UnicodeEncodeError:
        raise click.BadParameter("an id is not UTF-8 text") from None
    return ids


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...", callback=_usable)
@config_option
@since_option
@click.option(
    "--all-partitions",
    is_flag=True,
    help="Read every partition, not only that of the key. Without it, that is done if partitions "
    "were added since the oldest record.",
)
@json_option
def find(
    ids: tuple[str, ...],
    config_file: Path,
    since: datetime | None,
    all_partitions: bool,
    in_json: bool,
) -> None:
    """Tell what became of messages.

    Shows the states of each ID that are in the topics, the latest last, how often each came, and
    its dead letters. The exit code is 1 if there is nothing of an ID.
    """
    settings = load_settings(config_file)
    with progress(1, "reading") as bar:
        finding = run(
            settings,
            ids,
            since,
            all_partitions=all_partitions,
            tell=lambda line: bar.say(f"sms-bridge: {line}"),
            show=lambda done, total: bar.at(done, of=total),
        )
        findings = run_with_kafka(finding)
    for number, each in enumerate(findings):
        if in_json:
            click.echo(as_json(each))
        else:
            click.echo("\n" * bool(number) + as_text(each, settings))
    if not all(each.found for each in findings):
        sys.exit(EXIT_FAILED)


# --- for programs ------------------------------------------------------------------------


def as_json(findings: Findings) -> str:
    """One line: all that there is of an id."""
    content = {
        "id_sms": findings.id_sms,
        "found": findings.found,
        "messages": [_message(trail) for trail in findings.trails],
        "dead_letters": [_letter(found) for found in findings.dead_letters],
        "dead_letters_left_out": findings.dead_letters.left_out,
        "unreadable": [_place(each.record) | {"why": each.why} for each in findings.unreadable],
        "unreadable_left_out": findings.more_unreadable,
        "searched": [
            {"topic": name, "partition": partition, "from": span.start, "to": span.stop}
            for (name, partition), span in sorted(findings.searched.items())
        ],
    }
    return orjson.dumps(content, option=orjson.OPT_UTC_Z).decode()


def _message(trail: Trail) -> dict[str, Any]:
    latest = trail.latest
    return {
        "source": trail.message.source,
        "status": latest.status,
        "outcome": latest.outcome,
        "rank": latest.rank,
        "settled": trail.settled,
        "missing": list(trail.missing),
        "states": [_state(found) for found in trail.states],
        "states_left_out": trail.left_out,
    }


def _state(found: Found[StatusEvent]) -> dict[str, Any]:
    data = {name: value for name, value in found.event.data.items() if name != "received_at"}
    return {"id": found.event.id, **data, **_times(found), **_place(found.record)}


def _letter(found: Found[RejectedEvent]) -> dict[str, Any]:
    event = found.event
    return {
        "id": event.id,
        "source": event.source,
        "reason": event.reason,
        "detail": event.detail,
        "endpoint": event.endpoint,
        "of": _of(event),
        **_times(found),
        **_place(found.record),
    }


def _times(found: Found[Any]) -> dict[str, Any]:
    return {
        "received_at": found.received_at,
        "last_received_at": found.last_received_at,
        "records": found.records,
    }


def _place(record: Record) -> dict[str, Any]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _of(letter: RejectedEvent) -> str:
    return "state" if "state" in letter.data else "body"


# --- for people --------------------------------------------------------------------------


def as_text(findings: Findings, settings: Settings) -> str:
    """What there is of an id, on some lines."""
    return "\n".join(_lines(findings, settings))


def _lines(findings: Findings, settings: Settings) -> Iterator[str]:
    id_sms = click.style(printable(findings.id_sms), bold=True)
    endpoints = {endpoint.source: endpoint.name for endpoint in settings.endpoints}
    if not findings.found:
        yield f"{id_sms}  not found"
    for trail in findings.trails:
        latest = trail.latest
        outcome = coloured(printable(latest.outcome or "unknown"), latest.outcome)
        settled = "settled" if trail.settled else "not settled"
        yield f"{id_sms}  {printable(latest.status)}: {outcome}, {settled}"
        yield columns([STATE_HEADER, *map(_state_row, trail.states)])
        source = trail.message.source
        name = endpoints.get(source)
        told = f"{printable(source)}{f', endpoint {name}' if name else ''}"
        rows = [("source", told), *(("missing", MISSING[each]) for each in trail.missing)]
        if trail.left_out:
            rows.append(("left out", f"{trail.left_out:,} records of lower states"))
        yield from _notes(rows)
    yield from _other_lines(findings, id_sms)
    yield from _notes([("searched", _span(findings.searched))])


def _other_lines(findings: Findings, id_sms: str) -> Iterator[str]:
    for of, what in (("state", "rejected states"), ("body", "rejected bodies in which the id is")):
        letters = [found for found in findings.dead_letters if _of(found.event) == of]
        if letters:
            yield f"{id_sms}  {click.style(what, fg='red')}"
            yield columns([LETTER_HEADER, *map(_letter_row, letters)])
    rows = []
    if findings.dead_letters.left_out:
        rows.append(("left out", f"{findings.dead_letters.left_out:,} older dead letters"))
    for each in findings.unreadable:
        why = printable(clipped(each.why, DETAIL_CHARACTERS))
        rows.append(("unreadable", f"{_where(each.record)}: {why}"))
    if findings.more_unreadable:
        rows.append(("unreadable", f"{findings.more_unreadable:,} more records"))
    yield from _notes(rows)


def _state_row(found: Found[StatusEvent]) -> list[str]:
    event = found.event
    rank = "-" if event.rank is None else str(event.rank)
    channels = " ".join(f"{name}={word}" for name, word in event.channels.items())
    changed_at = event.data["changed_at"] or "-"
    status, outcome = printable(event.status), printable(event.outcome or "unknown")
    return [
        rank,
        coloured(status, event.outcome),
        coloured(outcome, event.outcome),
        printable(channels) or "-",
        printable(changed_at),
        _time(found.received_at),
        _where_and_repeats(found),
    ]


def _letter_row(found: Found[RejectedEvent]) -> list[str]:
    event = found.event
    return [
        printable(event.reason),
        printable(event.endpoint),
        _time(found.received_at),
        printable(clipped(event.detail, DETAIL_CHARACTERS)),
        _where_and_repeats(found),
    ]


def _where_and_repeats(found: Found[Any]) -> str:
    where = _where(found.record)
    if found.records == 1:
        return where
    again = f"{found.records} times, last {_time(found.last_received_at)}"
    return f"{where}  {click.style(again, fg='yellow')}"


def _where(record: Record) -> str:
    return f"{record.topic}-{record.partition}@{record.offset}"


def _time(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _span(searched: Mapping[tuple[str, int], range]) -> str:
    """Where it was looked for: of each topic the partitions, and how many offsets they have."""
    by_topic: dict[str, dict[int, range]] = {}
    for (name, partition), span in sorted(searched.items()):
        by_topic.setdefault(name, {})[partition] = span
    return "; ".join(
        f"{name} {_partitions(spans)}, {sum(map(len, spans.values())):,} offsets"
        for name, spans in by_topic.items()
    )


def _partitions(spans: Mapping[int, range]) -> str:
    if len(spans) == 1:
        return f"partition {next(iter(spans))}"
    return f"{len(spans)} partitions"


def _notes(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """One line a row, in one column for the whole of an id."""
    return (f"  {name:<10}  {value}" for name, value in rows)
