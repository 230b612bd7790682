"""Reads a topic that is still written to, with a client that the gateway does not publish with.

It shares nothing with the gateway and decides nothing: what it reads is check.py's to judge.
"""

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

READ_SECONDS = 120.0
POLL_SECONDS = 0.1
BATCH = 2000
UNSETTLED = {
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
}


def read(bootstrap_servers: str, topic: str) -> Iterator[Message]:
    """Every record that is there when the reading begins, in no order; some later ones too.

    Raises KafkaException where there is no topic, and TimeoutError where the records do not come
    in READ_SECONDS.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "unused: partitions are assigned, and nothing is committed",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 50,
            "reconnect.backoff.max.ms": 250,
            "log_level": 0,
        }
    )
    try:
        extents = _extents(consumer, topic)
        consumer.assign([TopicPartition(topic, p, low) for p, (low, _) in extents.items()])
        yield from _until(consumer, {p: high for p, (_, high) in extents.items()})
    finally:
        consumer.close()


def _extents(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """The first and the next offset of each partition that holds anything."""
    found = consumer.list_topics(topic, timeout=READ_SECONDS).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    offsets = {
        number: _offsets(consumer, TopicPartition(topic, number)) for number in found.partitions
    }
    return {number: (low, high) for number, (low, high) in offsets.items() if low < high}


def _offsets(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """As soon as a new leader knows up to where its log is in all replicas that count."""
    deadline = time.monotonic() + READ_SECONDS
    while True:
        try:
            offsets: tuple[int, int] = consumer.get_watermark_offsets(place, READ_SECONDS)
        except KafkaException as exc:
            if exc.args[0].code() not in UNSETTLED or time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
        else:
            return offsets


def _until(consumer: Consumer, ends: dict[int, int]) -> Iterator[Message]:
    deadline = time.monotonic() + READ_SECONDS
    while ends:
        if time.monotonic() > deadline:
            raise TimeoutError(f"records up to {ends} did not come in time")
        for message in consumer.consume(BATCH, POLL_SECONDS):
            error = message.error()
            if error is None:
                partition, offset = message.partition() or 0, message.offset() or 0
                if offset + 1 >= ends.get(partition, offset + 2):
                    del ends[partition]
                yield message
            elif error.code() != KafkaError._TRANSPORT:
                raise KafkaException(error)
