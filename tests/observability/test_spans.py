"""Spans: of a request, of a batch, and the context on the event."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import errors
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from starlette.types import ASGIApp
from structlog.testing import capture_logs

from bridge.config.settings import Kafka
from bridge.gateway.app import Health, public_app
from bridge.kafka import Publisher, Supervisor
from bridge.kafka.cloudevent import read
from bridge.kafka.consumer import Record
from bridge.kafka.supervisor import Timing
from bridge.model import Message, Result
from bridge.observability.metrics import Metrics
from bridge.observability.tracing.export import resource
from bridge.observability.tracing.spans import Tracing
from bridge.pipeline import Publisher as AnyPublisher
from tests.observability.traced import ONE, PARENT_ID, SAMPLED, SECRET, TRACE_ID, TWO
from tests.support.asgi import Leave, Reply, request
from tests.support.fake_kafka import FakeProducer, durable, idle, until
from tests.support.fakes import RecordingPublisher
from tests.support.settings import settings

NOT_SAMPLED = f"00-{TRACE_ID}-{PARENT_ID}-00"
TIMING = Timing(watch=0.01, probe=60, missing_topic=60, backoff=(0.001, 0.01))


class Traced:
    """The public application over a publisher, with spans that stay in memory."""

    def __init__(
        self,
        publisher: AnyPublisher | None = None,
        *,
        content_mode: str = "structured",
        auth: Any = "none",
        sampler: sampling.Sampler = sampling.DEFAULT_ON,
        **options: bool,
    ) -> None:
        self.recorder = InMemorySpanExporter()
        provider = TracerProvider(sampler, resource(), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.recorder))
        self.tracing = Tracing(provider, **options)
        self.published = RecordingPublisher()
        kafka = {"topic": "status", "dead_letter_topic": "sms.status.rejected"}
        self.settings = settings({"auth": auth}, kafka=kafka, events={"content_mode": content_mode})
        self.app = self.over(publisher or self.published, self.tracing)

    def over(self, publisher: AnyPublisher, tracing: Tracing | None) -> ASGIApp:
        """The application over another publisher, or without tracing."""
        return public_app(
            self.settings, publisher, Metrics(), Health(lambda: None), tracing=tracing
        )

    async def post(self, body: bytes = ONE, **options: Any) -> Reply:
        reply = await request(self.app, body, **options)
        assert reply is not None
        return reply

    def spans(self, kind: SpanKind = SpanKind.SERVER) -> list[ReadableSpan]:
        return [s for s in self.recorder.get_finished_spans() if s.kind is kind]

    def span(self, kind: SpanKind = SpanKind.SERVER) -> ReadableSpan:
        (span,) = self.spans(kind)
        return span

    def told(self) -> str:
        """All that has left in spans, as text."""
        return "".join(span.to_json() for span in self.recorder.get_finished_spans())


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Trace and span, as W3C writes them."""
    assert span.context is not None
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)


def traceparent_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return "-".join(["00", *ids(span), f"{span.context.trace_flags:02x}"])


def header(message: Message, name: str) -> str | None:
    (value, *_) = [*(v.decode() for n, v in message.headers if n == name), None]
    return value


# --- a request's span --------------------------------------------------------------------


async def test_a_request_is_a_server_span_by_the_conventions_for_http() -> None:
    traced = Traced()
    await traced.post(TWO, headers={"x-request-id": "r-1"})
    span = traced.span()
    assert span.name == "POST /webhook"
    assert attributes(span) == {
        "http.request.method": "POST",
        "http.route": "/webhook",
        "http.response.status_code": 200,
        "http.request.body.size": len(TWO),
        "url.path": "/webhook",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "sms_bridge.endpoint": "main",
        "sms_bridge.request_id": "r-1",
        "sms_bridge.states": 2,
        "sms_bridge.listed": 2,
        "sms_bridge.repeated": 0,
    }
    assert span.parent is None
    assert span.status.status_code is StatusCode.UNSET


async def test_the_sender_s_context_is_the_parent() -> None:
    traced = Traced()
    await traced.post(headers={"traceparent": SAMPLED, "tracestate": "vendor=value"})
    parent = traced.span().parent
    assert parent is not None
    assert parent.is_remote
    assert (format_trace_id(parent.trace_id), format_span_id(parent.span_id)) == (
        TRACE_ID,
        PARENT_ID,
    )
    assert header(traced.published.messages[0], "tracestate") == "vendor=value"


@pytest.mark.parametrize(
    "traceparent",
    ["", "nonsense", f"ff-{TRACE_ID}-{PARENT_ID}-01", f"00-{'0' * 32}-{PARENT_ID}-01", "ÿ" * 600],
)
async def test_a_context_that_is_none_begins_a_trace_of_its_own(traceparent: str) -> None:
    traced = Traced()
    assert (await traced.post(headers={"traceparent": traceparent})).status == 200
    assert traced.span().parent is None


async def test_the_sender_s_context_need_not_be_believed() -> None:
    traced = Traced(honour_incoming=False)
    await traced.post(headers={"traceparent": SAMPLED})
    assert traced.span().parent is None


async def test_what_the_sender_does_not_sample_is_not_recorded_and_passed_on_as_such() -> None:
    traced = Traced()
    await traced.post(headers={"traceparent": NOT_SAMPLED})
    assert traced.recorder.get_finished_spans() == ()
    traceparent = header(traced.published.messages[0], "traceparent")
    assert traceparent is not None
    assert traceparent.startswith(f"00-{TRACE_ID}-")
    assert traceparent.endswith("-00")


@pytest.mark.parametrize(
    ("result", "status", "error"), [(Result.PUBLISHED, 200, None), (Result.FAILED, 503, "503")]
)
async def test_an_answer_of_the_server_s_own_failure_is_an_error(
    result: Result, status: int, error: str | None
) -> None:
    traced = Traced(RecordingPublisher(lambda _: result))
    await traced.post()
    span = traced.span()
    assert attributes(span)["http.response.status_code"] == status
    assert attributes(span).get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) is (error is not None)


@pytest.mark.parametrize(
    ("body", "options", "status"),
    [
        (ONE, {"method": "PUT"}, 405),
        (ONE, {"headers": {"content-encoding": "gzip"}}, 415),
        (b"<other/>", {}, 400),
    ],
)
async def test_a_refusal_is_no_error_of_the_server_s(
    body: bytes, options: dict[str, Any], status: int
) -> None:
    traced = Traced()
    await traced.post(body, **options)
    span = traced.span()
    assert attributes(span)["http.response.status_code"] == status
    assert span.status.status_code is StatusCode.UNSET


async def test_a_method_that_http_does_not_know_does_not_make_names() -> None:
    traced = Traced()
    await traced.post(method="PROPFIND")
    assert traced.span().name == "HTTP /webhook"
    assert attributes(traced.span())["http.request.method"] == "_OTHER"
    assert attributes(traced.span())["http.request.method_original"] == "PROPFIND"


async def test_a_client_that_left_is_on_its_span() -> None:
    traced = Traced()
    assert await request(traced.app, b"<resp", Leave) is None
    assert attributes(traced.span())["error.type"] == "client_left"
    assert "http.response.status_code" not in attributes(traced.span())


async def test_a_span_ends_whatever_happens() -> None:
    class Breaks:
        async def publish(self, *_: object) -> Any:
            raise ZeroDivisionError

    traced = Traced(Breaks())
    assert (await traced.post()).status == 500
    assert traced.span().status.status_code is StatusCode.ERROR
    assert attributes(traced.span())["error.type"] == "500"


async def test_other_paths_have_no_spans() -> None:
    """What scanners try would be most of a public listener's traces."""
    traced = Traced()
    assert (await traced.post(path="/wp-login.php")).status == 404
    assert traced.recorder.get_finished_spans() == ()


async def test_the_log_names_the_trace() -> None:
    traced = Traced()
    with capture_logs() as logs:
        await traced.post(headers={"traceparent": SAMPLED})
    assert [line["trace_id"] for line in logs if line["event"] == "request"] == [TRACE_ID]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"query": f"token={SECRET}"}, 200),
        ({"headers": {"authorization": f"Bearer {SECRET}"}}, 200),
        ({"query": f"token=not-{SECRET}"}, 401),
        ({"query": f"token={SECRET}", "headers": {"cookie": SECRET, "referer": SECRET}}, 200),
        ({"query": f"token={SECRET}", "headers": {"user-agent": SECRET, "host": SECRET}}, 200),
    ],
)
async def test_nothing_secret_is_on_a_span(options: dict[str, Any], status: int) -> None:
    """Neither credentials nor ids, whatever the answer."""
    traced = Traced(RecordingPublisher(), auth={"tokens": [SECRET]})
    body = ONE.replace(b"</response>", b'<state id_sms="bad id 424242">read</state></response>')
    assert (await traced.post(body, **options)).status == status
    told = traced.told()
    assert "/webhook" in told
    for secret in (SECRET, "token", "31337", "424242"):
        assert secret not in told


async def test_what_an_invalid_body_holds_is_not_on_its_span() -> None:
    traced = Traced()
    await traced.post(b"<private>31337</private>")
    assert attributes(traced.span())["sms_bridge.rejection"]
    assert "31337" not in traced.told()
    assert "private" not in traced.told()


async def test_ids_are_there_where_they_are_asked_for() -> None:
    fails = RecordingPublisher(lambda m: Result.FAILED if m.key == b"2" else Result.PUBLISHED)
    traced = Traced(fails, message_ids=True)
    await traced.post(TWO)
    assert attributes(traced.span())["sms_bridge.listed_ids"] == ("1",)
    assert attributes(traced.span())["sms_bridge.unlisted_ids"] == ("2",)


# --- on the event ------------------------------------------------------------------------


def record_of(message: Message) -> Record:
    topic, key, value, headers, timestamp_ms, _ = message
    return Record(topic, 0, 0, timestamp_ms, key, value, tuple(headers))


@pytest.mark.parametrize("content_mode", ["structured", "binary"])
async def test_the_event_carries_the_request_s_context(content_mode: str) -> None:
    """As the CloudEvents extension, in either content mode, and as a header of the record."""
    traced = Traced(content_mode=content_mode)
    await traced.post(TWO, headers={"traceparent": SAMPLED, "tracestate": "a=b"})
    expected = traceparent_of(traced.span())
    assert len(traced.published.messages) == 2
    for message in traced.published.messages:
        assert header(message, "traceparent") == expected
        assert header(message, "tracestate") == "a=b"
        event = read(record_of(message)).event
        assert event is not None
        assert (event["traceparent"], event["tracestate"]) == (expected, "a=b")
        if content_mode == "binary":
            assert header(message, "ce_traceparent") == expected


@pytest.mark.parametrize("body", [b"<other/>", b'<response><state id_sms="1"/></response>'])
async def test_a_dead_letter_carries_it_too(body: bytes) -> None:
    traced = Traced()
    await traced.post(body)
    (letter,) = traced.published.messages
    assert letter.topic == "sms.status.rejected"
    assert orjson.loads(letter.value)["traceparent"] == header(letter, "traceparent")


async def test_a_large_document_is_no_exception() -> None:
    """It is read on a thread of its own."""
    traced = Traced()
    states = b"".join(b'<state id_sms="%d">read</state>' % n for n in range(2000))
    assert (await traced.post(b"<response>" + states + b"</response>")).status == 200
    carried = {header(message, "traceparent") for message in traced.published.messages}
    assert carried == {traceparent_of(traced.span())}


async def test_without_tracing_a_record_is_as_it_ever_was() -> None:
    """And the identity of an event has nothing to do with who traces it."""
    traced, plain = Traced(), Traced()
    plain.app = plain.over(plain.published, None)
    await traced.post()
    await plain.post()
    (one,), (other,) = traced.published.messages, plain.published.messages
    assert one.event_id == other.event_id
    assert other.headers == [("content-type", b"application/cloudevents+json")]
    ours, theirs = orjson.loads(one.value), orjson.loads(other.value)
    del ours["traceparent"], ours["data"]["received_at"], theirs["data"]["received_at"]
    del ours["time"], theirs["time"]
    assert ours == theirs


# --- a batch's span ----------------------------------------------------------------------


@asynccontextmanager
async def published_by(connection: FakeProducer, **options: Any) -> AsyncIterator[Traced]:
    """The application over the real publisher, on a scripted connection."""
    kafka = Kafka(publish_timeout_seconds=5, topic="status", dead_letter_topic="rejected")

    async def connect(_: Kafka) -> FakeProducer:
        return connection

    supervisor = Supervisor(
        kafka, ["status"], connect=connect, describe_configs=durable, timing=TIMING
    )
    traced = Traced(**options)
    publisher = Publisher(kafka, supervisor, traced.tracing)
    traced.app = traced.over(publisher, traced.tracing)
    supervisor.start()
    try:
        yield traced
    finally:
        await publisher.stop()
        await supervisor.stop(1)


async def test_a_batch_is_a_producer_span_by_the_conventions_for_messaging() -> None:
    async with published_by(FakeProducer()) as traced:
        await traced.post(TWO, headers={"traceparent": SAMPLED})
        batch, request = traced.span(SpanKind.PRODUCER), traced.span()
    assert batch.name == "send status"
    assert attributes(batch) == {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": "status",
        "messaging.destination.partition.id": "0",
        "messaging.batch.message_count": 2,
    }
    assert [(link.context.trace_id, link.context.span_id) for link in batch.links] == [
        (request.context.trace_id, request.context.span_id)
    ]
    assert batch.parent is not None
    assert (format_trace_id(batch.parent.trace_id), format_span_id(batch.parent.span_id)) == ids(
        request
    )
    assert batch.status.status_code is StatusCode.UNSET


async def test_a_batch_of_many_requests_is_linked_to_each_and_belongs_to_the_first() -> None:
    held: list[Any] = [None]
    connection = FakeProducer(lambda *_: held.pop() if held else 0)
    async with published_by(connection) as traced:
        first = asyncio.create_task(traced.post(ONE))
        await until(lambda: len(connection.sent) == 1)
        others = [
            asyncio.create_task(traced.post(ONE.replace(b"31337", b"%d" % n))) for n in range(3)
        ]
        await idle()
        connection.settle(connection.pending[0], 7)
        await asyncio.gather(first, *others)
        _, batch = sorted(traced.spans(SpanKind.PRODUCER), key=lambda s: len(s.links))
        linked = {format_span_id(link.context.span_id) for link in batch.links}
        assert len(linked) == 3
        assert linked < {ids(span)[1] for span in traced.spans()}
        assert batch.parent is not None
        assert format_span_id(batch.parent.span_id) in linked
        assert attributes(batch)["messaging.batch.message_count"] == 3


async def test_a_batch_that_fails_is_an_error_of_the_broker_s_name() -> None:
    async with published_by(FakeProducer(lambda *_: errors.InvalidTopicError())) as traced:
        assert (await traced.post()).status == 503
        await until(lambda: bool(traced.spans(SpanKind.PRODUCER)))
        batch = traced.spans(SpanKind.PRODUCER)[0]
    assert attributes(batch)["error.type"] == "InvalidTopicError"
    assert batch.status.status_code is StatusCode.ERROR


async def test_a_batch_of_requests_that_nobody_samples_has_no_span() -> None:
    async with published_by(FakeProducer(), sampler=sampling.ALWAYS_OFF) as traced:
        assert (await traced.post()).status == 200
        assert traced.recorder.get_finished_spans() == ()
