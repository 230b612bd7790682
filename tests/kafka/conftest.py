"""A real Kafka with logins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.maven import JarsUnavailableError
from tests.support.needs import skipped_without
from tests.support.secured import PASSWORD, USER, ClientFiles, SecuredKafka


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One real Kafka that asks who is there, for all tests that leave it as it was."""
    cluster = SecuredKafka(tmp_path_factory.mktemp("keys"))
    with skipped_without("real Kafka", JarsUnavailableError):
        cluster.start()
    cluster.know(USER, PASSWORD)
    cluster.allow("test.", prefix=True)
    yield cluster
    cluster.stop()


@pytest.fixture
def files(tmp_path: Path, secured_kafka: SecuredKafka) -> ClientFiles:
    """The bridge's files of TLS, as the broker wants them."""
    files = ClientFiles(tmp_path / "tls")
    files.trust(secured_kafka.ca)
    files.show(secured_kafka.client())
    return files


@pytest.fixture
def secured_topic(secured_kafka: SecuredKafka, topic: str) -> str:
    """A new topic with its topic for dead letters."""
    secured_kafka.create_topic(topic, 3)
    secured_kafka.create_topic(f"{topic}.rejected", 1)
    return topic
