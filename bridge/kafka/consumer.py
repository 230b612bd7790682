"""Records as a subscriber sees them: read by partition, without a group, nothing committed."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from bridge.config.settings import Kafka
from bridge.errors import BridgeError
from bridge.kafka.admin import existing_topics, unreachable
from bridge.kafka.credentials import Credentials, client_arguments
from bridge.kafka.topic_metadata import Topic

SUBSCRIBE_SECONDS = 10.0
STALL_SECONDS = 30.0
FETCH_MS = 500
METADATA_MS = 5000  # how old what is known of the partitions may be
BEGINNING = datetime.min.replace(tzinfo=UTC)  # a time for `since`: no record is older
_NO_TIMESTAMP_MS = -1  # of a record that has none


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


@dataclass(frozen=True, slots=True)
class Stored:
    """What topics hold: which offsets are read of each topic's partitions, and the records."""

    topics: Mapping[str, Topic]
    spans: Mapping[tuple[str, int], range]
    records: AsyncIterator[Record]


@asynccontextmanager
async def subscription(
    settings: Kafka, topics: Sequence[str], *, since: datetime | None
) -> AsyncIterator[AsyncIterator[Record]]:
    """The records of topics, from a time or from now on, partitions that are added included.

    Where to begin is settled when the block is entered; partitions that are added later are read
    from their beginning. Raises BridgeError if a topic is missing, or no broker answers within
    SUBSCRIBE_SECONDS.
    """
    credentials = Credentials(settings)
    found = await existing_topics(settings, topics, credentials)
    since_ms = _milliseconds(since)
    begin = "latest" if since is None else "earliest"
    async with _consumer(settings, credentials, begin) as consumer:
        # Assigned, not subscribed: aiokafka's subscription begins all partitions anew when one is
        # added, and so skips or repeats records.
        consumer.assign([TopicPartition(n, p) for n in topics for p in range(found[n].partitions)])
        await _start(settings, credentials, consumer, topics, since_ms)
        async with aclosing(_records(consumer, topics, since_ms)) as records:
            yield records


@asynccontextmanager
async def stored(
    settings: Kafka,
    topics: Sequence[str],
    since: datetime | None = None,
    *,
    partitions: Callable[[Topic], Iterable[int]] = lambda topic: range(topic.partitions),
) -> AsyncIterator[Stored]:
    """What topics hold when the block is entered, each partition in its order.

    With `since`, only what has no older timestamp. Raises BridgeError as `subscription` does,
    and if the brokers refuse to hand records out, or stop for STALL_SECONDS to answer.
    """
    credentials = Credentials(settings)
    found = await existing_topics(settings, topics, credentials)
    if denied := [name for name, topic in found.items() if topic.denied]:
        raise _not_authorized("Describe and Read", denied)
    since_ms = _milliseconds(since)
    places = [TopicPartition(name, each) for name in topics for each in partitions(found[name])]
    async with _consumer(settings, credentials, "earliest") as consumer:
        consumer.assign(places)
        ends = await _start(settings, credentials, consumer, topics, since_ms)
        spans = {
            (place.topic, place.partition): range(await consumer.position(place), ends[place])
            for place in places
        }
        async with aclosing(_until(consumer, ends, since_ms)) as records:
            yield Stored(found, spans, records)


def _milliseconds(since: datetime | None) -> int:
    if since in {None, BEGINNING}:
        return _NO_TIMESTAMP_MS
    return int(since.timestamp() * 1000)


@asynccontextmanager
async def _consumer(
    settings: Kafka, credentials: Credentials, begin: str
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_arguments(settings, credentials),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset=begin,
        metadata_max_age_ms=METADATA_MS,
    )
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _start(
    settings: Kafka,
    credentials: Credentials,
    consumer: AIOKafkaConsumer,
    topics: Iterable[str],
    since_ms: int,
) -> dict[TopicPartition, int]:
    """Settle where to begin; where the partitions end."""
    try:
        async with asyncio.timeout(SUBSCRIBE_SECONDS):
            await consumer.start()
            for partition in consumer.assignment():
                await consumer.position(partition)
            ends: dict[TopicPartition, int] = await consumer.end_offsets(consumer.assignment())
            if since_ms > 0:
                await _skip(consumer, since_ms, ends)
    except TopicAuthorizationFailedError as exc:
        raise _not_authorized("Describe and Read", topics) from exc
    except (KafkaError, OSError) as exc:  # TimeoutError is one
        raise BridgeError(await unreachable(settings, exc, credentials)) from exc
    return ends


async def _skip(
    consumer: AIOKafkaConsumer, since_ms: int, ends: Mapping[TopicPartition, int]
) -> None:
    """Begin at the time, or at the end if nothing is as new.

    A broker that knows no times says the same as one that has nothing as new. It says so of the
    oldest record, too: then all is read, and older records are left out.
    """
    newer = await consumer.offsets_for_times(dict.fromkeys(ends, since_ms))
    none = [place for place, found in newer.items() if found is None]
    any_time = await consumer.offsets_for_times(dict.fromkeys(none, 0)) if none else {}
    for place, found in newer.items():
        if found is not None:
            consumer.seek(place, found.offset)
        elif any_time[place] is not None:
            consumer.seek(place, ends[place])


async def _until(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], since_ms: int
) -> AsyncGenerator[Record, None]:
    loop = asyncio.get_running_loop()
    heard_at = loop.time()
    while left := await _unfinished(consumer, ends):
        try:
            fetched = await consumer.getmany(*left, timeout_ms=FETCH_MS)
        except TopicAuthorizationFailedError as exc:
            topics = exc.args or {place.topic for place in ends}
            raise _not_authorized("Read", topics) from exc
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


async def _records(
    consumer: AIOKafkaConsumer, topics: Sequence[str], since_ms: int
) -> AsyncGenerator[Record, None]:
    try:
        while True:
            await _add_partitions(consumer, topics)
            for records in (await consumer.getmany(timeout_ms=FETCH_MS)).values():
                for record in records:
                    if record.timestamp >= since_ms:
                        yield _record(record)
    except TopicAuthorizationFailedError as exc:
        names = exc.args or topics  # one, in what a fetch raises
        raise _not_authorized("Read", names) from exc


async def _add_partitions(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> None:
    """Read partitions that are new from their beginning, and the others on from where they are."""
    known = consumer.assignment()
    now = {TopicPartition(t, p) for t in topics for p in consumer.partitions_for_topic(t) or ()}
    if now <= known:
        return
    positions = {place: await consumer.position(place) for place in known}
    consumer.assign([*known | now])
    for place, position in positions.items():
        consumer.seek(place, position)
    await consumer.seek_to_beginning(*now - known)


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
