"""Records as a subscriber sees them: read by partition, without a group, nothing committed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from bridge.errors import BridgeError
from bridge.kafka.cluster import unreachable
from bridge.kafka.security import client_arguments
from bridge.settings import Kafka

SUBSCRIBE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic; `timestamp_ms` counts from the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@asynccontextmanager
async def subscription(
    settings: Kafka, topics: Iterable[str], *, from_beginning: bool
) -> AsyncIterator[AsyncIterator[Record]]:
    """The records of topics that exist, from now on or from the beginning.

    Where to begin is settled when the block is entered. Raises BridgeError where no broker
    answers within SUBSCRIBE_SECONDS.
    """
    consumer = AIOKafkaConsumer(
        *topics,
        **client_arguments(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest" if from_beginning else "latest",
    )
    try:
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                await consumer.start()
                for partition in consumer.assignment():
                    await consumer.position(partition)
        except (KafkaError, OSError) as exc:  # TimeoutError is one
            raise BridgeError(await unreachable(settings, exc)) from exc
        async with aclosing(_records(consumer)) as records:
            yield records
    finally:
        await consumer.stop()


async def _records(consumer: AIOKafkaConsumer) -> AsyncGenerator[Record, None]:
    try:
        async for record in consumer:
            yield Record(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                timestamp_ms=record.timestamp,
                key=record.key,
                value=record.value,
                headers=tuple(record.headers),
            )
    except TopicAuthorizationFailedError as exc:
        raise BridgeError(f"not authorized to read: allow Read on {_names(exc)}") from exc


def _names(exc: TopicAuthorizationFailedError) -> str:
    """The topics that the error is about."""
    topics = exc.args[0] if exc.args else ()
    return ", ".join(sorted(topics)) or "the topics"
