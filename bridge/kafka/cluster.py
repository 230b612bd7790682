"""A look at the cluster: which topics there are. It makes nothing and changes nothing."""

import asyncio
import socket
from collections.abc import Sequence

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from bridge.errors import BridgeError
from bridge.kafka.metadata import Topic, describe
from bridge.kafka.preflight import Findings, inspect
from bridge.settings import Kafka

LOOK_SECONDS = 8.0


async def look(settings: Kafka, topics: Sequence[str]) -> dict[str, Topic]:
    """Those of the topics that exist, by name.

    Raises BridgeError where no broker answers within LOOK_SECONDS.
    """
    client = AIOKafkaClient(
        bootstrap_servers=list(settings.bootstrap_servers),
        client_id=settings.client_id,
        request_timeout_ms=int(LOOK_SECONDS * 1000),
    )
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await client.bootstrap()
            return await describe(client, topics)
    except (KafkaError, OSError) as exc:  # TimeoutError is one
        raise BridgeError(unreachable(settings, exc)) from exc
    finally:
        await client.close()


async def examine(settings: Kafka, topics: Sequence[str]) -> dict[str, Findings]:
    """Those of the topics that exist, with what their settings mean. Raises as `look` does."""
    found = await look(settings, topics)
    return {findings.topic.name: findings for findings in await inspect(settings, found)}


def unreachable(settings: Kafka, exc: BaseException) -> str:
    """What to tell a person when no broker answers."""
    servers = ", ".join(settings.bootstrap_servers)
    why_not = _why_not(settings) or str(exc) or "no answer in time"
    return f"cannot reach Kafka at {servers}: {why_not}"


def _why_not(settings: Kafka) -> str | None:
    """What a plain connection says of the brokers, which aiokafka keeps to its log."""
    for server in settings.bootstrap_servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
        except OSError as exc:
            return exc.strerror or str(exc)
    return None
