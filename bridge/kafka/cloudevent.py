"""Records become events, read as a subscriber would with the CloudEvents SDK."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.exceptions import BaseCloudEventException
from cloudevents.core.formats.json import JSONFormat

from bridge.kafka.consumer import Record

_FORMAT = JSONFormat()
# RecursionError: nested more deeply than JSON is read.
_NO_EVENT = (BaseCloudEventException, ValueError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Seen:
    """One record, and the event in it: None, with the reason, if it holds none."""

    record: Record
    event: Mapping[str, Any] | None
    unreadable: str = ""


def read(record: Record) -> Seen:
    """Find the event in a record, in either content mode of the CloudEvents Kafka binding."""
    headers = {name: value or b"" for name, value in record.headers}
    try:
        event = from_kafka(KafkaMessage(headers, record.key, record.value or b""), _FORMAT)
    except _NO_EVENT as exc:
        return Seen(record, None, f"not a CloudEvent: {exc}")
    return Seen(record, {**event.get_attributes(), "data": event.get_data()})


def moment_of(record: Record) -> str:
    """A record's timestamp in RFC 3339; in ms if no calendar has it, since anyone sets it."""
    try:
        moment = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{record.timestamp_ms} ms"
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
