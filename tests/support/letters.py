"""Dead letters as they lie in their topic."""

from datetime import UTC, datetime

from bridge.config.settings import route_of
from bridge.errors import DocumentError
from bridge.event import rejected_body, rejected_state
from bridge.kafka.consumer import Record
from bridge.model import InvalidState, Message, Received, Route
from bridge.replay import (
    Letter,
    letter_of,
)
from tests.support.settings import settings

RECEIVED_AT = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)
NOW = datetime(2026, 12, 1, tzinfo=UTC)
SOURCE = "urn:example:sms:main"
READ = {"id_sms": "3234", "time": "2011-01-01 12:57:46", "sms": "deliver", "viber": "read"}
STATES = b'<state id_sms="1">read</state><state id_sms="2">send</state>'
BODY = b"\xef\xbb\xbf<response>\r\n%b</response>" % STATES

SETTINGS = settings(topic="t")
ROUTE = route_of(SETTINGS, SETTINGS.endpoints[0])


def of_state(
    attributes: dict[str, str] | None = None,
    text: str = "read",
    reason: str = "invalid_status",
    route: Route = ROUTE,
    received_at: datetime = RECEIVED_AT,
) -> Message:
    """The letter of a state that an older program refused."""
    given = Received(READ if attributes is None else attributes, text)
    invalid = InvalidState(given.attributes.get("id_sms", ""), reason, "too new", given)
    return rejected_state(route, route.dead_letter_topic or "", invalid, received_at)


def of_body(body: bytes = BODY, reason: str = "too_deep", route: Route = ROUTE) -> Message:
    """The letter of a body that an older program refused."""
    error = DocumentError(reason, "refused\x9b by an older program")
    return rejected_body(route, route.dead_letter_topic or "", error, body, RECEIVED_AT)


def record(message: Message, offset: int = 17) -> Record:
    return Record(
        topic=message.topic,
        partition=2,
        offset=offset,
        timestamp_ms=message.timestamp_ms,
        key=message.key,
        value=message.value,
        headers=tuple(message.headers),
    )


def letter(message: Message) -> Letter:
    found = letter_of(record(message))
    assert isinstance(found, Letter), found
    return found
