"""The JSON Schema of the configuration agrees with the program; the command writes them all."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft7Validator
from jsonschema_rs import Draft7Validator as FastValidator
from pydantic import ValidationError

from bridge.cli import main as cli
from bridge.config.conflicts import conflicts
from bridge.config.settings import Settings
from bridge.contract.config_schema import DRAFT, config_schema
from bridge.contract.documents import DOCUMENTS

SCHEMA = config_schema()
VALIDATOR = FastValidator(SCHEMA)
Place = tuple[str | int, ...]

FULL: dict[str, Any] = {
    "server": {
        "host": "0.0.0.0",
        "port": 8080,
        "max_body_bytes": 4194304,
        "max_states": 10000,
        "max_in_flight": 256,
        "max_in_flight_bytes": 33554432,
        "max_in_flight_states": 50000,
        "body_timeout_seconds": 10,
        "keep_alive_seconds": 75,
        "drain_delay_seconds": 0.5,
        "shutdown_grace_seconds": 15,
        "trusted_proxies": ["10.0.0.0/8"],
    },
    "admin": {"host": "::1", "port": 8081},
    "kafka": {
        "bootstrap_servers": ["kafka:9092"],
        "topic": "sms.status",
        "dead_letter_topic": "sms.status.rejected",
        "publish_timeout_seconds": 4,
        "durability": "require",
        "client_id": "sms-bridge",
        "compression": "zstd",
        "duplicates": {"remember": 100000, "seconds": 600},
        "create_topics": {
            "enabled": False,
            "partitions": 6,
            "replication_factor": 3,
            "config": {"min.insync.replicas": "2"},
        },
        "security": {
            "protocol": "SASL_SSL",
            "sasl": {"mechanism": "SCRAM-SHA-512", "username": "u", "password": "p"},
            "tls": {
                "ca_file": "/ca.crt",
                "cert_file": "/tls.crt",
                "key_file": "/tls.key",
                "key_password": "p",
            },
        },
    },
    "endpoints": [
        {
            "name": "main",
            "path": "/webhook",
            "source": "urn:example:sms:main",
            "timezone": "UTC",
            "auth": {
                "tokens": ["t"],
                "basic": [{"username": "u", "password": "p"}],
                "allow": ["203.0.113.0/24", "2001:db8::1"],
            },
            "topic": "sms.status.brand",
            "provider": {
                "url": "https://provider.example.com/xml",
                "format": "xml",
                "login": "l",
                "password": "p",
            },
        }
    ],
    "events": {
        "type_prefix": "com.example.messaging",
        "content_mode": "structured",
        "statuses": {"accepted": {"outcome": "pending", "final": False, "rank": 1}},
    },
    "log": {"level": "info", "format": "json"},
}
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 7, 0.5, 1.0, 8080, 65536, 10**12),
    *("", " ", "0", "1", "8080", " 8080 ", "+5", "-5", "1_000", "1.0", "0.5", ".5", "1e3", "1e-3"),
    *(
        "inf",
        "nan",
        "0x10",
        "true",
        "YES",
        "Off",
        " true ",
        "maybe",
        "none",
        "null",
        "info",
        "INFO",
    ),
    *(
        "gzip",
        "warn",
        "binary",
        "console",
        "UTC",
        "Mars/Olympus",
        "a",
        "a.b",
        "A.B",
        ".",
        "..",
        "...",
    ),
    *("a" * 64, "a" * 65, "a" * 250, "/", "/a/", "/a b", "//", "a:b", "a:1", "a:1,b:2", "urn:x:y"),
    *("with space", "a\n", "\u00e9", "$${x}", "${UNSET}", "${UNSET:-8080}", "x${UNSET}"),
    *([], [1], ["a"], ["a:1"], [None], [{}], {}, {"a": 1}, {"a": "b"}, {"enabled": True}),
]


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place in the full configuration, sections and items of lists included."""
    if place:
        yield place
    steps = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for step in steps:
        yield from leaves(value[step], (*place, step))


WITH_TOKEN = copy.deepcopy(FULL)
WITH_TOKEN["kafka"]["security"]["sasl"] = {
    "mechanism": "OAUTHBEARER",
    "token_url": "https://login.example.com/token",
    "client_id": "c",
    "client_secret": "s",
    "scope": "kafka",
    "token_ca_file": "/ca.crt",
}
PLACES = list(dict.fromkeys([*leaves(FULL), *leaves(WITH_TOKEN)]))
IDS = [".".join(map(str, place)) for place in PLACES]


def whole(place: Place) -> dict[str, Any]:
    """A full configuration that has something at a place."""
    section: Any = FULL
    for step in place:
        if isinstance(section, dict) and step not in section:
            return copy.deepcopy(WITH_TOKEN)
        section = section[step]
    return copy.deepcopy(FULL)


def changed(place: Place, value: Any) -> dict[str, Any]:
    """The full configuration with another value at a place."""
    document = whole(place)
    section: Any = document
    for step in place[:-1]:
        section = section[step]
    section[place[-1]] = value
    return document


def refused_by_program(document: Any) -> bool:
    """Whether it is wrong even where every reference stands for something."""
    text = json.dumps(document).replace("$${x}", "${x").replace("${UNSET:-8080}", "8080")
    try:
        settings = Settings.model_validate(json.loads(text.replace("${UNSET}", "x")))
    except ValidationError:
        return True
    return any(conflicts(settings))


@pytest.mark.parametrize("place", PLACES, ids=IDS)
def test_whatever_the_schema_refuses_the_program_refuses(place: Place) -> None:
    """The schema never stands in the way of a configuration that would work."""
    refused = [v for v in ODD_VALUES if not VALIDATOR.is_valid(changed(place, v))]

    assert refused, "the schema takes anything here"
    assert [v for v in refused if not refused_by_program(changed(place, v))] == []


def test_most_of_what_the_program_refuses_the_schema_refuses() -> None:
    """It finds nearly every single mistake before anything is deployed."""
    wrong = [
        changed(place, v)
        for place in PLACES
        for v in ODD_VALUES
        if "${" not in str(v) and refused_by_program(changed(place, v))
    ]
    found = sum(not VALIDATOR.is_valid(document) for document in wrong)

    assert found / len(wrong) > 0.85


@pytest.mark.parametrize("place", PLACES, ids=IDS)
def test_unknown_keys_are_refused_in_every_section(place: Place) -> None:
    section: Any = whole(place)
    for step in place:
        section = section[step]
    if isinstance(section, dict) and place[-1] != "config":
        document = changed(place, section | {"unknown": 1})
        assert not VALIDATOR.is_valid(document)
        assert refused_by_program(document)


@pytest.mark.parametrize("place", PLACES, ids=IDS)
def test_what_is_required_is_required_by_both(place: Place) -> None:
    document = whole(place)
    section: Any = document
    for step in place[:-1]:
        section = section[step]
    del section[place[-1]]
    assert VALIDATOR.is_valid(document) != refused_by_program(document)


def test_the_example_and_the_smallest_configuration_pass() -> None:
    example = Path(__file__).parents[2] / "config/bridge.yaml"
    endpoint = {**FULL["endpoints"][0], "auth": "none"}

    for document in (
        FULL,
        WITH_TOKEN,
        yaml.safe_load(example.read_text(encoding="utf-8")),
        {"endpoints": [endpoint], "events": {"type_prefix": "a.b"}, "log": None},
    ):
        assert [error.message for error in VALIDATOR.iter_errors(document)] == []


def test_it_is_a_schema_that_helm_and_editors_read() -> None:
    """Draft 7; every pattern without what Go's regular expressions do not know."""
    Draft7Validator.check_schema(SCHEMA)

    assert SCHEMA["$schema"] == DRAFT
    patterns = re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', json.dumps(SCHEMA))
    assert patterns
    assert not [p for p in patterns if re.search(r"\(\?[^:]|\\\\[1-9ZzGK]", p)]
    repeats = re.findall(r"\{[0-9]*,?([0-9]+)\}", "".join(patterns))
    assert max(map(int, repeats)) <= 1000  # Go's limit


def test_every_setting_keeps_its_description() -> None:
    for name, section in SCHEMA["definitions"].items():
        for key, value in section["properties"].items():
            target = (value.get("anyOf") or value.get("allOf") or [{}])[0].get("$ref", "")
            referred = SCHEMA["definitions"].get(target.rpartition("/")[2], {})
            assert value.get("description") or referred.get("description"), f"{name}.{key}"


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema within, and every mapping of them."""
    if isinstance(schema, dict):
        yield schema
    for each in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(each, dict | list):
            yield from nodes(each)


def test_nothing_stands_beside_a_reference() -> None:
    """This draft ignores it there; and generators of types take it for a second type."""
    assert [node for node in nodes(SCHEMA) if "$ref" in node and len(node) > 1] == []


def test_every_setting_and_every_list_of_words_has_a_title_of_its_own() -> None:
    """Generators of types name theirs so, and number what has none."""
    sections = [SCHEMA, *SCHEMA["definitions"].values()]
    settings = [each for section in sections for each in section["properties"].values()]
    titles = [each["title"] for each in (*sections, *settings) if "allOf" not in each]
    # Those of conditions are no types.
    described = json.loads(json.dumps(SCHEMA), object_hook=without_conditions)
    titles += [node["title"] for node in nodes(described) if "enum" in node]

    assert len(titles) > 80
    assert len({*titles}) == len(titles)


def without_conditions(node: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in node.items() if key not in {"if", "then", "else"}}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_command_writes_the_document(name: str) -> None:
    result = CliRunner().invoke(cli.main, ["schema", name])

    assert result.exit_code == 0
    assert json.loads(result.output) == DOCUMENTS[name]()


def test_the_command_offers_exactly_the_documents() -> None:
    result = CliRunner().invoke(cli.main, ["schema", "unknown"])

    assert result.exit_code == 2
    offered = re.findall(r"'([a-z-]+)'", result.output.partition("is not")[2])
    assert set(offered) == set(DOCUMENTS)
