"""A producer by hand: it records the batches it is given and answers them as told.

All else of a producer is the real one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from bridge.config.settings import Kafka
from bridge.kafka.admin import TopicDescription
from bridge.kafka.producer import Producer
from bridge.kafka.topic_metadata import EARLIEST, Leader, Topic
from bridge.model import Message
from tests.contract.events import check

NODE = 1  # that leads every partition
IDLE_TURNS = 100  # of the loop; the longest way from task to task takes a few
Answer = BaseException | int | None


@dataclass
class FakeBatch:
    """Takes up to `capacity` records."""

    capacity: int
    records: list[bytes] = field(default_factory=list)

    def append(self, *, timestamp: int, key: bytes, value: bytes, headers: list[Any]) -> object:
        """Mirror aiokafka's: None if the batch is full. An event is held to its schema."""
        del timestamp, key
        check(value, headers)
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


class FakeProducer(Producer):
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
        cluster = SimpleNamespace(leader_for_partition=lambda _: NODE)
        producer = SimpleNamespace(
            client=SimpleNamespace(cluster=cluster),
            send_batch=self._send_batch,
            _txn_manager=None,
            _message_accumulator=SimpleNamespace(_batches={}),
        )
        super().__init__(producer)
        self.answers = answers
        self.count = partitions
        self.capacity = capacity
        self.topics = set(topics)
        self.topic_id = b"first"
        self.epoch = 0
        self.start = self.end = 0
        self.unwritable: set[str] = set()
        self.denied: set[str] = set()
        self.answering = True
        self.sent: list[tuple[int, list[bytes]]] = []
        self.pending: list[asyncio.Future[Any]] = []
        self.closed = False
        self.tracked = 0

    def partitions(self, topic: str) -> int:
        return self.count if topic in self.topics else 0

    def new_batch(self) -> FakeBatch:
        return FakeBatch(self.capacity)

    def settle(self, answer: asyncio.Future[Any], what: BaseException | int) -> None:
        """Answer a batch that was left in flight."""
        if answer.done():
            return
        if isinstance(what, BaseException):
            answer.set_exception(what)
        else:
            answer.set_result(SimpleNamespace(offset=what))

    async def _send_batch(
        self, batch: FakeBatch, topic: str, *, partition: int
    ) -> asyncio.Future[Any]:
        """As aiokafka's producer does."""
        del topic
        self.sent.append((partition, batch.records))
        what = self.answers(batch.records, partition)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if what is None:
            self.pending.append(answer)
        else:
            self.settle(answer, what)
        return answer

    async def track(self, names: Iterable[str]) -> dict[str, Topic]:
        self.tracked += 1
        return {name: self._topic(name) for name in (self.topics | self.denied) & set(names)}

    def _topic(self, name: str) -> Topic:
        if name in self.denied:
            return Topic(name, None, 0, 0, writable=False, denied=True)
        leaders = {p: Leader(NODE, self.epoch) for p in range(self.count)}
        writable = name not in self.unwritable
        return Topic(name, self.topic_id, self.count, 3, writable=writable, leaders=leaders)

    async def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        return await self.track(names)

    async def offsets(
        self, topic: Topic, partitions: Collection[int], which: int
    ) -> Mapping[int, int]:
        del topic
        return dict.fromkeys(partitions, self.start if which == EARLIEST else self.end)

    async def refresh(self) -> bool:
        return self.answering

    async def close(self, seconds: float) -> None:
        del seconds
        await self.abandon()

    async def _end(self) -> None:
        self.closed = True

    @property
    def values(self) -> list[bytes]:
        """Every record that was sent, in order."""
        return [value for _, records in self.sent for value in records]


DescribeConfigs = Callable[[Kafka, Mapping[str, Topic]], Awaitable[list[TopicDescription]]]


async def durable(_: Kafka, topics: Mapping[str, Topic]) -> list[TopicDescription]:
    """In place of reading the topics' settings: all is well."""
    return [TopicDescription(topic, 2, 1_048_588) for topic in topics.values()]


def taking(max_message_bytes: int | None) -> DescribeConfigs:
    """The same, for topics that take batches of this size; None where that may not be read."""

    async def describe_configs(_: Kafka, topics: Mapping[str, Topic]) -> list[TopicDescription]:
        return [TopicDescription(topic, 2, max_message_bytes) for topic in topics.values()]

    return describe_configs


def message(value: bytes, *, key: int = 0, topic: str = "status") -> Message:
    return Message(topic, b"%d" % key, value, [], 0, value.decode())


async def idle() -> None:
    """Let every task go on for as long as none of them waits for time to pass."""
    for _ in range(IDLE_TURNS):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    """Poll until the condition holds; fail the test where it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)
