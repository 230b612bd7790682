"""The `tail` command: what subscribers see."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from bridge.cli.common import config_option, json_option, load_settings, run_with_kafka
from bridge.clip import printable
from bridge.config.settings import Settings
from bridge.errors import BridgeError
from bridge.kafka.admin import describe_topics, missing_topic
from bridge.kafka.cloudevent import Seen, moment_of, read
from bridge.kafka.consumer import subscription

_COLOURS = {"delivered": "green", "undelivered": "red", "pending": "yellow", None: "magenta"}


@click.command()
@config_option
@click.option("--from-beginning", is_flag=True, help="Start with the oldest record.")
@click.option(
    "--max", "limit", type=click.IntRange(min=1), help="Stop after N records.", metavar="N"
)
@json_option
def tail(config_file: Path, from_beginning: bool, limit: int | None, in_json: bool) -> None:
    """Follow the events as subscribers see them.

    Shows dead letters, too. Ctrl-C ends it.
    """
    write = as_json if in_json else as_line
    following = _follow(
        load_settings(config_file),
        lambda seen: click.echo(write(seen)),
        from_beginning=from_beginning,
        limit=limit,
    )
    run_with_kafka(following)


async def _follow(
    settings: Settings,
    show: Callable[[Seen], None],
    *,
    from_beginning: bool,
    limit: int | None,
) -> None:
    """Show records as they come, `limit` of them or without end.

    Says so once nothing that is published from then on can be missed.
    Raises BridgeError if Kafka cannot be reached or a topic is missing.
    """
    topics = settings.wanted_topics
    found = await describe_topics(settings.kafka, topics)
    if missing := [missing_topic(settings.kafka, name) for name in topics if name not in found]:
        raise BridgeError("\n".join(missing))
    shown = 0
    async with subscription(settings.kafka, topics, from_beginning=from_beginning) as records:
        click.echo(f"following {', '.join(topics)}", err=True)
        async for record in records:
            show(read(record))
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
    status = click.style(
        f"{printable(str(data.get('status'))):<14}", fg=_COLOURS.get(data.get("outcome"), "magenta")
    )
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
