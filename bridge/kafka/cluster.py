"""A look at the cluster: which topics there are. It makes nothing and changes nothing."""

import asyncio
from collections.abc import Sequence

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from bridge.config.settings import Kafka
from bridge.errors import BridgeError
from bridge.kafka.diagnosis import why
from bridge.kafka.preflight import Findings, inspect
from bridge.kafka.security import client_arguments
from bridge.kafka.topic_metadata import Topic, describe

LOOK_SECONDS = 8.0


async def look(settings: Kafka, topics: Sequence[str]) -> dict[str, Topic]:
    """Those of the topics that exist, by name.

    Raises BridgeError where no broker answers within LOOK_SECONDS.
    """
    client = AIOKafkaClient(
        **client_arguments(settings),
        request_timeout_ms=int(LOOK_SECONDS * 1000),
    )
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await client.bootstrap()
            return await describe(client, topics)
    except (KafkaError, OSError) as exc:  # TimeoutError is one
        raise BridgeError(await unreachable(settings, exc)) from exc
    finally:
        await client.close()


async def examine(settings: Kafka, topics: Sequence[str]) -> dict[str, Findings]:
    """Those of the topics that exist, with what their settings mean. Raises as `look` does."""
    found = await look(settings, topics)
    told = {name: topic for name, topic in found.items() if not topic.denied}
    inspected = {findings.topic.name: findings for findings in await inspect(settings, told)}
    return {name: inspected.get(name, Findings(topic)) for name, topic in found.items()}


async def unreachable(settings: Kafka, exc: BaseException) -> str:
    """What to tell a person when no broker answers."""
    servers = ", ".join(settings.bootstrap_servers)
    return f"cannot reach Kafka at {servers}: {await why(settings, exc)}"
