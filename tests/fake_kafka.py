"""A connection by hand: it records the batches it is given and answers them as told."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from bridge.kafka.connection import AbandonedError, Connection
from bridge.kafka.metadata import Topic
from bridge.kafka.preflight import Findings
from bridge.model import Message
from bridge.settings import Kafka

Answer = BaseException | int | None


@dataclass
class FakeBatch:
    """Takes up to `capacity` records."""

    capacity: int
    records: list[bytes] = field(default_factory=list)

    def append(self, *, timestamp: int, key: bytes, value: bytes, headers: list[Any]) -> object:
        """Mirror aiokafka's: None where the batch is full."""
        del timestamp, key, headers
        if len(self.records) >= self.capacity:
            return None
        self.records.append(value)
        return object()

    def record_count(self) -> int:
        """How many records it holds."""
        return len(self.records)

    def size(self) -> int:
        """How many bytes it holds."""
        return sum(map(len, self.records))


class FakeConnection(Connection):
    """Answers each batch with `answers(values, partition)`.

    An int is the base offset, an exception the failure, and None leaves the batch in flight.
    """

    def __init__(
        self,
        answers: Callable[[list[bytes], int], Answer] = lambda _values, _partition: 0,
        *,
        partitions: int = 1,
        capacity: int = 1000,
        topics: Iterable[str] = ("status", "rejected"),
    ) -> None:
        super().__init__(SimpleNamespace())
        self.answers = answers
        self.count = partitions
        self.capacity = capacity
        self.topics = set(topics)
        self.topic_id = b"first"
        self.unwritable: set[str] = set()
        self.denied: set[str] = set()
        self.answering = True
        self.sent: list[tuple[int, list[bytes]]] = []
        self.pending: list[asyncio.Future[int]] = []
        self.closed = False
        self.finds = 0

    def partitions(self, topic: str) -> int:
        return self.count if topic in self.topics else 0

    def new_batch(self) -> FakeBatch:
        return FakeBatch(self.capacity)

    async def send(self, batch: FakeBatch, topic: str, partition: int) -> asyncio.Future[int]:
        del topic
        self.sent.append((partition, batch.records))
        answer = self.answers(batch.records, partition)
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.in_flight[reply] = asyncio.get_running_loop().time()
        if answer is None:
            self.pending.append(reply)
        else:
            self.settle(reply, answer)
        return reply

    def settle(self, reply: asyncio.Future[int], answer: BaseException | int) -> None:
        """Answer a batch that was left in flight."""
        self._settle(reply, answer)

    async def find(self, names: Iterable[str]) -> dict[str, Topic]:
        self.finds += 1
        return {name: self._topic(name) for name in (self.topics | self.denied) & set(names)}

    def _topic(self, name: str) -> Topic:
        if name in self.denied:
            return Topic(name, None, 0, 0, writable=False, denied=True)
        return Topic(name, self.topic_id, self.count, 3, writable=name not in self.unwritable)

    async def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        return await self.find(names)

    async def refresh(self) -> bool:
        return self.answering

    async def close(self, seconds: float) -> None:
        del seconds
        await self.abandon()

    async def abandon(self) -> None:
        for reply in self.pending:
            self.settle(reply, AbandonedError())
        self.closed = True

    @property
    def values(self) -> list[bytes]:
        """Every record that was sent, in order."""
        return [value for _, records in self.sent for value in records]


Inspect = Callable[[Kafka, Mapping[str, Topic]], Awaitable[list[Findings]]]


async def durable(_: Kafka, topics: Mapping[str, Topic]) -> list[Findings]:
    """In place of a look at the topics' settings: all is well."""
    return [Findings(topic, 2, 1_048_588) for topic in topics.values()]


def message(value: bytes, *, key: int = 0, topic: str = "status") -> Message:
    return Message(topic, b"%d" % key, value, [], 0, value.decode())


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Poll until the condition holds; fail the test where it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
