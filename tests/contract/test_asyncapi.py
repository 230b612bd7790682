"""The AsyncAPI document: valid by the official parser, and true of what the bridge writes."""

import copy
from typing import Any

import pytest
from jsonschema import Draft7Validator

from bridge.cli.convert import example_settings
from bridge.contract.asyncapi import asyncapi_document
from bridge.contract.documents import DOCUMENTS
from bridge.contract.event_schemas import ContentMode, rejected_examples, status_examples
from tests.contract.asyncapi import Parser
from tests.contract.page import page

DOCUMENT = asyncapi_document()
MESSAGES = DOCUMENT["components"]["messages"]
MODES: tuple[ContentMode, ...] = ("structured", "binary")


def test_the_official_parser_takes_it(asyncapi_parser: Parser) -> None:
    """It has nothing to say but that there is a newer version, which fewer tools read."""
    said = asyncapi_parser.diagnostics(DOCUMENT)

    assert [one for one in said if one["code"] != "asyncapi-latest-version"] == []


def without_address(document: dict[str, Any]) -> None:
    document["channels"]["status"]["messages"] = {"x": {"$ref": "#/components/messages/none"}}


def with_a_wrong_key(document: dict[str, Any]) -> None:
    document["components"]["messages"]["statusBinary"]["bindings"]["kafka"]["key"] = "id_sms"


def with_a_wrong_scheme(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"]["plain"] = {"type": "magic"}


@pytest.mark.parametrize("spoil", [without_address, with_a_wrong_key, with_a_wrong_scheme])
def test_the_official_parser_would_say_what_is_wrong(asyncapi_parser: Parser, spoil: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    spoil(document)

    assert "error" in {one["severity"] for one in asyncapi_parser.diagnostics(document)}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_examples_are_valid(name: str) -> None:
    """Headers and payload; the parser would take anything."""
    message = MESSAGES[name]
    payload, headers = (Draft7Validator(message[part]) for part in ("payload", "headers"))

    assert len(message["examples"]) == 3
    for example in message["examples"]:
        assert list(payload.iter_errors(example["payload"])) == []
        assert list(headers.iter_errors(example["headers"])) == []
        assert not headers.is_valid({})
        assert not payload.is_valid({})


@pytest.mark.parametrize("mode", MODES)
def test_the_headers_are_those_of_the_records(mode: ContentMode) -> None:
    """All that a record has is described, and all that is required is there."""
    for kind, made in (("status", status_examples), ("rejected", rejected_examples)):
        described = MESSAGES[f"{kind}{mode.capitalize()}"]["headers"]
        for message in made(mode):
            names = {name for name, _ in message.headers}
            assert {*described["required"]} <= names <= described["properties"].keys()


@pytest.mark.parametrize(
    ("message", "schema"),
    [
        ("statusStructured", "envelope"),
        ("statusBinary", "status"),
        ("rejectedStructured", "rejected-envelope"),
        ("rejectedBinary", "rejected"),
    ],
)
def test_the_payload_is_the_published_schema(message: str, schema: str) -> None:
    published = DOCUMENTS[schema]()
    payload = MESSAGES[message]["payload"]

    assert payload["x-schema"] == published["$id"]
    assert {**payload, "x-schema": None} == {
        **{k: v for k, v in published.items() if k not in {"$schema", "$id", "examples"}},
        "x-schema": None,
    }


def test_the_topics_are_those_of_the_default_configuration() -> None:
    kafka = example_settings().kafka
    channels = DOCUMENT["channels"]

    assert channels["status"]["address"] == kafka.topic
    assert channels["rejected"]["address"] == kafka.dead_letter_topic
    for channel in channels.values():
        binding = channel["bindings"]["kafka"]
        assert binding["topic"] == channel["address"]
        assert binding["topicConfiguration"]["cleanup.policy"] == ["delete"]


def test_the_page_has_every_attribute_field_header_and_example() -> None:
    text = page(DOCUMENT)

    for message in MESSAGES.values():
        for part in ("headers", "payload"):
            for name, field in message[part]["properties"].items():
                if name != "data":
                    assert f"| `{name}` |" in text
                assert field["description"].replace("<", "&lt;") in text
        for example in message["examples"]:
            payload = example["payload"]
            assert f'"sha256": "{payload["sha256"]}"' in text if "sha256" in payload else True
            assert f'"id": "{payload["id"]}"' in text if "id" in payload else True
    for scheme in DOCUMENT["components"]["securitySchemes"].values():
        assert scheme["description"] in text
