"""One aiokafka producer against a real protocol: what it sends, and how it ends."""

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import UnknownTopicOrPartitionError
from confluent_kafka import Producer as ReferenceProducer

from bridge.config.settings import Kafka
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.errors import BridgeError
from bridge.kafka.partitions import partition_of
from bridge.kafka.producer import MAX_PAUSE_SECONDS, InFlight, Producer
from bridge.kafka.topic_metadata import _topic
from tests.support.fake_kafka import NODE, FakeProducer, idle, until
from tests.support.topics import read_topic


def settings(bootstrap_servers: str, timeout: float = 5) -> Kafka:
    return Kafka(bootstrap_servers=(bootstrap_servers,), publish_timeout_seconds=timeout)


@asynccontextmanager
async def connected(bootstrap_servers: str, topic: str) -> AsyncIterator[Producer]:
    producer = await Producer.open(settings(bootstrap_servers))
    assert list(await producer.track([topic, "no.such.topic"])) == [topic]
    try:
        yield producer
    finally:
        await producer.abandon()


def open_sockets() -> int:
    return sum(1 for link in _descriptors() if link.startswith("socket:"))


def _descriptors() -> Iterator[str]:
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            yield str(descriptor.readlink())


@pytest.fixture
def made_topic(embedded: EmbeddedBroker, topic: str) -> str:
    """A topic on the in-memory broker, where a producer's first mention makes it."""
    ReferenceProducer({"bootstrap.servers": embedded.bootstrap_servers}).list_topics(
        topic, timeout=10
    )
    return topic


async def test_a_batch_is_in_the_log_when_its_answer_comes(
    embedded: EmbeddedBroker, made_topic: str
) -> None:
    async with connected(embedded.bootstrap_servers, made_topic) as producer:
        partition = partition_of(b"3234", producer.partitions(made_topic))
        batch = producer.new_batch()
        for value in (b"a", b"b"):
            batch.append(timestamp=7, key=b"3234", value=value, headers=[("h", b"v")])
        answer = await producer.send(batch, made_topic, partition)
        assert producer.oldest_seconds() > 0
        assert (await answer) == 0
        assert producer.oldest_seconds() == 0
    records = read_topic(embedded.bootstrap_servers, made_topic, expect=2)
    assert [(r.value, r.partition, r.offset) for r in records] == [
        (b"a", partition, 0),
        (b"b", partition, 1),
    ]


async def test_a_partition_that_is_not_there_is_refused_at_once(
    embedded: EmbeddedBroker, made_topic: str
) -> None:
    async with connected(embedded.bootstrap_servers, made_topic) as producer:
        with pytest.raises(UnknownTopicOrPartitionError):
            await producer.send(producer.new_batch(), made_topic, 999)
        assert producer.partitions("no.such.topic") == 0


async def test_a_refused_port_raises_and_leaves_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    before = asyncio.all_tasks()
    with pytest.raises(BridgeError, match="Connection refused"):
        await Producer.open(settings(f"127.0.0.1:{port}"))
    assert asyncio.all_tasks() == before


async def test_a_silent_port_raises_within_the_time_and_leaves_nothing() -> None:
    """A black hole: the producer is taken and nothing is ever answered."""
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(BridgeError):
            await Producer.open(settings(f"127.0.0.1:{listener.getsockname()[1]}", 0.3))
        await until(lambda: asyncio.all_tasks() == before)


async def test_closing_flushes(embedded: EmbeddedBroker, made_topic: str) -> None:
    async with connected(embedded.bootstrap_servers, made_topic) as producer:
        batch = producer.new_batch()
        batch.append(timestamp=7, key=b"k", value=b"last", headers=[])
        await producer.send(batch, made_topic, 0)
        await producer.close(5)
    (record,) = read_topic(embedded.bootstrap_servers, made_topic, expect=1)
    assert record.value == b"last"


async def test_abandoning_with_a_frozen_broker_leaves_no_task_and_no_socket(
    new_embedded: type[EmbeddedBroker], topic: str
) -> None:
    """Batches in flight, a request for metadata, and a peer that answers nothing any more."""
    with new_embedded(topic) as broker:
        before, sockets = asyncio.all_tasks(), open_sockets()
        for _ in range(3):
            producer = await Producer.open(settings(broker.bootstrap_servers, 2))
            await producer.track([topic])
            broker.freeze()
            for partition in range(4):
                batch = producer.new_batch()
                batch.append(timestamp=7, key=b"k", value=b"v" * 100_000, headers=[])
                await producer.send(batch, topic, partition)
            probe = asyncio.create_task(producer.refresh())
            await idle()
            await asyncio.wait_for(producer.abandon(), 5)
            probe.cancel()
            await asyncio.gather(probe, return_exceptions=True)
            broker.thaw()
        await until(lambda: asyncio.all_tasks() == before)
        gc.collect()
        await until(lambda: open_sockets() == sockets)


async def test_abandoning_goes_on_where_a_connection_has_ended(
    new_embedded: type[EmbeddedBroker], topic: str
) -> None:
    """Uvloop then raises, in the middle of the client's end."""

    def ended(*_: object, **__: object) -> None:
        raise RuntimeError("the handler is closed")

    with new_embedded(topic) as broker:
        before, sockets = asyncio.all_tasks(), open_sockets()
        producer = await Producer.open(settings(broker.bootstrap_servers))
        await producer.track([topic])
        connections = list(producer._inner.client._conns.values())
        for connection in connections:
            connection.close = ended
        await producer.abandon()
        assert connections
        await until(lambda: asyncio.all_tasks() == before)
        gc.collect()
        await until(lambda: open_sockets() == sockets)


async def test_a_broker_that_answers_others_slowly_is_not_stalled() -> None:
    """A batch waits for its turn with the broker: that is no silence. Errors are no answer."""
    producer = FakeProducer()
    producer.in_flight[asyncio.Future()] = InFlight("status", 0, time.monotonic() - 50)
    producer.answered(NODE, answer(19))
    producer.answered(NODE + 1, answer(0))
    assert producer.oldest_seconds() >= 50
    assert producer.why_stalled() == "NotEnoughReplicasError"
    producer.answered(NODE, answer(0))
    assert producer.oldest_seconds() < 50


async def test_a_batch_that_others_answers_leave_out_is_stalled_in_the_end() -> None:
    producer = FakeProducer()
    producer.in_flight[asyncio.Future()] = InFlight("status", 0, time.monotonic() - 200)
    producer.answered(NODE, answer(0))
    assert producer.oldest_seconds() >= 200 - MAX_PAUSE_SECONDS


def answer(code: int) -> Any:
    """A broker's answer to a Produce, about one partition."""
    return SimpleNamespace(topics=[("status", [(0, code, 1)])], throttle_time_ms=0)


def test_an_id_of_zeros_is_none() -> None:
    """A broker without ids tells nothing by it: every topic would look like every other."""
    said = {
        "error_code": 0,
        "topic": "t",
        "topic_id": bytes(16),
        "partitions": [{"replicas": [1, 2]}],
    }
    assert _topic(said).id is None
    assert _topic(said | {"topic_id": b"1" * 16}).id == b"1" * 16
