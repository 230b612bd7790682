"""A state becomes a CloudEvents message. No I/O and no clock: the time of receipt is given.

The identity (`event_id`) and the data fields are frozen: subscribers build on them. CloudEvents
1.0, its JSON format, and its Kafka protocol binding 3.2 (binary) and 3.3 (structured).
"""

import codecs
import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from bridge.errors import DocumentError
from bridge.model import InvalidState, Meaning, Message, Received, Route, State

STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1"
REJECTED_SCHEMA = "urn:sms-status-bridge:schema:rejected:1"
MAX_RECEIVED_BYTES = 512 * 1024  # of what was received, in a dead letter
FAR_FUTURE = timedelta(minutes=10)  # more than clocks differ, and less than time zones do

_MAX_TEXT_BYTES = MAX_RECEIVED_BYTES * 4 // 3 + 4  # as long as Base64 can be
_MAX_SUBJECT_CHARACTERS = 256
_RAW_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)", re.ASCII)
_RAW_TIME_CHARACTERS = len("2011-01-01 12:57:46")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_UNKNOWN = Meaning()
_MAX_REMEMBERED_BYTES = 512  # of what a state says beside its id and time


def status_message(route: Route, state: State, received_at: datetime) -> Message:
    """The status event of a valid state; `received_at` is in UTC."""
    return status_event(route, state, moment_of(state, route), arrival_of(received_at))


def status_event(
    route: Route, state: State, moment: "Moment | None", arrival: "Arrival"
) -> Message:
    """The status event of a valid state; its two times are written already."""
    id_sms, status, channels, values, raw_time, _ = state
    said = orjson.dumps((status, channels, values))
    meaning = route.statuses.get(status, _UNKNOWN)
    wording = _wording(route.source, route.type_prefix, meaning, said)
    identity = _identity(wording, id_sms, raw_time or "")
    name = _unquoted(id_sms)
    if moment is not None:
        time, times = moment.text, moment.fields
    else:
        time, times = arrival.text, f'"changed_at":null,"raw_time":{_json(raw_time)}'
    data = f'{{"id_sms":"{name}",{wording.fields},{times},"received_at":"{arrival.text}"}}'
    if route.content_mode == "structured" and route.trace is None:
        # As `_write` does, in a sixth of its time.
        headers = _STRUCTURED_HEADERS
        value = (
            f'{{"specversion":"1.0","id":"{name}{identity[len(id_sms) :]}{wording.before_time}'
            f'{time}{_BEFORE_KEY}{name}","subject":"{name}","data":{data}}}'
        ).encode()
    else:
        envelope = {
            "specversion": "1.0",
            "id": identity,
            "source": route.source,
            "type": wording.type,
            "time": time,
            "datacontenttype": "application/json",
            "dataschema": STATUS_SCHEMA,
            "partitionkey": id_sms,
            "subject": id_sms,
        }
        value, headers = _write(route, envelope, data.encode())
    return Message(route.topic, id_sms.encode(), value, headers, arrival.timestamp_ms, identity)


class _Wording(NamedTuple):
    """What follows from what a state says beside its id and time.

    The event's type, pieces of its JSON, and what its identity is of before and after those two.
    """

    type: str
    before_time: str
    fields: str
    source: str
    status: str
    values: str


def _wording(source: str, type_prefix: str, meaning: Meaning, said: bytes) -> _Wording:
    """`said` is status, channels and values, in JSON: of many states the same."""
    remembered = len(said) <= _MAX_REMEMBERED_BYTES
    wording_of = _wording_of if remembered else _wording_of.__wrapped__
    return wording_of(source, type_prefix, meaning, said)


@lru_cache(maxsize=1024)  # of some 3 KB at most
def _wording_of(source: str, type_prefix: str, meaning: Meaning, said: bytes) -> _Wording:
    status, channels, values = orjson.loads(said)
    type_ = f"{type_prefix}.status.{status}"
    envelope = _json({"source": source, "type": type_, "time": ""})
    fields = {
        "status": status,
        "outcome": meaning.outcome,
        "final": meaning.final,
        "rank": meaning.rank,
        "channels": channels,
        "attributes": {name: value for name, value in values.items() if name not in channels},
    }
    framed = ""
    for name, value in values.items():
        framed += _framed(name) + _framed(value)
    return _Wording(
        type=type_,
        before_time=f'",{envelope[1:-2]}',
        fields=_json(fields)[1:-1],
        source=_framed(source),
        status=_framed(status),
        values=framed,
    )


def rejected_state(
    route: Route, topic: str, invalid: InvalidState, received_at: datetime
) -> Message:
    """The dead letter of one invalid state, for `topic`."""
    received = invalid.received
    whole = state_bytes(received)
    clipped = received if len(whole) <= MAX_RECEIVED_BYTES else _clipped(received)
    digest = _digest(route.source, invalid.reason, *_values(received))
    return _rejected(
        route,
        topic=topic,
        digest=digest,
        id_sms=invalid.id_sms,
        received_at=received_at,
        data={
            "reason": invalid.reason,
            "detail": invalid.detail,
            "state": _as_json(clipped),
            **_extent(whole, truncated=clipped is not received),
        },
    )


def state_bytes(received: Received) -> bytes:
    """What `size` and `sha256` of a state's dead letter are of."""
    return orjson.dumps(_as_json(received), option=orjson.OPT_SORT_KEYS)


def rejected_body(
    route: Route, topic: str, error: DocumentError, body: bytes, received_at: datetime
) -> Message:
    """The dead letter of a body that was rejected as a whole, for `topic`."""
    truncated = len(body) > MAX_RECEIVED_BYTES
    return _rejected(
        route,
        topic=topic,
        digest=_digest(route.source, error.reason, body),
        id_sms="",
        received_at=received_at,
        data={
            "reason": error.reason,
            "detail": error.detail,
            **_body_field(body[:MAX_RECEIVED_BYTES], truncated=truncated),
            **_extent(body, truncated=truncated),
        },
    )


def event_id(source: str, state: State) -> str:
    """The identity of a state: `<id_sms>.<32 hex>`, the same for every retry of it.

    BLAKE2b with a 16-byte digest over source, id_sms, status, raw_time, and the name and value of
    each attribute in order of name, a channel's as it came: so it is the same whatever words are
    known. Frozen: a change is a new major version.
    """
    said = orjson.dumps((state.status, state.channels, state.values))
    wording = _wording(source, "", _UNKNOWN, said)
    return _identity(wording, state.id_sms, state.raw_time or "")


def parse_time(raw_time: str | None, timezone: tzinfo) -> datetime | None:
    """The provider's local time in UTC, or None if it sent none or an unreadable one.

    An ambiguous hour is the first of the two; a skipped one takes the offset before the
    change: both are what `fold=0` means (PEP 495).
    """
    match = _RAW_TIME.fullmatch(raw_time) if raw_time else None
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups())
        local = datetime(year, month, day, hour, minute, second, tzinfo=timezone)
        return local.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class Moment(NamedTuple):
    """A time in RFC 3339, in seconds from the epoch, and as fields of an event's data."""

    text: str
    timestamp: float
    fields: str


def moment_of(state: State, route: Route) -> Moment | None:
    """When a state came to be; None if the provider sent no time, or one that cannot be read."""
    raw_time = state.raw_time
    # What is longer is no time, and what is remembered must not be as long as a sender likes.
    if raw_time is None or len(raw_time) != _RAW_TIME_CHARACTERS:
        return None
    return _moment_of(raw_time, route.timezone)


@lru_cache(maxsize=4096)
def _moment_of(raw_time: str, timezone: tzinfo) -> Moment | None:
    """The states of a document share many a second."""
    changed_at = parse_time(raw_time, timezone)
    if changed_at is None:
        return None
    text = _rfc3339(changed_at)
    fields = f'"changed_at":"{text}","raw_time":"{raw_time}"'
    return Moment(text, changed_at.timestamp(), fields)


# --- identity ----------------------------------------------------------------------------


def _identity(wording: _Wording, id_sms: str, raw_time: str) -> str:
    if id_sms.isascii() and raw_time.isascii():  # a character is a byte
        own, time = f"{len(id_sms)}:{id_sms}", f"{len(raw_time)}:{raw_time}"
    else:
        own, time = _framed(id_sms), _framed(raw_time)
    framed = f"{wording.source}{own}{wording.status}{time}{wording.values}"
    return f"{id_sms}.{_hash(framed.encode())}"


def _framed(text: str) -> str:
    """A text behind its length in UTF-8 bytes."""
    return f"{len(text.encode())}:{text}"


def _digest(*values: str | bytes) -> str:
    """Each value as its length in UTF-8 bytes in decimal, a colon, the bytes."""
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    return _hash(b"".join([b"%d:%b" % (len(value), value) for value in raw]))


def _hash(framed: bytes) -> str:
    return hashlib.blake2b(framed, digest_size=16).hexdigest()


def _values(received: Received) -> Iterator[str]:
    for name, value in sorted(received.attributes.items()):
        yield name
        yield value
    yield received.text
    if received.children:
        yield received.children


# --- what was received -------------------------------------------------------------------


def _as_json(received: Received) -> dict[str, Any]:
    state: dict[str, Any] = {"attributes": received.attributes, "text": received.text}
    return state | {"children": received.children} if received.children else state


def _clipped(received: Received) -> Received:
    """As much of it, in the order in which it came, as a dead letter may hold."""
    left = MAX_RECEIVED_BYTES
    attributes: dict[str, str] = {}
    for name, value in received.attributes.items():
        left -= _json_bytes(name)
        if left <= 0:
            return Received(attributes, "")
        attributes[name] = _head(value, left)
        left -= _json_bytes(attributes[name])
    text = _head(received.text, left)
    return Received(attributes, text, _head(received.children, left - _json_bytes(text)))


def _head(text: str, limit: int) -> str:
    """As much of the text's beginning as JSON writes within so many bytes, or a little less."""
    while text and (size := _json_bytes(text)) > limit:
        text = text[: len(text) * max(limit, 0) // size]
    return text


def _json_bytes(text: str) -> int:
    return len(orjson.dumps(text)) + 1  # what follows it: a colon or a comma


def _body_field(body: bytes, *, truncated: bool) -> dict[str, str]:
    """The body as text if it is clean, or else in Base64.

    Base64 also if JSON's escapes would make the text too long for a record.
    """
    text = _clean_text(body, truncated=truncated)
    if text is None or len(orjson.dumps(text)) > _MAX_TEXT_BYTES:
        return {"body_base64": b64encode(body).decode("ascii")}
    return {"body": text}


def _clean_text(body: bytes, *, truncated: bool) -> str | None:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(body, final=not truncated)
    except UnicodeDecodeError:
        return None
    return None if _CONTROL.search(text) else text


def _extent(whole: bytes, *, truncated: bool) -> dict[str, Any]:
    return {
        "truncated": truncated,
        "size": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
    }


# --- CloudEvents -------------------------------------------------------------------------


# The SDK's JSON format and Kafka binding write the same, and check what cannot be wrong here,
# at five times the cost: tests/test_event.py compares the two field by field.
_HEADER_NAMES = {
    "datacontenttype": "content-type",
    **{
        name: f"ce_{name}"
        for name in (
            *("specversion", "id", "source", "type", "time", "dataschema", "partitionkey"),
            *("subject", "traceparent", "tracestate"),
        )
    },
}
# One copy for the many states of a document: they differ in the rest alone.
_SHARED = frozenset({"specversion", "source", "datacontenttype", "dataschema"})
_encoded = lru_cache(maxsize=64)(str.encode)
_STRUCTURED_HEADERS = [("content-type", b"application/cloudevents+json")]
_BEFORE_KEY = (
    f'","datacontenttype":"application/json","dataschema":"{STATUS_SCHEMA}","partitionkey":"'
)


def _structured(
    envelope: dict[str, str], data: bytes, context: dict[str, str]
) -> tuple[bytes, list[tuple[str, bytes]]]:
    whole = {**envelope, "data": orjson.Fragment(data), **context}
    return _dumps(whole), _STRUCTURED_HEADERS


def _binary(
    envelope: dict[str, str], data: bytes, context: dict[str, str]
) -> tuple[bytes, list[tuple[str, bytes]]]:
    headers = [
        (_HEADER_NAMES[name], _encoded(value) if name in _SHARED else value.encode())
        for name, value in (envelope | context).items()
    ]
    return data, headers


_WRITERS = {"structured": _structured, "binary": _binary}


def _write(
    route: Route, envelope: dict[str, str], data: bytes
) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Value and headers; a trace is in both, as the Distributed Tracing extension has it."""
    write, trace = _WRITERS[route.content_mode], route.trace
    if trace is None:
        return write(envelope, data, {})
    context = {name: text for name, text in trace._asdict().items() if text}
    value, headers = write(envelope, data, context)
    # Consumers' own tracing looks for it in the record, whatever the record holds.
    return value, [*headers, *((name, text.encode()) for name, text in context.items())]


# --- JSON --------------------------------------------------------------------------------


def _dumps(value: Any) -> bytes:
    # A copy: what orjson returns keeps the buffer that it wrote to, some 4 KB or more.
    return b"%b" % orjson.dumps(value)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _unquoted(text: str) -> str:
    """What stands between the quotes of a text in JSON; of most ids it is the text itself."""
    return text if text.isalnum() else _json(text)[1:-1]


# --- dead letters ------------------------------------------------------------------------


def _rejected(
    route: Route,
    *,
    topic: str,
    digest: str,
    id_sms: str,
    received_at: datetime,
    data: dict[str, Any],
) -> Message:
    # An invalid id may be anything at all; only a printable one can be an attribute.
    usable = id_sms.isprintable() and len(id_sms) <= _MAX_SUBJECT_CHARACTERS
    subject = id_sms if usable else ""
    received, timestamp_ms, _ = arrival_of(received_at)
    key = subject or digest
    envelope = {
        "specversion": "1.0",
        "id": digest,
        "source": route.source,
        "type": f"{route.type_prefix}.rejected",
        "time": received,
        "datacontenttype": "application/json",
        "dataschema": REJECTED_SCHEMA,
        "partitionkey": key,
        **({"subject": subject} if subject else {}),
    }
    whole = _dumps({**data, "endpoint": route.endpoint, "received_at": received})
    value, headers = _write(route, envelope, whole)
    return Message(topic, key.encode(), value, headers, timestamp_ms, digest)


class Arrival(NamedTuple):
    """A document's time of receipt, in RFC 3339, and in ms and in seconds from the epoch."""

    text: str
    timestamp_ms: int
    timestamp: float


def arrival_of(received_at: datetime) -> Arrival:
    """The time of receipt, which is in UTC: written once for all of a document's states."""
    text = orjson.dumps(received_at, option=orjson.OPT_UTC_Z)[1:-1].decode()
    if not received_at.microsecond:  # orjson leaves them out then
        text = f"{text[:-1]}.000000Z"
    timestamp = received_at.timestamp()
    return Arrival(text, int(timestamp * 1000), timestamp)


def _rfc3339(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"
