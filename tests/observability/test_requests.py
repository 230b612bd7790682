"""Metrics, log, tracing and inspector look on: their failures change no answer and lose nothing."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from structlog.testing import capture_logs

from bridge.gateway import not_found as nowhere
from bridge.gateway.app import Health, public_app
from bridge.observability import requests
from bridge.observability.counters import Distribution
from bridge.observability.metrics import EndpointMetrics, Metrics
from bridge.observability.redelivery import Redelivery
from bridge.observability.tracing import spans
from bridge.observability.tracing.spans import EndpointTracing, RequestSpan, Tracing
from tests.support.application import Gateway, ids
from tests.support.asgi import request
from tests.support.fakes import RecordingPublisher
from tests.support.settings import settings

TOKEN = "s3cret-t0ken"
VALID = b'<response><state id_sms="31337">read</state></response>'
INVALID = b'<response><state id_sms="31337">read!</state></response>'
BROKEN = b"<response><state"


def broken(*_: Any, **__: Any) -> Any:
    raise LookupError("injected")


class SilentLog:
    """A logger whose every line fails."""

    def __getattr__(self, _: str) -> Callable[..., Any]:
        return broken

    def bind(self, **_: object) -> "SilentLog":
        return self


FAILURES: dict[str, tuple[object, str]] = {
    "counting requests": (EndpointMetrics, "answered"),
    "counting documents": (EndpointMetrics, "document"),
    "counting ids": (EndpointMetrics, "ids"),
    "counting refusals": (EndpointMetrics, "refused"),
    "measuring": (Distribution, "observe"),
    "remembering what is unlisted": (Redelivery, "__len__"),
    "starting a span": (EndpointTracing, "request"),
    "naming ids on a span": (spans, "_attributes"),
    "describing a span": (RequestSpan, "describe"),
    "ending a span": (RequestSpan, "end"),
}


@pytest.mark.parametrize("failure", [*FAILURES, "logging", "observing", "all of them"])
async def test_an_answer_is_the_same_whoever_fails_to_look_on(
    monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    publisher = RecordingPublisher()
    for name, (owner, attribute) in FAILURES.items():
        if failure in (name, "all of them"):
            monkeypatch.setattr(owner, attribute, broken)
    if failure in ("logging", "all of them"):
        monkeypatch.setattr(requests, "log", SilentLog())
        monkeypatch.setattr(nowhere, "log", SilentLog())
    app = public_app(
        settings({"auth": {"tokens": [TOKEN]}}),
        publisher,
        Metrics(),
        Health(lambda: None),
        tracing=Tracing(TracerProvider(shutdown_on_exit=False)),
        observer=broken if failure in ("observing", "all of them") else None,
    )
    posts = [(VALID, TOKEN), (INVALID, TOKEN), (BROKEN, TOKEN), (b"", TOKEN), (VALID, "wrong")]
    with capture_logs():
        replies = [await request(app, body, query=f"token={token}") for body, token in posts]
        elsewhere = await request(app, VALID, path="/elsewhere")
    found = [reply.status for reply in [*replies, elsewhere] if reply is not None]
    assert found == [200, 200, 400, 400, 401, 404]
    for reply in replies[:2]:
        assert reply is not None
        assert b"<id_sms>31337</id_sms>" in reply.body
    assert len(publisher.messages) == 3


async def test_a_request_that_could_not_be_counted_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(EndpointMetrics, "ids", broken)
    app = public_app(settings(), RecordingPublisher(), Metrics(), Health(lambda: None))
    with capture_logs() as lines:
        for _ in range(100):
            await request(app, VALID)
    told = [line for line in lines if line["event"] == "observability hook failed"]
    assert len(told) == requests.LINES_AT_ONCE
    assert [line["states"] for line in lines if line["event"] == "request"] == [1] * 100


async def test_the_line_of_a_request_says_the_same_either_way() -> None:
    """What is as it should be goes a shorter way; what is remarkable does not."""
    straight: list[dict[str, Any]] = []
    apps = [
        public_app(
            settings(), RecordingPublisher(), Metrics(), Health(lambda: None), write_info=way
        )
        for way in (None, straight.append)
    ]
    with capture_logs() as lines:
        for app in apps:
            await request(app, VALID, headers={"x-request-id": "a"})
    (line,) = lines
    assert line.pop("log_level") == "info"
    (other,) = straight
    assert other.pop("logger") == requests.__name__
    assert line.pop("seconds") > 0 < other.pop("seconds")
    assert other == line

    with capture_logs() as lines:
        await request(apps[1], INVALID)
    assert [line["log_level"] for line in lines] == ["warning"]
    assert len(straight) == 1


async def test_a_document_of_something_else_than_states_is_a_warning_with_its_beginning() -> None:
    """It is answered 200 and lists nothing: the log and the metric are its only trace."""
    gateway = Gateway()
    with capture_logs() as lines:
        answer = await gateway.post(b"<response>\n<error>wrong login</error></response>")
        await gateway.post(b"<response>\n</response>")

    assert (answer.status, ids(answer)) == (200, [])
    told = [(line["log_level"], line.get("beginning")) for line in lines]
    assert told == [
        ("warning", r"<response>\n<error>wrong login</error></response>"),
        ("info", None),
    ]
    found = gateway.metrics.registry.get_sample_value(
        "sms_bridge_refused_total", {"endpoint": "main", "reason": "foreign"}
    )
    assert found == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<error>wrong login</error>", "foreign"),
        (b'<state id_sms="b@d">read</state>', "invalid_id"),
        (b'<state id_sms="b@d">read</state><state id_sms="1">read</state>', None),
    ],
)
async def test_the_line_of_what_is_counted_as_refused_has_the_reason_and_the_sender(
    content: bytes, reason: str | None
) -> None:
    """Of documents that were read, too: the alert has the reason as a label."""
    with capture_logs() as lines:
        await Gateway().post(b"<response>%b</response>" % content)

    (line,) = lines
    assert line.get("reason") == reason
    assert ({"peer", "client"} <= line.keys()) == (reason is not None)


async def test_the_line_of_a_refused_body_says_what_was_expected() -> None:
    with capture_logs() as lines:
        answer = await Gateway().post(b"<error>wrong login</error>")

    (line,) = lines
    assert line["reason"] == "wrong_root"
    for said in (line["detail"], answer.body.decode()):
        assert "expected is XML with the root" in said


@pytest.mark.parametrize("step", ["on_start", "on_end"])
async def test_a_batch_is_sent_though_its_span_fails(step: str) -> None:
    """A batch that counts as failed has its producer replaced, and its records sent again."""
    processor = SpanProcessor()
    setattr(processor, step, broken)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    sent = 0

    async def send() -> int:
        nonlocal sent
        sent += 1
        return 42

    sampled = [("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    with capture_logs() as lines:
        for _ in range(10):
            offset = await Tracing(provider).batch(
                send(), topic="t", partition=0, count=1, headers=[sampled]
            )
            assert offset == 42
    assert sent == 10
    assert {line["event"] for line in lines} == {"tracing failed"}
