import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from bridge.cli.main import main
from bridge.cli.tail import as_json, as_line
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.event import rejected_state, status_message
from bridge.kafka.cloudevent import read
from bridge.kafka.consumer import Record
from bridge.model import InvalidState, Message, Received, Route, State

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


def publish(servers: str, wanted: Sequence[Message]) -> None:
    """Write records as they are, with a client of somebody else."""
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    for message in wanted:
        producer.produce(
            message.topic,
            message.value,
            message.key,
            headers=list(message.headers),
            timestamp=message.timestamp_ms,
        )
    assert producer.flush(10) == 0


@pytest.fixture
def config(embedded: EmbeddedBroker, topic: str, tmp_path: Path) -> str:
    """A configuration for two topics that exist on the in-memory broker."""
    make_topics(embedded.bootstrap_servers, topic, f"{topic}.rejected")
    return write_config(tmp_path, embedded.bootstrap_servers, topic)


def make_topics(servers: str, *topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for topic in topics:
        admin.list_topics(topic, timeout=10)


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
    assert (rest, errors, process.returncode) == ("", "", 0)


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
