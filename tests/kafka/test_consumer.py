"""Records as `tail` follows them, on a real Kafka, while the topic changes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from bridge.config.settings import Kafka
from bridge.kafka.consumer import BEGINNING, Record, subscription
from bridge.model import Message
from tests.support.brokers import ExternalKafka
from tests.support.topics import publish


def numbered(topic: str, numbers: range) -> list[Message]:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return [Message(topic, b"%d" % n, b"%d" % n, [], now_ms, str(n)) for n in numbers]


async def values(records: AsyncIterator[Record], count: int) -> list[int]:
    async with asyncio.timeout(60):
        return [int((await anext(records)).value or b"") for _ in range(count)]


@pytest.mark.parametrize("since", [None, BEGINNING, datetime(2026, 1, 1, tzinfo=UTC)])
async def test_partitions_that_are_added_neither_hide_nor_repeat_a_record(
    kafka: ExternalKafka, topic: str, since: datetime | None
) -> None:
    """What was shown is not shown again; what comes to old and new partitions is shown, once."""
    kafka.create_topic(topic, 1)
    servers = kafka.bootstrap_servers
    settings = Kafka(bootstrap_servers=tuple(servers.split(",")), topic=topic)
    async with subscription(settings, [topic], since=since) as records:
        await asyncio.to_thread(publish, servers, numbered(topic, range(20)))
        seen = await values(records, 20)
        await asyncio.to_thread(kafka.add_partitions, topic, 4)
        await asyncio.to_thread(publish, servers, numbered(topic, range(20, 60)))
        seen += await values(records, 40)
        await asyncio.to_thread(publish, servers, numbered(topic, range(60, 80)))
        seen += await values(records, 20)
    assert sorted(seen) == list(range(80))
