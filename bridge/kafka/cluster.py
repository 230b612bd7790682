"""A look at the cluster: which topics there are. It makes nothing and changes nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.metadata import MetadataRequest

from bridge.errors import BridgeError
from bridge.settings import Kafka

LOOK_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Topic:
    """What the cluster says of a topic; `error` is set, too, where it is missing."""

    name: str
    partitions: int
    missing: bool = False
    error: str | None = None


async def look(settings: Kafka, topics: Sequence[str]) -> list[Topic]:
    """Ask for these topics, without making one on a broker that makes topics on demand.

    Raises BridgeError where no broker answers within LOOK_SECONDS.
    """
    client = AIOKafkaClient(
        bootstrap_servers=list(settings.bootstrap_servers),
        client_id=settings.client_id,
        request_timeout_ms=int(LOOK_SECONDS * 1000),
    )
    request = MetadataRequest(list(topics), allow_auto_topic_creation=False)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await client.bootstrap()
            response = await client.send(client.get_random_node(), request)
    except (KafkaError, OSError) as exc:  # TimeoutError is one
        raise BridgeError(unreachable(settings)) from exc
    finally:
        await client.close()
    found = {name: _topic(name, code, len(parts)) for code, name, _, parts in response.topics}
    return [found[name] for name in topics]


def unreachable(settings: Kafka) -> str:
    """What to tell a person when no broker answers."""
    return f"cannot reach Kafka at {', '.join(settings.bootstrap_servers)}"


def _topic(name: str, code: int, partitions: int) -> Topic:
    error = for_code(code)
    if error is NoError:
        return Topic(name, partitions)
    return Topic(name, 0, error is UnknownTopicOrPartitionError, error.__name__)
