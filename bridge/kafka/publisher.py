"""Owns the records on their way, in batches per partition, and says what became of each.

Nothing here acknowledges: an outcome starts as failed, becomes unknown when its record is
handed over, and published by the broker's answer alone.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import errors
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from bridge.clip import reason_of
from bridge.kafka.connection import (
    MAX_BATCH_BYTES,
    MAX_RECORD_BYTES,
    AbandonedError,
    Connection,
    partition_of,
)
from bridge.kafka.supervisor import Supervisor
from bridge.model import Message, Outcome, Result
from bridge.settings import Kafka
from bridge.timeouts import Timeouts

if TYPE_CHECKING:
    from bridge.tracing.spans import Tracing

log = structlog.get_logger(__name__)

SLICE = 500  # messages that are put in line before others have their turn, some 3 ms
SURELY_SMALL = MAX_RECORD_BYTES // 2  # of a value: key and headers never take the other half
MAX_DELIVERIES = 3  # of one record, over as many connections
NOT_SENT = Outcome(Result.FAILED, error="not sent in time")
TOO_LARGE = Outcome(Result.FAILED, error="record too large", too_large=True)
HANDED_OVER = Outcome(Result.UNKNOWN, error="not answered in time")

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
# What another connection cannot mend, and no record is to blame for.
_FUTILE = (
    errors.TopicAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.UnknownTopicOrPartitionError,
    errors.InvalidTopicError,
    errors.InvalidRequiredAcksError,
    errors.UnsupportedVersionError,
    errors.SaslAuthenticationFailed,
)
# The connection's own state is at fault, not a record.
_CONNECTION = (
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
    closed: bool = False  # its answer is out: nothing of it is worth another try

    def settle(self, indices: Sequence[int], outcomes: Iterable[Outcome]) -> None:
        for index, outcome in zip(indices, outcomes, strict=False):
            self.outcomes[index] = outcome
        self.unsettled -= len(indices)
        if not self.unsettled and not self.done.done():
            self.done.set_result(None)


@dataclass(slots=True, eq=False)
class _Slice:
    """Those messages of a request that go to one partition, by index, in order."""

    request: _Request
    indices: list[int]
    deliveries: int = 0
    alone: bool = False  # each record in a batch of its own


@dataclass(slots=True, eq=False)
class _Lane:
    """The records on their way to one partition: at most one batch of them in flight."""

    topic: str
    partition: int
    slices: deque[_Slice] = field(default_factory=deque)
    task: asyncio.Task[None] | None = None


class Publisher:
    """Publishes messages through whatever connection the supervisor has at the moment.

    `tracing` is None where batches are not traced.
    """

    def __init__(
        self, settings: Kafka, supervisor: Supervisor, tracing: "Tracing | None" = None
    ) -> None:
        self._settings = settings
        self._supervisor = supervisor
        self._tracing = tracing
        self._timeouts = Timeouts()
        self._lanes: dict[tuple[str, int], _Lane] = {}

    async def stop(self) -> None:
        """Forget what is on its way: whoever asked for it has had an answer by now."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """Send all messages at once; one outcome each, in order, by the deadline.

        `deadline` is on the loop's clock. Never raises for what Kafka does.
        """
        outcomes = [NOT_SENT] * len(messages)
        loop = asyncio.get_running_loop()
        if not messages or deadline <= loop.time():
            return outcomes
        request = _Request(messages, outcomes, loop.create_future(), len(messages))
        try:
            with self._timeouts.at(deadline):
                await self._put_in_line(request)
                await request.done
        except TimeoutError:
            pass
        finally:
            # What was not handed over is not in Kafka, and must not get there later.
            request.closed = True  # whoever fills a batch passes over it
        # A copy: what is still in flight may settle later, and nobody must see it then.
        return list(outcomes)

    # --- requests ------------------------------------------------------------------------

    async def _put_in_line(self, request: _Request) -> None:
        connection = await self._supervisor.current()
        count = len(request.messages)
        for start in range(0, count, SLICE):
            self._enqueue(request, range(start, min(start + SLICE, count)), connection)
            if start + SLICE < count:
                await asyncio.sleep(0)

    def _enqueue(self, request: _Request, indices: Iterable[int], connection: Connection) -> None:
        slices: dict[tuple[str, int], _Slice] = {}
        partitions: dict[str, int] = {}
        messages = request.messages
        for index in indices:
            topic, key, value, headers, _, _ = messages[index]
            count = partitions.get(topic)
            if count is None:
                count = partitions[topic] = connection.partitions(topic)
            if not count:
                request.settle([index], [Outcome(error=f"topic {topic} is missing or denied")])
            elif (
                len(value) > SURELY_SMALL and _record_bytes(key, value, headers) > MAX_RECORD_BYTES
            ):
                request.settle([index], [TOO_LARGE])
            else:
                where = topic, partition_of(key, count)
                piece = slices.get(where)
                if piece is None:
                    piece = slices[where] = _Slice(request, [])
                piece.indices.append(index)
        for where, piece in slices.items():
            lane = self._lanes.setdefault(where, _Lane(*where))
            lane.slices.append(piece)
            if lane.task is None:
                lane.task = asyncio.create_task(self._run(lane), name="kafka lane")

    # --- one partition -------------------------------------------------------------------

    async def _run(self, lane: _Lane) -> None:
        try:
            while lane.slices:
                connection = await self._supervisor.current()
                limit = self._supervisor.batch_bytes(lane.topic)
                batch, taken = _fill(connection.new_batch(), lane.slices, limit)
                if taken:
                    await self._deliver(lane, connection, batch, taken)
        finally:
            lane.task = None

    async def _deliver(
        self, lane: _Lane, connection: Connection, batch: Any, taken: list[_Slice]
    ) -> None:
        """Send one batch and settle its records, or put them back for another try."""
        for piece in taken:
            piece.deliveries += 1
            outcomes = piece.request.outcomes
            for index in piece.indices:
                outcomes[index] = HANDED_OVER
        sending = self._send(lane, connection, batch)
        if self._tracing is not None:
            sending = self._tracing.batch(
                sending,
                topic=lane.topic,
                partition=lane.partition,
                count=sum(len(piece.indices) for piece in taken),
                headers=[piece.request.messages[piece.indices[0]].headers for piece in taken],
            )
        try:
            _published(taken, lane.partition, await sending)
        except AbandonedError as exc:
            self._again(lane, taken, Outcome(Result.UNKNOWN, error=str(exc)))
        except Exception as exc:  # noqa: BLE001 -- whatever it is, this connection is of no use
            self._failed(lane, connection, taken, exc)

    async def _send(self, lane: _Lane, connection: Connection, batch: Any) -> int:
        """The offset of the batch's first record, once the broker has taken it."""
        handed_over_by = asyncio.get_running_loop().time() + self._settings.publish_timeout_seconds
        with self._timeouts.at(handed_over_by):
            reply = await connection.send(batch, lane.topic, lane.partition)
        return await reply

    def _failed(
        self, lane: _Lane, connection: Connection, taken: list[_Slice], exc: BaseException
    ) -> None:
        """Any failure uses up sequence numbers for good, so the connection is replaced."""
        self._supervisor.give_up(connection, type(exc).__name__)
        denied = isinstance(exc, errors.TopicAuthorizationFailedError)
        reason = "denied: allow Write on the topic" if denied else reason_of(exc)
        log.warning("batch failed", topic=lane.topic, partition=lane.partition, error=reason)
        refused = Outcome(error=reason, too_large=isinstance(exc, _TOO_LARGE))
        if isinstance(exc, _FUTILE):
            _settle(taken, refused)
        elif isinstance(exc, _CONNECTION) or not isinstance(exc, errors.BrokerResponseError):
            self._again(lane, taken, Outcome(Result.UNKNOWN, error=reason))
        elif sum(len(piece.indices) for piece in taken) == 1:
            _settle(taken, refused)
        else:
            # One record is to blame and the broker does not say which: each on its own.
            for piece in taken:
                piece.alone = True
            self._again(lane, taken, Outcome(error=reason))

    def _again(self, lane: _Lane, taken: list[_Slice], meanwhile: Outcome) -> None:
        """Put records back, first in line, but those tried often enough or past their time."""
        for piece in reversed(taken):
            if piece.deliveries >= MAX_DELIVERIES or piece.request.closed:
                _settle([piece], meanwhile)
                continue
            for index in piece.indices:
                piece.request.outcomes[index] = meanwhile
            lane.slices.appendleft(piece)


def _record_bytes(key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> int:
    return int(DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers))


def _fill(batch: Any, slices: deque[_Slice], max_bytes: int) -> tuple[Any, list[_Slice]]:
    """Move records from the head of the line into the batch, until one no longer fits.

    The first record always fits: whether it is too large is the broker's to say.
    """
    taken: list[_Slice] = []
    while slices:
        piece = slices.popleft()
        if piece.request.closed:
            continue
        limit = 1 if piece.alone else len(piece.indices)
        count = _append(batch, piece, limit, max_bytes)
        if count < len(piece.indices):
            rest = _Slice(piece.request, piece.indices[count:], piece.deliveries, piece.alone)
            slices.appendleft(rest)
            piece.indices = piece.indices[:count]
        if count:
            taken.append(piece)
        if count < limit or piece.alone or (slices and slices[0].alone):
            break
    return batch, taken


def _append(batch: Any, piece: _Slice, limit: int, max_bytes: int) -> int:
    messages, append = piece.request.messages, batch.append
    # aiokafka keeps to its own limit; only a topic's smaller one has to be watched here.
    watched = max_bytes < MAX_BATCH_BYTES
    for count, index in enumerate(piece.indices[:limit]):
        _, key, value, headers, timestamp_ms, _ = messages[index]
        if watched and batch.record_count():
            size = batch.size() + _record_bytes(key, value, headers)
            if size > max_bytes:
                return count
        if append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
            return count
    return limit


def _settle(taken: Iterable[_Slice], outcome: Outcome) -> None:
    for piece in taken:
        piece.request.settle(piece.indices, itertools.repeat(outcome))


def _published(taken: Iterable[_Slice], partition: int, offset: int) -> None:
    """A batch's records stand in the log in the order in which they were appended."""
    outcomes = (Outcome(Result.PUBLISHED, partition, at) for at in itertools.count(offset))
    for piece in taken:
        piece.request.settle(piece.indices, outcomes)
