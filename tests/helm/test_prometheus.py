"""Alerts and dashboard, seen by a real Prometheus on a running gateway."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

from bridge.demo.child import wait_until
from tests.helm.alerts import values
from tests.support.brokers import KafkaCluster
from tests.support.gateway import Gateway, configuration
from tests.support.prometheus import (
    NAMESPACE,
    Panel,
    Prometheus,
    dashboard,
    group,
    hastened,
    panels,
    rules,
)

TOKEN = "s3cret-t0ken"
GOOD = '<state id_sms="{n}" time="2026-01-01 12:00:00" sms="read">read</state>'
ODD = (
    '<state id_sms="u{n}" time="yesterday">teleported</state>'
    '<state id_sms="f{n}" time="2199-01-01 00:00:00">read</state>'
    '<state id_sms="b@d">read</state>'
)


class Traffic:
    """Documents good and bad, several a second, until it is stopped; what fails comes again."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failed: list[bytes] = []

    def _run(self) -> None:
        for n in count():
            if self._stopped.wait(0.1):
                return
            self._post(f"<response>{GOOD.format(n=n)}</response>".encode())
            self._post(f"<response>{GOOD.format(n=n)}{ODD.format(n=n)}</response>".encode())
            self._gateway.post(b"<response", path="/webhook")
            self._gateway.post(b"<response/>", path="/guarded")
            self._gateway.post(b"<response/>", path="/elsewhere")
            if self._failed:
                self._post(self._failed.pop(0))

    def _post(self, body: bytes) -> None:
        if self._gateway.post(body).status == 503:
            self._failed.append(body)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


def guarded_configuration(bootstrap_servers: str, topic: str) -> dict[str, Any]:
    base = configuration(
        bootstrap_servers, topic, kafka={"publish_timeout_seconds": 1}, log={"level": "error"}
    )
    (main,) = base["endpoints"]
    guarded = {"name": "guarded", "path": "/guarded", "auth": {"tokens": [TOKEN]}}
    return {**base, "endpoints": [main, main | guarded]}


@contextmanager
def watched(
    kafka: KafkaCluster, topic: str, prometheus: str
) -> Iterator[tuple[Gateway, Prometheus]]:
    """A gateway with traffic, and Prometheus on it, in whose eyes minutes are seconds."""
    hasty = group([hastened(rule, window="10s", pending="3s") for rule in rules()])
    config = guarded_configuration(kafka.bootstrap_servers, topic)
    config["log"]["level"] = "info"
    with Gateway(config) as gateway:
        target = f"127.0.0.1:{gateway._addresses['admin'].rsplit(':', 1)[1]}"
        with Prometheus(prometheus, [target], hasty) as watching, Traffic(gateway):
            yield gateway, watching


# What the traffic itself sets off, with every broker alive.
FROM_TRAFFIC = {
    "SmsBridgeAllRefused",  # of the endpoint to which all come without a token
    "SmsBridgeMostRefused",  # likewise
    "SmsBridgeLate",  # its times are of another year
    *("SmsBridgeDeadLetters", "SmsBridgeLostBodies", "SmsBridgeRefusing", "SmsBridgeUnauthorised"),
    *("SmsBridgeUnknownStatuses", "SmsBridgeWrongTimes"),
}
FROM_A_DEAD_BROKER = {
    *("SmsBridgeKafkaDown", "SmsBridgeNotAcknowledging", "SmsBridgeProducerNotConnected"),
}


def test_a_dead_broker_fires_its_alerts_and_no_panel_is_without_data(
    kafka_cluster: KafkaCluster, kafka_topic: str, prometheus: str
) -> None:
    """Before, during and after an outage of Kafka under traffic that has every other fault too."""
    kafka_cluster.create_topic(f"{kafka_topic}.rejected", 1)
    with watched(kafka_cluster, kafka_topic, prometheus) as (_, watching):
        until(lambda: watching.firing() >= FROM_TRAFFIC, watching)
        assert watching.firing() == FROM_TRAFFIC
        kafka_cluster.kill()
        until(lambda: watching.firing() >= FROM_TRAFFIC | FROM_A_DEAD_BROKER, watching)
        kafka_cluster.restart()
        until(lambda: not watching.firing() & FROM_A_DEAD_BROKER, watching)
        wait_until(lambda: not empty(watching), f"data for {empty(watching)}", 30)
        for rule in watching.rules():
            assert (rule["health"], rule.get("lastError", "")) == ("ok", "")
            for alert in rule["alerts"]:
                assert "<no value>" not in str(alert["annotations"])
        variables = [v for v in dashboard()["templating"]["list"] if v["type"] == "query"]
        assert [values(watching, v["definition"]) for v in variables] == [
            [NAMESPACE],
            ["guarded", "main"],
        ]


def until(condition: Callable[[], bool], watching: Prometheus) -> None:
    try:
        wait_until(condition, "alerts", 60)
    except TimeoutError:
        pytest.fail(f"firing: {sorted(watching.firing())}")


def empty(watching: Prometheus) -> list[str]:
    """The panels of which a query has no value now, or none that is a number."""

    def has_data(panel: Panel) -> bool:
        answers = [watching.query(query) for query in panel.queries]
        return all(any(value == value for _, value in answer) for answer in answers)  # noqa: PLR0124 -- NaN is not

    return [panel.title for panel in panels() if not has_data(panel)]
