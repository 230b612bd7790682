"""Owns the records on their way, in batches per partition, and says what became of each.

Nothing here acknowledges: an outcome starts as failed, becomes unknown when its record is
handed over, and published by the broker's answer alone.
"""

import asyncio
import itertools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import errors

from bridge.clip import reason_of
from bridge.config.settings import Kafka
from bridge.kafka.causes import explained
from bridge.kafka.limits import Limits, record_bytes
from bridge.kafka.producer import (
    MAX_BATCH_BYTES,
    AbandonedError,
    Connection,
    RefusedError,
    partition_of,
)
from bridge.kafka.supervisor import Supervisor
from bridge.model import Message, Outcome, Result
from bridge.timeouts import Timeouts

if TYPE_CHECKING:
    from bridge.observability.tracing.spans import Tracing

log = structlog.get_logger(__name__)

SLICE = 500  # messages that are put in line before others have their turn, some 3 ms
MAX_DELIVERIES = 3  # of one record, over as many connections
NO_LIMIT = sys.maxsize
PURGE_SECONDS = 1.0  # between two looks at what waits for a broker that throttles
NOT_SENT = Outcome(Result.FAILED, error="not sent in time")
TOO_LARGE = Outcome(Result.FAILED, error="record too large for its topic", too_large=True)
HANDED_OVER = Outcome(Result.UNKNOWN, error="not answered in time")

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
    on_too_large: Callable[[Message, Outcome], None]
    closed: bool = False  # its answer is out: nothing of it is worth another try

    def settle(self, indices: Sequence[int], outcomes: Iterable[Outcome]) -> None:
        for index, outcome in zip(indices, outcomes, strict=False):
            self.outcomes[index] = outcome
        self.unsettled -= len(indices)
        if not self.unsettled and not self.done.done():
            self.done.set_result(None)

    def refuse(self, indices: Sequence[int]) -> None:
        """Settle messages that their topic does not take, and tell of each."""
        if not self.closed:
            for index in indices:
                self.on_too_large(self.messages[index], TOO_LARGE)
        self.settle(indices, itertools.repeat(TOO_LARGE))


@dataclass(slots=True, eq=False)
class _Slice:
    """Those messages of a request that go to one partition, by index, in order."""

    request: _Request
    indices: list[int]
    deliveries: int = 0
    most: int = NO_LIMIT  # records that a batch with some of these may hold


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
        self._limits = Limits(settings.compression, supervisor.max_message_bytes)
        self._lanes: dict[tuple[str, int], _Lane] = {}

    async def stop(self) -> None:
        """Forget what is on its way: whoever asked for it has had an answer by now."""
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
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

        `deadline` is on the loop's clock. `on_too_large` is told of each message that its topic
        does not take, as soon as that is known. Never raises for what Kafka does.
        """
        outcomes = [NOT_SENT] * len(messages)
        loop = asyncio.get_running_loop()
        if not messages or deadline <= loop.time():
            return outcomes
        done = loop.create_future()
        request = _Request(messages, outcomes, done, len(messages), on_too_large)
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
        topics: dict[str, tuple[int, int]] = {}
        messages, limits = request.messages, self._limits
        for index in indices:
            topic, key, value, _, _, _ = messages[index]
            known = topics.get(topic)
            if known is None:
                known = topics[topic] = connection.partitions(topic), limits.small_bytes(topic)
            count, small = known
            if not count:
                request.settle(
                    [index], [Outcome(error=f"topic {topic} is missing or not authorized")]
                )
            elif len(value) > small and limits.too_large(messages[index]):
                request.refuse([index])
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
                pause = connection.pause_seconds(lane.topic, lane.partition)
                if pause:
                    await asyncio.wait({connection.failed}, timeout=min(pause, PURGE_SECONDS))
                    lane.slices = deque(p for p in lane.slices if not p.request.closed)
                    continue
                limit = self._limits.batch_bytes(lane.topic)
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
            offset = await sending
            if offset >= 0:
                self._supervisor.losses.acknowledged(
                    lane.topic, lane.partition, offset, batch.record_count()
                )
            _published(taken, lane.partition, offset)
        except AbandonedError as exc:
            self._again(lane, taken, Outcome(Result.UNKNOWN, error=str(exc)))
        except RefusedError as exc:
            self._supervisor.refused(type(exc.error).__name__)
            for piece in taken:
                piece.deliveries -= 1  # nothing came of it, and nothing is lost by another
            self._failed(lane, batch, taken, exc.error, halved=True)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, this connection is of no use
            # It has used up sequence numbers, for good.
            self._supervisor.give_up(connection, type(exc).__name__)
            self._failed(lane, batch, taken, exc)

    async def _send(self, lane: _Lane, connection: Connection, batch: Any) -> int:
        """The offset of the batch's first record, once the broker has taken it."""
        handed_over_by = asyncio.get_running_loop().time() + self._settings.publish_timeout_seconds
        with self._timeouts.at(handed_over_by):
            reply = await connection.send(batch, lane.topic, lane.partition)
        return await reply

    def _failed(
        self,
        lane: _Lane,
        batch: Any,
        taken: list[_Slice],
        exc: BaseException,
        *,
        halved: bool = False,
    ) -> None:
        """Settle the records of a batch that has failed, or put them back for another try.

        Where one of them is to blame, the broker does not say which. They are sent again by
        halves, or singly where each failure costs a connection.
        """
        name = type(exc).__name__
        explanation = explained(name)
        reason = reason_of(exc) if explanation == name else explanation
        log.warning("batch failed", topic=lane.topic, partition=lane.partition, error=reason)
        count = sum(len(piece.indices) for piece in taken)
        if isinstance(exc, _TOO_LARGE):
            self._supervisor.doubt(lane.topic)
        if isinstance(exc, _FUTILE):
            _settle(taken, Outcome(error=reason))
        elif isinstance(exc, _CONNECTION) or not isinstance(exc, errors.BrokerResponseError):
            self._again(lane, taken, Outcome(Result.UNKNOWN, error=reason))
        elif count > 1:
            if isinstance(exc, _TOO_LARGE):
                self._limits.refused(lane.topic, batch.size(), None)
            for piece in taken:
                piece.most = count // 2 if halved else 1
            self._again(lane, taken, Outcome(error=reason))
        elif isinstance(exc, _TOO_LARGE):
            self._too_large(lane, batch, taken[0])
        else:
            _settle(taken, Outcome(error=reason))

    def _too_large(self, lane: _Lane, batch: Any, refused: _Slice) -> None:
        """Settle the one record of a batch, and all that wait and are no smaller."""
        (index,) = refused.indices
        self._limits.refused(lane.topic, batch.size(), refused.request.messages[index])
        refused.request.refuse([index])
        for other in self._lanes.values():
            if other.topic == lane.topic:
                for piece in other.slices:
                    self._refuse_too_large(piece)

    def _refuse_too_large(self, piece: _Slice) -> None:
        messages, too_large = piece.request.messages, self._limits.too_large
        refused = [index for index in piece.indices if too_large(messages[index])]
        if refused:
            piece.indices = [index for index in piece.indices if index not in {*refused}]
            piece.request.refuse(refused)

    def _again(self, lane: _Lane, taken: list[_Slice], meanwhile: Outcome) -> None:
        """Put records back, first in line, but those tried often enough or past their time."""
        for piece in reversed(taken):
            if piece.deliveries >= MAX_DELIVERIES or piece.request.closed:
                _settle([piece], meanwhile)
                continue
            for index in piece.indices:
                piece.request.outcomes[index] = meanwhile
            lane.slices.appendleft(piece)


def _fill(batch: Any, slices: deque[_Slice], max_bytes: int) -> tuple[Any, list[_Slice]]:
    """Move records from the head of the line into the batch, until one no longer fits.

    The first record always fits: whether it is too large is the broker's to say.
    """
    taken: list[_Slice] = []
    most = NO_LIMIT
    while slices:
        piece = slices.popleft()
        if piece.request.closed:
            continue
        most = min(most, piece.most)
        room = most - batch.record_count()
        count = _append(batch, piece, min(room, len(piece.indices)), max_bytes) if room > 0 else 0
        rest = piece.indices[count:]
        if rest:
            slices.appendleft(_Slice(piece.request, rest, piece.deliveries, piece.most))
            piece.indices = piece.indices[:count]
        if count:
            taken.append(piece)
        if rest:
            break
    return batch, taken


def _append(batch: Any, piece: _Slice, limit: int, max_bytes: int) -> int:
    messages, append = piece.request.messages, batch.append
    # aiokafka keeps to its own limit; only a topic's smaller one has to be watched here.
    watched = max_bytes < MAX_BATCH_BYTES
    for count, index in enumerate(piece.indices[:limit]):
        _, key, value, headers, timestamp_ms, _ = messages[index]
        if watched and batch.record_count():
            size = batch.size() + record_bytes(key, value, headers)
            if size > max_bytes:
                return count
        if append(timestamp=timestamp_ms, key=key, value=value, headers=headers) is None:
            return count
    return limit


def _settle(taken: Iterable[_Slice], outcome: Outcome) -> None:
    for piece in taken:
        piece.request.settle(piece.indices, itertools.repeat(outcome))


def _published(taken: Iterable[_Slice], partition: int, offset: int) -> None:
    """A batch's records stand in the log in the order in which they were appended.

    Of one that the broker knows to be in already it does not say where: the offset is negative.
    """
    offsets = itertools.count(offset) if offset >= 0 else itertools.repeat(None)
    outcomes = (Outcome(Result.PUBLISHED, partition, at) for at in offsets)
    for piece in taken:
        piece.request.settle(piece.indices, outcomes)
