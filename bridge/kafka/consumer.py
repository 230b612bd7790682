"""Records as a subscriber sees them: read by partition, without a group, nothing committed."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from bridge.config.settings import Kafka
from bridge.errors import BridgeError
from bridge.kafka.admin import unreachable
from bridge.kafka.credentials import Credentials, client_arguments

SUBSCRIBE_SECONDS = 10.0
STALL_SECONDS = 30.0
FETCH_MS = 500


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

    Where to begin is settled when the block is entered. Raises BridgeError if no broker
    answers within SUBSCRIBE_SECONDS.
    """
    async with (
        _started(settings, topics, from_beginning=from_beginning) as consumer,
        aclosing(_records(consumer)) as records,
    ):
        yield records


@asynccontextmanager
async def stored(
    settings: Kafka, topic: str, since: datetime | None = None
) -> AsyncIterator[AsyncIterator[Record]]:
    """What a topic that exists holds when the block is entered, each partition in its order.

    With `since`, only what has no older timestamp. Raises BridgeError as `subscription` does,
    and if the brokers refuse to hand records out, or stop for STALL_SECONDS to answer.
    """
    since_ms = 0 if since is None else int(since.timestamp() * 1000)
    async with _started(settings, [topic], from_beginning=True) as consumer:
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                ends = await consumer.end_offsets(consumer.assignment())
                await _skip(consumer, since_ms)
        except TopicAuthorizationFailedError as exc:
            raise _not_authorized("Describe and Read", [topic]) from exc
        except (KafkaError, OSError) as exc:
            raise BridgeError(await unreachable(settings, exc)) from exc
        async with aclosing(_until(consumer, ends, since_ms)) as records:
            yield records


@asynccontextmanager
async def _started(
    settings: Kafka, topics: Iterable[str], *, from_beginning: bool
) -> AsyncIterator[AIOKafkaConsumer]:
    names = tuple(topics)
    credentials = Credentials(settings)
    consumer = AIOKafkaConsumer(
        *names,
        **client_arguments(settings, credentials),
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
        except TopicAuthorizationFailedError as exc:
            raise _not_authorized("Describe and Read", names) from exc
        except (KafkaError, OSError) as exc:  # TimeoutError is one
            raise BridgeError(await unreachable(settings, exc, credentials)) from exc
        yield consumer
    finally:
        await consumer.stop()


async def _skip(consumer: AIOKafkaConsumer, since_ms: int) -> None:
    """Begin at the time, if the broker knows the place; older records are left out anyway."""
    if since_ms > 0:
        at = dict.fromkeys(consumer.assignment(), since_ms)
        for partition, found in (await consumer.offsets_for_times(at)).items():
            if found is not None:
                consumer.seek(partition, found.offset)


async def _until(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], since_ms: int
) -> AsyncGenerator[Record, None]:
    loop = asyncio.get_running_loop()
    heard_at = loop.time()
    while left := await _unfinished(consumer, ends):
        try:
            fetched = await consumer.getmany(*left, timeout_ms=FETCH_MS)
        except TopicAuthorizationFailedError as exc:
            raise _not_authorized("Read", {place.topic for place in ends}) from exc
        except KafkaError as exc:
            raise BridgeError(f"the topic cannot be read: {exc or type(exc).__name__}") from exc
        for partition, records in fetched.items():
            for record in records:
                if record.offset < ends[partition] and record.timestamp >= since_ms:
                    yield _record(record)
            heard_at = loop.time()
        if loop.time() - heard_at > STALL_SECONDS:
            raise BridgeError("the brokers do not answer any more")


async def _unfinished(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> list[TopicPartition]:
    """The partitions that are not read to the end; their last offsets may hold no record."""
    return [place for place, end in ends.items() if await consumer.position(place) < end]


async def _records(consumer: AIOKafkaConsumer) -> AsyncGenerator[Record, None]:
    try:
        async for record in consumer:
            yield _record(record)
    except TopicAuthorizationFailedError as exc:
        topics = exc.args or ("the topics",)  # one, in what a fetch raises
        raise _not_authorized("Read", topics) from exc


def _not_authorized(operations: str, topics: Iterable[str]) -> BridgeError:
    names = ", ".join(sorted(topics))
    return BridgeError(f"not authorized to read: allow {operations} on {names}")


def _record(record: Any) -> Record:
    return Record(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp,
        key=record.key,
        value=record.value,
        headers=tuple(record.headers),
    )
