"""A publisher for a command that has its own end, with the producer that `serve` would have."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bridge.config.settings import Kafka
from bridge.errors import BridgeError
from bridge.kafka.admin import describe_topics
from bridge.kafka.publisher import Publisher
from bridge.kafka.supervisor import Supervisor

CONNECT_SECONDS = 10.0
STOP_SECONDS = 5.0


@asynccontextmanager
async def publishing(settings: Kafka, topics: Sequence[str]) -> AsyncIterator[Publisher]:
    """A publisher that is ready for these status topics, for as long as the block lasts.

    Raises BridgeError if Kafka cannot be reached, or a topic is missing or not durable enough.
    """
    await describe_topics(settings, topics)  # which says at once why it cannot, if so
    supervisor = Supervisor(settings, topics)
    publisher = Publisher(settings, supervisor)
    supervisor.start()
    try:
        await _ready(supervisor)
        yield publisher
    finally:
        await publisher.stop()
        await supervisor.stop(STOP_SECONDS)


async def _ready(supervisor: Supervisor) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            await supervisor.current()
    if not supervisor.ready:
        raise BridgeError(supervisor.not_ready_because)
