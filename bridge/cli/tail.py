"""The `tail` command: what subscribers see, read as they would with the CloudEvents SDK."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
import orjson
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat

from bridge.cli.check import missing, wanted_topics
from bridge.config.settings import Settings
from bridge.console import printable
from bridge.errors import BridgeError
from bridge.kafka.admin import describe_topics
from bridge.kafka.consumer import Record, subscription

_COLOURS = {"delivered": "green", "undelivered": "red", "pending": "yellow", None: "magenta"}
_FORMAT = JSONFormat()
# RecursionError: nested more deeply than JSON is read.
_NO_EVENT = (BaseCloudEventException, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Seen:
    """One record, and the event in it: None, with the reason, where it holds none."""

    record: Record
    event: Mapping[str, Any] | None
    unreadable: str = ""


async def tail(
    settings: Settings,
    show: Callable[[Seen], None],
    *,
    from_beginning: bool,
    limit: int | None,
    on_start: Callable[[tuple[str, ...]], None],
) -> None:
    """Show records as they come, `limit` of them or without end.

    `on_start` is told the topics once nothing that is published from then on can be missed.
    Raises BridgeError where Kafka or a topic is not there.
    """
    topics = wanted_topics(settings)
    if absent := list(missing(settings, await describe_topics(settings.kafka, topics))):
        raise BridgeError("\n".join(absent))
    shown = 0
    async with subscription(settings.kafka, topics, from_beginning=from_beginning) as records:
        on_start(topics)
        async for record in records:
            show(read(record))
            shown += 1
            if shown == limit:
                return


def read(record: Record) -> Seen:
    """Find the event in a record, in either content mode of the CloudEvents Kafka binding."""
    headers = {name: value or b"" for name, value in record.headers}
    try:
        event = from_kafka(KafkaMessage(headers, record.key, record.value or b""), _FORMAT)
    except _NO_EVENT as exc:
        return Seen(record, None, f"not a CloudEvent: {exc}")
    return Seen(record, {**event.get_attributes(), "data": event.get_data()})


def as_json(seen: Seen) -> str:
    """One line: the event, and where in Kafka it stands; `value` where there is no event."""
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


def moment_of(record: Record) -> str:
    """A record's timestamp in RFC 3339; as it is where no calendar has it, for anyone sets it."""
    try:
        moment = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{record.timestamp_ms} ms"
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _text(value: object) -> str | None:
    """Bytes as text, or as Base64 where they are none."""
    if not isinstance(value, bytes):
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return b64encode(value).decode("ascii")
