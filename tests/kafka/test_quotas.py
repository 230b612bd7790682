"""A real Kafka whose quota is reached: it looks dead for a while, and is not."""

import asyncio

from bridge.config.settings import Kafka
from bridge.kafka import Publisher, Supervisor
from bridge.model import Result
from tests.support.brokers import ExternalKafka
from tests.support.fake_kafka import message, until
from tests.support.quotas import limit_rate
from tests.support.topics import read_topic

BYTES_PER_SECOND = 1000.0
BATCH_BYTES = 13_000  # over a window of 11 s: the broker asks for 2 s
TIMEOUT_SECONDS = 0.5


async def test_a_quota_costs_time_and_neither_a_producer_nor_a_duplicate(
    kafka: ExternalKafka, topic: str
) -> None:
    """What has no answer by its deadline was not handed over, and is not in the log."""
    kafka.create_topic(topic, 1)
    await limit_rate(kafka.bootstrap_servers, topic, BYTES_PER_SECOND)
    settings = Kafka(
        bootstrap_servers=tuple(kafka.bootstrap_servers.split(",")),
        topic=topic,
        dead_letter_topic=None,
        client_id=topic,
        publish_timeout_seconds=TIMEOUT_SECONDS,
    )
    supervisor = Supervisor(settings, [topic])
    told: list[float] = []
    supervisor.on_throttle = told.append
    publisher = Publisher(settings, supervisor)

    async def post(value: bytes, seconds: float) -> Result:
        deadline = asyncio.get_running_loop().time() + seconds
        (outcome,) = await publisher.publish([message(value, topic=topic)], deadline)
        return outcome.result

    supervisor.start()
    try:
        await until(lambda: supervisor.ready, seconds=20)
        generation = supervisor.generation
        assert await post(b"1" * BATCH_BYTES, 20) is Result.PUBLISHED
        assert max(told) > TIMEOUT_SECONDS
        assert await post(b"2", TIMEOUT_SECONDS) is Result.FAILED
        assert await post(b"3", 20) is Result.PUBLISHED
        assert supervisor.generation == generation
        assert supervisor.reachable
    finally:
        await publisher.stop()
        await supervisor.stop(1)
    records = read_topic(kafka.bootstrap_servers, topic, foreign=True)
    assert [r.value for r in records] == [b"1" * BATCH_BYTES, b"3"]
