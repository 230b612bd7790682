"""Marks what needs something from outside, and has the brokers; a folder's conftest the rest."""

import logging
import os
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

import pytest
import structlog

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.brokers import ExternalKafka, KafkaCluster
from tests.support.maven import JarsUnavailableError
from tests.support.needs import program, skipped_without

EXTERNAL_KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
# What asks for one of these needs what the mark says.
FIXTURES = {
    "embedded": {"embedded", "new_embedded"},
    "kafka": {"kafka", "new_kafka", "secured_kafka"},
    "helm": {"helm", "helm4", "models"},
    "image": {"image"},
    "site": {"site"},
    "npm": {"asyncapi_parser", "generators_of_npm", "grafana_types"},
    "postgres": {"postgres"},
    "prometheus": {"promtool", "prometheus"},
    "proxies": {"front", "haproxy"},
    "browser": {"chromium"},
    "runtimes": {
        "subscriber",
        "service",
        "connect",
        "peer",
        "compose",
        "actionlint",
        "schema_registry",
    },
    "systemd": {"systemd_analyze"},
    "faketime": {"wall_clock"},
    "spin": {"spin"},
}
# An external cluster is a choice that explains the skips of what would kill it.
MUST_RUN = dict.fromkeys(FIXTURES.keys() - {"embedded"}, IN_CI) | {
    "kafka": IN_CI and not EXTERNAL_KAFKA
}


def pytest_configure() -> None:
    """Let programs that the tests start be interrupted, even if these run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for something from outside: `-m "not kafka"` never starts one.

    What needs nothing and is not slow is `fast`: that is what `make check` runs.
    """
    for item in items:
        for mark, fixtures in FIXTURES.items():
            if isinstance(item, pytest.Function) and fixtures & {*item.fixturenames}:
                item.add_marker(mark)
        if not any(item.get_closest_marker(mark) for mark in ("slow", *FIXTURES)):
            item.add_marker("fast")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that needs a mark's thing and is skipped has failed: green means it ran."""
    report = yield
    must_run = any(must and item.get_closest_marker(mark) for mark, must in MUST_RUN.items())
    if must_run and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        report.longrepr = f"In CI this may not be skipped. {reason}"
    return report


@pytest.fixture(autouse=True)
def _signals_are_left_alone() -> Iterator[None]:
    """A handler that a test leaves behind would swallow Ctrl-C for the rest of the run."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    changed = [number.name for number in before if signal.getsignal(number) != before[number]]
    for number, handler in before.items():
        signal.signal(number, handler)
    assert changed == []


@pytest.fixture(autouse=True)
def _logging_is_left_alone() -> Iterator[None]:
    """A command that was run in this process has set what is logged, and where."""
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        logging.basicConfig(handlers=[], level=logging.WARNING, force=True)


@pytest.fixture(scope="session")
def new_embedded() -> type[EmbeddedBroker]:
    """The in-memory broker, for tests that start one of their own."""
    return EmbeddedBroker


@pytest.fixture(scope="session")
def embedded(new_embedded: type[EmbeddedBroker]) -> Iterator[EmbeddedBroker]:
    """One in-memory broker for all tests that leave it running."""
    with new_embedded() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka() -> Iterator[ExternalKafka]:
    """One real Kafka for all tests: $KAFKA_BOOTSTRAP_SERVERS, or else a single node."""
    if EXTERNAL_KAFKA:
        yield ExternalKafka(EXTERNAL_KAFKA)
        return
    cluster = KafkaCluster()
    with skipped_without("real Kafka", JarsUnavailableError):
        cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture
def kafka_cluster(kafka: ExternalKafka) -> Iterator[KafkaCluster]:
    """The real Kafka, to kill and freeze: it is whole again after the test."""
    if not isinstance(kafka, KafkaCluster):
        pytest.skip("KAFKA_BOOTSTRAP_SERVERS is set: that cluster is not ours to kill")
    yield kafka
    kafka.heal()


@pytest.fixture
def new_kafka() -> Iterator[Callable[[KafkaCluster], KafkaCluster]]:
    """Start a cluster of the test's own making, and stop it after the test."""
    with ExitStack() as clusters:

        def start(cluster: KafkaCluster) -> KafkaCluster:
            clusters.callback(cluster.stop)
            with skipped_without("real Kafka", JarsUnavailableError):
                cluster.start()
            return cluster

        yield start


@pytest.fixture
def topic() -> str:
    """A topic's name that no other test uses; the topic itself is yet to be made."""
    return f"test.{uuid.uuid4().hex[:12]}"


@pytest.fixture
def kafka_topic(kafka: ExternalKafka, topic: str) -> Iterator[str]:
    """A new topic with three partitions on the real Kafka."""
    kafka.create_topic(topic, 3)
    yield topic
    if not isinstance(kafka, KafkaCluster):
        kafka.delete_topic(topic)


@pytest.fixture(scope="session")
def haproxy() -> str:
    """HAProxy: the program."""
    return program("haproxy", "haproxy")


@pytest.fixture(scope="session")
def nginx() -> str:
    """The web server nginx, which is a proxy here: the program."""
    return program("nginx", "nginx")


@pytest.fixture(scope="session")
def spin() -> str:
    """The model checker, and the compiler that it needs."""
    program("gcc", "gcc")
    return program("spin", "spin")


@pytest.fixture(scope="session")
def promtool() -> str:
    """The program that checks rules."""
    return program("promtool", "prometheus")
