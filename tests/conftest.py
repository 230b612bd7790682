"""Fixtures that several test files share: brokers and topics. No test logic."""

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.contract import asyncapi, events
from tests.helm.binaries import MAJORS, HelmUnavailableError, helm_binary
from tests.helm.chart import Helm
from tests.helm.models import Models
from tests.helm.models import models as installed_models
from tests.subscribers.programs import LANGUAGES, Program, RuntimeUnavailableError, program
from tests.support.brokers import ExternalKafka, KafkaCluster, KafkaUnavailableError
from tests.support.browser import ChromiumUnavailableError, launched_chromium
from tests.support.clock import FaketimeUnavailableError, WallClock
from tests.support.npm import NpmUnavailableError
from tests.support.secured import PASSWORD, USER, SecuredKafka

EXTERNAL_KAFKA = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
# An external cluster is a choice that explains the skips of what would kill it.
MUST_RUN = {
    "kafka": IN_CI and not EXTERNAL_KAFKA,
    **dict.fromkeys(
        ("helm", "image", "npm", "prometheus", "proxies", "browser", "runtimes", "faketime"), IN_CI
    ),
}
# What asks for one of these needs what the mark says.
FIXTURES = {
    "kafka": {"kafka", "new_kafka", "secured_kafka"},
    "helm": {"helm", "helm4", "models"},
    "image": {"image"},
    "npm": {"asyncapi_parser"},
    "prometheus": {"promtool", "prometheus"},
    "proxies": {"front"},
    "browser": {"chromium"},
    "runtimes": {"subscriber"},
    "faketime": {"wall_clock"},
}


def pytest_configure() -> None:
    """Let programs that the tests start be interrupted, even where these run in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what asks for something from outside: `-m "not kafka"` never starts one."""
    for item in items:
        for mark, fixtures in FIXTURES.items():
            if isinstance(item, pytest.Function) and fixtures & {*item.fixturenames}:
                item.add_marker(mark)


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


@pytest.fixture(scope="session", autouse=True)
def _every_event_is_as_described() -> Iterator[None]:
    """Whatever a test is about: an event that it makes keeps to the published schemas."""
    with events.checking():
        yield


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedBroker]:
    """One in-memory broker for all tests that leave it running."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka() -> Iterator[ExternalKafka]:
    """One real Kafka for all tests: $KAFKA_BOOTSTRAP_SERVERS, or else a single node."""
    if EXTERNAL_KAFKA:
        yield ExternalKafka(EXTERNAL_KAFKA)
        return
    cluster = _start(KafkaCluster())
    yield cluster
    cluster.stop()


def _start(cluster: KafkaCluster) -> KafkaCluster:
    try:
        cluster.start()
    except KafkaUnavailableError as exc:
        pytest.skip(f"no real Kafka: {exc}")
    return cluster


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
            return _start(cluster)

        yield start


@pytest.fixture(scope="session")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    """One real Kafka that asks who is there, for all tests that leave it as it was."""
    cluster = SecuredKafka(tmp_path_factory.mktemp("keys"))
    _start(cluster)
    cluster.know(USER, PASSWORD)
    cluster.allow("test.", prefix=True)
    yield cluster
    cluster.stop()


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


@pytest.fixture(scope="session", params=MAJORS)
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm itself, one major version after the other."""
    return _helm(request.param, tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def helm4(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The newer Helm, where the major makes no difference."""
    return _helm(MAJORS[-1], tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def models() -> Models:
    """The models of custom resources."""
    try:
        return installed_models()
    except NpmUnavailableError as exc:
        pytest.skip(f"no models of custom resources: {exc}")


@pytest.fixture(scope="session")
def asyncapi_parser() -> asyncapi.Parser:
    """AsyncAPI's official parser."""
    try:
        return asyncapi.parser()
    except NpmUnavailableError as exc:
        pytest.skip(f"no AsyncAPI parser: {exc}")


@pytest.fixture(scope="session")
def promtool() -> str:
    """The program that checks rules."""
    return _found("promtool", "prometheus")


@pytest.fixture(scope="session")
def prometheus() -> str:
    """Prometheus itself: the program."""
    return _found("prometheus", "prometheus")


@pytest.fixture(scope="session")
def haproxy() -> str:
    """HAProxy: the program."""
    return _found("haproxy", "haproxy")


@pytest.fixture(scope="session")
def nginx() -> str:
    """The web server nginx, which is a proxy here: the program."""
    return _found("nginx", "nginx")


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    """A wall clock for a program that is started with it, to move while that runs."""
    try:
        return WallClock(tmp_path / "offset")
    except FaketimeUnavailableError as exc:
        pytest.skip(f"no wall clock to move: {exc}")


def _found(program: str, package: str) -> str:
    # Debian keeps some of them where only root looks.
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        pytest.skip(f"no {program}: install Debian's package {package}")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A real browser: the system's Chromium, without a window.

    Its driver has a loop running in this thread, which other modules' tests must not meet.
    """
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(launched_chromium())
        except ChromiumUnavailableError as exc:
            pytest.skip(f"no browser: {exc}")
        yield browser


@pytest.fixture(scope="session", params=LANGUAGES)
def subscriber(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The program of docs/examples, one language after the other."""
    try:
        return program(request.param, tmp_path_factory.mktemp(request.param))
    except RuntimeUnavailableError as exc:
        pytest.skip(f"no {request.param}: {exc}")


@cache
def _helm(major: str, directory: Path) -> Helm:
    """One a major, since it remembers what it rendered."""
    try:
        return Helm(helm_binary(major), major, directory / f"helm{major}")
    except HelmUnavailableError as exc:
        pytest.skip(f"no Helm: {exc}")
