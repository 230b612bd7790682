"""A topic's number of partitions changes while the gateway runs, on a real Kafka."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bridge.config.settings import Kafka
from bridge.kafka import Publisher, Supervisor
from bridge.kafka.supervisor import Timing
from bridge.model import Outcome, Result
from tests.support.brokers import ExternalKafka
from tests.support.fake_kafka import message
from tests.support.reference import java_partition

KEYS = range(40)
Publish = Callable[[], Awaitable[Sequence[Outcome]]]


async def test_records_go_by_the_number_of_partitions_that_there_are(
    kafka: ExternalKafka, topic: str
) -> None:
    """Soon after some were added, and after the topic was re-created with fewer."""
    kafka.create_topic(topic, 2)
    settings = Kafka(
        bootstrap_servers=tuple(kafka.bootstrap_servers.split(",")),
        topic=topic,
        dead_letter_topic=None,
    )
    supervisor = Supervisor(settings, [topic], timing=Timing(probe=0.2))
    publisher = Publisher(settings, supervisor)

    async def publish() -> Sequence[Outcome]:
        deadline = asyncio.get_running_loop().time() + 10
        return await publisher.publish([message(b"x", key=k, topic=topic) for k in KEYS], deadline)

    supervisor.start()
    try:
        await _spread_over(2, publish)
        await asyncio.to_thread(kafka.add_partitions, topic, 7)
        await _spread_over(7, publish)
        await asyncio.to_thread(kafka.delete_topic, topic)
        await asyncio.to_thread(kafka.create_topic, topic, 3)
        await _spread_over(3, publish)
    finally:
        await publisher.stop()
        await supervisor.stop(1)


async def _spread_over(partitions: int, publish: Publish) -> None:
    """Publish until every record is where Java's partitioner puts it among so many."""
    expected = [(Result.PUBLISHED, java_partition(b"%d" % key, partitions)) for key in KEYS]
    async with asyncio.timeout(60):
        while [(o.result, o.partition) for o in await publish()] != expected:
            await asyncio.sleep(0.05)
