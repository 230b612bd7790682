"""Owns the records on their way, in batches per partition, and says what became of each.

Nothing here acknowledges: an outcome starts as failed, becomes unknown when its record is
handed over, and published by the broker's answer alone.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import errors

from bridge.clip import reason_of
from bridge.config.settings import Kafka
from bridge.kafka.causes import explained
from bridge.kafka.limits import Limits, record_bytes
from bridge.kafka.partitions import hashes
from bridge.kafka.producer import MAX_BATCH_BYTES, AbandonedError, Producer, RefusedError
from bridge.kafka.supervisor import Supervisor
from bridge.model import Message, Outcome, Result
from bridge.timeouts import Timeouts

if TYPE_CHECKING:
    from bridge.observability.tracing.spans import Tracing

log = structlog.get_logger(__name__)

CHUNK = 500  # messages that are put in line before others have their turn, some 3 ms
MAX_DELIVERIES = 3  # of one record, over as many producers
NO_LIMIT = sys.maxsize
PURGE_SECONDS = 1.0  # between two looks at what waits for a broker that throttles
NOT_SENT = Outcome(Result.FAILED, error="not sent in time")
TOO_LARGE = Outcome(Result.FAILED, error="record too large for its topic", too_large=True)
HANDED_OVER = Outcome(Result.UNKNOWN, error="not answered in time")

_PUBLISHED = Result.PUBLISHED
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
# What another try cannot mend, and no record is to blame for.
_FUTILE = (
    errors.InvalidTimestampError,  # of the time of receipt, which all records have alike
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.UnknownTopicOrPartitionError,
    errors.InvalidTopicError,
    errors.InvalidRequiredAcksError,
    errors.UnsupportedVersionError,
    errors.SaslAuthenticationFailed,
)
# The producer's own state is at fault, not a record.
_PRODUCER = (
    errors.OutOfOrderSequenceNumber,
    errors.ProducerFenced,
    errors.InvalidProducerEpoch,
    errors.InvalidProducerIdMapping,
    errors.UnknownProducerId,
    errors.NotLeaderForPartitionError,
    errors.LeaderNotAvailableError,
    errors.KafkaTimeoutError,
    errors.ProducerClosed,
)


@dataclass(slots=True, eq=False)
class _Request:
    """The messages of one `publish()`, and what is known of each."""

    messages: Sequence[Message]
    outcomes: list[Outcome]
    done: asyncio.Future[None]
    unsettled: int
    on_too_large: Callable[[Message, Outcome], None]
    deadline: float
    large: bool  # it is put in line in parts
    closed: bool = False  # its answer is out: nothing of it is worth another try

    def settle(self, indices: Sequence[int], outcome: Outcome) -> None:
        for index in indices:
            self.outcomes[index] = outcome
        self.settled(len(indices))

    def settled(self, count: int) -> None:
        """Note that so many have their outcome."""
        self.unsettled -= count
        if not self.unsettled:
            self.end()

    def end(self) -> None:
        """Wait no longer: all is settled, or the deadline has passed."""
        if not self.done.done():
            self.done.set_result(None)

    def refuse(self, indices: Sequence[int]) -> None:
        """Settle messages that their topic does not take, and tell of each."""
        if not self.closed:
            for index in indices:
                self.on_too_large(self.messages[index], TOO_LARGE)
        self.settle(indices, TOO_LARGE)


@dataclass(slots=True, eq=False)
class _Chunk:
    """Those messages of a request that go to one partition, by index, in order."""

    request: _Request
    indices: list[int]
    deliveries: int = 0
    most: int = NO_LIMIT  # records that a batch with some of these may hold


@dataclass(slots=True, eq=False)
class _PartitionQueue:
    """The records on their way to one partition: at most one batch of them in flight."""

    topic: str
    partition: int
    small: deque[_Chunk] = field(default_factory=deque)
    large: deque[_Chunk] = field(default_factory=deque)
    large_first: bool = False
    task: asyncio.Task[None] | None = None

    @property
    def chunks(self) -> Iterator[_Chunk]:
        """All that wait."""
        return chain(self.small, self.large)

    def line(self, request: _Request) -> deque[_Chunk]:
        """Where the request's chunks wait, one after the other."""
        return self.large if request.large else self.small


class Publisher:
    """Publishes messages through whatever producer the supervisor has at the moment.

    `tracing` is None if batches are not traced. Of a request's messages so many are put in line
    `at_once`; what has more is a large one.
    """

    def __init__(
        self,
        settings: Kafka,
        supervisor: Supervisor,
        tracing: "Tracing | None" = None,
        *,
        at_once: int = CHUNK,
    ) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._tracing = tracing
        self._at_once = at_once
        self._timeouts = Timeouts()
        self._limits = Limits(settings.compression, supervisor.max_message_bytes)
        self._queues: dict[tuple[str, int], _PartitionQueue] = {}

    async def stop(self) -> None:
        """Forget what is on its way: whoever asked for it has had an answer by now."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(
        self,
        messages: Sequence[Message],
        deadline: float,
        on_too_large: Callable[[Message, Outcome], None] = lambda _message, _outcome: None,
    ) -> list[Outcome]:
        """Send all messages at once; one outcome each, in order, by the deadline.

        `deadline` is on the loop's clock. `on_too_large` is called with each message that its
        topic does not accept, as soon as that is known. Never raises for what Kafka does.
        """
        outcomes = [NOT_SENT] * len(messages)
        loop = asyncio.get_running_loop()
        if not messages or deadline <= loop.time():
            return outcomes
        done = loop.create_future()
        count = len(messages)
        large = count > self._at_once
        request = _Request(messages, outcomes, done, count, on_too_large, deadline, large)
        self._timeouts.enter(request)
        try:
            producer = self._supervisor.producer
            if producer is not None and not large:  # as nearly always
                self._enqueue(request, 0, messages, producer)
            else:
                await self._put_in_line(request)
            await done
        except TimeoutError:
            pass
        finally:
            self._timeouts.leave(request)
            # What was not handed over is not in Kafka, and must not get there later.
            request.closed = True  # whoever fills a batch passes over it
        # A copy: what is still in flight may settle later, and nobody must see it then.
        return outcomes.copy()

    # --- requests ------------------------------------------------------------------------

    async def _put_in_line(self, request: _Request) -> None:
        with self._timeouts.at(request.deadline):
            producer = await self._supervisor.current()
        messages = request.messages
        for start in range(0, len(messages), self._at_once):
            end = start + self._at_once
            self._enqueue(request, start, messages[start:end], producer)
            if end < len(messages):
                await asyncio.sleep(0)
                if request.done.done():  # its time is over
                    break

    def _enqueue(
        self, request: _Request, start: int, messages: Sequence[Message], producer: Producer
    ) -> None:
        """Put messages in line, which are the request's from `start` on."""
        topics: dict[str, tuple[int, int, dict[int, _Chunk]]] = {}
        indices = range(start, start + len(messages))
        hashed_keys = hashes([message.key for message in messages])
        for index, message, hashed in zip(indices, messages, hashed_keys, strict=True):
            topic = message.topic
            known = topics.get(topic)
            if known is None:
                small = self._limits.small_bytes(topic)
                known = topics[topic] = producer.partitions(topic), small, {}
            partitions, small, chunks = known
            if not partitions:
                missing = Outcome(error=f"topic {topic} is missing or not authorized")
                request.settle([index], missing)
            elif len(message.value) > small and self._limits.too_large(message):
                request.refuse([index])
            else:
                chunk = chunks.get(partition := hashed % partitions)
                if chunk is None:
                    chunk = chunks[partition] = _Chunk(request, [])
                chunk.indices.append(index)
        for topic, (_, _, chunks) in topics.items():
            for partition, chunk in chunks.items():
                self._put(chunk, topic, partition)

    def _put(self, chunk: _Chunk, topic: str, partition: int) -> None:
        """Have a chunk sent with the partition's next batch."""
        queue = self._queues.get((topic, partition))
        if queue is None:
            queue = self._queues[topic, partition] = _PartitionQueue(topic, partition)
        queue.line(chunk.request).append(chunk)
        if queue.task is None:
            queue.task = asyncio.create_task(self._run(queue), name="kafka partition queue")

    # --- one partition -------------------------------------------------------------------

    async def _run(self, queue: _PartitionQueue) -> None:
        try:
            while queue.small or queue.large:
                producer = await self._supervisor.current()
                pause = producer.pause_seconds(queue.topic, queue.partition)
                if pause:
                    await asyncio.wait({producer.failed}, timeout=min(pause, PURGE_SECONDS))
                    for line in (queue.small, queue.large):
                        waiting = [each for each in line if not each.request.closed]
                        line.clear()
                        line.extend(waiting)
                    continue
                limit = self._limits.batch_bytes(queue.topic)
                batch = producer.new_batch()
                taken = _fill(batch, queue, limit)
                if taken:
                    await self._deliver(queue, producer, batch, taken)
        finally:
            queue.task = None

    async def _deliver(
        self, queue: _PartitionQueue, producer: Producer, batch: Any, taken: list[_Chunk]
    ) -> None:
        """Send one batch and settle its records, or put them back for another try."""
        for chunk in taken:
            chunk.deliveries += 1
            outcomes = chunk.request.outcomes
            for index in chunk.indices:
                outcomes[index] = HANDED_OVER
        sending = self._send(queue, producer, batch)
        if self._tracing is not None:
            sending = self._tracing.batch(
                sending,
                topic=queue.topic,
                partition=queue.partition,
                count=sum(len(chunk.indices) for chunk in taken),
                headers=[chunk.request.messages[chunk.indices[0]].headers for chunk in taken],
            )
        try:
            offset = await sending
            if offset >= 0:
                self._supervisor.losses.acknowledged(
                    queue.topic, queue.partition, offset, batch.record_count()
                )
            _published(taken, queue.partition, offset)
        except AbandonedError as exc:
            self._again(queue, taken, Outcome(Result.UNKNOWN, error=str(exc)))
        except RefusedError as exc:
            self._supervisor.refused(type(exc.error).__name__)
            for chunk in taken:
                chunk.deliveries -= 1  # nothing came of it, and nothing is lost by another
            self._failed(queue, batch, taken, exc.error, halved=True)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, this producer is of no use
            # It has used up sequence numbers, for good.
            self._supervisor.give_up(producer, type(exc).__name__)
            self._failed(queue, batch, taken, exc)

    async def _send(self, queue: _PartitionQueue, producer: Producer, batch: Any) -> int:
        """The offset of the batch's first record, once the broker has taken it."""
        handed_over_by = asyncio.get_running_loop().time() + self._settings.publish_timeout_seconds
        with self._timeouts.at(handed_over_by):
            reply = await producer.send(batch, queue.topic, queue.partition)
        return await reply

    def _failed(
        self,
        queue: _PartitionQueue,
        batch: Any,
        taken: list[_Chunk],
        exc: BaseException,
        *,
        halved: bool = False,
    ) -> None:
        """Settle the records of a batch that has failed, or put them back for another try.

        Where one of them is to blame, the broker does not say which. They are sent again by
        halves, or singly if each failure costs a producer.
        """
        name = type(exc).__name__
        explanation = explained(name)
        reason = reason_of(exc) if explanation == name else explanation
        log.warning("batch failed", topic=queue.topic, partition=queue.partition, error=reason)
        count = sum(len(chunk.indices) for chunk in taken)
        if isinstance(exc, _TOO_LARGE):
            self._supervisor.doubt(queue.topic)
        if isinstance(exc, _FUTILE):
            _settle(taken, Outcome(error=reason))
        elif isinstance(exc, _PRODUCER) or not isinstance(exc, errors.BrokerResponseError):
            self._again(queue, taken, Outcome(Result.UNKNOWN, error=reason))
        elif count > 1:
            if isinstance(exc, _TOO_LARGE):
                self._limits.refused(queue.topic, batch.size(), None)
            for chunk in taken:
                chunk.most = count // 2 if halved else 1
            self._again(queue, taken, Outcome(error=reason))
        elif isinstance(exc, _TOO_LARGE):
            self._too_large(queue, batch, taken[0])
        else:
            _settle(taken, Outcome(error=reason))

    def _too_large(self, queue: _PartitionQueue, batch: Any, refused: _Chunk) -> None:
        """Settle the one record of a batch, and all that wait and are no smaller."""
        (index,) = refused.indices
        self._limits.refused(queue.topic, batch.size(), refused.request.messages[index])
        refused.request.refuse([index])
        for other in self._queues.values():
            if other.topic == queue.topic:
                for chunk in other.chunks:
                    self._refuse_too_large(chunk)

    def _refuse_too_large(self, chunk: _Chunk) -> None:
        messages, too_large = chunk.request.messages, self._limits.too_large
        refused = [index for index in chunk.indices if too_large(messages[index])]
        if refused:
            gone = {*refused}
            chunk.indices = [index for index in chunk.indices if index not in gone]
            chunk.request.refuse(refused)

    def _again(self, queue: _PartitionQueue, taken: list[_Chunk], meanwhile: Outcome) -> None:
        """Put records back, first in line, but those tried often enough or past their time."""
        for chunk in reversed(taken):
            if chunk.deliveries >= MAX_DELIVERIES or chunk.request.closed:
                _settle([chunk], meanwhile)
                continue
            for index in chunk.indices:
                chunk.request.outcomes[index] = meanwhile
            queue.line(chunk.request).appendleft(chunk)


def _fill(batch: Any, queue: _PartitionQueue, max_bytes: int) -> list[_Chunk]:
    """Move records from the heads of the lines into the batch, until one no longer fits.

    If small and large requests wait, each begins every other batch and has half of it, or a small
    one would wait until all of a large one has been sent.
    """
    first, second = queue.small, queue.large
    if queue.large_first:
        first, second = second, first
    taken: list[_Chunk] = []
    if first and second:
        queue.large_first = not queue.large_first
        _take(batch, first, max_bytes // 2, taken)
        _take(batch, second, max_bytes, taken)
    _take(batch, first or second, max_bytes, taken)
    return taken


def _take(batch: Any, chunks: deque[_Chunk], max_bytes: int, taken: list[_Chunk]) -> None:
    """Move records from the head of one line.

    A batch's first record always fits: whether it is too large is the broker's to say.
    """
    most = min([chunk.most for chunk in taken], default=NO_LIMIT)
    while chunks:
        chunk = chunks.popleft()
        if chunk.request.closed:
            continue
        most = min(most, chunk.most)
        room = most - batch.record_count()
        count = _append(batch, chunk, min(room, len(chunk.indices)), max_bytes) if room > 0 else 0
        rest = chunk.indices[count:]
        if rest:
            chunks.appendleft(_Chunk(chunk.request, rest, chunk.deliveries, chunk.most))
            chunk.indices = chunk.indices[:count]
        if count:
            taken.append(chunk)
        if rest:
            break


def _append(batch: Any, chunk: _Chunk, limit: int, max_bytes: int) -> int:
    messages, append = chunk.request.messages, batch.append
    # aiokafka keeps to its own limit; only a topic's smaller one has to be watched here.
    watched = max_bytes < MAX_BATCH_BYTES
    for count, index in enumerate(chunk.indices[:limit]):
        _, key, value, headers, timestamp_ms, _ = messages[index]
        if watched and batch.record_count():
            size = batch.size() + record_bytes(key, value, headers)
            if size > max_bytes:
                return count
        if append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
            return count
    return limit


def _settle(taken: Iterable[_Chunk], outcome: Outcome) -> None:
    for chunk in taken:
        chunk.request.settle(chunk.indices, outcome)


def _published(taken: Iterable[_Chunk], partition: int, offset: int) -> None:
    """A batch's records stand in the log in the order in which they were appended.

    Of one that the broker knows to be in already it does not say where: the offset is negative.
    """
    if offset < 0:
        _settle(taken, Outcome(_PUBLISHED, partition))
        return
    for chunk in taken:
        outcomes = chunk.request.outcomes
        for at, index in enumerate(chunk.indices, offset):
            outcomes[index] = Outcome(_PUBLISHED, partition, at)
        offset += len(chunk.indices)
        chunk.request.settled(len(chunk.indices))
