"""A Kafka cluster of values, and in aiokafka's place the client of it.

As a broker it keeps, per partition, what Kafka keeps: a log of batches, its beginning, the leader's
epoch, and of each producer the next sequence number and its last batches. Of aiokafka it has what
bridge/kafka/producer.py calls and bridge/kafka/internals.py touches. What happens to a batch or a
question on its way, and when, is for the search to say (world.py).
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import errors

from bridge.kafka.internals import InvalidRecordError
from bridge.kafka.producer import Producer
from bridge.kafka.topic_metadata import EARLIEST, Leader, Topic

if TYPE_CHECKING:
    from tests.exhaustive.world import World

NODE = 1  # that leads every partition
CACHED_BATCHES = 5  # of a producer's, which the broker knows again (Kafka's NUM_BATCHES_TO_RETAIN)


class Record(NamedTuple):
    key: bytes
    value: bytes


class Appended(NamedTuple):
    """A batch in the log."""

    offset: int
    records: tuple[Record, ...]
    producer: int
    sequence: int


@dataclass(slots=True)
class Partition:
    """`producers` has, by producer id, the next sequence number."""

    epoch: int = 0
    start: int = 0
    end: int = 0
    log: list[Appended] = field(default_factory=list)
    producers: dict[int, int] = field(default_factory=dict)

    def append(self, flight: "Flight") -> int | Exception:
        """The offset of the first record, or the broker's error; a batch known already has its."""
        pid, sequence, records = flight.client.pid, flight.sequence, flight.records
        following = self.producers.get(pid)
        if following is not None and sequence != following:
            known = [each for each in self.log if each.producer == pid][-CACHED_BATCHES:]
            for each in known:
                if each.sequence == sequence and len(each.records) == len(records):
                    return each.offset
            return _error(errors.OutOfOrderSequenceNumber)
        # A producer that it has nothing of may begin anywhere (KIP-360).
        offset = self.end
        self.log.append(Appended(offset, records, pid, sequence))
        self.producers[pid] = sequence + len(records)
        self.end += len(records)
        return offset

    def truncate(self) -> tuple[Record, ...]:
        """Another replica leads that lacks the last batch."""
        lost = self.log.pop()
        self.end, self.epoch = lost.offset, self.epoch + 1
        self.producers = {each.producer: each.sequence + len(each.records) for each in self.log}
        return lost.records

    def trim(self) -> tuple[Record, ...]:
        """Retention removes all that is there."""
        gone = tuple(record for each in self.log for record in each.records)
        self.log.clear()
        self.start = self.end
        return gone


@dataclass(slots=True)
class StoredTopic:
    id: bytes
    partitions: list[Partition]


class Cluster:
    """The topics by name, with the number of partitions of each.

    `rejects` are words: a record that holds one is refused; `max_bytes` is the most that a
    batch of the status topic may have.
    """

    def __init__(
        self, topics: Mapping[str, int], rejects: Collection[bytes], max_bytes: int | None
    ) -> None:
        self.counts = topics
        self.rejects = tuple(rejects)
        self.max_bytes = max_bytes
        self.topics: dict[str, StoredTopic] = {}
        self.made = 0
        self.producers = 0
        for name in topics:
            self.create(name)

    def create(self, name: str) -> None:
        self.made += 1
        partitions = [Partition() for _ in range(self.counts[name])]
        self.topics[name] = StoredTopic(b"id-%d" % self.made, partitions)

    def delete(self, name: str) -> tuple[Record, ...]:
        gone = self.topics.pop(name)
        return tuple(r for p in gone.partitions for each in p.log for r in each.records)

    def append(self, flight: "Flight") -> int | Exception:
        """What the partition's leader answers. Records are looked at before sequence numbers."""
        if any(word in record.value for word in self.rejects for record in flight.records):
            return InvalidRecordError()
        size = sum(len(record.value) for record in flight.records)
        if self.max_bytes is not None and size > self.max_bytes and flight.topic == "status":
            return _error(errors.MessageSizeTooLargeError)
        return self.topics[flight.topic].partitions[flight.partition].append(flight)

    def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        return {
            name: Topic(
                name,
                found.id,
                len(found.partitions),
                3,
                writable=True,
                leaders={n: Leader(NODE, p.epoch) for n, p in enumerate(found.partitions)},
            )
            for name in sorted(names)
            if (found := self.topics.get(name)) is not None
        }

    def offsets(self, topic: str, partitions: Iterable[int], which: int) -> dict[int, int]:
        found = self.topics.get(topic)
        if found is None:
            return {}
        of = found.partitions
        return {p: of[p].start if which == EARLIEST else of[p].end for p in sorted(partitions)}


class Batch:
    """As aiokafka's builder. Its appending shows what is handed over, and when."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.records: list[Record] = []

    def append(self, *, timestamp: int, key: bytes, value: bytes, headers: list[Any]) -> object:
        del timestamp, headers
        self._world.handed_over(value)
        self.records.append(Record(key, value))
        return True

    def record_count(self) -> int:
        return len(self.records)

    def size(self) -> int:
        return sum(len(record.value) for record in self.records)


@dataclass(slots=True, eq=False)
class Flight:
    """A batch on its way: `reply` is the broker's answer, which the client does not know yet.

    `retry_count` counts the times that it was sent, as aiokafka's does. `late`: time has passed
    over it.
    """

    client: "Client"
    topic: str
    partition: int
    records: tuple[Record, ...]
    sequence: int
    answer: "asyncio.Future[Any]"
    reply: int | Exception | None = None
    retry_count: int = 1
    late: bool = False

    @property
    def record_count(self) -> int:
        return len(self.records)

    @property
    def owed(self) -> bool:
        """Whether somebody waits for its answer."""
        return not self.client.closed and not self.answer.done()


@dataclass(slots=True, eq=False)
class Ask:
    """A question to the cluster, or (`connect`) for a connection. `said` once it was handled."""

    gateway: str
    kind: str
    arguments: tuple[Any, ...]
    future: "asyncio.Future[Any]"
    said: Any = None
    handled: bool = False
    late: bool = False


class Client:
    """In place of aiokafka's producer and its client, metadata, transaction manager."""

    def __init__(self, world: "World", gateway: str) -> None:
        self._world = world
        self.gateway = gateway
        world.cluster.producers += 1
        self.pid = world.cluster.producers
        self.closed = False
        self.stuck = False  # its connection to the leader is dead, and nobody tells it
        self.counts: dict[str, int] = {}
        self.sequences: dict[Any, int] = {}
        self._batches: dict[Any, deque[Flight]] = {}
        self.client = self.cluster = self._txn_manager = self._message_accumulator = self

    # --- as the client and its metadata --------------------------------------------------

    async def set_topics(self, names: Collection[str]) -> None:
        self.counts = {n: self._world.cluster.counts[n] for n in sorted(names)}

    async def force_metadata_update(self) -> bool:
        return bool(await self._world.ask(self.gateway, "refresh"))

    def partitions_for_topic(self, topic: str) -> range:
        return range(self.counts.get(topic, 0))

    def leader_for_partition(self, _: object) -> int:
        return NODE

    # --- as the transaction manager ------------------------------------------------------

    def sequence_number(self, partition: object) -> int:
        return self.sequences.get(partition, 0)

    def increment_sequence_number(self, partition: object, by: int) -> None:
        self.sequences[partition] = self.sequence_number(partition) + by

    # --- as the producer -----------------------------------------------------------------

    def create_batch(self) -> Batch:
        return Batch(self._world)

    async def send_batch(
        self, batch: Batch, topic: str, *, partition: int
    ) -> "asyncio.Future[Any]":
        if self.closed:
            raise errors.ProducerClosed
        place = topic, partition
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        flight = Flight(
            self, topic, partition, tuple(batch.records), self.sequence_number(place), answer
        )
        self.increment_sequence_number(place, flight.record_count)
        self._batches[place] = deque([flight])
        self._world.sent(flight)
        return answer

    async def stop(self) -> None:
        """Flush, however long that takes, and close."""
        while left := [f.answer for f in self._world.flights if f.client is self and f.owed]:
            await asyncio.wait(left)
        self.closed = True


class StandIn(Producer):
    """The real producer over a client of values: its own questions go to the cluster, too."""

    def __init__(self, world: "World", gateway: str) -> None:
        self._client = Client(world, gateway)
        super().__init__(self._client)
        world.producers[self._client] = self
        self._world = world

    async def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        told = await self._world.ask(self._client.gateway, "describe", tuple(sorted(names)))
        return dict(told)

    async def offsets(
        self, topic: Topic, partitions: Collection[int], which: int
    ) -> Mapping[int, int]:
        asked = topic.name, tuple(sorted(partitions)), which
        return dict(await self._world.ask(self._client.gateway, "offsets", *asked))

    async def _end(self) -> None:
        self._client.closed = True


def _error(kind: type[Exception]) -> Exception:
    return kind()


def reply_of(flight: Flight, throttle_ms: int) -> Any:
    """The Produce response that `Producer.answered` is shown."""
    code = getattr(flight.reply, "errno", 0)
    told = [(flight.topic, [(flight.partition, code)])]
    return SimpleNamespace(topics=told, throttle_time_ms=throttle_ms)
