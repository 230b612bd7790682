"""A route, a state, and events as the official SDK reads them."""

from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat

from bridge.model import Message, Route
from tests.contract.events import check

SOURCE = "urn:example:sms:main"
AT = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)

Mode = Literal["structured", "binary"]
MODES: tuple[Mode, ...] = ("structured", "binary")


def route(mode: Mode = "structured", *, source: str = SOURCE, timezone: str = "UTC") -> Route:
    return Route(
        endpoint="main",
        source=source,
        timezone=ZoneInfo(timezone),
        topic="sms.status",
        dead_letter_topic="sms.status.rejected",
        type_prefix="com.example.messaging",
        content_mode=mode,
    )


def event_of(message: Message) -> BaseCloudEvent:
    """The event as the official SDK reads the record, and as its schema says."""
    check(message.value, message.headers)
    record = KafkaMessage(dict(message.headers), message.key, message.value)
    return from_kafka(record, JSONFormat())


def data_of(message: Message) -> dict[str, Any]:
    data = event_of(message).get_data()
    assert isinstance(data, dict)
    return data
