"""The HTTP contract as an OpenAPI 3.1 document: the webhook, and the private listener.

It describes the endpoints of a configuration, or else one such as most have. What an answer means
is in ack.py and the gateway; here it is only told.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from bridge.config.settings import Admin, Auth, Endpoint, Server, Settings
from bridge.contract.event_schemas import Schema

OPENAPI: Final = "3.1.1"
PATH: Final = "/sms/statuses"
"""Of the one endpoint, if no configuration is given."""

_XML: Final = "text/xml"
_JSON: Final = "application/json"
_PROBLEM_XML: Final = "application/problem+xml"
_PROBLEM_JSON: Final = "application/problem+json"
_TEXT: Final = "text/plain"

_ID: Final[Schema] = {
    "description": "The message's id. White space around it is trimmed.",
    "type": "string",
    "pattern": "^[A-Za-z0-9._-]{1,64}$",
}
_TIME: Final[Schema] = {
    "description": "When the status changed, in the provider's local time; empty if it does not "
    "say. Anything else than YYYY-MM-DD HH:MM:SS is kept, and not read.",
    "type": "string",
    "examples": ["2011-01-01 12:57:46"],
}
_CHANNEL: Final = "The status on a channel; its name is that of the channel."

_EXAMPLE_XML: Final = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    "<response>\n"
    '  <state id_sms="3234" time="2011-01-01 12:57:46" sms="deliver" viber="read">read</state>\n'
    '  <state id_sms="3235" time="">send</state>\n'
    "</response>\n"
)
_EXAMPLE_JSON: Final = [
    {
        "id_sms": "3234",
        "time": "2011-01-01 12:57:46",
        "sms": "deliver",
        "viber": "read",
        "state": "read",
    },
    {"id_sms": 3235, "time": "", "state": "send"},
]
_ANSWER_XML: Final = (
    '<?xml version="1.0" encoding="utf-8"?>\n'
    "<response>\n  <id_sms>3234</id_sms>\n  <id_sms>3235</id_sms>\n</response>\n"
)
_ANSWER_JSON: Final = [{"id_sms": 3234}, {"id_sms": 3235}]
_EMPTY_XML: Final = '<?xml version="1.0" encoding="utf-8"?>\n<response></response>\n'


def openapi_document(settings: Settings | None = None) -> dict[str, Any]:
    """Describe both listeners for those who post, probe and scrape."""
    server = settings.server if settings else Server()
    admin = settings.admin if settings else Admin()
    webhooks = (
        {endpoint.path: _webhook(endpoint, server) for endpoint in settings.endpoints}
        if settings
        else {PATH: _webhook(None, server)}
    )
    return {
        "openapi": OPENAPI,
        "info": _info(),
        "servers": [_server("The public listener: `server` in the configuration.", server.port)],
        "tags": [
            {"name": "webhook", "description": "For the provider."},
            {"name": "private", "description": "For probes and scrapes."},
        ],
        "paths": webhooks | _private(admin.port),
        "components": {
            "securitySchemes": _security_schemes(),
            "schemas": _schemas(),
            "responses": {_component(status): said for status, said in _answers(server).items()},
            "parameters": _parameters(),
            "headers": _headers(),
        },
    }


def _info() -> dict[str, Any]:
    return {
        "title": "sms-status-bridge over HTTP",
        "version": "1",
        "description": "An SMS provider posts the delivery statuses of messages. The answer lists "
        "the ids of those whose states are all in Kafka; what is not listed is to be posted again. "
        "A trailing slash is the same path; there are no redirects.",
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }


def _server(description: str, port: int) -> Schema:
    """Where it listens; a proxy may be in front, and port 0 is any free one."""
    return {
        "url": "{origin}",
        "description": description,
        "variables": {
            "origin": {
                "default": f"http://127.0.0.1:{port}",
                "description": "Scheme, host and port, as they are reached from outside.",
            }
        },
    }


# --- the webhook -------------------------------------------------------------------------


def _webhook(endpoint: Endpoint | None, server: Server) -> Schema:
    name = endpoint.name if endpoint else "main"
    return {
        "post": {
            "operationId": f"postStatuses_{name}",
            "tags": ["webhook"],
            "summary": f"Post delivery statuses: endpoint {name}",
            "description": "The first character of the body decides whether it is read as XML or, "
            "if it is `[`, as JSON. Content-Type is neither trusted nor required. What is checked "
            "first is answered first: path, method, address, credentials, what is in flight, "
            "length, coding, size, time, content. One credential that matches is enough, whatever "
            "else is sent.",
            "parameters": [{"$ref": "#/components/parameters/RequestId"}],
            "requestBody": _request_body(server),
            "responses": {
                str(status.value): {"$ref": f"#/components/responses/{_component(status)}"}
                for status in _answers(server)
            },
            "security": _security(endpoint.auth if endpoint else None, known=endpoint is not None),
        }
    }


def _security(auth: Auth | None, *, known: bool) -> list[Schema]:
    """The ways in, of which one is enough; an empty one is open."""
    if not known:
        return [{"token": []}, {"bearer": []}, {"basic": []}, {}]
    if auth is None or not (auth.tokens or auth.basic):
        return []
    ways = ["token", "bearer"] * bool(auth.tokens) + ["basic"] * bool(auth.basic)
    return [{name: []} for name in ways]


def _security_schemes() -> Schema:
    return {
        "token": {
            "type": "apiKey",
            "in": "query",
            "name": "token",
            "description": "One of the endpoint's auth.tokens, in the URL that the provider posts "
            "to. A plus and a space are the same in it.",
        },
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "One of the endpoint's auth.tokens.",
        },
        "basic": {
            "type": "http",
            "scheme": "basic",
            "description": "One of the endpoint's auth.basic: user:password@ in the URL.",
        },
    }


def _request_body(server: Server) -> Schema:
    xml = {"schema": _ref("XmlStatuses"), "example": _EXAMPLE_XML}
    return {
        "description": f"At most {server.max_body_bytes:,} bytes (server.max_body_bytes), not "
        f"compressed. Of more than {server.max_states:,} states (server.max_states) the first are "
        "processed; the others are not listed.",
        "required": True,
        "content": {
            _XML: xml,
            "application/xml": xml,
            _JSON: {"schema": _ref("JsonStatuses"), "example": _EXAMPLE_JSON},
        },
    }


def _schemas() -> Schema:
    return {
        "XmlStatuses": _xml_statuses(),
        "JsonStatuses": _json_statuses(),
        "XmlAcknowledgement": {
            "title": "XmlAcknowledgement",
            "description": "The ids of which every state is in Kafka, each once, in order of first "
            "appearance. None may be there.",
            "type": "object",
            "properties": {"id_sms": {"type": "array", "items": {"type": "string"}}},
            "xml": {"name": "response"},
        },
        "JsonAcknowledgement": {
            "title": "JsonAcknowledgement",
            "description": "As XmlAcknowledgement. An id is a number if it is a decimal without "
            "leading zeros below 2^63, or else a string.",
            "type": "array",
            "items": {
                "title": "AcknowledgedId",
                "type": "object",
                "properties": {"id_sms": {"type": ["integer", "string"]}},
                "required": ["id_sms"],
            },
        },
        "Problem": {
            "title": "Problem",
            "description": "Why the request was refused (RFC 9457); it holds no id.",
            "type": "object",
            "properties": {
                "title": {"description": "The phrase of the status.", "type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "detail": {"description": "What is wrong, for people.", "type": "string"},
            },
            "required": ["title", "status", "detail"],
            "xml": {"name": "problem", "namespace": "urn:ietf:rfc:7807"},
        },
    }


def _xml_statuses() -> Schema:
    channel = {"description": _CHANNEL, "type": "string", "xml": {"attribute": True}}
    return {
        "title": "XmlStatuses",
        "description": "The root is `response` or `request`. The text of a `state` is its status; "
        "without text it is that of its only channel. OpenAPI 3.1 has no word for an element's "
        "text beside its attributes: see the example.",
        "type": "object",
        "properties": {
            "state": {
                "type": "array",
                "items": {
                    "title": "XmlState",
                    "type": "object",
                    "properties": {
                        "id_sms": _ID | {"xml": {"attribute": True}},
                        "time": _TIME | {"xml": {"attribute": True}},
                        "sms": channel,
                        "viber": channel,
                    },
                    "required": ["id_sms"],
                    "xml": {"name": "state"},
                },
            }
        },
        "xml": {"name": "response"},
    }


def _json_statuses() -> Schema:
    return {
        "title": "JsonStatuses",
        "description": "UTF-8. What is wrong with one state costs that state alone: it becomes a "
        "dead letter.",
        "type": "array",
        "items": {
            "title": "JsonState",
            "type": "object",
            "properties": {
                "id_sms": _ID | {"type": ["string", "integer"], "minimum": 0},
                "time": _TIME,
                "state": {
                    "description": "The status; it is trimmed and lower-cased.",
                    "type": "string",
                    "examples": ["deliver"],
                },
            },
            "required": ["id_sms", "state"],
            "additionalProperties": {
                "description": f"{_CHANNEL} Any other field is an attribute.",
                "type": ["string", "number", "boolean", "null"],
            },
        },
    }


# --- the answers -------------------------------------------------------------------------


def _answers(server: Server) -> Mapping[HTTPStatus, Schema]:
    """Every answer of the public listener; all but the first hold no id."""
    status = HTTPStatus
    told = {
        status.BAD_REQUEST: "The body is empty, neither XML nor the JSON form, or has a root, an "
        "encoding or a size of content that no document of the provider has: it becomes a dead "
        "letter, unless it is empty. Or the request is not HTTP.",
        status.UNAUTHORIZED: "Wrong or missing credentials.",
        status.FORBIDDEN: "This address may not post (auth.allow).",
        status.NOT_FOUND: "No endpoint has this path: it is none of this document's.",
        status.METHOD_NOT_ALLOWED: "To any other method than POST.",
        status.REQUEST_TIMEOUT: "The head did not arrive in time, or the body not within "
        f"{server.body_timeout_seconds:g} seconds (server.body_timeout_seconds).",
        status.LENGTH_REQUIRED: "HTTP/1.0 without a Content-Length.",
        status.REQUEST_ENTITY_TOO_LARGE: f"The body is over {server.max_body_bytes:,} bytes "
        "(server.max_body_bytes), declared or not.",
        status.UNSUPPORTED_MEDIA_TYPE: "The body is compressed: send it as it is.",
        status.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request's head is over 64 KiB, or has too "
        "many headers.",
        status.INTERNAL_SERVER_ERROR: "A fault of the gateway's own. Nothing is acknowledged.",
        status.NOT_IMPLEMENTED: "A Transfer-Encoding other than chunked.",
    }
    headers = {
        status.UNAUTHORIZED: "WWW-Authenticate",
        status.METHOD_NOT_ALLOWED: "Allow",
    }
    answers = {
        each: _response(description, _problem(each), headers.get(each))
        for each, description in told.items()
    }
    return {
        status.OK: _response(
            "Every, some or none of the ids. What is not listed is to be posted again.",
            {
                _XML: {"schema": _ref("XmlAcknowledgement"), "example": _ANSWER_XML},
                _JSON: {"schema": _ref("JsonAcknowledgement"), "example": _ANSWER_JSON},
            },
        ),
        **answers,
        status.SERVICE_UNAVAILABLE: _response(
            "Nothing is acknowledged, and trying again helps. No id is listed: Kafka has taken "
            "none of the states in time. A problem: too much is in flight, or the process stops.",
            {
                _XML: {"schema": _ref("XmlAcknowledgement"), "example": _EMPTY_XML},
                _JSON: {"schema": _ref("JsonAcknowledgement"), "example": []},
                **_problem(status.SERVICE_UNAVAILABLE),
            },
            "Retry-After",
        ),
    }


def _problem(status: HTTPStatus) -> Schema:
    """A problem in both forms; in JSON only once the body is known to be JSON."""
    forms = [_PROBLEM_XML, _PROBLEM_JSON]
    read = (status.BAD_REQUEST, status.INTERNAL_SERVER_ERROR, status.SERVICE_UNAVAILABLE)
    return {form: {"schema": _ref("Problem")} for form in (forms if status in read else forms[:1])}


def _response(description: str, content: Schema, header: str | None = None) -> Schema:
    said: Schema = {"description": description, "content": content}
    if header:
        said["headers"] = {header: {"$ref": f"#/components/headers/{header}"}}
    return said


def _headers() -> Schema:
    told = {
        "Allow": ("The method that is allowed.", {"type": "string", "const": "POST"}),
        "Retry-After": ("Seconds to wait.", {"type": "integer", "minimum": 0}),
        "WWW-Authenticate": ("The schemes that the endpoint accepts.", {"type": "string"}),
    }
    return {
        name: {"description": description, "required": True, "schema": schema}
        for name, (description, schema) in told.items()
    }


def _parameters() -> Schema:
    return {
        "RequestId": {
            "name": "X-Request-Id",
            "in": "header",
            "description": "A proxy's name for the request, which the log repeats. Another than "
            "1 to 128 of A-Z a-z 0-9 . _ : - is replaced.",
            "schema": {"type": "string"},
        }
    }


def _component(status: HTTPStatus) -> str:
    return "".join(re.findall(r"\w+", status.phrase.title()))


def _ref(schema: str) -> Schema:
    return {"$ref": f"#/components/schemas/{schema}"}


# --- the private listener ----------------------------------------------------------------


def _private(port: int) -> dict[str, Schema]:
    server = _server("The private listener: `admin` in the configuration.", port)
    ok, why_not = {"const": "ok\n"}, {"type": "string"}
    answers = {
        "/livez": ("Whether the process lives. It never depends on Kafka.", {200: ("Yes.", ok)}),
        "/readyz": (
            "Whether it may be sent requests.",
            {
                200: ("Kafka and the status topics were found once, and it does not drain.", ok),
                503: ("Not yet, or not any more. The text says why.", why_not),
            },
        ),
        "/metrics": (
            "Metrics for Prometheus.",
            {200: ("In Prometheus's text format.", {"type": "string"})},
        ),
    }
    return {
        path: {
            "servers": [server],
            "get": {
                "operationId": path[1:],
                "tags": ["private"],
                "summary": summary,
                "responses": {
                    str(status): _response(description, {_TEXT: {"schema": schema}})
                    for status, (description, schema) in told.items()
                },
                "security": [],
            },
        }
        for path, (summary, told) in answers.items()
    }
