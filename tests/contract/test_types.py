"""Types that others generate from the schemas: they have good names, compile, and read events."""

import importlib
import json
import re
import sys
from collections.abc import Callable
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from bridge.contract.asyncapi import asyncapi_document
from bridge.contract.config_schema import config_schema
from bridge.contract.event_schemas import envelope_schema, rejected_envelope_schema
from tests.contract import generators
from tests.support.needs import skipped_without
from tests.support.npm import Packages

ADVICE = generators.advice()
STATUS, REJECTED = "SmsStatusEvent", "RejectedSmsStatusEvent"
SCHEMAS = {STATUS: envelope_schema(), REJECTED: rejected_envelope_schema()}
# What generators call a part that has no name, or the name of another one.
BAD = re.compile(
    r"(?i:anonymous|nonetype|purple|fluffy|tentacled)|AnyOf_?\d"
    r"|(class|interface|type|enum|struct) [A-Za-z]+\d\b"
)
TIMES = {"time", "changed_at", "received_at"}


Generated = Callable[[str, str], Path]


@pytest.fixture(scope="session")
def generated(generators_of_npm: Packages, tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """What the command of docs/types.md writes in a language of a schema: its directory."""

    @cache
    def directory(language: str, name: str) -> Path:
        made = tmp_path_factory.mktemp(name)
        (made / f"{name}.json").write_text(json.dumps(SCHEMAS[name]))
        command = ADVICE[language].command.replace(STATUS, name)
        generators.generate(generators_of_npm, command, made)
        (made / f"{name}.json").unlink()
        return made

    return directory


def text_in(directory: Path) -> str:
    return "\n".join(file.read_text("utf-8") for file in directory.iterdir())


def known_and_new() -> list[dict[str, Any]]:
    """The examples: one with every field, one with nulls, one with a word that is new."""
    events: list[dict[str, Any]] = SCHEMAS[STATUS]["examples"]
    return events


def newer() -> dict[str, Any]:
    """An event of a later version, which readers must tolerate."""
    event = known_and_new()[0]
    return {**event, "severity": "low", "data": {**event["data"], "price": {"amount": 1}}}


def plain(event: dict[str, Any]) -> dict[str, Any]:
    """An event whatever way its times and its missing fields are written."""
    return {
        key: plain(value)
        if isinstance(value, dict)
        else datetime.fromisoformat(value)
        if key in TIMES and value
        else value
        for key, value in event.items()
        if value is not None or not key.startswith("trace")
    }


def test_the_page_has_the_versions_that_are_tried() -> None:
    pins = json.loads((generators.HERE / "package.json").read_text("utf-8"))["dependencies"]
    tried = pins | {"datamodel-code-generator": metadata.version("datamodel-code-generator")}

    assert [*ADVICE] == ["Python", "TypeScript", "Java", "Go", "Rust"]
    for each in ADVICE.values():
        assert tried[each.generator] == each.version
    page = (generators.ROOT / "docs/types.md").read_text("utf-8")
    assert f"Modelina {pins['@asyncapi/modelina']} " in page


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("language", ADVICE)
def test_the_types_have_good_names(generated: Generated, language: str, name: str) -> None:
    code = text_in(generated(language, name))

    assert BAD.search(code) is None
    words = {*re.findall(r"\w+", code)}
    assert name.lower() in {*map(str.lower, words)}
    if name == STATUS:
        assert {"Outcome", ADVICE[language].final.removesuffix("()")} <= words


def test_modelina_s_types_have_good_names(generators_of_npm: Packages) -> None:
    names = json.loads(
        generators_of_npm.run(generators.HERE / "names.mjs", json.dumps(asyncapi_document()))
    )

    assert {STATUS, "SmsStatus", "Outcome", REJECTED, "RejectedState"} <= {*names}
    assert {"reservedFinal", "reserved_final"} <= {*names}
    assert [name for name in names if BAD.search(f"type {name} ")] == []


@pytest.mark.parametrize(
    "command",
    [
        "json2ts --input config.json --output config.ts",
        "quicktype --src-lang schema --lang ts --just-types --out config.ts config.json",
    ],
)
def test_the_types_of_a_configuration_have_good_names(
    generators_of_npm: Packages, command: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config_schema()))
    generators.generate(generators_of_npm, command, tmp_path)
    code = (tmp_path / "config.ts").read_text("utf-8")

    assert {"Server", "Kafka", "Sasl", "Endpoint"} <= {*re.findall(r"\w+", code)}
    numbered = {match[0] for match in BAD.finditer(code)}
    # json-schema-to-typescript numbers what has conditions.
    assert numbered <= {"type Security1", "type Tls1"}


# --- reading events ----------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_python_s_types_keep_all_of_an_event(
    generated: Generated, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(generated("Python", name))
    monkeypatch.delitem(sys.modules, "sms_status_event", raising=False)
    model = getattr(importlib.import_module("sms_status_event"), name)

    for event in [*SCHEMAS[name]["examples"], *([newer()] if name == STATUS else [])]:
        read = model.model_validate(event)
        assert plain(read.model_dump(mode="json", exclude_unset=True)) == plain(event)


def test_typescript_s_types_take_events_and_refuse_others(
    generators_of_npm: Packages, generated: Generated, tmp_path: Path
) -> None:
    types = generated("TypeScript", STATUS)
    lost = known_and_new()[0] | {"data": {}}

    for name, events, said in (
        ("good", [*known_and_new(), newer()], ""),
        ("bad", [lost], "missing the following properties"),
    ):
        problems = generators.refused_by_typescript(
            generators_of_npm, types, events, tmp_path / name
        )
        assert bool(problems) == bool(said), problems
        assert said in " ".join(problems)


@pytest.mark.parametrize("language", generators.COMPILED)
def test_compiled_types_read_events(generated: Generated, language: str, tmp_path: Path) -> None:
    """What is new they leave out, and lose nothing else."""
    with skipped_without(language, generators.CompilerUnavailableError):
        reader = generators.compiled(language, generated(language, STATUS), tmp_path)

    expected = [*known_and_new(), known_and_new()[0]]
    assert [*map(plain, reader([*known_and_new(), newer()]))] == [*map(plain, expected)]
