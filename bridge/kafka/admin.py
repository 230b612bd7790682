"""Topics from an operator's point of view: what there is, what is at risk, what to create.

Each function uses a client of its own and closes it; the supervisor keeps what it learns.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaError,
    NoError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from bridge.config.settings import Kafka
from bridge.errors import BridgeError
from bridge.kafka import topic_metadata
from bridge.kafka.credentials import Credentials, client_arguments
from bridge.kafka.diagnosis import why
from bridge.kafka.producer import MAX_RECORD_BYTES
from bridge.kafka.topic_metadata import Topic

log = structlog.get_logger(__name__)

DESCRIBE_SECONDS = 8.0  # for a command, which somebody waits for
CONFIG_SHARE = 0.3  # of the publish timeout, within which a producer must be of use
DURABLE_REPLICAS = 3
DURABLE_IN_SYNC = 2
_MIN_IN_SYNC = "min.insync.replicas"
_MAX_MESSAGE = "max.message.bytes"
_UNCLEAN = "unclean.leader.election.enable"
_CONFIG = (_MIN_IN_SYNC, _MAX_MESSAGE, _UNCLEAN)


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic, and what its configuration means for the promise.

    The configuration is None if it may not be read; `unreadable` says why. If it was the broker
    that did not answer, it is `unanswered`.
    """

    topic: Topic
    min_in_sync: int | None = None
    max_message_bytes: int | None = None
    unreadable: str | None = None
    unclean_elections: bool = False
    unanswered: bool = False

    @property
    def at_risk(self) -> tuple[str, ...]:
        """Why an acknowledged record might still be lost with a broker."""
        risks = []
        if self.topic.replicas < DURABLE_REPLICAS:
            risks.append(f"replication factor {self.topic.replicas}: use {DURABLE_REPLICAS}")
        if self.min_in_sync is not None and self.min_in_sync < DURABLE_IN_SYNC:
            risks.append(f"{_MIN_IN_SYNC} {self.min_in_sync}: use {DURABLE_IN_SYNC}")
        if self.unclean_elections:
            risks.append(f"{_UNCLEAN} true: use false")
        return tuple(risks)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What else an operator should know."""
        said = []
        if self.unreadable is not None:
            said.append(f"its settings cannot be read: {self.unreadable}")
        if self.max_message_bytes is not None and self.max_message_bytes < MAX_RECORD_BYTES:
            said.append(
                f"{_MAX_MESSAGE} is {self.max_message_bytes}: larger events become dead letters"
            )
        if self.min_in_sync is not None and self.min_in_sync > self.topic.replicas:
            said.append(f"{_MIN_IN_SYNC} is {self.min_in_sync}: more than it has replicas")
        return tuple(said)


# --- describing --------------------------------------------------------------------------


async def describe_topics(
    settings: Kafka, names: Sequence[str], credentials: Credentials | None = None
) -> dict[str, Topic]:
    """Those of the topics that exist, by name.

    Raises BridgeError if no broker answers within DESCRIBE_SECONDS.
    """
    credentials = credentials or Credentials(settings)
    client = AIOKafkaClient(
        **client_arguments(settings, credentials),
        request_timeout_ms=int(DESCRIBE_SECONDS * 1000),
    )
    try:
        async with asyncio.timeout(DESCRIBE_SECONDS):
            await client.bootstrap()
            return await topic_metadata.describe(client, names)
    except (KafkaError, OSError) as exc:  # TimeoutError is one
        raise BridgeError(await unreachable(settings, exc, credentials)) from exc
    finally:
        await client.close()


async def existing_topics(
    settings: Kafka, names: Sequence[str], credentials: Credentials | None = None
) -> dict[str, Topic]:
    """The topics, by name; raises BridgeError as `describe_topics` does, and if one is missing."""
    found = await describe_topics(settings, names, credentials)
    if missing := [missing_topic(settings, name) for name in names if name not in found]:
        raise BridgeError("\n".join(missing))
    return found


async def describe(settings: Kafka, names: Sequence[str]) -> dict[str, TopicDescription]:
    """Those of the topics that exist, with their configuration. Raises as `describe_topics`."""
    credentials = Credentials(settings)
    found = await describe_topics(settings, names, credentials)
    allowed = {name: topic for name, topic in found.items() if not topic.denied}
    configs = await describe_configs(settings, allowed, credentials)
    described = {each.topic.name: each for each in configs}
    return {name: described.get(name, TopicDescription(topic)) for name, topic in found.items()}


async def describe_configs(
    settings: Kafka, topics: Mapping[str, Topic], credentials: Credentials | None = None
) -> list[TopicDescription]:
    """Read the topics' configuration; what cannot be read is unknown, and no reason to wait."""
    try:
        async with asyncio.timeout(settings.publish_timeout_seconds * CONFIG_SHARE):
            return await _describe_configs(settings, topics, credentials)
    except IncompatibleBrokerVersion:
        what = "the broker does not support it (DescribeConfigs)"
    except (KafkaError, OSError, TimeoutError) as exc:
        what = f"no answer from the broker ({type(exc).__name__})"
    return [TopicDescription(topic, unreadable=what, unanswered=True) for topic in topics.values()]


async def _describe_configs(
    settings: Kafka, topics: Mapping[str, Topic], credentials: Credentials | None
) -> list[TopicDescription]:
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_CONFIG)) for name in topics
    ]
    async with _admin_client(settings, credentials) as client:
        responses = await client.describe_configs(resources)
    return [
        _description(topics[name], code, message, {entry[0]: entry[1] for entry in entries})
        for response in responses
        for code, message, _, name, entries in response.resources
    ]


def _description(
    topic: Topic, code: int, message: str | None, config: Mapping[str, str | None]
) -> TopicDescription:
    error = for_code(code)
    if error is TopicAuthorizationFailedError:
        return TopicDescription(topic, unreadable="not authorized; allow DescribeConfigs")
    if error is not NoError:
        return TopicDescription(topic, unreadable=message or error.__name__)
    return TopicDescription(
        topic,
        min_in_sync=_number(config.get(_MIN_IN_SYNC)),
        max_message_bytes=_number(config.get(_MAX_MESSAGE)),
        unclean_elections=config.get(_UNCLEAN) == "true",
    )


def _number(value: str | None) -> int | None:
    return int(value) if value else None


def log_warnings(described: TopicDescription, durability: str) -> None:
    """Log what an operator should know of a topic."""
    name = described.topic.name
    if described.at_risk:
        log.warning(
            "the topic is not durable",
            topic=name,
            because=described.at_risk,
            durability=durability,
        )
    for what in described.warnings:
        log.warning("topic configuration warning", topic=name, what=what)


async def unreachable(
    settings: Kafka, exc: BaseException, credentials: Credentials | None = None
) -> str:
    """What to tell a person when no broker answers."""
    servers = ", ".join(settings.bootstrap_servers)
    return f"cannot reach Kafka at {servers}: {await why(settings, exc, credentials)}"


# --- creating ----------------------------------------------------------------------------


async def create_topics(
    settings: Kafka, topics: Iterable[str], credentials: Credentials | None = None
) -> None:
    """Create the topics as `kafka.create_topics` says; one that exists by now is fine.

    Raises KafkaError or TimeoutError if the cluster cannot be asked at all; a topic that it
    refuses to create is logged with its reason.
    """
    wanted = settings.create_topics
    new = [
        NewTopic(
            name=topic,
            num_partitions=wanted.partitions,
            replication_factor=wanted.replication_factor,
            topic_configs=dict(wanted.config),
        )
        for topic in topics
    ]
    async with _admin_client(settings, credentials) as client:
        response = await client.create_topics(new)
    for topic, code, *message in response.topic_errors:
        error = for_code(code)
        if error is NoError:
            log.info("topic created", topic=topic)
        elif error is not TopicAlreadyExistsError:
            reason = message[0] if message and message[0] else error.__name__
            log.error("could not create topic", topic=topic, error=reason)


def creation_command(settings: Kafka, topic: str) -> str:
    """The command of Kafka's own tools that creates the topic, with the configured layout.

    On a secured cluster it needs a file of settings for these tools, which the reader has.
    """
    wanted = settings.create_topics
    secured = settings.security.protocol != "PLAINTEXT"
    return " ".join(
        [
            "kafka-topics.sh --create",
            f"--bootstrap-server {','.join(settings.bootstrap_servers)}",
            *(["--command-config client.properties"] if secured else []),
            f"--topic {topic}",
            f"--partitions {wanted.partitions}",
            f"--replication-factor {wanted.replication_factor}",
            *(f"--config {name}={value}" for name, value in sorted(wanted.config.items())),
        ]
    )


def missing_topic(settings: Kafka, topic: str) -> str:
    """What to tell a person about a topic that does not exist."""
    return f"topic {topic}: missing; to create it:\n  {creation_command(settings, topic)}"


@asynccontextmanager
async def _admin_client(
    settings: Kafka, credentials: Credentials | None
) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(
        **client_arguments(settings, credentials),
        request_timeout_ms=int(settings.publish_timeout_seconds * 1000),
    )
    try:
        await client.start()
        yield client
    finally:
        await client.close()
