"""Whether spans are exported, and where to."""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from structlog.testing import capture_logs

from bridge.demo.child import free_ports, wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from bridge.observability import tracing
from bridge.observability.tracing.export import Complaints, resource
from tests.observability.traced import ONE, PARENT_ID, SAMPLED, SECRET, TRACE_ID, TWO
from tests.support.gateway import Gateway, configuration
from tests.support.otlp import Collector, environment, values
from tests.support.topics import read_topic

# --- the page ----------------------------------------------------------------------------


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tracing.md").read_text(encoding="utf-8")


def test_the_table_of_attributes_is_the_program_s() -> None:
    source = (ROOT / "bridge/observability/tracing/spans.py").read_text(encoding="utf-8")
    name = r"((?:http|url|network|error|messaging|sms_bridge)\.[a-z_.]+)"
    table = PAGE.split("| attribute | on |", 1)[1].split("\n\n", 1)[0]
    named = [n for row in table.splitlines()[2:] for n in re.findall(f"`{name}`", row)]
    assert sorted(named) == sorted({*re.findall(f'"{name}"', source)})


def test_the_page_names_the_bridge_s_own_variable_and_real_links() -> None:
    assert f"`{tracing.MESSAGE_IDS}`" in PAGE
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


# --- whether and where to ----------------------------------------------------------------


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        ENDPOINT | {"OTEL_SDK_DISABLED": "TRUE"},
        ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_it_is_off_and_silent_where_nobody_asks_for_it(environ: dict[str, str]) -> None:
    with capture_logs() as logs:
        assert tracing.start(environ) is None
    assert logs == []


@pytest.mark.parametrize(
    ("environ", "because"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": f"{SECRET}:4318"}, "must begin with http://"),
    ],
)
def test_what_cannot_be_had_is_said_once_at_the_start(
    environ: dict[str, str], because: str
) -> None:
    with capture_logs() as logs:
        assert tracing.start(environ) is None
    (line,) = logs
    assert line["event"] == "tracing is off"
    assert because in line["because"]
    assert SECRET not in str(line)


def test_without_the_extra_it_is_off_and_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "bridge.observability.tracing.export")
    missing = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, missing, None)
    with capture_logs() as logs:
        assert tracing.start(ENDPOINT) is None
    assert [line["because"] for line in logs] == [tracing.NOT_INSTALLED]


def test_settings_that_cannot_be_do_not_keep_the_gateway_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with capture_logs() as logs:
        assert tracing.start(ENDPOINT) is None
    assert "tracing is off" in [line["event"] for line in logs]


def test_a_start_that_is_not_traced_does_not_load_the_library() -> None:
    """All that `serve` loads, in a process of its own."""
    code = (
        "import sys, uvloop, bridge.cli.main, bridge.gateway.server\n"
        "import bridge.observability.logging, bridge.observability.tracing\n"
        "assert bridge.observability.tracing.start({}) is None\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_resource_is_the_program_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert resource().attributes["service.name"] == "sms-bridge"
    assert resource().attributes["service.version"]
    monkeypatch.setenv("OTEL_SERVICE_NAME", "statuses")
    assert resource().attributes["service.name"] == "statuses"


def test_complaints_of_one_kind_are_one_line_without_secrets() -> None:
    handler = Complaints()
    logger = logging.getLogger("test.exporter")
    logger.addHandler(handler)
    logger.propagate = False
    url = f"https://user:p@{SECRET}@collector:4318/v1/traces?key={SECRET}"
    with capture_logs() as logs:
        for _ in range(5):
            logger.warning("cannot reach %s (refused)", url)
    (line,) = logs
    assert "https://collector:4318/v1/traces (refused)" in line["error"]
    assert SECRET not in str(line)


def test_a_header_that_cannot_be_read_is_not_repeated() -> None:
    handler = Complaints()
    record = logging.LogRecord(
        "opentelemetry.util.re", logging.WARNING, "", 0, "invalid: %s", (SECRET,), None
    )
    with capture_logs() as logs:
        handler.handle(record)
    assert len(logs) == 1
    assert SECRET not in str(logs)


# --- the program, its broker, and a collector --------------------------------------------


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that every program which is started from now on exports to."""
    with Collector() as running:
        for name, value in environment(running).items():
            monkeypatch.setenv(name, value)
        yield running


def traced_gateway(embedded: EmbeddedBroker, topic: str, **sections: Any) -> Gateway:
    embedded_topic(embedded, topic)
    return Gateway(configuration(embedded.bootstrap_servers, topic, **sections))


def kinds(collector: Collector) -> set[int]:
    return {span.kind for span in collector.spans}


def test_a_trace_leads_from_the_sender_to_the_record(
    embedded: EmbeddedBroker, topic: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans arrive, with the sender's as parent; the record carries the request's, twice."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "statuses")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=collector-key")
    auth = {"tokens": [SECRET]}
    endpoint = configuration("x:1", topic)["endpoints"][0] | {"auth": auth}
    with traced_gateway(embedded, topic, endpoints=[endpoint]) as gateway:
        answer = gateway.post(
            ONE, path=f"/webhook?token={SECRET}", headers={"traceparent": SAMPLED}
        )
        assert answer.ids == ["31337"]
        wait_until(
            lambda: {ProtoSpan.SPAN_KIND_SERVER, ProtoSpan.SPAN_KIND_PRODUCER} <= kinds(collector),
            "spans arrive",
        )
        assert gateway.post(ONE, headers={"authorization": f"Bearer not-{SECRET}"}).status == 401
        assert gateway.terminate() == 0
        logs = gateway.logs()
    (served, refused) = collector.of_kind(ProtoSpan.SPAN_KIND_SERVER)
    (batch,) = collector.of_kind(ProtoSpan.SPAN_KIND_PRODUCER)
    assert (served.trace_id.hex(), served.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
    assert (batch.trace_id, batch.parent_span_id) == (served.trace_id, served.span_id)
    assert [link.span_id for link in batch.links] == [served.span_id]
    assert values(served.attributes)["http.response.status_code"] == 200
    assert values(refused.attributes)["http.response.status_code"] == 401, "flushed at the end"
    assert {r["service.name"] for r in collector.resources} == {"statuses"}
    assert {h["x-key"] for h in collector.headers} == {"collector-key"}
    (record,) = read_topic(embedded.bootstrap_servers, topic, expect=1)
    carried = f"00-{TRACE_ID}-{served.span_id.hex()}-01"
    assert dict(record.headers)["traceparent"] == carried.encode()
    assert json.loads(record.value or b"")["traceparent"] == carried
    told = b"".join(collector.bodies)
    for secret in (SECRET, "token", "31337"):
        assert secret.encode() not in told
    assert SECRET not in json.dumps(logs)
    assert TRACE_ID in json.dumps(logs)


def embedded_topic(embedded: EmbeddedBroker, topic: str) -> None:
    """Have the topics be there before the program looks: they appear when they are named."""
    for name in (topic, f"{topic}.rejected"):
        Producer({"bootstrap.servers": embedded.bootstrap_servers}).list_topics(name, 10)


def test_a_collector_that_is_not_there_costs_one_line(
    embedded: EmbeddedBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    url = f"http://user:{SECRET}@127.0.0.1:{port}/x?key={SECRET}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")

    def trouble(gateway: Gateway) -> list[dict[str, Any]]:
        return [line for line in gateway.logs() if line["event"] == "tracing failed"]

    with traced_gateway(embedded, topic, server={"shutdown_grace_seconds": 2}) as gateway:
        for number in range(20):
            assert gateway.post(ONE.replace(b"31337", b"%d" % number)).status == 200
        wait_until(lambda: bool(trouble(gateway)), "the trouble is said")
        assert gateway.terminate(10) == 0
        assert len(trouble(gateway)) == 1
        assert "refused" in trouble(gateway)[0]["error"]
        assert SECRET not in json.dumps(gateway.logs())


def test_at_debug_the_collector_s_address_is_not_written_either(
    embedded: EmbeddedBroker, topic: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{collector.endpoint}/v1/traces?key={SECRET}"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
    debug = {"level": "debug", "format": "json"}
    with traced_gateway(embedded, topic, log=debug) as gateway:
        assert gateway.post(ONE).status == 200
        assert gateway.terminate() == 0
        assert collector.requests
        assert "debug" in {line["level"] for line in gateway.logs()}
        assert SECRET not in gateway.output


def test_a_collector_that_hangs_holds_up_neither_requests_nor_the_end(
    embedded: EmbeddedBroker, topic: str, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.answering.clear()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")  # longer than anything here waits
    with traced_gateway(embedded, topic, server={"shutdown_grace_seconds": 2}) as gateway:
        assert gateway.post(ONE).status == 200
        wait_until(lambda: collector.requests > 0, "the collector is asked")
        assert gateway.post(TWO).ids == ["1", "2"]
        assert gateway.terminate() == 0
        assert "the last spans were not exported in time" in [
            line["event"] for line in gateway.logs()
        ]
