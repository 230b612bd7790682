"""What a topic's settings mean for the promise: read once, said in words."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, NoError, TopicAuthorizationFailedError, for_code

from bridge.config.settings import Kafka
from bridge.kafka.producer import MAX_RECORD_BYTES
from bridge.kafka.security import TlsFiles, client_arguments
from bridge.kafka.topic_metadata import Topic

log = structlog.get_logger(__name__)

INSPECTION_SHARE = 0.3  # of the publish timeout, within which a connection must be of use
DURABLE_REPLICAS = 3
DURABLE_IN_SYNC = 2
_MIN_IN_SYNC = "min.insync.replicas"
_MAX_MESSAGE = "max.message.bytes"
_UNCLEAN = "unclean.leader.election.enable"
_SETTINGS = (_MIN_IN_SYNC, _MAX_MESSAGE, _UNCLEAN)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found of one topic.

    The settings are None where they may not be read; `unreadable` says why. Where it was the
    broker that did not answer, they are `unanswered`.
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


async def inspect(
    settings: Kafka, topics: Mapping[str, Topic], files: TlsFiles | None = None
) -> list[Findings]:
    """Read the topics' settings; what cannot be read is unknown, and no reason to wait."""
    try:
        async with asyncio.timeout(settings.publish_timeout_seconds * INSPECTION_SHARE):
            return await _read(settings, topics, files)
    except (KafkaError, OSError, TimeoutError) as exc:
        what = f"the broker does not tell them ({type(exc).__name__})"
        return [Findings(topic, unreadable=what, unanswered=True) for topic in topics.values()]


def report(findings: Findings, durability: str) -> None:
    """Log what an operator should know of a topic."""
    if findings.at_risk:
        log.warning(
            "what this topic has acknowledged can be lost with a broker",
            topic=findings.topic.name,
            because=findings.at_risk,
            durability=durability,
        )
    for what in findings.warnings:
        log.warning("topic needs a look", topic=findings.topic.name, what=what)


async def _read(
    settings: Kafka, topics: Mapping[str, Topic], files: TlsFiles | None
) -> list[Findings]:
    admin = AIOKafkaAdminClient(
        **client_arguments(settings, files),
        request_timeout_ms=int(settings.publish_timeout_seconds * 1000),
    )
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, name, dict.fromkeys(_SETTINGS)) for name in topics
    ]
    try:
        await admin.start()
        responses = await admin.describe_configs(resources)
    finally:
        await admin.close()
    return [
        _findings(topics[name], code, message, {entry[0]: entry[1] for entry in entries})
        for response in responses
        for code, message, _, name, entries in response.resources
    ]


def _findings(
    topic: Topic, code: int, message: str | None, settings: Mapping[str, str | None]
) -> Findings:
    error = for_code(code)
    if error is TopicAuthorizationFailedError:
        return Findings(topic, unreadable="not authorized; allow DescribeConfigs")
    if error is not NoError:
        return Findings(topic, unreadable=message or error.__name__)
    return Findings(
        topic,
        min_in_sync=_number(settings.get(_MIN_IN_SYNC)),
        max_message_bytes=_number(settings.get(_MAX_MESSAGE)),
        unclean_elections=settings.get(_UNCLEAN) == "true",
    )


def _number(value: str | None) -> int | None:
    return int(value) if value else None
