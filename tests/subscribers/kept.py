"""What a service of docs/examples/frameworks has kept in PostgreSQL, field by field."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from bridge.subscriber import StatusEvent, UnreadableError, latest, read
from tests.subscribers.frameworks import TABLES, started
from tests.support.brokers import ExternalKafka
from tests.support.postgres import PostgresServer
from tests.support.topics import Record, read_topic

END_TIMEOUT_SECONDS = 300.0
SECONDS_AN_EVENT = 0.02
STOP_TIMEOUT_SECONDS = 60.0
STATUS_FIELDS = ("status", "outcome", "final", "rank")
TIME_FIELDS = ("changed_at", "received_at")
# Ended in order, in the words of Python, of the JVM and of Node.
ENDED = {0, 143, -15}
ONCE = """
-- The state cannot be kept at first: its connection breaks, and then its statement fails.
CREATE SEQUENCE attempts;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE attempt bigint;
BEGIN
    IF NEW.id = '{event_id}' THEN
        attempt := nextval('attempts');
        IF attempt = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
        IF attempt = 2 THEN RAISE 'not now'; END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fails BEFORE INSERT ON sms_event FOR EACH ROW EXECUTE FUNCTION fail();
"""

Identity = tuple[str, str]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Log:
    """What a topic holds: each event once, as it was first written, and the latest by message.

    `structured` has those of structured records alone, as they were last written; `ends` has the
    offset after the last record of each partition.
    """

    topic: str
    ends: dict[int, int]
    events: dict[Identity, Row]
    modes: dict[Identity, str]
    structured: dict[Identity, Row]
    latest: dict[Identity, Row]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a service has made of a log: by content mode its events, and fields that are wrong.

    `wrong_statuses` are fields of the table of latest statuses; `attempts` how often the service
    came with the state that it could not keep. A row too many, or too few, counts as one field.
    """

    events: Counter[str]
    wrong: Counter[str]
    statuses: int
    wrong_statuses: int
    attempts: int

    @property
    def holds(self) -> bool:
        return not self.wrong.total() and not self.wrong_statuses


def log_of(kafka: ExternalKafka, topic: str) -> Log:
    """Read it with what no service uses: an own client, and the bridge's helper."""
    log = Log(topic, {}, {}, {}, {}, {})
    standing: dict[Identity, StatusEvent] = {}
    for record in read_topic(kafka.bootstrap_servers, topic, foreign=True):
        log.ends[record.partition] = record.offset + 1
        event = _status(record)
        if event is None:
            continue
        structured = ("content-type", b"application/cloudevents+json") in record.headers
        content = json.loads(record.value or b"")
        if structured:
            log.structured[event.identity] = content["data"]
        if event.identity in log.events:
            continue
        log.events[event.identity] = content["data"] if structured else content
        log.modes[event.identity] = "structured" if structured else "binary"
        standing[event.message] = latest(standing.get(event.message), event)
    for message, event in standing.items():
        log.latest[message] = log.events[event.identity] | {"event_id": event.id}
    return log


def _status(record: Record) -> StatusEvent | None:
    try:
        event = read(record.value, record.headers)
    except UnreadableError:
        return None
    return event if isinstance(event, StatusEvent) else None


def kept(
    kafka: ExternalKafka,
    server: PostgresServer,
    log: Log,
    service: tuple[str, tuple[str, ...]],
    directory: Path,
) -> Kept:
    """Run a service until its group has committed the whole log; then end it.

    `service` is its name and its command. One state of the log cannot be kept in the first two
    attempts.
    """
    name, command = service
    server.run("postgres", f"CREATE DATABASE {name}")
    (_, hindered), *_ = sorted(log.events)[len(log.events) // 2 :]
    server.run(name, TABLES + ONCE.format(event_id=hindered))
    program = started(
        name,
        command,
        directory / "log",
        kafka_brokers=kafka.bootstrap_servers,
        kafka_topic=log.topic,
        kafka_group=f"{log.topic}.{name}",
        database_url=server.url(name),
    )
    with program:
        seconds = END_TIMEOUT_SECONDS + len(log.events) * SECONDS_AN_EVENT
        done = partial(committed, kafka, f"{log.topic}.{name}", log)
        program.wait_until(done, f"{name} commits the end of the log", seconds)
        assert program.terminate(STOP_TIMEOUT_SECONDS) in ENDED, program.output[-5000:]
    return _judged(server, log, name)


def committed(kafka: ExternalKafka, group: str, log: Log) -> bool:
    """Whether a group has committed the whole log."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    try:
        places = [TopicPartition(log.topic, partition) for partition in log.ends]
        found = consumer.committed(places, timeout=30)
    finally:
        consumer.close()
    return {place.partition: place.offset for place in found} == log.ends


def _judged(server: PostgresServer, log: Log, name: str) -> Kept:
    events: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    got = {
        (row["source"], row["id"]): row["data"]
        for row in server.rows(name, "SELECT * FROM sms_event")
    }
    for identity in got.keys() | log.events.keys():
        mode = log.modes.get(identity, "neither")
        events[mode] += identity in got
        wrong[mode] += _differing(log.events.get(identity), got.get(identity))
    statuses = {
        (row["source"], row["id_sms"]): row for row in server.rows(name, "SELECT * FROM sms_status")
    }
    (attempts,) = server.rows(name, "SELECT last_value FROM attempts")
    return Kept(
        events,
        wrong,
        len(statuses),
        sum(
            _differing(_status_row(log.latest.get(message)), _status_row(statuses.get(message)))
            for message in statuses.keys() | log.latest.keys()
        ),
        attempts["last_value"],
    )


def _status_row(data: Row | None) -> Row | None:
    if data is None:
        return None
    times = {name: data[name] and datetime.fromisoformat(data[name]) for name in TIME_FIELDS}
    return {name: data[name] for name in ("event_id", "id_sms", *STATUS_FIELDS)} | times


def _differing(expected: Row | None, got: Row | None) -> int:
    if expected is None or got is None:
        return int(expected is not got)
    missing = object()
    return sum(
        expected.get(name, missing) != got.get(name, missing)
        for name in expected.keys() | got.keys()
    )
