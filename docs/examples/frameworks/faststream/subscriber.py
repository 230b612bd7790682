"""A subscriber with FastStream: keeps every event once, and the latest status of each message."""

import asyncio
import logging
import os
from typing import Any

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaMessage as StreamMessage
from psycopg import Error
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

STATUS_SCHEMA = "urn:sms-status-bridge:schema:status:1"
RETRY_SECONDS = 1
LOG = logging.getLogger("subscriber")
JSON = JSONFormat()

database = AsyncConnectionPool(os.environ["DATABASE_URL"], open=False)
broker = KafkaBroker(os.environ["KAFKA_BROKERS"])
app = FastStream(broker)
app.on_startup(database.open)
app.after_shutdown(database.close)


async def state_of(message: StreamMessage) -> BaseCloudEvent | None:
    """Decode a record in either content mode; None if it holds no state that this program knows.

    FastStream's own decoder leaves application/cloudevents+json as bytes, and in the binary mode
    looks at the value alone.
    """
    record = message.raw_message
    headers = {name: value or b"" for name, value in record.headers}
    try:
        event = from_kafka(KafkaMessage(headers, record.key, record.value), JSON)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the next record counts
        LOG.warning("passed over: %s/%s@%s: %r", *place(record), exc)
        return None
    if event.get_dataschema() != STATUS_SCHEMA or not isinstance(event.get_data(), dict):
        LOG.warning("passed over: %s/%s@%s: not a state of this version", *place(record))
        return None
    return event


def place(record: Any) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


# The default, ACK_FIRST, commits before the handler has run: a state that cannot be kept is lost.
@broker.subscriber(
    os.environ["KAFKA_TOPIC"],
    group_id=os.environ["KAFKA_GROUP"],
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,
    decoder=state_of,
)
async def take(event: Any) -> None:
    if event is None:
        return
    try:
        async with database.connection() as connection:
            await connection.execute(
                "SELECT keep_state(%s, %s, %s)",
                (event.get_source(), event.get_id(), Jsonb(event.get_data())),
            )
    except Error:
        await asyncio.sleep(RETRY_SECONDS)  # the record is read again at once
        raise
