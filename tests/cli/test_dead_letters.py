"""`dead-letters list` and `replay` on a topic."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from confluent_kafka import Producer
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType

from bridge.cli.main import main
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.replay import (
    Filter,
    Verdict,
    replay,
)
from tests.support.brokers import ExternalKafka
from tests.support.gateway import Gateway, configuration
from tests.support.letters import NOW, READ, RECEIVED_AT, ROUTE, SOURCE, of_body, of_state
from tests.support.reference import event_id
from tests.support.settings import settings
from tests.support.topics import make_topics, publish, read_topic

# --- the topic ---------------------------------------------------------------------------


@pytest.fixture
def config(embedded: EmbeddedBroker, topic: str, tmp_path: Path) -> str:
    """A configuration of a topic with four letters, and one record that is none."""
    servers = embedded.bootstrap_servers
    make_topics(servers, topic, f"{topic}.rejected")
    late = RECEIVED_AT + timedelta(days=1)
    brand = replace(ROUTE, endpoint="brand")
    letters = [
        of_state(),
        of_state({"id_sms": "b@d"}, reason="invalid_id"),
        of_state(READ | {"id_sms": "late"}, received_at=late),
        of_body(route=brand),
        of_state()._replace(value=b"{}", key=b"none"),
    ]
    publish(servers, letters, f"{topic}.rejected")
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(configuration(servers, topic)))
    return str(file)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["dead-letters", *arguments])


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        ([], 5),
        (["--reason", "invalid_status"], 2),
        (["--reason", "invalid_status", "--reason", "invalid_id"], 3),
        (["--endpoint", "brand"], 1),
        (["--endpoint", "main", "--reason", "too_deep"], 0),
        (["--since", "2026-11-24"], 1),
        (["--since", "2026-11-24T09:15:02.124"], 0),
        (["--since", "2027-01-01"], 0),
        (["--endpoint", "main", "--max", "2"], 2),
    ],
)
def test_list_reads_to_the_end_and_ends(config: str, chosen: Sequence[str], count: int) -> None:
    plain = run("list", "--config", config, *chosen)
    in_json = run("list", "--config", config, "--json", *chosen)
    assert plain.exit_code == in_json.exit_code == 0, plain.output
    assert len(plain.stdout.splitlines()) == count
    assert all(isinstance(json.loads(line), dict) for line in in_json.stdout.splitlines())
    assert len(in_json.stdout.splitlines()) == count


def bridge(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The program in a process of its own."""
    command = [sys.executable, "-m", "bridge", "dead-letters", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_replay_on_a_broker(config: str, embedded: EmbeddedBroker, topic: str) -> None:
    """A dry run first; then all that can be; the topic of dead letters gets nothing new."""
    before = read_topic(embedded.bootstrap_servers, f"{topic}.rejected", expect=5, foreign=True)
    dry = bridge("replay", "--config", config, "--dry-run")
    assert dry.returncode == 1, dry.stderr
    counts = "letters 5 (still_invalid 1, unreadable 1, valid 3), events 4"
    assert dry.stdout.splitlines()[-1] == f"dry run: {counts}", dry.stdout
    assert read_topic(embedded.bootstrap_servers, topic) == []

    done = bridge("replay", "--config", config)
    assert done.returncode == 1, done.stderr
    counts = "letters 5 (replayed 3, still_invalid 1, unreadable 1), events 4"
    assert done.stdout.splitlines()[-1] == counts
    assert "invalid_id  b@d  still_invalid: invalid_id: id_sms is not" in done.stdout
    written = read_topic(embedded.bootstrap_servers, topic, expect=4)
    assert {r.key for r in written} == {b"3234", b"late", b"1", b"2"}
    after = read_topic(embedded.bootstrap_servers, f"{topic}.rejected", foreign=True)
    assert after == before

    some = bridge(
        "replay", "--config", config, "--reason", "invalid_status", "--since", "2026-01-01"
    )
    assert (some.returncode, some.stderr) == (0, "")
    assert some.stdout.splitlines()[-1] == "letters 2 (replayed 2), events 2"


def test_an_empty_topic_is_no_failure(embedded: EmbeddedBroker, topic: str, tmp_path: Path) -> None:
    make_topics(embedded.bootstrap_servers, topic, f"{topic}.rejected")
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(configuration(embedded.bootstrap_servers, topic)))
    assert run("list", "--config", str(file)).stdout == ""
    done = bridge("replay", "--config", str(file))
    assert (done.returncode, done.stdout) == (0, "letters 0, events 0\n")


@pytest.mark.parametrize("command", ["list", "replay"])
def test_what_cannot_be_done_is_one_clear_line(command: str, tmp_path: Path) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(configuration("127.0.0.1:1", "t")))
    away = bridge(command, "--config", str(file))
    assert away.returncode == 1
    assert away.stderr == "sms-bridge: cannot reach Kafka at 127.0.0.1:1: Connection refused\n"
    nothing = configuration("127.0.0.1:1", "t", kafka={"dead_letter_topic": None})
    file.write_text(yaml.safe_dump(nothing))
    none = bridge(command, "--config", str(file))
    assert none.returncode == 1
    assert "kafka.dead_letter_topic is null: there are no dead letters" in none.stderr
    wrong = bridge(command, "--config", str(file), "--since", "yesterday")
    assert wrong.returncode == 2
    assert "--since: must be a time" in wrong.stderr


# --- real Kafka --------------------------------------------------------------------------


def test_a_missing_topic_is_named_with_the_command_that_makes_it(
    kafka: ExternalKafka, topic: str, tmp_path: Path
) -> None:
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(configuration(kafka.bootstrap_servers, topic)))
    listed = run("list", "--config", str(file))
    assert listed.exit_code == 1
    assert f"topic {topic}.rejected: missing; to create it:" in listed.stderr
    assert "kafka-topics.sh --create" in listed.stderr
    kafka.create_topic(f"{topic}.rejected", 1)
    done = bridge("replay", "--config", str(file))
    assert done.returncode == 1
    assert done.stderr.endswith(f"sms-bridge: topic {topic} is missing\n")
    assert f"--topic {topic} " in done.stderr


def raise_limit(kafka: ExternalKafka, topic: str, size: str) -> None:
    entry = ConfigEntry("max.message.bytes", size, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = kafka.admin()
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(15)


def test_a_topic_with_too_small_a_limit_is_mended_and_its_letters_are_replayed(
    kafka: ExternalKafka, topic: str, tmp_path: Path
) -> None:
    """The gateway buries what the topic does not take; after the fix nothing is missing."""
    servers = kafka.bootstrap_servers
    kafka.create_topic(topic, 3, config={"max.message.bytes": "1500"})
    kafka.create_topic(f"{topic}.rejected", 2)
    time = 'time="2011-01-01 12:57:46"'
    states = "".join(
        f'<state id_sms="{n}" {time} sms="read" x="{"y" * 100 * n}">read</state>'
        for n in range(1, 25)
    )
    config = configuration(servers, topic)
    with Gateway(config) as gateway:
        assert len(gateway.post(f"<response>{states}</response>".encode()).ids) == 24
    small = read_topic(servers, topic)
    buried = read_topic(servers, f"{topic}.rejected")
    assert len(small) + len(buried) == 24
    assert len(buried) > 10
    file = tmp_path / "bridge.yaml"
    file.write_text(yaml.safe_dump(config))

    too_early = bridge("replay", "--config", str(file))
    assert too_early.returncode == 1, too_early.stdout
    counts = f"letters {len(buried)} (still_invalid {len(buried)}), events 0"
    assert too_early.stdout.splitlines()[-1] == counts
    raise_limit(kafka, topic, "1048576")
    for _ in range(2):
        done = bridge("replay", "--config", str(file), "--reason", "too_large")
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert len(done.stdout.splitlines()) == len(buried) + 1

    assert read_topic(servers, f"{topic}.rejected") == buried
    values: dict[str, set[bytes | None]] = {}
    for written in read_topic(servers, topic, expect=len(small) + 2 * len(buried)):
        values.setdefault(json.loads(written.value or b"")["id"], set()).add(written.value)
    assert set(values) == {
        event_id(
            SOURCE, str(n), "read", "2011-01-01 12:57:46", [("sms", "read"), ("x", "y" * 100 * n)]
        )
        for n in range(1, 25)
    }
    # The second replay has written the same events, to the byte.
    assert {len(of_one_id) for of_one_id in values.values()} == {1}


def test_letters_of_a_time_and_a_topic_whose_last_offsets_hold_no_record(
    kafka: ExternalKafka, topic: str
) -> None:
    """A transaction's end takes an offset, as compaction leaves gaps: neither may hang it."""
    kafka.create_topic(topic, 1)
    kafka.create_topic(f"{topic}.rejected", 1)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic, "log_level": 0}
    )
    producer.init_transactions(15)
    producer.begin_transaction()
    # Long ago, whatever this machine's clock says: a broker takes nothing from the future.
    early, late = datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 6, 1, tzinfo=UTC)
    for m in (of_state(received_at=early), of_state(READ | {"id_sms": "2"}, received_at=late)):
        headers = dict[str, str | bytes | None](m.headers)
        producer.produce(
            f"{topic}.rejected", m.value, m.key, headers=headers, timestamp=m.timestamp_ms
        )
    producer.commit_transaction(15)
    told: list[Verdict] = []
    since = Filter(since=late - timedelta(days=1))
    using = settings(servers=kafka.bootstrap_servers, topic=topic)
    tally = asyncio.run(replay(using, since, told.append, dry_run=True, clock=lambda: NOW))
    assert [v.letter.record.offset for v in told] == [1]
    assert str(tally) == "letters 1 (valid 1), events 1"
    every = asyncio.run(replay(using, Filter(), told.append, dry_run=True, clock=lambda: NOW))
    assert every.words.total() == 2
