"""One aiokafka producer, from its start to its end. It is never repaired, only replaced.

It waits as the brokers ask. What it does not do: keep records, retry, or decide what a failure
means (publisher.py).
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer, errors
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from bridge.config.settings import Kafka
from bridge.errors import BridgeError
from bridge.kafka import internals
from bridge.kafka.credentials import Credentials, client_arguments
from bridge.kafka.diagnosis import why
from bridge.kafka.topic_metadata import Topic, describe, offsets

MAX_RECORD_BYTES = 1024 * 1024  # the producer's own limit, and the brokers' default
MAX_BATCH_BYTES = 128 * 1024
MAX_PAUSE_SECONDS = 60.0  # that a broker may ask for; one that wants more is sent to again

# A broker says these before it appends anything, so that the batch's numbers are unused.
_REFUSALS = (
    errors.CorruptRecordException,
    errors.MessageSizeTooLargeError,
    errors.InvalidTopicError,
    errors.RecordListTooLargeError,
    errors.InvalidRequiredAcksError,
    errors.TopicAuthorizationFailedError,
    errors.InvalidTimestampError,
    errors.UnsupportedForMessageFormatError,
    errors.PolicyViolationError,
    internals.InvalidRecordError,
)


class AbandonedError(Exception):
    """The producer was given up before the broker had answered."""

    def __init__(self) -> None:
        super().__init__("the producer was given up")


class RefusedError(Exception):
    """A broker refused the batch with `error`, and has taken nothing of it.

    aiokafka has lost no count by it: the producer is as good as before.
    """

    def __init__(self, error: errors.BrokerResponseError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class InFlight:
    """A batch that is not answered yet: where it goes, and since when it has been on its way."""

    topic: str
    partition: int
    since: float  # on the monotonic clock


class Producer:
    """A started aiokafka producer, and what is known of the cluster through it.

    `failed` is set to the cause once the producer must be replaced. Once it is abandoned,
    nothing that is still in flight will be answered any more. `on_throttle` gets the seconds
    for which a broker asks to be left alone.
    """

    def __init__(self, inner: AIOKafkaProducer) -> None:
        self._inner = inner
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.in_flight: dict[asyncio.Future[int], InFlight] = {}
        self.on_throttle: Callable[[float], None] = lambda _: None
        # By node, on the monotonic clock: the time of its last good answer, or until when it asked
        # to be left alone.
        self._paused_until: dict[int, float] = {}
        self._errors: dict[tuple[str, int], str] = {}  # of what is in flight, as last answered
        self._abandoned = asyncio.Event()

    @classmethod
    async def open(cls, settings: Kafka, credentials: Credentials | None = None) -> "Producer":
        """Connect and obtain a producer id.

        Raises BridgeError, which says what to fix if that can be found out. Nothing of a
        failed attempt remains.
        """
        inner = AIOKafkaProducer(
            **client_arguments(settings, credentials),
            acks="all",
            enable_idempotence=True,
            compression_type=None if settings.compression == "none" else settings.compression,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=MAX_RECORD_BYTES,
            request_timeout_ms=int(settings.publish_timeout_seconds * 1000),
            retry_backoff_ms=50,
        )
        try:
            # InitProducerId is asked again for ever.
            async with asyncio.timeout(settings.publish_timeout_seconds):
                await inner.start()
        except (KafkaError, OSError) as exc:  # TimeoutError is one
            await internals.abandon(inner)
            raise BridgeError(await why(settings, exc, credentials)) from exc
        except BaseException:
            await internals.abandon(inner)
            raise
        producer = cls(inner)
        internals.watch_produce(inner, producer.wait_for, producer.answered)
        return producer

    async def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of the topics that exist, by name, as the cluster has them now."""
        return await describe(self._inner.client, names)

    async def offsets(
        self, topic: Topic, partitions: Collection[int], which: int
    ) -> Mapping[int, int]:
        """Where the log of each partition begins or ends; without those not known."""
        return await offsets(self._inner.client, topic, partitions, which)

    async def track(self, names: Iterable[str]) -> dict[str, Topic]:
        """Describe the topics, and have aiokafka keep the metadata of those that exist."""
        found = await self.describe(names)
        usable = {name for name, topic in found.items() if not topic.denied}
        if usable:
            # A topic's first mention also refreshes aiokafka's own metadata. Only of those that
            # exist: aiokafka's own question would create them on some brokers.
            await self._inner.client.set_topics(usable)
        return found

    async def refresh(self) -> bool:
        """Ask the cluster for its metadata; whether any broker answered."""
        return bool(await self._inner.client.force_metadata_update())

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 without the topic."""
        return len(self._inner.client.cluster.partitions_for_topic(topic) or ())

    def new_batch(self) -> Any:
        """An empty batch to append records to."""
        return self._inner.create_batch()

    async def send(self, batch: Any, topic: str, partition: int) -> "asyncio.Future[int]":
        """Hand a batch over. The future holds the offset of its first record, or the failure.

        That is AbandonedError if the producer ends before the broker has answered. One
        caller per partition at a time: aiokafka miscounts the time of concurrent ones. Raises
        KafkaError.
        """
        if partition >= self.partitions(topic):
            raise UnknownTopicOrPartitionError
        answer: asyncio.Future[Any] = await self._inner.send_batch(
            batch, topic, partition=partition
        )
        sequence = internals.Sequence(self._inner, topic, partition)
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.in_flight[reply] = InFlight(topic, partition, time.monotonic())
        answer.add_done_callback(partial(self._answered, reply, sequence))
        return reply

    def _answered(
        self,
        reply: "asyncio.Future[int]",
        sequence: internals.Sequence,
        answer: "asyncio.Future[Any]",
    ) -> None:
        if answer.cancelled():
            self._settle(reply, AbandonedError())
            return
        exc = answer.exception()
        if exc is None:
            self._settle(reply, answer.result().offset)
        elif isinstance(exc, _REFUSALS) and sequence.give_back():
            self._settle(reply, RefusedError(exc))
        else:
            self._settle(reply, exc)

    def _settle(self, reply: "asyncio.Future[int]", what: BaseException | int) -> None:
        batch = self.in_flight.pop(reply, None)
        if batch is None or reply.done():
            return
        self._errors.pop((batch.topic, batch.partition), None)
        if isinstance(what, BaseException):
            reply.set_exception(what)
            reply.exception()  # seen, whether or not anybody still waits for it
        else:
            reply.set_result(what)

    # --- brokers that ask to be left alone -----------------------------------------------

    def pause_seconds(self, topic: str, partition: int) -> float:
        """For how long the partition's broker is not to be sent to; 0 if it may."""
        return max(self._paused(topic, partition) - time.monotonic(), 0.0)

    @property
    def throttled(self) -> bool:
        """Whether some broker has asked to be left alone, and answers nothing until then."""
        return max(self._paused_until.values(), default=0.0) > time.monotonic()

    def _paused(self, topic: str, partition: int) -> float:
        leader = self._inner.client.cluster.leader_for_partition(TopicPartition(topic, partition))
        return self._paused_until.get(leader, 0.0)

    async def wait_for(self, node: int) -> None:
        """Wait until the broker may be sent to; raises KafkaError if that is never."""
        seconds = self._paused_until.get(node, 0.0) - time.monotonic()
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._abandoned.wait(), seconds)
                raise errors.KafkaConnectionError("the producer was given up")

    def answered(self, node: int, response: Any) -> None:
        """Read a broker's answer to a Produce: over its quota it reads nothing for a while.

        Who waits does not see an error in it that goes away by itself; it is kept.
        """
        codes = [(topic, *told) for topic, partitions in response.topics for told in partitions]
        for topic, partition, code, *_ in codes:
            if code:
                self._errors[topic, partition] = errors.for_code(code).__name__
        pause = min(getattr(response, "throttle_time_ms", 0) / 1000, MAX_PAUSE_SECONDS)
        if pause > 0:
            self.on_throttle(pause)
        if pause > 0 or not any(code for _, _, code, *_ in codes):
            self._paused_until[node] = time.monotonic() + pause

    def fail(self, cause: str) -> None:
        """Ask for a replacement; the first cause stands."""
        if not self.failed.done():
            self.failed.set_result(cause)

    def oldest_seconds(self) -> float:
        """For how long the oldest batch could have been answered; 0 if there is none.

        It could not while its broker has asked to be left alone, or answered others: it is sent
        one Produce at a time.
        """
        since = min(map(self._could_be_answered, self.in_flight.values()), default=math.inf)
        return max(time.monotonic() - since, 0.0)

    def _could_be_answered(self, batch: InFlight) -> float:
        paused = self._paused(batch.topic, batch.partition)
        return max(batch.since, min(paused, batch.since + MAX_PAUSE_SECONDS))

    def why_stalled(self) -> str:
        """What a broker says of the oldest batch each time; `stalled` if it says nothing."""
        oldest = min(self.in_flight.values(), key=lambda batch: batch.since)
        return self._errors.get((oldest.topic, oldest.partition), "stalled")

    async def close(self, seconds: float) -> None:
        """Flush and close within the time, and abandon what is left then."""
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(seconds):
                await self._inner.stop()
        await self.abandon()

    async def abandon(self) -> None:
        """Give up on all that is in flight and leave no task and no socket behind."""
        self._abandoned.set()
        for reply in list(self.in_flight):
            self._settle(reply, AbandonedError())
        await self._end()

    async def _end(self) -> None:
        await internals.abandon(self._inner)
