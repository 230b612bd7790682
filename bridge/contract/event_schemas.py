"""The event contract as JSON Schemas: of the data of both kinds of event, and of whole events.

It must not read files, and says of events what event.py writes: the tests validate every event
that they make. A document is plain data, ready for JSON.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import orjson

from bridge.errors import DocumentError
from bridge.event import (
    REJECTED_SCHEMA,
    STATUS_SCHEMA,
    rejected_body,
    rejected_state,
    status_message,
)
from bridge.model import MEANINGS, REASONS, InvalidState, Message, Received, Route, State

Schema = dict[str, Any]
ContentMode = Literal["structured", "binary"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ENVELOPE_SCHEMA: Final = "urn:sms-status-bridge:schema:envelope:1"
REJECTED_ENVELOPE_SCHEMA: Final = "urn:sms-status-bridge:schema:rejected-envelope:1"

_SECOND: Final = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
_RECEIVED: Final = rf"^{_SECOND}\.[0-9]{{6}}Z$"
_EXAMPLE_AT: Final = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)


def status_schema() -> Schema:
    """Describe the data of a status event."""
    return {
        "$schema": DIALECT,
        "$id": STATUS_SCHEMA,
        "title": "SMS status",
        "description": "One state of one message, as the provider reported it. Tolerate fields "
        "and status words that are not described here: they may be added at any time.",
        **_object(_STATUS_FIELDS),
        "examples": [_event(message)["data"] for message in status_examples()],
    }


def rejected_schema() -> Schema:
    """Describe the data of a dead letter."""
    return {
        "$schema": DIALECT,
        "$id": REJECTED_SCHEMA,
        "title": "Rejected SMS status",
        "description": "A state, or a whole body, that could not become status events, with what "
        "was received: one of state, body and body_base64. Tolerate fields and reasons that are "
        "not described here.",
        **_object(_REJECTED_FIELDS, optional=("state", "body", "body_base64")),
        "examples": [_event(message)["data"] for message in rejected_examples()],
    }


def envelope_schema() -> Schema:
    """Describe a whole status event in the structured content mode."""
    fields = {
        "id": _text(
            "Identity of the state, made from all that it carries: the same state always has the "
            "same id, and two different ones never share it within a source.",
            r"^[A-Za-z0-9._-]{1,64}\.[0-9a-f]{32}$",
        ),
        "type": _text(
            "The configured prefix, the word status, and the status. Switch on data.status "
            "instead: it is the same word without a prefix.",
            r"^[a-z0-9.-]{1,128}\.status\.[a-z0-9_]{1,64}$",
        ),
        "time": _moment(
            "When the status changed, in UTC; the time of receipt if the provider sent no "
            "readable time: then data.changed_at is null.",
            rf"^{_SECOND}(\.[0-9]{{6}})?Z$",
        ),
        "subject": _text("The message's id, as data.id_sms.", _ID_SMS),
        "partitionkey": _text("The record's key: the message's id.", _ID_SMS),
    }
    return _envelope(
        ENVELOPE_SCHEMA,
        title="SMS status event",
        fields=fields,
        data=status_schema(),
        examples=status_examples(),
    )


def rejected_envelope_schema() -> Schema:
    """Describe a whole dead letter in the structured content mode."""
    fields = {
        "id": _text(
            "Identity of what was received, made from it and the reason: the same body or state "
            "always has the same id.",
            "^[0-9a-f]{32}$",
        ),
        "type": _text(
            "The configured prefix, and the word rejected.", r"^[a-z0-9.-]{1,128}\.rejected$"
        ),
        "time": _moment("The time of receipt, in UTC.", _RECEIVED),
        "subject": {
            **_text("The message's id as it came, if there is a printable one."),
            "maxLength": 256,
        },
        "partitionkey": {
            **_text("The record's key: the subject, or else the event's id."),
            "maxLength": 256,
        },
    }
    return _envelope(
        REJECTED_ENVELOPE_SCHEMA,
        title="Rejected SMS status event",
        fields=fields,
        data=rejected_schema(),
        examples=rejected_examples(),
        optional=("subject",),
    )


# --- examples ----------------------------------------------------------------------------


def example_route(mode: ContentMode) -> Route:
    """The endpoint of the examples, whose provider sends the time of Kyiv."""
    return Route(
        endpoint="main",
        source="urn:example:sms:main",
        timezone=ZoneInfo("Europe/Kyiv"),
        topic="sms.status",
        dead_letter_topic="sms.status.rejected",
        type_prefix="com.example.messaging",
        content_mode=mode,
    )


def status_examples(mode: ContentMode = "structured") -> list[Message]:
    """Make a final state, one without a time, and one with a word the bridge does not know."""
    states = (
        State(
            "3234",
            "read",
            {"sms": "deliver", "viber": "read"},
            {"sms": "deliver", "viber": "read"},
            "2011-01-01 12:57:46",
            {},
        ),
        State("0042", "send", {}, {}, None, {}),
        State(
            "3235",
            "blocked",
            {"sms": "blocked"},
            {"note": "für 3 €", "sms": "blocked"},
            "2011-01-01 12:57:47",
            {},
        ),
    )
    return [status_message(example_route(mode), state, _EXAMPLE_AT) for state in states]


def rejected_examples(mode: ContentMode = "structured") -> list[Message]:
    """Make the dead letters of a state, of a body of text, and of one that is not text."""
    route, topic = example_route(mode), "sms.status.rejected"
    invalid = InvalidState(
        id_sms="32 34",
        reason="invalid_id",
        detail="id_sms is not 1 to 64 of A-Z a-z 0-9 . _ -",
        received=Received({"id_sms": "32 34", "time": ""}, "send"),
    )
    bodies = {
        b"<response><state": DocumentError("not_xml", "not well-formed XML: unclosed token"),
        b"<response>\xff</response>": DocumentError("not_xml", "not well-formed XML"),
    }
    return [
        rejected_state(route, topic, invalid, _EXAMPLE_AT),
        *(rejected_body(route, topic, bodies[body], body, _EXAMPLE_AT) for body in bodies),
    ]


def _event(message: Message) -> dict[str, Any]:
    event: dict[str, Any] = orjson.loads(message.value)
    return event


# --- parts -------------------------------------------------------------------------------


def _text(description: str, pattern: str | None = None) -> Schema:
    rule: Schema = {"minLength": 1} if pattern is None else {"pattern": pattern}
    return {"description": description, "type": "string", **rule}


def _moment(description: str, pattern: str, *, nullable: bool = False) -> Schema:
    kind = ["string", "null"] if nullable else "string"
    return {"description": description, "type": kind, "format": "date-time", "pattern": pattern}


def _words(description: str, each: str) -> Schema:
    """Take names with a text each, which is titled `each`."""
    return {
        "description": description,
        "type": "object",
        "additionalProperties": {"title": each, "type": "string"},
    }


def title_of(name: str) -> str:
    """What generators of types call the type of a field: `id_sms` is `IdSms`."""
    return "".join(map(str.capitalize, re.findall("[A-Za-z0-9]+", name)))


def _object(fields: Mapping[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """Take an object with these fields, and any others."""
    return {
        "type": "object",
        "properties": {name: {"title": title_of(name), **each} for name, each in fields.items()},
        "required": [name for name in fields if name not in optional],
        "additionalProperties": True,
    }


def _envelope(
    identifier: str,
    *,
    title: str,
    fields: Mapping[str, Schema],
    data: Schema,
    examples: list[Message],
    optional: tuple[str, ...] = (),
) -> Schema:
    """Whole in itself, the data's schema included: registries resolve no foreign URN."""
    inner = {key: data[key] for key in data if key not in {"$schema", "$id", "examples"}}
    source = _text("The endpoint's configured source: which account of the provider.")
    constants = {
        "specversion": {"description": "Version of CloudEvents.", "const": "1.0"},
        "datacontenttype": {"description": "What data is.", "const": "application/json"},
        "dataschema": {"description": "Version of the data's schema.", "const": data["$id"]},
    }
    names = ("specversion", "id", "source", "type", "time", "datacontenttype", "dataschema")
    known = {
        **{name: {**schema, "type": "string"} for name, schema in constants.items()},
        "source": {**source, "maxLength": 256, "format": "uri-reference"},
        **fields,
        **_TRACE,
        "data": inner,
    }
    ordered = {name: known[name] for name in (*names, "partitionkey", "subject", *_TRACE, "data")}
    return {
        "$schema": DIALECT,
        "$id": identifier,
        "title": title,
        "description": "A CloudEvent 1.0 in the JSON format: the value of a record in the "
        "structured content mode. Tolerate attributes that are not described here.",
        **_object(ordered, (*optional, *_TRACE)),
        "examples": [_event(message) for message in examples],
    }


# The extension "distributed tracing" of CloudEvents.
_TRACE: Final[Mapping[str, Schema]] = {
    "traceparent": _text(
        "W3C trace context of the request that brought the event, if tracing is on. Not part of "
        "the identity: a retry has another one.",
        "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    ),
    "tracestate": _text("W3C trace state, if the sender of the request sent one."),
}
_ID_SMS: Final = "^[A-Za-z0-9._-]{1,64}$"
_MEANINGS: Final = "; ".join(
    f"{', '.join(words)}: {outcome}, {'final' if final else 'not final'}, rank {rank}"
    for (final, outcome, rank), words in groupby(MEANINGS, MEANINGS.__getitem__)
)
_REASONS: Final = "; ".join(f"{word} ({said})" for word, said in REASONS.items())

_STATUS_FIELDS: Final[Mapping[str, Schema]] = {
    "id_sms": _text(
        "The provider's id of the message. An identifier, not a number: leading zeros count.",
        _ID_SMS,
    ),
    "status": _text(
        "The provider's word, in lower case. The bridge knows, unless configured otherwise: "
        f"{_MEANINGS}. Any other word may come, with outcome, final and rank null.",
        "^[a-z0-9_]{1,64}$",
    ),
    # The words apart from null, of which generators of types would make a word, too.
    "outcome": {
        "title": "OutcomeOrNull",
        "description": "What the status means for the message; null for a word that the bridge "
        "does not know.",
        "anyOf": [
            {
                "title": "Outcome",
                "type": "string",
                "enum": ["pending", "delivered", "undelivered"],
            },
            {"type": "null"},
        ],
    },
    "final": {
        "description": "Whether the provider says that the status will not change; null for a "
        "word that the bridge does not know. In a cascade another channel's states may follow.",
        "type": ["boolean", "null"],
    },
    "rank": {
        "description": "How much is known of the message: 0 nothing yet, 1 under way, 2 an "
        "outcome, 3 read; null for a word that the bridge does not know. The latest status of a "
        "message is the state with the greatest rank, changed_at and id, null lowest.",
        "type": ["integer", "null"],
        "minimum": 0,
    },
    "channels": _words(
        "The status of each channel that the provider names (sms, viber, and others to come), in "
        "lower case.",
        "ChannelStatus",
    ),
    "attributes": _words(
        "What else the provider sent with the state, trimmed; empty ones are left out.",
        "AttributeValue",
    ),
    "changed_at": _moment(
        "When the status changed, in UTC and whole seconds; null if the provider sent no "
        "readable time. An hour that comes twice, at the end of summer time, is taken for the "
        "first of the two. Texts of this form compare as the times do.",
        f"^{_SECOND}Z$",
        nullable=True,
    ),
    "raw_time": {
        "description": "The provider's time as it came; null if it sent none.",
        "type": ["string", "null"],
    },
    "received_at": _moment("When the bridge received the state, in UTC.", _RECEIVED),
}

_REJECTED_FIELDS: Final[Mapping[str, Schema]] = {
    "reason": _text(f"Why, as one word: {_REASONS}. Others may come.", "^[a-z0-9_]{1,64}$"),
    "detail": {"description": "Why, for people.", "type": "string"},
    "state": {
        "title": "RejectedState",
        "description": "The invalid state as it came: present if a state was rejected.",
        **_object(
            {
                "attributes": _words(
                    "The attributes, or in JSON the fields that are text, verbatim.",
                    "AttributeValue",
                ),
                "text": {"description": "The text, verbatim.", "type": "string"},
                "children": {
                    "description": "What attributes and text cannot show, verbatim: in XML all "
                    "from the first child element to the end of the state, in JSON the whole item "
                    "of the array. Present if there is any.",
                    "type": "string",
                },
            },
            optional=("children",),
        ),
    },
    "body": {
        "description": "The rejected body: present if it is clean UTF-8 text.",
        "type": "string",
    },
    "body_base64": {
        "description": "The rejected body in Base64: present if it is not clean UTF-8 text.",
        "type": "string",
        "contentEncoding": "base64",
    },
    "truncated": {
        "description": "Whether what is shown is only the beginning of what was received.",
        "type": "boolean",
    },
    "size": {
        "description": "Bytes of the whole body, or of the whole state as compact JSON.",
        "type": "integer",
        "minimum": 0,
    },
    "sha256": _text("SHA-256 of those bytes.", "^[0-9a-f]{64}$"),
    "endpoint": _text("The name of the endpoint that received it."),
    "received_at": _moment("When the bridge received it, in UTC.", _RECEIVED),
}
