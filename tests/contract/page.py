"""Renders the AsyncAPI document as a page for people. It knows nothing but the document."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Document = Mapping[str, Any]

HEAD = (
    "<!-- Written by `make schema` from the AsyncAPI document: change "
    "bridge/contract/event_schemas.py. -->"
)
DOCUMENTS = (
    "As documents: `sms-bridge schema asyncapi`, and the JSON Schemas (2020-12) by `sms-bridge "
    "schema status`, `rejected`, `envelope` and `rejected-envelope`."
)


def page(document: Document) -> str:
    """The whole page, in Markdown."""
    info = document["info"]
    parts = [
        HEAD,
        "# The events",
        f"{info['title']}, version {info['version']} of the contract. {info['description']}",
        DOCUMENTS,
        *_topics(document),
        *(part for name in document["channels"] for part in _channel(document, name)),
        *_servers(document),
    ]
    return "\n\n".join(parts) + "\n"


def _topics(document: Document) -> Iterator[str]:
    yield "## Topics"
    for channel in document["channels"].values():
        yield f"**{channel['title']}: `{channel['address']}`.** {channel['description']}"


def _channel(document: Document, name: str) -> Iterator[str]:
    channel = document["channels"][name]
    structured, binary = (_at(document, ref["$ref"]) for ref in channel["messages"].values())
    yield f"## {channel['title']}"
    yield f"Key: {_key(structured)}"
    yield "### Attributes"
    attributes = {**structured["payload"]["properties"]}
    data = attributes.pop("data")
    yield _fields(attributes, structured["payload"]["required"])
    yield f"### Data: `{binary['payload']['x-schema']}`"
    yield data["description"]
    yield _fields(data["properties"], data["required"])
    for message in (structured, binary):
        yield from _mode(message)


def _mode(message: Document) -> Iterator[str]:
    yield f"### {message['title'].partition(', ')[2].capitalize()}"
    yield message["summary"]
    headers = message["headers"]
    yield _fields(headers["properties"], headers["required"], first="header")
    for example in message["examples"]:
        lines = [f"{name}: {value}" for name, value in example["headers"].items()]
        payload = json.dumps(example["payload"], indent=2, ensure_ascii=False)
        yield "\n".join(("```text", *lines, "```"))
        yield f"```json\n{payload}\n```"


def _key(message: Document) -> str:
    said: str = message["bindings"]["kafka"]["key"]["description"]
    return said[0].lower() + said[1:]


def _servers(document: Document) -> Iterator[str]:
    yield "## Connections"
    yield "Your cluster decides how subscribers connect; the bridge has no part in it."
    rows = []
    for name, server in document["servers"].items():
        schemes = (_at(document, ref["$ref"]) for ref in server.get("security", ()))
        said = "<br>".join(scheme["description"] for scheme in schemes) or "none"
        rows.append((f"`{name}`", f"`{server['protocol']}`", server["description"], said))
    yield _table(("server", "protocol", "what", "credentials"), rows)


def _at(document: Document, reference: str) -> Any:
    """What a reference within the document points to."""
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found


def _fields(properties: Mapping[str, Any], required: Iterable[str], first: str = "field") -> str:
    rows = list(_rows(properties, {*required}, ""))
    return _table((first, "type", "what"), rows)


def _rows(
    properties: Mapping[str, Any], required: set[str], prefix: str
) -> Iterator[tuple[str, str, str]]:
    for name, schema in properties.items():
        kind = _kind(schema) if name in required else f"{_kind(schema)}, optional"
        yield f"`{prefix}{name}`", kind, schema["description"].replace("<", "&lt;")
        inner = schema.get("properties", {})
        yield from _rows(inner, {*schema.get("required", ())}, f"{prefix}{name}.")


def _kind(schema: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    names = {"string": "text", "integer": "number", "boolean": "true or false", "object": "object"}
    if schema.get("format") == "date-time":
        names["string"] = "time"
    return " or ".join(names.get(kind, str(kind)) for kind in kinds)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell.replace("|", "&#124;") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
