"""The wall clock moves while the gateway runs: it tells times, and measures nothing."""

import ast
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from itertools import product
from pathlib import Path

import pytest
from confluent_kafka import Producer

from bridge.demo.child import wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.brokers import ExternalKafka
from tests.support.clock import WallClock
from tests.support.gateway import Gateway, configuration
from tests.support.topics import read_topic
from tests.test_layers import files

HOUR = 3600
DAY = 24 * HOUR


def document(id_sms: str) -> bytes:
    return f'<response><state id_sms="{id_sms}" time="">send</state></response>'.encode()


# Who may ask what time it is: for a time of receipt, of a log line, a person's "12h ago", a clock.
TELLERS = {"not_found.py", "convert.py", "common.py", "api.py", "logging.py", "webhook.py"}


def test_nobody_measures_with_the_wall_clock() -> None:
    """Deadlines, rates, ages and timers take the monotonic clock, which nobody sets."""
    asking = {(path.name, name) for path in files() for name in _wall_clocks(path)}
    assert asking == set(product(TELLERS, ["datetime.now"]))


def _wall_clocks(path: Path) -> list[str]:
    calls = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = (ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return [name for name in names if name in calls]


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, DAY, -DAY])
def test_a_request_that_waits_for_kafka_goes_on_waiting(
    new_embedded: type[EmbeddedBroker], wall_clock: WallClock, topic: str, seconds: int
) -> None:
    """Neither does its time end early, nor is the producer taken for stalled, nor a repeat new."""
    with new_embedded() as broker:
        for name in (topic, f"{topic}.rejected"):
            Producer({"bootstrap.servers": broker.bootstrap_servers}).list_topics(name, 10)
        patient = configuration(
            broker.bootstrap_servers, topic, kafka={"publish_timeout_seconds": 60}
        )
        gateway = Gateway(patient, environment=wall_clock.environment)
        with gateway, ThreadPoolExecutor(1) as sender:
            assert gateway.post(document("0")).ids == ["0"]
            broker.freeze()
            posted = sender.submit(gateway.post, document("1"))
            wait_until(lambda: b"in_flight_posts 1.0" in gateway.admin("/metrics").body, "it waits")
            wall_clock.move(seconds)
            assert gateway.admin("/livez").status == HTTPStatus.OK
            broker.thaw()
            assert posted.result(60).ids == ["1"]
            assert gateway.post(document("0")).ids == ["0"]  # known still, not sent again
            assert gateway.terminate() == 0
            lines = [line["event"] for line in gateway.logs()]
            assert "replacing the producer" not in lines
            assert [line["repeated"] for line in gateway.logs() if "repeated" in line] == [0, 0, 1]


def test_the_clock_a_day_off_while_it_runs(
    wall_clock: WallClock, kafka: ExternalKafka, topic: str
) -> None:
    """Brokers refuse what is over an hour ahead: a true 503, until the clock is right again.

    Not where the topic's records have the broker's time. What is behind is taken as it is.
    """
    broker_times = f"{topic}.broker"
    kafka.create_topic(topic, 1)
    kafka.create_topic(broker_times, 1, config={"message.timestamp.type": "LogAppendTime"})
    kafka.create_topic(f"{topic}.rejected", 1)
    endpoint = {"name": "main", "path": "/webhook", "source": "urn:example:sms:main"}
    endpoint |= {"timezone": "UTC", "auth": "none"}
    other = {"name": "other", "path": "/other", "source": "urn:x", "topic": broker_times}
    whole = configuration(kafka.bootstrap_servers, topic, endpoints=[endpoint, endpoint | other])
    began = time.time()
    with Gateway(whole, environment=wall_clock.environment) as gateway:
        wall_clock.move(-DAY)
        assert gateway.post(document("behind")).ids == ["behind"]
        wall_clock.move(HOUR // 2)
        assert gateway.post(document("ahead")).ids == ["ahead"]
        wall_clock.move(DAY)
        for _ in range(3):
            refused = gateway.post(document("far"))
            assert (refused.status, refused.ids) == (HTTPStatus.SERVICE_UNAVAILABLE, [])
            assert "Retry-After" in {name.title() for name in refused.headers}
        assert gateway.post(document("far"), path="/other").ids == ["far"]
        assert gateway.admin("/livez").status == gateway.admin("/readyz").status == HTTPStatus.OK
        assert gateway.post(b"not XML").status == HTTPStatus.BAD_REQUEST
        wall_clock.move(0)
        wait_until(lambda: gateway.post(document("far")).ids == ["far"], "the clock is right")
        wall_clock.move(-DAY)
        assert gateway.terminate() == 0
    records = read_topic(kafka.bootstrap_servers, topic)
    seconds_off = {record.key: record.timestamp_ms / 1000 - began for record in records}
    assert list(seconds_off) == [b"behind", b"ahead", b"far"]
    assert seconds_off[b"behind"] < -DAY + HOUR
    assert seconds_off[b"ahead"] > HOUR // 4
    (late,) = read_topic(kafka.bootstrap_servers, broker_times)
    assert late.timestamp_ms / 1000 - began < HOUR
