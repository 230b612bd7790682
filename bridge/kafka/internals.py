"""The one place that touches aiokafka's private parts (0.14): a new version of it is held here.

It watches and waits, gives sequence numbers back, and ends what would not end. It decides nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaProducer, errors
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

_END_SECONDS = 1.0  # for each step of an end that cannot be a graceful one


class InvalidRecordError(errors.BrokerResponseError):
    """INVALID_RECORD, a code that the client has no name for."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker has validated a record of the batch, and refuses it."


errors.kafka_errors[InvalidRecordError.errno] = InvalidRecordError


def watch_produce(
    producer: AIOKafkaProducer,
    before: Callable[[int], Awaitable[None]],
    after: Callable[[int, Any], None],
) -> None:
    """Have every Produce wait for `before`, and show every answer to one; both know the node."""
    client = producer.client
    send = client.send

    async def watched(node: int, request: Any, **options: Any) -> Any:
        if not isinstance(request, ProduceRequest):
            return await send(node, request, **options)
        await before(node)
        response = await send(node, request, **options)
        after(node, response)
        return response

    client.send = watched


class Sequence:
    """The sequence numbers of one batch that was just handed over."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self._partition = TopicPartition(topic, partition)
        self._manager = producer._txn_manager  # noqa: SLF001
        queued = producer._message_accumulator._batches.get(self._partition)  # noqa: SLF001
        self._batch = queued[-1] if queued else None

    def give_back(self) -> bool:
        """Let the next batch have the numbers that a refused one has not used; whether it may.

        That is so only if the batch went out once. Had an earlier sending of it been appended
        without an answer, the broker would take the next batch of as many records for that one,
        and acknowledge what it has not got.
        """
        if self._batch is None or self._batch.retry_count != 1:
            return False
        count = self._batch.record_count
        if self._manager.sequence_number(self._partition) < count:
            return False
        self._manager.increment_sequence_number(self._partition, -count)
        return True


async def abandon(producer: AIOKafkaProducer) -> None:
    """End a producer whose `stop()` would wait for ever.

    `stop()` flushes first, a cancelled sender waits for its requests, those wait for a metadata
    refresh, and a connection that cannot flush is never closed.
    """
    producer._closed = True  # noqa: SLF001 -- else its finaliser warns
    client, sender_task = producer.client, producer._sender.sender_task  # noqa: SLF001
    writers = [c._writer for c in client._conns.values() if c._writer]  # noqa: SLF001
    if sender_task is not None:
        sender_task.cancel()
    # RuntimeError is uvloop's, of a transport that has ended.
    with contextlib.suppress(TimeoutError, errors.KafkaError, OSError, RuntimeError):
        async with asyncio.timeout(_END_SECONDS):
            await client.close()
    for writer in writers:
        with contextlib.suppress(RuntimeError):
            writer.transport.abort()
    if client._md_update_fut is not None:  # noqa: SLF001
        client._md_update_fut.cancel()  # noqa: SLF001
    if sender_task is not None:
        await asyncio.wait({sender_task}, timeout=_END_SECONDS)
        sender_task.cancel()
    for connection in client._conns.values():  # noqa: SLF001 -- made by a request that was late
        with contextlib.suppress(RuntimeError):
            connection.close()
