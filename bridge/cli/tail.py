"""The `tail` command: what subscribers see."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import orjson

from bridge.cli.common import (
    config_option,
    json_option,
    load_settings,
    run_with_kafka,
    since_option,
)
from bridge.clip import printable
from bridge.config.settings import Settings
from bridge.console import coloured
from bridge.kafka.cloudevent import Seen, moment_of, read
from bridge.kafka.consumer import BEGINNING, subscription

NO_OUTCOME = "none"  # of a word that the bridge does not know


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records are shown; empty sets mean all."""

    keys: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()

    def matches(self, seen: Seen) -> bool:
        """Whether it is meant; dead letters have neither a status nor an outcome."""
        if self.keys and _text(seen.record.key) not in self.keys:
            return False
        if not self.statuses and not self.outcomes:
            return True
        data = seen.event.get("data") if seen.event else None
        if not isinstance(data, Mapping) or "status" not in data:
            return False
        outcome = data.get("outcome") or NO_OUTCOME
        return (not self.statuses or data["status"] in self.statuses) and (
            not self.outcomes or outcome in self.outcomes
        )


@click.command()
@config_option
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record.")
@since_option
@click.option("--topic", "topics", multiple=True, help="From this topic alone; repeatable.")
@click.option("--key", "keys", multiple=True, help="With this key, an id_sms; repeatable.")
@click.option("--status", "statuses", multiple=True, help="With this status; repeatable.")
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice(["pending", "delivered", "undelivered", NO_OUTCOME]),
    help=f"With this outcome; repeatable. {NO_OUTCOME}: of a status that the bridge does not know.",
)
@click.option(
    "--max", "limit", type=click.IntRange(min=1), help="Stop after N records.", metavar="N"
)
@json_option
def tail(config_file: Path, in_json: bool, limit: int | None, **chosen: Any) -> None:
    """Follow the events as subscribers see them.

    Shows dead letters, too, unless a status or an outcome is chosen. Ctrl-C ends it.
    """
    if chosen["from_beginning"] and chosen["since"]:
        raise click.UsageError("--from-beginning and --since are two beginnings")
    settings = load_settings(config_file)
    write = as_json if in_json else as_line
    following = _follow(
        settings,
        lambda seen: click.echo(write(seen)),
        topics=_topics(settings, chosen["topics"]),
        since=BEGINNING if chosen["from_beginning"] else chosen["since"],
        wanted=Filter(*(frozenset(chosen[each]) for each in ("keys", "statuses", "outcomes"))),
        limit=limit,
    )
    run_with_kafka(following)


def _topics(settings: Settings, chosen: Sequence[str]) -> Sequence[str]:
    known = settings.wanted_topics
    if unknown := [name for name in chosen if name not in known]:
        raise click.BadParameter(
            f"{unknown[0]!r} is none of {', '.join(known)}", param_hint="--topic"
        )
    return [name for name in known if not chosen or name in chosen]


async def _follow(
    settings: Settings,
    show: Callable[[Seen], None],
    *,
    topics: Sequence[str],
    since: datetime | None,
    wanted: Filter,
    limit: int | None,
) -> None:
    """Show records as they come, `limit` of them or without end.

    Says so once nothing that is published from then on can be missed.
    Raises BridgeError if Kafka cannot be reached or a topic is missing.
    """
    shown = 0
    async with subscription(settings.kafka, topics, since=since) as records:
        click.echo(f"following {', '.join(topics)}", err=True)
        async for record in records:
            if not wanted.matches(seen := read(record)):
                continue
            show(seen)
            shown += 1
            if shown == limit:
                return


# --- for people and programs -----------------------------------------------------------------


def as_json(seen: Seen) -> str:
    """One line: the event, and where in Kafka it stands; `value` if there is no event."""
    record = seen.record
    content = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": moment_of(record),
        "key": _text(record.key),
        "headers": {name: _text(value) for name, value in record.headers},
        "event": seen.event,
    }
    if seen.event is None:
        content |= {"error": seen.unreadable, "value": _text(record.value)}
    return orjson.dumps(content, default=_text, option=orjson.OPT_UTC_Z).decode()


def as_line(seen: Seen) -> str:
    """One line for people, coloured by outcome."""
    record = seen.record
    where = f"{record.topic}-{record.partition}@{record.offset}"
    return f"{moment_of(record)}  {where:<20}  {_what(seen)}"


def _what(seen: Seen) -> str:
    data = seen.event.get("data") if seen.event else None
    if seen.event is None or not isinstance(data, Mapping):
        return click.style(printable(seen.unreadable or "an event without data"), fg="magenta")
    if "reason" in data:
        return _rejected(_text(seen.record.key) or "", data)
    return _status(data)


def _status(data: Mapping[str, Any]) -> str:
    channels = data.get("channels") or {}
    status = coloured(f"{printable(str(data.get('status'))):<14}", data.get("outcome"))
    words = " ".join(f"{name}={word}" for name, word in channels.items())
    changed_at = printable(str(data.get("changed_at") or "-"))
    return "  ".join([_padded(data.get("id_sms")), status, printable(words), changed_at])


def _rejected(key: str, data: Mapping[str, Any]) -> str:
    word = click.style(f"{'rejected':<14}", fg="red", bold=True)
    what = f"{data['reason']}: {data.get('detail', '')}"
    return "  ".join([_padded(key), word, printable(what)])


def _padded(value: object) -> str:
    return f"{printable(str(value)):<12}"


def _text(value: object) -> str | None:
    """Bytes as text, or as Base64 if they are none."""
    if not isinstance(value, bytes):
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode("ascii")
