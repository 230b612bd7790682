"""`find` on topics: what became of a message."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from click import unstyle
from click.testing import CliRunner, Result
from confluent_kafka import Producer

from bridge.cli.main import main
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.event import status_message
from bridge.kafka.partitions import partition_of
from bridge.model import Message, Route, State
from tests.support.brokers import ExternalKafka
from tests.support.gateway import configuration
from tests.support.letters import RECEIVED_AT, ROUTE, of_body, of_state
from tests.support.topics import make_topics, publish

OTHER = {
    "name": "other",
    "path": "/other",
    "source": "urn:example:sms:other",
    "timezone": "UTC",
    "auth": "none",
}


def event(
    id_sms: str, status: str, clock: str = "12:57:46", *, minutes: int = 0, route: Route = ROUTE
) -> Message:
    """The event of a state that was received so many minutes after the first."""
    state = State(id_sms, status, {"sms": status}, {"sms": status}, f"2011-01-01 {clock}", {})
    return status_message(route, state, RECEIVED_AT + timedelta(minutes=minutes))


def story(topic: str) -> list[Message]:
    """A message with a late and repeated state, one of the binary mode, and dead letters."""
    binary = replace(ROUTE, content_mode="binary")
    states = [
        event("3234", "deliver", "12:58:00", minutes=1),
        event("3234", "send", minutes=2),
        event("3234", "deliver", "12:58:00", minutes=3),
        event("3234", "read", "12:59:00", minutes=4, route=binary),
        event("3235", "deliver"),
        *[event(f"other-{number}", "send") for number in range(50)],
    ]
    letters = [of_state({"id_sms": "3235"}, text="??"), of_body(b'<state id_sms="3235">')]
    return [
        *(message._replace(topic=topic) for message in states),
        *(message._replace(topic=f"{topic}.rejected") for message in letters),
    ]


def write_config(directory: Path, servers: str, topic: str, other_topic: str = "") -> str:
    """With a second endpoint, if a topic of its own is given."""
    content = configuration(servers, topic)
    if other_topic:
        content["endpoints"].append(OTHER | {"topic": other_topic})
    file = directory / "bridge.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.fixture
def config(embedded: EmbeddedBroker, topic: str, tmp_path: Path) -> str:
    make_topics(embedded.bootstrap_servers, topic, f"{topic}.rejected")
    publish(embedded.bootstrap_servers, story(topic))
    return write_config(tmp_path, embedded.bootstrap_servers, topic)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["find", *arguments])


def found(*arguments: str, code: int = 0) -> list[dict[str, Any]]:
    result = run("--json", *arguments)
    assert result.exit_code == code, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- for programs ------------------------------------------------------------------------


def test_a_message_is_told_from_its_partition(config: str, topic: str) -> None:
    """In order of the rule; nothing is read but the partition of the key, and dead letters."""
    (told,) = found("--config", config, "3234")

    (message,) = told["messages"]
    assert {name: value for name, value in message.items() if name != "states"} == {
        "source": "urn:example:sms:main",
        "status": "read",
        "outcome": "delivered",
        "rank": 3,
        "settled": True,
        "missing": [],
        "states_left_out": 0,
    }
    states = message["states"]
    assert [(state["status"], state["records"]) for state in states] == [
        ("send", 1),
        ("deliver", 2),
        ("read", 1),
    ]
    assert states[1] | {"offset": 0, "id": ""} == {
        "id": "",
        "id_sms": "3234",
        "status": "deliver",
        "outcome": "delivered",
        "final": False,
        "rank": 2,
        "channels": {"sms": "deliver"},
        "attributes": {},
        "changed_at": "2011-01-01T12:58:00Z",
        "raw_time": "2011-01-01 12:58:00",
        "received_at": "2026-11-23T09:16:02.123456Z",
        "last_received_at": "2026-11-23T09:18:02.123456Z",
        "records": 2,
        "topic": topic,
        "partition": partition_of(b"3234", 4),
        "offset": 0,
    }
    assert (told["id_sms"], told["found"], told["dead_letters"]) == ("3234", True, [])
    searched = {(each["topic"], each["partition"]) for each in told["searched"]}
    letters = {(f"{topic}.rejected", partition) for partition in range(4)}
    assert searched == letters | {(topic, partition_of(b"3234", 4))}


def test_several_ids_are_told_each_by_itself(config: str) -> None:
    """Each once, in their order; one of which there is nothing makes it end with 1."""
    told = found("--config", config, "3235", "nothing", "3234", "3235", code=1)

    assert [(each["id_sms"], each["found"]) for each in told] == [
        ("3235", True),
        ("nothing", False),
        ("3234", True),
    ]
    letters = told[0]["dead_letters"]
    assert {(each["of"], each["reason"], each["records"]) for each in letters} == {
        ("state", "invalid_status", 1),
        ("body", "too_deep", 1),
    }
    assert told[0]["messages"][0]["missing"] == ["final_state", "first_state"]
    assert told[1]["messages"] == []


def test_since_leaves_out_what_is_older(config: str) -> None:
    (told,) = found("--config", config, "3234", "--since", "2026-11-23T09:18")
    assert [s["status"] for s in told["messages"][0]["states"]] == ["deliver", "read"]
    (told,) = found("--config", config, "3234", "--since", "2026-11-24", code=1)
    assert not told["found"]


# --- for people --------------------------------------------------------------------------


def test_it_is_laid_out_for_a_person(config: str, topic: str) -> None:
    result = run("--config", config, "3234", "3235", "4 2\x9b")

    assert result.exit_code == 1
    blocks = [block.splitlines() for block in unstyle(result.stdout).split("\n\n")]
    read, deliver, nothing = blocks
    where = f"{topic}-{partition_of(b'3234', 4)}@"
    assert read[0] == "3234  read: delivered, settled"
    assert " ".join(read[1].split()) == "rank status outcome channels changed at received at place"
    words = [line.split() for line in read[2:5]]
    assert [line[:3] for line in words] == [
        ["0", "send", "pending"],
        ["2", "deliver", "delivered"],
        ["3", "read", "delivered"],
    ]
    assert words[1][3:6] == ["sms=deliver", "2011-01-01T12:58:00Z", "2026-11-23T09:16:02.123Z"]
    assert words[1][6].startswith(where)
    assert " ".join(words[1][7:]) == "2 times, last 2026-11-23T09:18:02.123Z"
    assert read[5] == "  source      urn:example:sms:main, endpoint main"
    assert f"{topic} partition {partition_of(b'3234', 4)}, " in read[6]
    assert deliver[0] == "3235  deliver: delivered, not settled"
    assert "  missing     a final state: the provider may send another, and need not" in deliver
    assert "3235  rejected states" in deliver
    assert "3235  rejected bodies in which the id is" in deliver
    assert nothing[0] == "4 2\\x9b  not found"


def test_nothing_found_says_where_it_was_looked_for(config: str, topic: str) -> None:
    result = run("--config", config, "nothing")

    assert result.exit_code == 1
    first, read = unstyle(result.stdout).splitlines()
    assert first == "nothing  not found"
    assert read.startswith(f"  searched    {topic} partition {partition_of(b'nothing', 4)}, ")
    assert f"; {topic}.rejected 4 partitions, 2 offsets" in read


@pytest.mark.parametrize("ids", [[], [""], ["3234", ""], ["3234", "\udcff"]])
def test_an_id_is_needed(config: str, ids: list[str]) -> None:
    """Nor an empty one, as of a variable that is not set: it would be that of every other.

    Nor bytes that are no text, which Python hands on as surrogates.
    """
    assert run("--config", config, *ids).exit_code == 2


def test_endpoints_may_have_topics_of_their_own(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    """One id, a message of each account."""
    servers, theirs = embedded.bootstrap_servers, f"{topic}.other"
    make_topics(servers, topic, theirs, f"{topic}.rejected")
    route = replace(ROUTE, source="urn:example:sms:other")
    publish(servers, [event("3234", "read")], topic)
    publish(servers, [event("3234", "expired", route=route)], theirs)

    (told,) = found("--config", write_config(tmp_path, servers, topic, theirs), "3234")

    assert [(m["source"][-5:], m["outcome"]) for m in told["messages"]] == [
        (":main", "delivered"),
        ("other", "undelivered"),
    ]


# --- partitions --------------------------------------------------------------------------


def test_keys_that_lie_elsewhere_are_found_all_the_same(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    """Another program wrote them with a partitioner of its own: librdkafka's usual one."""
    servers = embedded.bootstrap_servers
    make_topics(servers, topic, f"{topic}.rejected")
    ids = [str(number) for number in range(40)]
    publish(servers, [event(each, "read") for each in ids], topic, partitioner="consistent")
    config = write_config(tmp_path, servers, topic)

    result = run("--config", config, "--json", *ids)

    assert result.exit_code == 0, result.output
    said = f"{topic}: keys lie in other partitions than they would go to today: reading all of them"
    assert result.stderr == f"sms-bridge: {said}\n"
    told = json.loads(result.stdout.splitlines()[0])
    assert {each["partition"] for each in told["searched"] if each["topic"] == topic} == {
        0,
        1,
        2,
        3,
    }


def test_every_partition_is_read_if_that_is_asked_for(
    embedded: EmbeddedBroker, topic: str, tmp_path: Path
) -> None:
    """The first partition tells nothing, if it is empty."""
    servers = embedded.bootstrap_servers
    make_topics(servers, topic, f"{topic}.rejected")
    config = write_config(tmp_path, servers, topic)
    strange = (partition_of(b"3234", 4) + 1) % 4 or 1
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    _, key, value, headers, *_ = event("3234", "read")
    producer.produce(topic, value, key, partition=strange, headers=[*headers])
    assert producer.flush(30) == 0

    assert not found("--config", config, "3234", code=1)[0]["found"]
    assert found("--config", config, "3234", "--all-partitions")[0]["found"]


def write_odd_records(servers: str, topic: str) -> None:
    """What an independent client wrote under the key of a message, beside its events."""
    send, read = event("3234", "send"), event("3234", "read", "12:59:00", minutes=5)
    odd = [
        send._replace(value=b"\xff\x00"),
        send._replace(value=b"", headers=[]),
        event("42", "read")._replace(key=b"3234"),
        send._replace(value=b'{"specversion":"1.0","type":"x","source":"s","id":"1"}'),
    ]
    publish(servers, [send, *odd], topic)
    client = {"bootstrap.servers": servers, "partitioner": "murmur2_random", "log_level": 0}
    tombstone = Producer(client)
    tombstone.produce(topic, None, b"3234", timestamp=send.timestamp_ms)
    assert tombstone.flush(30) == 0
    # Compressed, in transactions: their ends are offsets without a record.
    producer = Producer(client | {"transactional.id": topic, "compression.type": "gzip"})
    producer.init_transactions(30)
    for message in (read, read):
        producer.begin_transaction()
        _, key, value, headers, timestamp, _ = message
        producer.produce(topic, value, key, headers=[*headers], timestamp=timestamp)
        producer.commit_transaction(30)


@pytest.fixture
def kept_topic(kafka: ExternalKafka, topic: str) -> str:
    """One with three partitions, and that of dead letters, that keep what looks old."""
    kafka.create_topic(topic, 3, config={"retention.ms": "-1"})
    kafka.create_topic(f"{topic}.rejected", 2, config={"retention.ms": "-1"})
    return topic


def test_on_a_real_kafka_odd_records_are_told_of_and_hide_nothing(
    kafka: ExternalKafka, kept_topic: str, tmp_path: Path
) -> None:
    servers = kafka.bootstrap_servers
    write_odd_records(servers, kept_topic)
    config = write_config(tmp_path, servers, kept_topic)

    (told,) = found("--config", config, "3234")

    (message,) = told["messages"]
    states = [(state["status"], state["records"]) for state in message["states"]]
    assert states == [("send", 1), ("read", 2)]
    whys = [each["why"] for each in told["unreadable"]]
    assert len(whys) == 5
    assert whys[2] == "a state of another message, 42"
    assert whys[4] == "the record has no value"
    (searched,) = (each for each in told["searched"] if each["topic"] == kept_topic)
    assert searched["partition"] == partition_of(b"3234", 3)

    # Since a time: from the time's offset on; and from the end, if nothing is as new.
    (later,) = found("--config", config, "3234", "--since", "2026-11-23T09:20")
    (place,) = (each for each in later["searched"] if each["topic"] == kept_topic)
    assert [state["status"] for state in later["messages"][0]["states"]] == ["read"]
    assert place["from"] > searched["from"]
    (none,) = found("--config", config, "3234", "--since", "9000-01-01", code=1)
    assert [each["to"] - each["from"] for each in none["searched"]] == [0, 0, 0]


def test_what_was_written_before_partitions_were_added_is_found(
    kafka: ExternalKafka, kept_topic: str, tmp_path: Path
) -> None:
    """Its key determines another partition now. Since a time after that, one is enough again."""
    servers = kafka.bootstrap_servers
    ids = [f"o{number}" for number in range(60)]
    publish(servers, [event(each, "send") for each in ids], kept_topic)
    kafka.add_partitions(kept_topic, 7)
    moved = next(each for each in ids if partition_of(each.encode(), 7) > 2)
    publish(servers, [event(moved, "read", minutes=60)], kept_topic)
    config = write_config(tmp_path, servers, kept_topic)

    told = run("--config", config, "--json", moved)

    assert told.exit_code == 0, told.output
    assert "keys lie in other partitions" in told.stderr
    states = json.loads(told.stdout)["messages"][0]["states"]
    assert [(state["status"], state["partition"] > 2) for state in states] == [
        ("send", False),
        ("read", True),
    ]
    late = run("--config", config, "--json", moved, "--since", "2026-11-23T10:00")
    (state,) = json.loads(late.stdout)["messages"][0]["states"]
    assert (state["status"], late.stderr) == ("read", "")
