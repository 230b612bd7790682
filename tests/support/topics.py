"""Topics written and read back with confluent-kafka, a client that the bridge does not use."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from bridge import model as wire
from bridge.demo.child import POLL_SECONDS
from tests.contract.events import check


@dataclass(frozen=True, slots=True)
class Record:
    """One record as an independent client reads it; `timestamp_ms` counts from the epoch."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int


def make_topics(bootstrap_servers: str, *topics: str) -> None:
    """Make topics on the in-memory broker, where asking for one is enough."""
    admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    for topic in topics:
        admin.list_topics(topic, timeout=10)


def publish(
    bootstrap_servers: str,
    messages: Iterable[wire.Message],
    topic: str | None = None,
    *,
    partitioner: str = "murmur2_random",
) -> None:
    """Write records as they are, to another topic if one is given; Java's partitioner is usual."""
    settings = {"bootstrap.servers": bootstrap_servers, "log_level": 0}
    producer = Producer(settings | {"partitioner": partitioner})
    for message in messages:
        producer.produce(
            topic or message.topic,
            message.value,
            message.key,
            headers=list(message.headers),
            timestamp=message.timestamp_ms,
        )
    assert producer.flush(30) == 0


def read_topic(
    bootstrap_servers: str,
    topic: str,
    *,
    expect: int | None = None,
    timeout: float = 30.0,
    foreign: bool = False,
) -> list[Record]:
    """Read a topic from its beginning to the end of every partition, in order of partition.

    Every event among them is held to its schema, unless there are `foreign` ones. With `expect`,
    wait until there are at least so many; TimeoutError if `timeout` seconds pass before that, or
    before the ends are reached.
    KafkaException if there is no topic.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "unused: partitions are assigned, and nothing is committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        records = _read_assigned(consumer, topic, expect or 0, timeout)
    finally:
        consumer.close()
    if not foreign:
        for record in records:
            check(record.value, record.headers)
    return sorted(records, key=lambda record: (record.partition, record.offset))


def _read_assigned(consumer: Consumer, topic: str, expect: int, timeout: float) -> list[Record]:
    deadline = time.monotonic() + timeout
    partitions = _partitions(consumer, topic, timeout)
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    records: list[Record] = []
    at_end: set[int | None] = set()
    while len(records) < expect or at_end != partitions:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{topic}: {len(records)} records of {expect} and {len(at_end)} ends of "
                f"{len(partitions)} partitions within {timeout} s"
            )
        for message in consumer.consume(1000, timeout=POLL_SECONDS):
            error = message.error()
            if error is None:
                at_end.discard(message.partition())
                records.append(_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end.add(message.partition())
            else:
                raise KafkaException(error)
    return records


def _record(message: Message) -> Record:
    partition, offset = message.partition(), message.offset()
    if partition is None or offset is None:
        raise ValueError("a record without its place in the topic")
    return Record(
        topic=message.topic() or "",
        partition=partition,
        offset=offset,
        key=message.key(),
        value=message.value(),
        headers=headers_of(message),
        timestamp_ms=message.timestamp()[1],
    )


def headers_of(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    """Return the names and values of a record's headers, in order."""
    found = message.headers() or []
    pairs = found.items() if isinstance(found, dict) else found
    return tuple((k, v.encode() if isinstance(v, str) else v) for k, v in pairs)


def _partitions(consumer: Consumer, topic: str, timeout: float) -> set[int]:
    found = consumer.list_topics(topic, timeout=timeout).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return set(found.partitions)
