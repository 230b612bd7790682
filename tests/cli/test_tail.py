import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.cli.tail import Filter, as_json, as_line
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.event import rejected_state, status_message
from bridge.kafka.cloudevent import read
from bridge.kafka.consumer import Record
from bridge.model import InvalidState, Message, Received, Route, State
from tests.support.topics import make_topics, publish

RECEIVED_AT = datetime(2026, 11, 23, 9, 15, 2, 123456, tzinfo=UTC)
READ = State(
    id_sms="3234",
    status="read",
    channels={"sms": "deliver", "viber": "read"},
    values={"sms": "deliver", "viber": "read"},
    raw_time="2011-01-01 12:57:46",
    element={},
)
INVALID = InvalidState("4 2", "invalid_id", "no \x9bgood", Received({"id_sms": "4 2"}, "read"))
CONFIG = """\
kafka: {{bootstrap_servers: "{servers}", topic: {topic}, dead_letter_topic: {topic}.rejected}}
endpoints:
  - {{name: main, path: /webhook, source: "urn:test", timezone: UTC, auth: none}}
events: {{type_prefix: com.example}}
"""


def route(topic: str, content_mode: Literal["structured", "binary"] = "structured") -> Route:
    return Route(
        endpoint="main",
        source="urn:test",
        timezone=ZoneInfo("UTC"),
        topic=topic,
        dead_letter_topic=f"{topic}.rejected",
        type_prefix="com.example",
        content_mode=content_mode,
    )


def messages(topic: str) -> list[Message]:
    """One status in each content mode, and one dead letter."""
    return [
        status_message(route(topic), READ, RECEIVED_AT),
        status_message(route(topic, "binary"), READ._replace(id_sms="3235"), RECEIVED_AT),
        rejected_state(route(topic), f"{topic}.rejected", INVALID, RECEIVED_AT),
    ]


def record(message: Message) -> Record:
    return Record(
        topic=message.topic,
        partition=2,
        offset=17,
        timestamp_ms=message.timestamp_ms,
        key=message.key,
        value=message.value,
        headers=tuple(message.headers),
    )


@pytest.fixture
def config(embedded: EmbeddedBroker, topic: str, tmp_path: Path) -> str:
    """A configuration for two topics that exist on the in-memory broker."""
    make_topics(embedded.bootstrap_servers, topic, f"{topic}.rejected")
    return write_config(tmp_path, embedded.bootstrap_servers, topic)


def write_config(directory: Path, servers: str, topic: str) -> str:
    file = directory / "bridge.yaml"
    file.write_text(CONFIG.format(servers=servers, topic=topic))
    return str(file)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["tail", *arguments])


# --- one record --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_a_status_is_one_line(mode: Literal["structured", "binary"]) -> None:
    """Time of receipt, place, id, status, channels, time of the change: in either mode."""
    line = as_line(read(record(status_message(route("t", mode), READ, RECEIVED_AT))))

    assert line.split() == [
        "2026-11-23T09:15:02.123Z",
        "t-2@17",
        "3234",
        "\x1b[32mread",
        "\x1b[0m",
        "sms=deliver",
        "viber=read",
        "2011-01-01T12:57:46Z",
    ]


@pytest.mark.parametrize(
    ("status", "colour"), [("read", 32), ("expired", 31), ("send", 33), ("brand_new", 35)]
)
def test_the_colour_tells_the_outcome(status: str, colour: int) -> None:
    message = status_message(route("t"), READ._replace(status=status), RECEIVED_AT)

    assert f"\x1b[{colour}m{status}" in as_line(read(record(message)))


def test_a_dead_letter_shows_its_reason_and_no_control_character() -> None:
    line = as_line(read(record(rejected_state(route("t"), "t.rejected", INVALID, RECEIVED_AT))))

    assert "rejected" in line
    assert "invalid_id: no \\x9bgood" in line


def test_both_modes_are_the_same_event_as_json() -> None:
    shown = [
        json.loads(as_json(read(record(status_message(route("t", mode), READ, RECEIVED_AT)))))
        for mode in ("structured", "binary")
    ]

    structured, binary = shown
    assert structured["event"] == binary["event"]
    assert structured["event"]["subject"] == "3234"
    assert structured["event"]["time"] == "2011-01-01T12:57:46Z"
    assert structured["event"]["data"]["rank"] == 3
    assert structured["headers"] == {"content-type": "application/cloudevents+json"}
    assert binary["headers"]["ce_type"] == "com.example.status.read"
    assert (binary["topic"], binary["partition"], binary["offset"]) == ("t", 2, 17)
    assert binary["key"] == "3234"


@pytest.mark.parametrize(
    "value", [b"\xff", b"", b"[]", b"{}", b'"x"', b'{"specversion": "1.0", "time": 5}', None]
)
def test_a_record_that_holds_no_event_is_shown_as_such(value: bytes | None) -> None:
    seen = read(Record("t", 0, 1, 0, None, value, ()))

    assert seen.event is None
    assert "not a CloudEvent" in as_line(seen)
    assert json.loads(as_json(seen))["event"] is None


def test_an_event_of_somebody_else_is_shown() -> None:
    """Another producer's event in the topic need not have our fields, nor data at all."""
    value = json.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": "t"}).encode()

    seen = read(Record("t", 0, 1, 0, b"\xff", value, ()))

    assert "\x1b" in as_line(seen)


@pytest.mark.parametrize(
    ("wanted", "keys"),
    [
        (Filter(), ["3234", "3235", "4 2", "5", "6", "7"]),
        (Filter(keys=frozenset({"3235", "4 2"})), ["3235", "4 2"]),
        (Filter(statuses=frozenset({"read"})), ["3234", "3235"]),
        (Filter(statuses=frozenset({"send", "brand_new"})), ["5", "6"]),
        (Filter(outcomes=frozenset({"delivered"})), ["3234", "3235"]),
        (Filter(outcomes=frozenset({"pending", "none"})), ["5", "6"]),
        (Filter(statuses=frozenset({"send"}), outcomes=frozenset({"delivered"})), []),
    ],
)
def test_a_record_is_chosen_by_key_status_and_outcome(wanted: Filter, keys: list[str]) -> None:
    """In either mode. What is no status event has a key alone."""
    others = [
        status_message(route("t"), READ._replace(id_sms=key, status=status), RECEIVED_AT)
        for key, status in [("5", "send"), ("6", "brand_new")]
    ]
    foreign = others[0]._replace(key=b"7", value=b"{}")

    seen = [read(record(message)) for message in [*messages("t"), *others, foreign]]

    assert [(each.record.key or b"").decode() for each in seen if wanted.matches(each)] == keys


# --- the command -------------------------------------------------------------------------


def test_from_the_beginning_up_to_a_number(
    embedded: EmbeddedBroker, topic: str, config: str
) -> None:
    publish(embedded.bootstrap_servers, messages(topic))

    result = run("--config", config, "--from-beginning", "--max", "3", "--json")

    assert result.exit_code == 0, result.output
    events = {event["key"]: event for event in map(json.loads, result.stdout.splitlines())}
    assert events["3234"]["event"]["type"] == "com.example.status.read"
    assert events["3235"]["event"]["type"] == "com.example.status.read"
    assert events["4 2"]["topic"] == f"{topic}.rejected"
    assert events["4 2"]["event"]["data"]["reason"] == "invalid_id"
    assert f"following {topic}, {topic}.rejected" in result.stderr


def test_only_what_is_chosen_is_shown(embedded: EmbeddedBroker, topic: str, config: str) -> None:
    """Everything at once; the record that is meant was published last."""
    later = RECEIVED_AT + timedelta(hours=2)
    read = status_message(route(topic), READ, RECEIVED_AT)
    wanted = status_message(route(topic), READ._replace(raw_time=None), later)
    others = [
        status_message(route(topic), READ._replace(id_sms="3236"), later),
        status_message(route(topic), READ._replace(status="send"), later),
        rejected_state(route(topic), f"{topic}.rejected", INVALID, later),
    ]
    publish(embedded.bootstrap_servers, [read, *others, wanted])

    chosen = ["--since", "2026-11-23T10:00", "--topic", topic, "--key", "3234", "--status", "read"]
    result = run("--config", config, "--json", *chosen, "--outcome", "delivered", "--max", "1")

    assert result.exit_code == 0, result.output
    (shown,) = map(json.loads, result.stdout.splitlines())
    assert shown["event"]["id"] == wanted.event_id
    assert result.stderr == f"following {topic}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from-beginning", "--since", "1h"], "two beginnings"),
        (["--topic", "nonsense"], "'nonsense' is none of "),
        (["--since", "yesterday"], "must be a time such as"),
        (["--outcome", "read"], "is not one of"),
    ],
)
def test_what_cannot_be_chosen_is_a_usage_error(
    config: str, arguments: list[str], said: str
) -> None:
    result = run("--config", config, *arguments)

    assert result.exit_code == 2
    assert said in result.stderr


@contextmanager
def following(config: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `tail`, and go on once it says that it misses nothing any more."""
    with subprocess.Popen(
        [sys.executable, "-m", "bridge", "tail", "--config", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("following ")
            yield process
        finally:
            process.kill()


def test_without_from_beginning_only_what_is_new_until_ctrl_c(
    embedded: EmbeddedBroker, topic: str, config: str
) -> None:
    old, new, _ = messages(topic)
    publish(embedded.bootstrap_servers, [old])

    with following(config) as process:
        assert process.stdout is not None
        publish(embedded.bootstrap_servers, [new])
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)

    assert "  3235  " in line
    assert "\x1b" not in line  # it goes to a pipe
    assert (rest, errors, process.returncode) == ("", "", 130)


def test_a_closed_pipe_is_no_traceback(embedded: EmbeddedBroker, topic: str, config: str) -> None:
    with following(config) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        publish(embedded.bootstrap_servers, messages(topic))
        process.wait(timeout=30)
        errors = process.stderr.read()

    assert errors == ""


def test_kafka_out_of_reach_is_one_clear_line(tmp_path: Path) -> None:
    result = run("--config", write_config(tmp_path, "127.0.0.1:1", "t"))

    assert result.exit_code == 1
    assert result.stderr == "sms-bridge: cannot reach Kafka at 127.0.0.1:1: Connection refused\n"


def test_a_missing_topic_comes_with_the_command_that_makes_it(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    make_topics(embedded.bootstrap_servers, topic)

    result = run("--config", write_config(tmp_path, embedded.bootstrap_servers, topic))

    assert result.exit_code == 1
    assert f"sms-bridge: topic {topic}.rejected: missing; to create it:\n" in result.stderr
    assert f"--topic {topic}.rejected " in result.stderr
    assert f"topic {topic}: " not in result.stderr
