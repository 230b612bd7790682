"""The event contract as an AsyncAPI 3 document: topics, keys, headers, both content modes.

It must not describe an event a second time: the schemas and the examples are event_schemas.py's.
Names of topics are those of the default configuration.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from bridge.config.settings import Kafka
from bridge.contract import event_schemas as contract
from bridge.contract.event_schemas import ContentMode, Schema, title_of
from bridge.model import Message

ASYNCAPI: Final = "3.0.0"
_BINDING: Final = {"bindingVersion": "0.5.0"}
_STRUCTURED: Final = "application/cloudevents+json"
_BINARY: Final = "application/json"
_MODES: Final[tuple[ContentMode, ...]] = ("structured", "binary")

_PARTITIONER: Final = (
    "The partition is the one of Java's default partitioner: murmur2 of the key's bytes, without "
    "its sign bit, modulo the number of partitions."
)
_SECURITY: Final[Mapping[str, Schema]] = {
    "plain": {"type": "plain", "description": "SASL PLAIN: user name and password."},
    "scramSha256": {"type": "scramSha256", "description": "SASL SCRAM-SHA-256."},
    "scramSha512": {"type": "scramSha512", "description": "SASL SCRAM-SHA-512."},
    "certificate": {"type": "X509", "description": "A client certificate (mutual TLS)."},
}
_SASL: Final = ("plain", "scramSha256", "scramSha512")


def asyncapi_document() -> dict[str, Any]:
    """Describe both topics for those who subscribe to them."""
    return {
        "asyncapi": ASYNCAPI,
        "id": "urn:sms-status-bridge:asyncapi:1",
        "info": _info(),
        "defaultContentType": _BINARY,
        "servers": _servers(),
        "channels": {"status": _status_channel(), "rejected": _rejected_channel()},
        "operations": {
            "publishStatus": _operation("status", "Publishes each state of a message as it comes."),
            "publishRejected": _operation("rejected", "Publishes what could not become a status."),
        },
        "components": {
            "messages": _status_messages() | _rejected_messages(),
            "securitySchemes": dict(_SECURITY),
        },
    }


def _info() -> dict[str, Any]:
    return {
        "title": "SMS statuses on Kafka",
        "version": "1",
        "description": "The delivery statuses of SMS and Viber messages, published by "
        "sms-status-bridge as CloudEvents 1.0. Delivery is at least once, and the order of a "
        "topic is at best that of arrival: drop what repeats a (source, id), and take the latest "
        "status by rank, changed_at and id. Within version 1 fields, attributes and words "
        "may be added; anything that readers have to change for gets another type and another "
        "dataschema.",
        "license": {"name": "Apache-2.0"},
    }


def _servers() -> dict[str, Any]:
    """What Kafka speaks; which of it your cluster does is the cluster's affair."""
    return {
        "plaintext": _server("kafka", "Without encryption and authentication."),
        "tls": _server("kafka-secure", "TLS, with a client certificate or none.", "certificate"),
        "sasl": _server("kafka", "SASL without encryption.", *_SASL),
        "saslTls": _server("kafka-secure", "SASL over TLS.", *_SASL),
    }


def _server(protocol: str, description: str, *security: str) -> dict[str, Any]:
    schemes = [{"$ref": f"#/components/securitySchemes/{name}"} for name in security]
    return {
        "host": "{bootstrap}",
        "protocol": protocol,
        "description": f"{description} Your cluster decides which of the servers there is.",
        "variables": {
            "bootstrap": {"description": "Your cluster's brokers.", "default": "kafka:9092"}
        },
        **({"security": schemes} if schemes else {}),
    }


def _status_channel() -> dict[str, Any]:
    return _channel(
        "status",
        Kafka.model_fields["topic"].default,
        "Every state of every message, once at least. Set by kafka.topic, or an endpoint's own "
        "topic. All states of one message are in one partition while the number of partitions "
        f"stays. {_PARTITIONER} Do not compact it: of the states of a message the last to "
        "arrive need not be the latest.",
    )


def _rejected_channel() -> dict[str, Any]:
    return _channel(
        "rejected",
        Kafka.model_fields["dead_letter_topic"].default,
        "Dead letters: states and bodies that could not become status events. Set by "
        f"kafka.dead_letter_topic; it may be off. {_PARTITIONER}",
    )


def _channel(name: str, topic: str, description: str) -> dict[str, Any]:
    modes = (f"{name}Structured", f"{name}Binary")
    return {
        "address": topic,
        "title": {"status": "Statuses", "rejected": "Dead letters"}[name],
        "description": description,
        "messages": {mode: {"$ref": f"#/components/messages/{mode}"} for mode in modes},
        "bindings": {
            "kafka": {
                "topic": topic,
                "topicConfiguration": {"cleanup.policy": ["delete"]},
                **_BINDING,
            }
        },
    }


def _operation(channel: str, summary: str) -> dict[str, Any]:
    """The bridge's own action: whoever reads this document receives."""
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
    }


# --- messages ----------------------------------------------------------------------------


def _status_messages() -> dict[str, Any]:
    key = {
        "title": "Key",
        "type": "string",
        "description": "The message's id, in UTF-8: data.id_sms.",
    }
    envelope, data = contract.envelope_schema(), contract.status_schema()
    return {
        f"status{mode.capitalize()}": _message(
            mode, "A status", (envelope, data), key=key, examples=contract.status_examples(mode)
        )
        for mode in _MODES
    }


def _rejected_messages() -> dict[str, Any]:
    key = {
        "title": "Key",
        "type": "string",
        "description": "The message's id as it came, in UTF-8, if there is a printable one of "
        "at most 256 characters; or else the event's id.",
    }
    schemas = contract.rejected_envelope_schema(), contract.rejected_schema()
    return {
        f"rejected{mode.capitalize()}": _message(
            mode, "A dead letter", schemas, key=key, examples=contract.rejected_examples(mode)
        )
        for mode in _MODES
    }


def _message(
    mode: ContentMode,
    title: str,
    schemas: tuple[Schema, Schema],
    *,
    key: Schema,
    examples: list[Message],
) -> dict[str, Any]:
    """Describe one content mode; `schemas` are the envelope's and the data's."""
    envelope, data = schemas
    structured = mode == "structured"
    how = {
        "structured": "The value is the whole CloudEvent (events.content_mode: structured, the "
        "default).",
        "binary": "The attributes are headers, the value is the data alone (events.content_mode: "
        "binary).",
    }
    return {
        "title": f"{title}, {mode} content mode",
        "summary": how[mode],
        "contentType": _STRUCTURED if structured else _BINARY,
        "headers": {
            "title": f"{envelope['title']} {mode} headers",
            **(_structured_headers() if structured else _binary_headers(envelope)),
        },
        "payload": _embedded(envelope if structured else data),
        "bindings": {"kafka": {"key": key, **_BINDING}},
        "examples": [_example(message) for message in examples],
    }


_TRACE_HEADERS: Mapping[str, Schema] = {
    name: {"description": f"W3C {what} of the request, if tracing is on.", "type": "string"}
    for name, what in (("traceparent", "trace context"), ("tracestate", "trace state"))
}


def _structured_headers() -> Schema:
    content_type = _constant("How to tell this content mode.", _STRUCTURED)
    return _headers({"content-type": content_type, **_TRACE_HEADERS}, [*_TRACE_HEADERS])


def _binary_headers(envelope: Schema) -> Schema:
    """Each attribute of the envelope as the CloudEvents Kafka binding 3.2 names it."""
    attributes = {
        name: schema
        for name, schema in envelope["properties"].items()
        if name not in {"data", "datacontenttype"}
    }
    headers = {f"ce_{name}": schema for name, schema in attributes.items()}
    content_type = _constant("What the value is: the attribute datacontenttype.", _BINARY)
    optional = [f"ce_{name}" for name in attributes if name not in envelope["required"]]
    known = {"content-type": content_type, **headers, **_TRACE_HEADERS}
    return _headers(known, [*optional, *_TRACE_HEADERS])


def _headers(properties: Mapping[str, Schema], optional: list[str] | None = None) -> Schema:
    required = [name for name in properties if name not in (optional or ())]
    titled = {name: {"title": title_of(name), **each} for name, each in properties.items()}
    return {"type": "object", "properties": titled, "required": required}


def _constant(description: str, value: str) -> Schema:
    return {"description": description, "type": "string", "const": value}


def _embedded(schema: Schema) -> Schema:
    """As AsyncAPI's own dialect takes it: the keywords in use mean the same there."""
    left_out = {"$schema", "$id", "examples"}
    return {"x-schema": schema["$id"]} | {k: v for k, v in schema.items() if k not in left_out}


def _example(message: Message) -> dict[str, Any]:
    headers = {name: value.decode() for name, value in message.headers}
    return {"headers": headers, "payload": orjson.loads(message.value)}
