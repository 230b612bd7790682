"""One aiokafka producer, from its start to its end. It is never mended, only replaced.

What it does not do: keep records, retry, or decide what a failure means (publisher.py).
"""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2

from bridge.errors import BridgeError
from bridge.kafka.diagnosis import why
from bridge.kafka.metadata import Topic, describe
from bridge.kafka.security import TlsFiles, client_arguments
from bridge.settings import Kafka

MAX_RECORD_BYTES = 1024 * 1024  # the producer's own limit, and the brokers' default
MAX_BATCH_BYTES = 512 * 1024
_END_SECONDS = 1.0  # for each step of an end that cannot be a graceful one


class AbandonedError(Exception):
    """The connection was given up before the broker had answered."""

    def __init__(self) -> None:
        super().__init__("the connection was given up")


class Connection:
    """A started producer, and what is known of the cluster through it.

    `failed` is set to the cause once the connection must be replaced. Once it is abandoned,
    nothing that is still in flight will be answered any more.
    """

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.in_flight: dict[asyncio.Future[int], float] = {}  # reply -> when asked for

    @classmethod
    async def open(cls, settings: Kafka, files: TlsFiles | None = None) -> "Connection":
        """Connect and obtain a producer id.

        Raises BridgeError, which says what to mend where that can be found out. Nothing of a
        failed attempt remains.
        """
        producer = AIOKafkaProducer(
            **client_arguments(settings, files),
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
                await producer.start()
        except (KafkaError, OSError) as exc:  # TimeoutError is one
            await _abandon(producer)
            raise BridgeError(await why(settings, exc, files)) from exc
        except BaseException:
            await _abandon(producer)
            raise
        return cls(producer)

    async def describe(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of the topics that exist, by name, as the cluster has them now."""
        return await describe(self._producer.client, names)

    async def find(self, names: Iterable[str]) -> dict[str, Topic]:
        """Describe the topics, and make those that exist known to the producer."""
        found = await self.describe(names)
        usable = {name for name, topic in found.items() if not topic.denied}
        if usable:
            # A topic's first mention also refreshes the producer's own knowledge. Only of those
            # that exist: the producer's own question would make them on some brokers.
            await self._producer.client.set_topics(usable)
        return found

    async def refresh(self) -> bool:
        """Ask the cluster for its metadata; whether any broker answered."""
        return bool(await self._producer.client.force_metadata_update())

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; 0 without the topic."""
        return len(self._producer.client.cluster.partitions_for_topic(topic) or ())

    def new_batch(self) -> Any:
        """An empty batch to append records to."""
        return self._producer.create_batch()

    async def send(self, batch: Any, topic: str, partition: int) -> "asyncio.Future[int]":
        """Hand a batch over. The future holds the offset of its first record, or the failure.

        That is AbandonedError where the connection ends before the broker has answered. One
        caller per partition at a time: aiokafka miscounts the time of concurrent ones. Raises
        KafkaError.
        """
        if partition >= self.partitions(topic):
            raise UnknownTopicOrPartitionError
        answer: asyncio.Future[Any] = await self._producer.send_batch(
            batch, topic, partition=partition
        )
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.in_flight[reply] = time.monotonic()
        answer.add_done_callback(partial(self._answered, reply))
        return reply

    def _answered(self, reply: "asyncio.Future[int]", answer: "asyncio.Future[Any]") -> None:
        if answer.cancelled():
            self._settle(reply, AbandonedError())
        else:
            self._settle(reply, answer.exception() or answer.result().offset)

    def _settle(self, reply: "asyncio.Future[int]", what: BaseException | int) -> None:
        if self.in_flight.pop(reply, None) is None or reply.done():
            return
        if isinstance(what, BaseException):
            reply.set_exception(what)
            reply.exception()  # seen, whether or not anybody still waits for it
        else:
            reply.set_result(what)

    def fail(self, cause: str) -> None:
        """Ask for a replacement; the first cause stands."""
        if not self.failed.done():
            self.failed.set_result(cause)

    def oldest_seconds(self) -> float:
        """The age of the oldest batch that is not answered yet; 0 where there is none."""
        return time.monotonic() - min(self.in_flight.values()) if self.in_flight else 0.0

    async def close(self, seconds: float) -> None:
        """Flush and close within the time, and abandon what is left then."""
        with contextlib.suppress(TimeoutError, KafkaError, OSError):
            async with asyncio.timeout(seconds):
                await self._producer.stop()
        await self.abandon()

    async def abandon(self) -> None:
        """Give up on all that is in flight and leave no task and no socket behind."""
        for reply in list(self.in_flight):
            self._settle(reply, AbandonedError())
        await _abandon(self._producer)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Java's default partitioner chooses among so many."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End a producer whose `stop()` would wait for ever.

    The one place that touches aiokafka's private parts (0.14): `stop()` flushes first, a
    cancelled sender waits for its requests, those wait for a metadata refresh, and a
    connection that cannot flush is never closed.
    """
    producer._closed = True  # noqa: SLF001 -- else its finaliser warns
    client, sender_task = producer.client, producer._sender.sender_task  # noqa: SLF001
    writers = [c._writer for c in client._conns.values() if c._writer]  # noqa: SLF001
    if sender_task is not None:
        sender_task.cancel()
    with contextlib.suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(_END_SECONDS):
            await client.close()
    for writer in writers:
        writer.transport.abort()
    if client._md_update_fut is not None:  # noqa: SLF001
        client._md_update_fut.cancel()  # noqa: SLF001
    if sender_task is not None:
        await asyncio.wait({sender_task}, timeout=_END_SECONDS)
        sender_task.cancel()
    for connection in client._conns.values():  # noqa: SLF001 -- made by a request that was late
        connection.close()
