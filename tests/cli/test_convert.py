import json
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli.convert import Conversion, dry_run, example_settings, lines
from bridge.cli.main import main
from bridge.config.settings import Server, route_of
from bridge.model import Route
from tests.contract.events import check

RECEIVED_AT = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)
READ = '<state id_sms="3234" time="2011-01-01 12:57:46" sms="deliver" viber="read">read</state>'
GOLDEN_ID = "3234.940d7bb750bed8bb52b9621402425a66"
# The provider's page on the webhook, as printed.
SAMPLE = """\
<?xml version="1.0" encoding="utf-8" ?>
<response>.
     <state id_sms="IDSMS in system to check status" time="2011-01-01 12:57:46" sms="Status">Status</state>
     <state id_sms="IDSMS in system to check status" time="2011-01-01 12:57:46" sms="Status" viber="Status">Status</state>
     <state id_sms="IDSMS in system to check status" time="2011-01-01 12:57:46" viber="Status">Status</state>
</response>
"""  # noqa: E501
CONFIG = """\
kafka: {dead_letter_topic: null}
endpoints:
  - {name: one, path: /one, source: "urn:one", timezone: UTC, auth: none}
  - {name: two, path: /two, source: "urn:two", timezone: Europe/Kyiv, auth: none, topic: two}
events: {type_prefix: com.example, content_mode: binary}
"""


def route() -> Route:
    settings = example_settings()
    return route_of(settings, settings.endpoints[0])


def converted(body: str, server: Server | None = None) -> Conversion:
    conversion = dry_run(body.encode(), route(), server or Server(), RECEIVED_AT)
    for message in conversion.messages:
        check(message.value, message.headers)
    return conversion


def run(*arguments: str, body: str) -> Result:
    return CliRunner().invoke(main, ["convert", *arguments], input=body)


def test_a_state_becomes_its_event_and_is_acknowledged() -> None:
    conversion = converted(f"<response>{READ}</response>")

    (message,) = conversion.messages
    assert message.event_id == GOLDEN_ID
    assert message.key == b"3234"
    assert conversion.status is HTTPStatus.OK
    assert b"<id_sms>3234</id_sms>" in conversion.answer


def test_json_becomes_the_same_event_and_is_answered_in_json() -> None:
    body = (
        '[{"id_sms": 3234, "time": "2011-01-01 12:57:46", "sms": "deliver", "viber": "read", '
        '"state": "read"}]'
    )
    conversion = converted(body)

    assert [message.event_id for message in conversion.messages] == [GOLDEN_ID]
    assert conversion.answer == b'[{"id_sms":3234}]'


def test_broken_json_shows_the_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "body"
    file.write_text('[\n{"id_sms": 1,\n}]')
    result = CliRunner().invoke(main, ["convert", str(file)])

    assert result.exit_code == 1
    assert f"{file}:3: not_json: " in result.stderr
    assert '"status":400' in result.stdout


def test_identical_states_are_shown_as_one_event() -> None:
    conversion = converted(f"<response>{READ}<state id_sms='1'>read</state>{READ}</response>")

    assert [m.key for m in conversion.messages] == [b"3234", b"1"]
    assert conversion.numbers == ((1, 3), (2,))
    assert "event of state 1, 3" in "\n".join(lines(conversion))


def test_the_provider_s_own_sample() -> None:
    """Its ids are words with spaces, so each state is rejected; dead letters acknowledge."""
    result = run(body=SAMPLE)

    assert result.exit_code == 0
    assert "endpoint main: 3 states, 3 of them invalid" in result.stdout
    assert result.stdout.count('"type": "com.example.messaging.rejected"') == 3
    assert result.stdout.count("<id_sms>IDSMS in system to check status</id_sms>") == 1


def test_states_past_the_limit_are_not_acknowledged() -> None:
    body = f"<response>{READ}<state id_sms='9'>read</state></response>"

    conversion = converted(body, Server(max_states=1))

    assert b"<id_sms>9</id_sms>" not in conversion.answer
    assert any(line.startswith("1 ids are past server.max_states") for line in lines(conversion))


def test_a_refused_document_shows_the_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "body.xml"
    file.write_text("<response>\n<state>\n</response>")

    result = CliRunner().invoke(main, ["convert", str(file)])

    assert result.exit_code == 1
    assert f"{file}:3: not_xml: " in result.stderr
    assert "dead letter of the whole body" in result.stdout
    assert "answer: 400 Bad Request" in result.stdout


def test_an_empty_body_leaves_no_dead_letter() -> None:
    conversion = converted(" \n")

    assert conversion.status is HTTPStatus.BAD_REQUEST
    assert conversion.messages == ()


def test_a_body_over_the_limit_is_refused() -> None:
    conversion = converted(f"<response>{READ}</response>", Server(max_body_bytes=20))

    assert conversion.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert conversion.messages == ()


def test_without_a_configuration_an_example_is_taken_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMS_BRIDGE_CONFIG", raising=False)

    result = run(body=f"<response>{READ}</response>")

    assert result.exit_code == 0
    assert result.stderr == "no configuration: taking an example\n"
    assert GOLDEN_ID in result.stdout


def test_an_endpoint_can_be_chosen(tmp_path: Path) -> None:
    """Its topic, its time zone and the configured content mode are what is shown."""
    file = tmp_path / "bridge.yaml"
    file.write_text(CONFIG)

    body = f"<response>{READ}</response>"
    first = run("--config", str(file), body=body).stdout
    second = run("--config", str(file), "--endpoint", "two", body=body).stdout

    assert "endpoint one:" in first
    assert "topic      two\n" in second
    assert "header     ce_type: com.example.status.read\n" in second
    assert '"changed_at": "2011-01-01T10:57:46Z"' in second
    data = second[second.index("{") : second.index("\n}") + 2]
    assert json.loads(data)["id_sms"] == "3234"


def test_an_unknown_endpoint_is_wrong_usage(tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text(CONFIG)

    result = run("--config", str(file), "--endpoint", "three", body="<response/>")

    assert result.exit_code == 2
    assert "'three' is none of one, two" in result.stderr


def test_without_a_dead_letter_topic_an_invalid_state_is_never_acknowledged(
    tmp_path: Path,
) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text(CONFIG)

    result = run("--config", str(file), body="<response><state id_sms='7'/></response>")

    assert "state 1: missing_status: no status; without a dead-letter topic" in result.stdout
    assert "<id_sms>" not in result.stdout


def test_what_a_terminal_would_obey_is_written_out() -> None:
    """An id may hold C1 control characters, which XML allows."""
    body = "<response><state id_sms='1&#x9b;2Jx'>read</state></response>"

    shown = run(body=body).stdout

    assert "\x9b" not in shown
    assert "\\x9b2Jx" in shown
