"""A Kafka cluster of one process that answers as it is told, with a log of what it has taken.

It speaks what a producer needs and no more, in aiokafka's own structures. It checks sequence
numbers as a real broker does: a producer that has lost count stays broken until it is replaced.
"""

import asyncio
import contextlib
import struct
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiokafka.protocol.admin import ApiVersionRequest_v0
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.produce import ProduceRequest_v7
from aiokafka.protocol.transaction import InitProducerIdRequest_v0
from aiokafka.record.memory_records import MemoryRecords

from bridge.kafka.topic_metadata import _MetadataRequestV12
from tests.support.proxy import end

HOST = "127.0.0.1"
PRODUCE = 0
OUT_OF_ORDER = 45
UNKNOWN_TOPIC = 3
NO_LEADER = 5
# Of each call by its key: the versions that are spoken, and the structure of each version.
_VERSIONS = {0: (7, 7), 3: (5, 12), 18: (0, 0), 22: (0, 0)}
_REQUESTS: dict[tuple[int, int], Any] = {
    (0, 7): ProduceRequest_v7,
    (3, 5): MetadataRequest_v5,
    (3, 12): _MetadataRequestV12,
    (18, 0): ApiVersionRequest_v0,
    (22, 0): InitProducerIdRequest_v0,
}
_NO_TAGS: dict[int, bytes] = {}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one batch: whether it is taken, and what the producer hears of it.

    `left out` is an answer that does not mention the partition.
    """

    code: int = 0
    taken: bool = True
    reply: Literal["sent", "cut", "never", "left out"] = "sent"


TAKEN = Verdict()
LOST = Verdict(reply="cut")  # the connection ends after the append, before the answer
SILENT = Verdict(taken=False, reply="never")
UNMENTIONED = Verdict(taken=False, reply="left out")


def refused(code: int) -> Verdict:
    """The broker says this error, and has taken nothing."""
    return Verdict(code, taken=False)


@dataclass(slots=True)
class Partition:
    """The values in order, the last batch of each producer, and the verdicts still to come."""

    values: list[bytes] = field(default_factory=list)
    producers: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    verdicts: deque[Verdict] = field(default_factory=deque)
    refuses: dict[bytes, int] = field(default_factory=dict)  # values, and the codes they get
    batches: int = 0  # that were asked for, whatever became of them


class ScriptedBroker:
    """Listens on as many ports as it has nodes; partition p is led by node p modulo nodes.

    `partitions[topic, p].verdicts` are used up one a batch; then all batches are taken, but for
    those with a value that it `refuses`. Answers to Produce tell `throttle_ms`, and nothing more is
    read of that connection until then. `produced` is what each Produce asked for: the
    acknowledgements, and the producer ids of its batches.
    `producer_ids` likewise: the error codes of InitProducerId, None for no answer at all.
    `topics` and `leaderless` may be changed at any time. `answering` holds all answers to
    Produce back while it is cleared. `name` is what the nodes call themselves, `address` where they
    listen.
    """

    def __init__(
        self,
        *topics: str,
        partitions: int = 2,
        nodes: int = 1,
        name: str = HOST,
        address: str = HOST,
        port: int = 0,
    ) -> None:
        self.topics = set(topics)
        self._name = name
        self._address = address
        self._port = port
        self.leaderless: set[str] = set()
        self.error_of_missing: int | None = UNKNOWN_TOPIC  # None: the answer has no word of it
        self.partitions: dict[tuple[str, int], Partition] = defaultdict(Partition)
        self.producer_ids: deque[int | None] = deque()
        self.given_ids = 0
        self.throttle_ms = 0
        self.refuses_known: int | None = None  # what a batch gets that was taken before
        self.produced: list[tuple[int, set[int]]] = []
        self.answering = [asyncio.Event() for _ in range(nodes)]
        for event in self.answering:
            event.set()
        self._count = partitions
        self._listeners: list[asyncio.Server] = []
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        for node in range(len(self.answering)):
            self._listeners.append(
                await asyncio.start_server(self._accept(node), self._address, self._port)
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        for listener in self._listeners:
            end(listener)
        await asyncio.sleep(0)  # a connection that was just accepted has its handler by then
        await asyncio.sleep(0)
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    @property
    def bootstrap_servers(self) -> tuple[str, ...]:
        """host:port of every node."""
        return tuple(f"{self._name}:{port}" for port in self._ports)

    @property
    def _ports(self) -> list[int]:
        return [listener.sockets[0].getsockname()[1] for listener in self._listeners]

    def values(self, topic: str) -> list[bytes]:
        """Every value that was taken, partition by partition."""
        return [v for p in range(self._count) for v in self.partitions[topic, p].values]

    # --- connections ---------------------------------------------------------------------

    def _accept(self, node: int) -> Any:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._handlers.add(task)
            try:
                with contextlib.suppress(asyncio.IncompleteReadError, OSError):
                    await self._serve(node, reader, writer)
            except asyncio.CancelledError:  # else the streams report it
                pass
            finally:
                self._handlers.discard(task)
                writer.transport.abort()

        return handle

    async def _serve(
        self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            message = await reader.readexactly(size)
            key, version, correlation, name_size = struct.unpack_from(">hhih", message)
            flexible = 1 if _REQUESTS[key, version].FLEXIBLE_VERSION else 0
            body = message[10 + max(name_size, 0) + flexible :]
            request = _REQUESTS[key, version].decode(body)
            answer = await self._answer(node, request)
            if answer is None:
                return
            data = struct.pack(">i", correlation) + bytes(flexible) + answer.encode()
            writer.write(struct.pack(">i", len(data)) + data)
            await writer.drain()
            if key == PRODUCE:
                await asyncio.sleep(self.throttle_ms / 1000)

    async def _answer(self, node: int, request: Any) -> Any:
        """The answer, or None to cut the connection."""
        match request:
            case ApiVersionRequest_v0():
                return request.RESPONSE_TYPE(0, [(k, *v) for k, v in _VERSIONS.items()])
            case InitProducerIdRequest_v0():
                return await self._producer_id(request)
            case ProduceRequest_v7():
                return await self._produce(node, request)
            case _MetadataRequestV12():
                return self._metadata_v12(request)
            case _:
                return self._metadata_v5(request)

    # --- answers -------------------------------------------------------------------------

    async def _producer_id(self, request: Any) -> Any:
        code = self.producer_ids.popleft() if self.producer_ids else 0
        if code is None:
            await asyncio.Event().wait()
        self.given_ids += code == 0
        return request.RESPONSE_TYPE(0, code, self.given_ids, 0)

    async def _produce(self, node: int, request: Any) -> Any:
        answers = []
        replies = set()
        producers: set[int] = set()
        self.produced.append((request.required_acks, producers))
        for topic, batches in request.topics:
            said = []
            for number, data in batches:
                partition = self.partitions[topic, number]
                partition.batches += 1
                producers.add(_batch(data).producer_id)
                verdict = partition.verdicts.popleft() if partition.verdicts else TAKEN
                code, offset = _append(partition, data, verdict, self.refuses_known)
                replies.add(verdict.reply)
                if verdict.reply != "left out":
                    said.append((number, code, offset, -1, 0))
            answers.append((topic, said))
        await self.answering[node].wait()
        if "never" in replies:
            await asyncio.Event().wait()
        return None if "cut" in replies else request.RESPONSE_TYPE(answers, self.throttle_ms)

    def _metadata_v5(self, request: Any) -> Any:
        topics: list[tuple[Any, ...]] = [
            (
                code,
                name,
                False,
                [(NO_LEADER if led < 0 else 0, p, led, [0], [0], []) for p, led in ps],
            )
            for code, name, ps in self._described(request.topics)
        ]
        brokers = [(node, self._name, port, None) for node, port in enumerate(self._ports)]
        return request.RESPONSE_TYPE(0, brokers, "scripted", 0, topics)

    def _metadata_v12(self, request: Any) -> Any:
        topics: list[tuple[Any, ...]] = [
            (
                code,
                name,
                name.encode().ljust(16)[:16],
                False,
                [(0, p, led, 0, [0], [0], [], _NO_TAGS) for p, led in partitions],
                -(2**31),
                _NO_TAGS,
            )
            for code, name, partitions in self._described([name for _, name, _ in request.topics])
        ]
        brokers = [
            (node, self._name, port, None, _NO_TAGS) for node, port in enumerate(self._ports)
        ]
        return request.RESPONSE_TYPE(0, brokers, "scripted", 0, topics, _NO_TAGS)

    def _described(
        self, asked: Sequence[str] | None
    ) -> list[tuple[int, str, list[tuple[int, int]]]]:
        """Code, name, and number and leader of each partition."""
        found: list[tuple[int, str, list[tuple[int, int]]]] = []
        for name in sorted(self.topics) if asked is None else asked:
            if name in self.topics:
                found.append((0, name, [(p, self._leader(name, p)) for p in range(self._count)]))
            elif self.error_of_missing is not None:
                found.append((self.error_of_missing, name, []))
        return found

    def _leader(self, topic: str, partition: int) -> int:
        return -1 if topic in self.leaderless else partition % len(self.answering)


def _batch(data: bytes) -> Any:
    batch = MemoryRecords(data).next_batch()
    if batch is None:
        raise ValueError("a Produce without a batch")
    return batch


def _append(
    partition: Partition, data: bytes, verdict: Verdict, refuses_known: int | None
) -> tuple[int, int]:
    """The code to answer and the offset, after the batch was appended where it is to be."""
    batch = _batch(data)
    values = [bytes(record.value or b"") for record in batch]
    first, last = batch.base_sequence, batch.base_sequence + len(values) - 1
    known = partition.producers.get(batch.producer_id)
    if known is not None and known[:2] == (first, last) and refuses_known is not None:
        return refuses_known, -1
    if known is not None and known[:2] == (first, last):
        return verdict.code, known[2] if verdict.code == 0 else -1
    if known is not None and first != known[1] + 1:
        return OUT_OF_ORDER, -1
    if not verdict.taken:
        return verdict.code, -1
    for value in values:
        if value in partition.refuses:
            return partition.refuses[value], -1
    offset = len(partition.values)
    partition.producers[batch.producer_id] = (first, last, offset)
    partition.values += values
    return verdict.code, offset if verdict.code == 0 else -1
