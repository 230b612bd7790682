"""For those who subscribe: a record becomes a typed event, and events the latest status.

It needs Python's own library alone, and must stay one file: it may be copied into a program that
does without the gateway. What it builds on is written in docs/subscribers.md.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1"
REJECTED_SCHEMA = "urn:sms-status-bridge:schema:rejected:1"

Headers = Iterable[tuple[str, bytes | None]]

_STRUCTURED = b"application/cloudevents"
_BEFORE_ALL = datetime.min.replace(tzinfo=UTC)
_ABSENT = object()


class UnreadableError(ValueError):
    """The record holds no event of the kinds that this module knows; the text says why."""


class Message(NamedTuple):
    """Which message a state is of. An `id_sms` alone is one only within its source."""

    source: str
    id_sms: str


class Precedence(NamedTuple):
    """What decides between two states of one message: the greater one is the latest."""

    rank: int
    has_time: bool
    changed_at: datetime
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event has; times are in UTC.

    `data` holds all of the event's data, what this version has no name for included.
    """

    source: str
    id: str
    type: str
    time: datetime
    received_at: datetime
    data: Mapping[str, Any] = field(repr=False, hash=False)

    @property
    def identity(self) -> tuple[str, str]:
        """What two copies of one event share, and two events never do."""
        return self.source, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent(Event):
    """A state of a message.

    `outcome`, `final` and `rank` are None where the status is a word that the bridge does not
    know, `changed_at` and `raw_time` where the provider sent no (readable) time.
    """

    id_sms: str
    status: str
    outcome: str | None
    final: bool | None
    rank: int | None
    channels: Mapping[str, str] = field(hash=False)
    attributes: Mapping[str, str] = field(hash=False)
    changed_at: datetime | None
    raw_time: str | None

    @property
    def message(self) -> Message:
        """The key of a table of the latest status."""
        return Message(self.source, self.id_sms)

    @property
    def precedence(self) -> Precedence:
        """The higher rank before all else, then the later `changed_at`, then the greater id.

        None is below every rank and before every time. `final` plays no part.
        """
        return Precedence(
            rank=-1 if self.rank is None else self.rank,
            has_time=self.changed_at is not None,
            changed_at=self.changed_at or _BEFORE_ALL,
            id=self.id,
        )

    def settled(self, now: datetime, patience: timedelta) -> bool:
        """Whether the outcome of the latest state stands: there is nothing left to wait for.

        It is final, or nothing has outranked it for as long as the subscriber waits. In a cascade
        another channel's state may outrank a final one all the same.
        """
        return self.final is True or now - self.received_at >= patience


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedEvent(Event):
    """A dead letter: what was received and could not become a status event is in `data`.

    `reason` is a fixed word, `detail` is for people.
    """

    reason: str
    detail: str
    endpoint: str


def read(value: bytes | None, headers: Headers | None = None) -> StatusEvent | RejectedEvent:
    """Read a Kafka record's value and headers, in either content mode.

    Raises UnreadableError for anything but a status event and a dead letter of version 1.
    """
    attributes, data = _parts(value, headers or ())
    schema = attributes.get("dataschema")
    if schema == STATUS_SCHEMA:
        return _status(attributes, data)
    if schema == REJECTED_SCHEMA:
        return _rejected(attributes, data)
    raise UnreadableError(f"not an event of a known kind: dataschema is {schema!r:.200}")


def latest(held: StatusEvent | None, came: StatusEvent) -> StatusEvent:
    """Choose the latest of two states of one message, whichever came first.

    The result for many does not depend on their order, nor on copies among them: a table of the
    latest status needs no other guard against duplicates. Raises ValueError for two messages.
    """
    if held is None:
        return came
    if held.message != came.message:
        raise ValueError(f"states of two messages: {held.message} and {came.message}")
    return came if came.precedence > held.precedence else held


# --- CloudEvents -------------------------------------------------------------------------


def _parts(value: bytes | None, headers: Headers) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Attributes and data of an event (CloudEvents Kafka binding 3.2 and 3.3)."""
    named = {name.lower(): text for name, text in headers if text is not None}
    content = _object("the value", _json(value))
    if "ce_specversion" in named and not named.get("content-type", b"").startswith(_STRUCTURED):
        attributes = {k[3:]: _utf8(k, v) for k, v in named.items() if k.startswith("ce_")}
        return _cloud_event(attributes), content
    return _cloud_event(content), _object("data", content.get("data"))


def _json(value: bytes | None) -> Any:
    if value is None:
        raise UnreadableError("the record has no value")
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as exc:
        raise UnreadableError(f"the value is not JSON: {exc}") from exc


def _utf8(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise UnreadableError(f"header {name:.200} is not UTF-8") from exc


def _object(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableError(f"{what} is not a JSON object")
    return value


def _cloud_event(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    if attributes.get("specversion") != "1.0":
        raise UnreadableError("not a CloudEvent of version 1.0")
    return attributes


# --- the two kinds -----------------------------------------------------------------------


def _status(attributes: Mapping[str, Any], data: Mapping[str, Any]) -> StatusEvent:
    return StatusEvent(
        **_common(attributes, data),
        id_sms=_get(data, "id_sms", str),
        status=_get(data, "status", str),
        outcome=_get(data, "outcome", str, None),
        final=_get(data, "final", bool, None),
        rank=_get(data, "rank", int, None),
        channels=_words(data, "channels"),
        attributes=_words(data, "attributes"),
        changed_at=None if _get(data, "changed_at", str, None) is None else _at(data, "changed_at"),
        raw_time=_get(data, "raw_time", str, None),
    )


def _rejected(attributes: Mapping[str, Any], data: Mapping[str, Any]) -> RejectedEvent:
    words = {name: _get(data, name, str) for name in ("reason", "detail", "endpoint")}
    return RejectedEvent(**_common(attributes, data), **words)


def _common(attributes: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: _get(attributes, name, str) for name in ("source", "id", "type")},
        "time": _at(attributes, "time"),
        "received_at": _at(data, "received_at"),
        "data": data,
    }


def _get(fields: Mapping[str, Any], name: str, *kinds: type | None) -> Any:
    """A field that must be there and of one of these kinds; True is no number."""
    value = fields.get(name, _ABSENT)
    if (None if value is None else type(value)) not in kinds:
        what = "is missing" if value is _ABSENT else f"cannot be {value!r:.200}"
        raise UnreadableError(f"{name} {what}")
    return value


def _words(data: Mapping[str, Any], name: str) -> Mapping[str, str]:
    words: dict[str, str] = _get(data, name, dict)
    return {key: _get(words, key, str) for key in words}


def _at(fields: Mapping[str, Any], name: str) -> datetime:
    text: str = _get(fields, name, str)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise UnreadableError(f"{name} is not a time: {text!r:.200}") from exc
    if moment.tzinfo is not UTC:
        raise UnreadableError(f"{name} is not in UTC: {text!r:.200}")
    return moment
