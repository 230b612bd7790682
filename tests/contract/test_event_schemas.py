"""The published schemas: they describe what the bridge writes, and change only as promised."""

import ast
import copy
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bridge.contract.documents import DOCUMENTS
from bridge.event import status_message
from bridge.model import REASONS, Route, State
from tests.contract import events, generate
from tests.contract.compatibility import incompatible
from tests.support.fake_kafka import FakeBatch
from tests.support.fakes import RecordingPublisher

ROOT = Path(__file__).parents[2]
RELEASES = ROOT / "docs/schemas"
SCHEMAS: dict[str, dict[str, Any]] = {
    name: DOCUMENTS[name]() for name in ("status", "rejected", "envelope", "rejected-envelope")
}
ROUTE = Route("main", "urn:example:sms:main", UTC, "s", "r", "com.example", "structured")
AT = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)


def recorded() -> Iterator[dict[str, Any]]:
    """Every event of the samples."""
    for path in sorted((ROOT / "tests/samples").glob("*.json")):
        sample = json.loads(path.read_text("utf-8"))
        for row in sample["events"] if isinstance(sample, dict) else ():
            if row["topic"] == "rejected":
                row["event"]["data"]["detail"] = "what is wrong"
            yield row["event"]


EVENTS = list(recorded())


# --- the schemas -------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_versioned_schema_of_2020_12(name: str) -> None:
    schema = SCHEMAS[name]

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:sms-status-bridge:schema:{name}:1"
    assert "$ref" not in json.dumps(schema), "registries resolve nothing"


def fields_of(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, field in schema.get("properties", {}).items():
        yield f"{place}{name}", field
        yield from fields_of(field, f"{place}{name}.")


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_described_and_every_object_is_open(name: str) -> None:
    """What is added later must not fail anybody's validation."""
    fields = dict(fields_of(SCHEMAS[name]))

    assert len(fields) >= 10
    for place, field in fields.items():
        assert len(field["description"]) > 10, place
        assert field.get("additionalProperties", True) is not False, place
    assert SCHEMAS[name]["additionalProperties"] is True


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_examples_are_valid_by_a_second_validator(name: str) -> None:
    """The checks of all tests run on another one, which is faster."""
    validator = Draft202012Validator(SCHEMAS[name])

    assert len(SCHEMAS[name]["examples"]) == 3
    for example in SCHEMAS[name]["examples"]:
        assert list(validator.iter_errors(example)) == []


def test_the_recorded_events_are_valid_by_both_validators() -> None:
    kinds = {
        SCHEMAS["status"]["$id"]: Draft202012Validator(SCHEMAS["envelope"]),
        SCHEMAS["rejected"]["$id"]: Draft202012Validator(SCHEMAS["rejected-envelope"]),
    }
    assert len(EVENTS) > 150
    for event in EVENTS:
        events.check_event(event)
        assert kinds[event["dataschema"]].is_valid(event)


def test_every_field_that_is_written_is_described() -> None:
    """Nothing of the bridge's own hides among what readers are told to tolerate."""
    known = {
        SCHEMAS["status"]["$id"]: SCHEMAS["envelope"],
        SCHEMAS["rejected"]["$id"]: SCHEMAS["rejected-envelope"],
    }
    for event in EVENTS:
        attributes = known[event["dataschema"]]["properties"]
        assert event.keys() <= attributes.keys()
        assert event["data"].keys() <= attributes["data"]["properties"].keys()


def test_every_field_that_is_described_is_written() -> None:
    for name in ("status", "rejected"):
        written = {
            key for e in EVENTS for key in e["data"] if e["dataschema"] == SCHEMAS[name]["$id"]
        }
        assert written == SCHEMAS[name]["properties"].keys()


def wrong_values(field: dict[str, Any]) -> list[Any]:
    """Of each type a value, less those that the field may have."""
    types = [each["type"] for each in field.get("anyOf", [field])]
    kinds = [kind for each in types for kind in (each if isinstance(each, list) else [each])]
    values = {"string": "", "integer": -1, "boolean": True, "object": {"a": 1}, "null": None}
    return [value for kind, value in values.items() if kind not in kinds] + [[]]


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_field_of_another_type_is_refused(name: str) -> None:
    """Each field has a type, and only those that are optional may be missing."""
    schema = SCHEMAS[name]
    validator = Draft202012Validator(schema)
    example = schema["examples"][0]

    for field, described in schema["properties"].items():
        assert not any(
            validator.is_valid({**example, field: value}) for value in wrong_values(described)
        ), field
        without = {key: value for key, value in example.items() if key != field}
        assert validator.is_valid(without) == (field not in schema["required"]), field


def test_new_words_and_new_fields_are_valid() -> None:
    example = SCHEMAS["envelope"]["examples"][0]
    data = {**example["data"], "status": "teleported", "outcome": None, "final": None, "rank": None}

    changed = {**example, "severity": "low", "data": {**data, "price": {"amount": 1}}}

    assert Draft202012Validator(SCHEMAS["envelope"]).is_valid(changed)


async def test_an_event_that_is_not_as_described_fails_the_test_that_publishes_it() -> None:
    """The publishers of the tests are awake, and so are those who read a topic."""
    wrong = status_message(ROUTE, State("with space", "read", {}, {}, None, {}), AT)
    with pytest.raises(events.ContractError, match="id_sms"):
        await RecordingPublisher().publish([wrong], 0)
    with pytest.raises(events.ContractError, match="id_sms"):
        FakeBatch(1).append(timestamp=0, key=b"", value=wrong.value, headers=wrong.headers)
    good = status_message(ROUTE, State("1", "read", {}, {}, None, {}), AT)
    binary = [("content-type", b"application/json"), ("ce_specversion", b"1.0")]
    binary += [(f"ce_{k}", v.encode()) for k, v in EVENTS[0].items() if isinstance(v, str)]

    events.check(good.value, good.headers)
    with pytest.raises(events.ContractError, match="rank"):
        events.check(good.value.replace(b'"rank":3', b'"rank":"3"'), good.headers)
    with pytest.raises(events.ContractError, match="received_at"):
        events.check(b"{}", binary)


def test_every_reason_of_a_dead_letter_is_described() -> None:
    """The words are arguments of what the stages raise, and of the pipeline's own dead letter."""
    said = {"too_large"}
    for path in (*(ROOT / "bridge/parse").glob("*.py"), ROOT / "bridge/event.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
                called = node.func.id if isinstance(node.func, ast.Name) else called
                if called in {"DocumentError", "Flaw", "_Defect", "_Fault", "_refusal"}:
                    said.add(str(node.args[0].value))

    assert said == set(REASONS)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_part_has_a_title_for_generators_of_types(name: str) -> None:
    """One that makes a name in every language; and no two parts of a schema share one."""
    titled: dict[str, dict[str, Any]] = {}
    for part in parts(SCHEMAS[name]):
        title = part["title"]
        assert re.fullmatch("[A-Z][A-Za-z0-9]*( [A-Za-z]+)*", title)
        assert titled.setdefault(title, part) == part, title


def parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every part that generators make a type of."""
    yield schema
    yield from (each for each in schema.get("anyOf", ()) if each != {"type": "null"})
    for field in schema.get("properties", {}).values():
        yield from parts(field)
    if isinstance(others := schema.get("additionalProperties"), dict):
        yield from parts(others)


# --- change ------------------------------------------------------------------------------


def broken_promises(releases: Path) -> list[str]:
    """Where the schemas break with a release's, under one URI; else it is another schema."""
    return [
        f"{path.parent.name}/{path.stem}: {problem}"
        for path in sorted(releases.glob("*/*.json"))
        if (released := json.loads(path.read_text("utf-8")))["$id"] == SCHEMAS[path.stem]["$id"]
        for problem in incompatible(released, SCHEMAS[path.stem])
    ]


def test_the_schemas_keep_what_releases_promised() -> None:
    """What breaks with it is a new type and a new URI."""
    assert broken_promises(RELEASES) == []


def test_a_promise_that_is_broken_is_told_with_its_release(tmp_path: Path) -> None:
    """Of three releases that knew one field more, the one with another URI is another schema."""
    for version, number in (("0.9.0", 0), ("1.0.0", 1), ("1.1.0", 1)):
        released = copy.deepcopy(SCHEMAS["status"])
        released["$id"] = f"urn:sms-status-bridge:schema:status:{number}"
        released["properties"]["price"] = {"type": "number"}
        (tmp_path / version).mkdir()
        (tmp_path / version / "status.json").write_text(json.dumps(released))

    assert [problem.partition(" is gone")[0] for problem in broken_promises(tmp_path)] == [
        "1.0.0/status: the event.price:",
        "1.1.0/status: the event.price:",
    ]


def test_every_release_keeps_its_schemas_and_nothing_else_is_kept() -> None:
    """Each file lies under the name of its schema. A version is a release once it has a date."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\S+) \(\d{4}-", changelog, re.MULTILINE)
    kept = {(path.parent.name, path.stem): path for path in RELEASES.glob("*/*")}

    assert kept.keys() == {(version, name) for version in released for name in SCHEMAS}
    for (_, name), path in kept.items():
        assert f":schema:{name}:" in json.loads(path.read_text("utf-8"))["$id"]


Change = Callable[[dict[str, Any]], object]


def words(schema: dict[str, Any]) -> list[Any]:
    """The closed list of words."""
    found: list[Any] = schema["properties"]["outcome"]["anyOf"][0]["enum"]
    return found


# What changes, who breaks, and data that is valid under the one schema and not the other.
BREAKING: dict[str, tuple[Change, str, dict[str, Any]]] = {
    "a field is gone": (
        lambda s: (s["properties"].pop("rank"), s["required"].remove("rank")),
        "rank: is gone",
        {"rank": ...},
    ),
    "a field may be missing": (
        lambda s: s["required"].remove("rank"),
        "rank: may be missing now",
        {"rank": ...},
    ),
    "an optional field becomes required": (
        lambda s: (s["properties"].update(price={"type": "number"}), s["required"].append("price")),
        "price: is required now",
        {},
    ),
    "a type is narrowed": (
        lambda s: s["properties"]["rank"].update(type="integer"),
        "rank: type null is refused now",
        {"rank": None},
    ),
    "a type is widened": (
        lambda s: s["properties"]["rank"].update(type=["integer", "null", "string"]),
        "rank: type string is new",
        {"rank": "high"},
    ),
    "a type is changed": (
        lambda s: s["properties"]["id_sms"].update(type="integer"),
        "id_sms: type integer is new",
        {"id_sms": 3234},
    ),
    "a word is taken out": (
        lambda s: words(s).remove("undelivered"),
        "outcome: value 'undelivered' is refused now",
        {"outcome": "undelivered"},
    ),
    "a word is added to a closed list": (
        lambda s: words(s).append("lost"),
        "outcome: value 'lost' is new",
        {"outcome": "lost"},
    ),
    "a list of words is opened": (
        lambda s: s["properties"]["outcome"]["anyOf"][0].pop("enum"),
        "outcome: enum was",
        {"outcome": "lost"},
    ),
    "a list of words is closed": (
        lambda s: s["properties"]["status"].update(enum=["send", "read"]),
        "status: enum was nothing",
        {"status": "deliver"},
    ),
    "a pattern is narrowed": (
        lambda s: s["properties"]["id_sms"].update(pattern="^[0-9]{1,64}$"),
        "id_sms: pattern was",
        {"id_sms": "a"},
    ),
    "a pattern is widened": (
        lambda s: s["properties"]["changed_at"].update(pattern="^.*$"),
        "changed_at: pattern was",
        {"changed_at": "2011-01-01T09:57:46.5Z"},
    ),
    "a number may be lower": (
        lambda s: s["properties"]["rank"].update(minimum=-1),
        "rank: minimum was 0 and is -1",
        {"rank": -1},
    ),
    "a limit is new": (
        lambda s: s["properties"]["raw_time"].update(maxLength=19),
        "raw_time: maxLength was nothing",
        {"raw_time": "x" * 20},
    ),
    "the values of a mapping change": (
        lambda s: s["properties"]["channels"]["additionalProperties"].update(type="integer"),
        "channels.*: type string is refused now",
        {"channels": {"sms": "read"}},
    ),
    "a new field in a mapping has another type": (
        lambda s: s["properties"]["channels"].update(properties={"cost": {"type": "integer"}}),
        "channels.cost: type integer is new",
        {"channels": {"cost": 1}},
    ),
    "the object is closed": (
        lambda s: s.update(additionalProperties=False),
        "what else it may hold",
        {"price": 1},
    ),
    "a mapping becomes anything": (
        lambda s: s["properties"]["attributes"].update(additionalProperties=True),
        "attributes: what else it may hold",
        {"attributes": {"a": 1}},
    ),
    "a rule comes that is not understood here": (
        lambda s: s.update({"not": {"required": ["price"]}}),
        "nothing is known of the keyword not",
        {"price": 1},
    ),
}


def changed_data(changes: dict[str, Any]) -> dict[str, Any]:
    """The example with other values; `...` takes a field out."""
    data = {**SCHEMAS["status"]["examples"][0], **changes}
    return {key: value for key, value in data.items() if value is not ...}


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_readers_or_records_is_found(name: str) -> None:
    change, said, witness = BREAKING[name]
    old, new = SCHEMAS["status"], copy.deepcopy(SCHEMAS["status"])
    change(new)

    assert any(said in problem for problem in incompatible(old, new)), incompatible(old, new)
    verdicts = [Draft202012Validator(each).is_valid(changed_data(witness)) for each in (old, new)]
    assert sorted(verdicts) == [False, True], "the change makes a difference"


@pytest.mark.parametrize("name", BREAKING)
def test_the_same_within_the_envelope_is_found(name: str) -> None:
    change, said, _ = BREAKING[name]
    new = copy.deepcopy(SCHEMAS["envelope"])
    change(new["properties"]["data"])

    assert any(said in problem for problem in incompatible(SCHEMAS["envelope"], new))


HARMLESS: dict[str, Change] = {
    "nothing": lambda _: None,
    "other words for people": lambda s: s.update(title="x", description="y", examples=[]),
    "a field that readers may find missing": lambda s: s["properties"].update(price={"minimum": 0}),
    "a field is marked as deprecated": lambda s: s["properties"]["rank"].update(deprecated=True),
    "types in another order": lambda s: s["properties"]["rank"]["type"].reverse(),
    "words in another order": lambda s: words(s).reverse(),
    "a name in a mapping, as before": lambda s: s["properties"]["channels"].update(
        properties={"rcs": {"type": "string", "description": "RCS"}}
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_harms_nobody_is_let_pass(name: str) -> None:
    new = copy.deepcopy(SCHEMAS["status"])
    HARMLESS[name](new)

    assert incompatible(SCHEMAS["status"], new) == []


def test_another_uri_is_no_change_of_the_same_schema() -> None:
    new = {**SCHEMAS["status"], "$id": "urn:sms-status-bridge:schema:status:2"}

    assert incompatible(SCHEMAS["status"], new)


# --- where they lie ----------------------------------------------------------------------


@pytest.mark.parametrize("path", generate.documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_generated_files_are_fresh(path: Path) -> None:
    """Written by `make schema`."""
    assert path.read_text(encoding="utf-8") == generate.documents()[path]


def test_the_package_has_them(tmp_path: Path) -> None:
    """Whoever installs it has the documents that belong to its version."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)

    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert names >= {f"bridge/documents/{name}.json" for name in generate.NAMES}
    assert "bridge/subscriber.py" in names


def test_nothing_else_lies_among_them() -> None:
    written = set(generate.documents())
    for place in (generate.PACKAGE, ROOT / "helm/docs"):
        assert {path for path in place.rglob("*") if path.is_file()} <= written
