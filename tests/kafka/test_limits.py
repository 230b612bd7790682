"""What a topic does not take: known beforehand as the broker counts, or learnt from one batch."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from bridge.config.settings import Kafka
from bridge.kafka import Publisher, Supervisor, admin
from bridge.kafka.limits import FORGET_SECONDS, Limits
from bridge.kafka.producer import MAX_BATCH_BYTES
from bridge.kafka.supervisor import Timing
from bridge.model import Message, Outcome, Result
from tests.support.brokers import ExternalKafka
from tests.support.fake_kafka import DescribeConfigs, message, taking, until
from tests.support.topics import read_topic

QUICK = Timing(probe=0.1, config_age=0.1)
BYTES = random.Random(5).randbytes(100_000)  # that no codec makes smaller


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def sized(size: int) -> Message:
    """A record with a value of so many bytes, which any codec makes much smaller."""
    return message(b"x" * size)


# --- what is known -----------------------------------------------------------------------


def test_what_is_larger_than_the_settings_say_is_too_large() -> None:
    """To the byte: 61 of the batch's header, and the record's own framing."""
    limits = Limits("none", lambda _: 20_000)
    first = next(size for size in range(19_900, 20_000) if limits.too_large(sized(size)))
    assert first + 61 + 12 == 20_001


def test_what_shrinks_enough_is_not_too_large() -> None:
    limits = Limits("gzip", lambda _: 20_000)
    assert not limits.too_large(sized(100_000))
    assert limits.too_large(message_of(BYTES[:20_000]))


def message_of(value: bytes) -> Message:
    return Message("status", b"0", value, [], 0, "id")


def test_what_no_producer_sends_is_too_large_whatever_is_known() -> None:
    assert Limits("none", lambda _: None).too_large(sized(1024 * 1024))
    assert not Limits("none", lambda _: None).too_large(sized(1024 * 1024 - 100))


def test_a_batch_is_filled_as_far_as_the_topic_takes_it() -> None:
    told: list[int | None] = [4000]
    limits = Limits("none", lambda _: told[0])
    assert limits.batch_bytes("t") == 4000
    told[0] = None
    assert limits.batch_bytes("t") == MAX_BATCH_BYTES


def test_a_refused_batch_is_learnt_from_for_a_while() -> None:
    """The next is half as large; what was refused alone is not tried again, and nothing larger."""
    clock = Clock()
    limits = Limits("none", lambda _: None, clock)
    limits.refused("status", 100_000, None)
    assert limits.batch_bytes("status") == 50_000
    assert not limits.too_large(sized(90_000))
    limits.refused("status", 24_100, sized(24_000))
    assert [limits.too_large(sized(n)) for n in (23_999, 24_000, 90_000)] == [False, True, True]
    assert not limits.too_large(sized(24_000)._replace(topic="another"))
    clock.now += FORGET_SECONDS
    assert limits.batch_bytes("status") == MAX_BATCH_BYTES
    assert not limits.too_large(sized(24_000))


def test_what_the_settings_allow_is_theirs_to_say() -> None:
    """A refusal against them means that they have changed: they are read again."""
    limits = Limits("none", lambda _: 1_000_000)
    limits.refused("status", 24_100, sized(24_000))
    assert not limits.too_large(sized(24_000))


# --- on a real Kafka ---------------------------------------------------------------------


@asynccontextmanager
async def publisher(
    kafka: ExternalKafka,
    topic: str,
    describe_configs: DescribeConfigs | None = None,
    compression: str = "none",
) -> AsyncIterator[tuple[Publisher, Supervisor]]:
    settings = Kafka(
        bootstrap_servers=tuple(kafka.bootstrap_servers.split(",")),
        topic=topic,
        dead_letter_topic=None,
        compression=compression,
    )
    supervisor = Supervisor(
        settings, [topic], describe_configs=describe_configs or admin.describe_configs, timing=QUICK
    )
    made = Publisher(settings, supervisor)
    supervisor.start()
    try:
        await until(lambda: supervisor.ready, seconds=20)
        yield made, supervisor
    finally:
        await made.stop()
        await supervisor.stop(1)


async def publish(publisher: Publisher, messages: Sequence[Message]) -> list[Outcome]:
    return await publisher.publish(messages, asyncio.get_running_loop().time() + 20)


async def test_a_refused_record_costs_no_connection(kafka: ExternalKafka, topic: str) -> None:
    """Where only the broker can say: a few batches, and all else goes on as before, in order."""
    kafka.create_topic(topic, 1, config={"max.message.bytes": "20000"})
    large = [message(b"L%d" % n + b"x" * 24_000, topic=topic) for n in range(100)]
    small = [message(b"s%d" % n, topic=topic) for n in range(100)]
    mixed = [each for pair in zip(large, small, strict=True) for each in pair]
    async with publisher(kafka, topic, taking(None)) as (p, supervisor):
        refused: list[str] = []
        supervisor.on_refusal = refused.append
        outcomes = await publish(p, mixed)
        assert [o.too_large for o in outcomes] == [True, False] * 100
        assert [o.offset for o in outcomes[1::2]] == list(range(100))
        assert (await publish(p, [message(b"after", topic=topic)]))[0].offset == 100
        assert supervisor.generation == 1
        assert {*refused} == {"too_large"}
        assert len(refused) < 15
    values = [r.value for r in read_topic(kafka.bootstrap_servers, topic, foreign=True)]
    assert values == [m.value for m in small] + [b"after"]


@pytest.mark.parametrize("compression", ["none", "gzip", "lz4", "snappy", "zstd"])
async def test_a_limit_is_counted_as_the_broker_counts_it(
    kafka: ExternalKafka, topic: str, compression: str
) -> None:
    """Up to the last byte it is published, and not sent from there on."""
    kafka.create_topic(topic, 1, config={"max.message.bytes": "20000"})
    async with publisher(kafka, topic, compression=compression) as (p, supervisor):
        await until(lambda: supervisor.max_message_bytes(topic) == 20_000)
        refused: list[str] = []
        supervisor.on_refusal = refused.append
        sizes = range(19_800, 20_000)
        fits = Limits(compression, lambda _: 20_000)
        largest = max(n for n in sizes if not fits.too_large(incompressible(topic, n)))
        outcomes = await publish(p, [incompressible(topic, n) for n in (largest, largest + 1)])
        assert [o.result for o in outcomes] == [Result.PUBLISHED, Result.FAILED]
        assert outcomes[1].too_large
        assert refused == []
    async with publisher(kafka, topic, taking(None), compression) as (p, supervisor):
        (outcome,) = await publish(p, [incompressible(topic, largest + 1)])
        assert outcome.too_large
        assert supervisor.generation == 1


def incompressible(topic: str, size: int) -> Message:
    return Message(topic, b"0", BYTES[:size], [], 1_700_000_000_000, "id")


async def test_a_limit_that_changes_is_noticed(kafka: ExternalKafka, topic: str) -> None:
    kafka.create_topic(topic, 1, config={"max.message.bytes": "20000"})
    record = message(b"x" * 24_000, topic=topic)
    async with publisher(kafka, topic) as (p, supervisor):
        assert (await publish(p, [record]))[0].too_large
        kafka.configure_topic(topic, {"max.message.bytes": "30000"})
        await until(lambda: supervisor.max_message_bytes(topic) == 30_000, seconds=20)
        assert (await publish(p, [record]))[0].result is Result.PUBLISHED
        kafka.configure_topic(topic, {"max.message.bytes": "10000"})
        async with asyncio.timeout(20):  # until the broker knows of it
            while not (await publish(p, [record]))[0].too_large:
                pass
        assert supervisor.generation == 1


async def test_refused_times_cost_no_connection(kafka: ExternalKafka, topic: str) -> None:
    """A clock that is off, or a topic that takes no times but its own: said, and no storm."""
    kafka.create_topic(topic, 1, config={"message.timestamp.before.max.ms": "1000"})
    async with publisher(kafka, topic) as (p, supervisor):
        refused: list[str] = []
        supervisor.on_refusal = refused.append
        outcomes = await publish(p, [message(b"%d" % n, topic=topic) for n in range(50)])
        assert {o.result for o in outcomes} == {Result.FAILED}
        assert "message.timestamp.before.max.ms" in str(outcomes[0].error)
        assert refused == ["timestamp"]
        now = message(b"now", topic=topic)._replace(timestamp_ms=int(time.time() * 1000))
        assert (await publish(p, [now]))[0].result is Result.PUBLISHED
        assert supervisor.generation == 1
