"""A real Kafka with logins."""

from collections.abc import Iterator

import pytest

from tests.support.maven import KafkaUnavailableError
from tests.support.needs import skipped_without
from tests.support.secured import PASSWORD, USER, SecuredKafka


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One real Kafka that asks who is there, for all tests that leave it as it was."""
    cluster = SecuredKafka(tmp_path_factory.mktemp("keys"))
    with skipped_without("real Kafka", KafkaUnavailableError):
        cluster.start()
    cluster.know(USER, PASSWORD)
    cluster.allow("test.", prefix=True)
    yield cluster
    cluster.stop()
