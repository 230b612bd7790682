"""Makes topics, and says how to make them by hand."""

from collections.abc import Iterable

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from bridge.config.settings import Kafka
from bridge.kafka.security import TlsFiles, client_arguments

log = structlog.get_logger(__name__)


async def create_topics(
    settings: Kafka, topics: Iterable[str], files: TlsFiles | None = None
) -> None:
    """Create the topics as `kafka.create_topics` says; one that exists by now is fine.

    Raises KafkaError or TimeoutError where the cluster cannot be asked at all; a topic that it
    refuses to make is logged with its reason.
    """
    wanted = settings.create_topics
    admin = AIOKafkaAdminClient(
        **client_arguments(settings, files),
        request_timeout_ms=int(settings.publish_timeout_seconds * 1000),
    )
    try:
        await admin.start()
        response = await admin.create_topics(
            [
                NewTopic(
                    name=topic,
                    num_partitions=wanted.partitions,
                    replication_factor=wanted.replication_factor,
                    topic_configs=dict(wanted.config),
                )
                for topic in topics
            ]
        )
    finally:
        await admin.close()
    for topic, code, *message in response.topic_errors:
        error = for_code(code)
        if error is NoError:
            log.info("created topic", topic=topic)
        elif error is not TopicAlreadyExistsError:
            reason = message[0] if message and message[0] else error.__name__
            log.error("cannot create topic", topic=topic, error=reason)


def creation_command(settings: Kafka, topic: str) -> str:
    """The command of Kafka's own tools that makes the topic, with the configured layout."""
    wanted = settings.create_topics
    return " ".join(
        [
            "kafka-topics.sh --create",
            f"--bootstrap-server {','.join(settings.bootstrap_servers)}",
            f"--topic {topic}",
            f"--partitions {wanted.partitions}",
            f"--replication-factor {wanted.replication_factor}",
            *(f"--config {name}={value}" for name, value in sorted(wanted.config.items())),
        ]
    )


def missing_topic(settings: Kafka, topic: str) -> str:
    """What to tell a person about a topic that does not exist."""
    return f"topic {topic}: missing; to create it:\n  {creation_command(settings, topic)}"
