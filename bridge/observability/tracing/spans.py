"""The spans: one a request, one a batch of records. No message ids in them unless asked for.

The names are those of OpenTelemetry's semantic conventions for HTTP servers and for messaging;
what they do not name is `sms_bridge.…`. The query of a request is never looked at.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import structlog
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bridge import __version__
from bridge.clip import ID_CHARACTERS, clipped
from bridge.model import Trace
from bridge.observability.requests import Request
from bridge.ratelimit import Repeats

log = structlog.get_logger(__name__)

SCOPE = "sms-status-bridge"
TROUBLES_PER_SECOND = 1 / 30  # lines of the log
MAX_IDS = 100  # of each kind, on a span that names them
CLIENT_LEFT = "client_left"
UNEXPECTED = "_OTHER"

# Those of RFC 9110 and RFC 5789; any other is `_OTHER`, as the conventions have it.
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
# What the log says of a request, and may be said of its span.
_PROPAGATOR = TraceContextTextMapPropagator()

Headers = Iterable[tuple[bytes, bytes]]


class Tracing:
    """Starts spans; whether one is recorded is the sampler's to say.

    `message_ids` has requests' spans name the ids that they brought; `honour_incoming` has them
    belong to the trace that the sender names.
    """

    def __init__(
        self, provider: TracerProvider, *, message_ids: bool = False, honour_incoming: bool = True
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SCOPE, __version__)
        self._message_ids = message_ids
        self._honour_incoming = honour_incoming
        self._troubles = Repeats(per_second=TROUBLES_PER_SECOND, burst=1)

    def endpoint(self, name: str, path: str) -> "EndpointTracing":
        """The tracing of the requests to one endpoint."""
        return EndpointTracing(self, name, path)

    def server_span(self, name: str, headers: Headers, attributes: Mapping[str, Any]) -> Span:
        """A request's span, in the trace that its headers name, if any."""
        context = Context()
        if self._honour_incoming:
            context = _PROPAGATOR.extract(headers, context, _GETTER)
        return self._tracer.start_span(name, context, SpanKind.SERVER, attributes)

    @property
    def message_ids(self) -> bool:
        """Whether spans may name ids."""
        return self._message_ids

    async def batch(
        self,
        sending: Awaitable[int],
        *,
        topic: str,
        partition: int,
        count: int,
        headers: Iterable[Sequence[tuple[str, bytes]]],
    ) -> int:
        """Await what sends a batch of `count` records, within a span.

        `headers` are those of a record of each request. The span is in the trace of the first
        request that is sampled, and linked to every one that is; there is none if none is.
        """
        span = None
        with self._unheard():
            span = self._batch_span(topic, partition, count, _sampled(headers))
        if span is None:
            return await sending
        try:
            return await sending
        except BaseException as exc:
            with self._unheard():
                _fail(span, type(exc).__name__)
            raise
        finally:
            with self._unheard():
                span.end()

    def _batch_span(
        self, topic: str, partition: int, count: int, origins: Sequence[SpanContext]
    ) -> Span | None:
        if not origins:
            return None
        return self._tracer.start_span(
            f"send {topic}",
            set_span_in_context(NonRecordingSpan(origins[0]), Context()),
            SpanKind.PRODUCER,
            {
                "messaging.system": "kafka",
                "messaging.operation.type": "send",
                "messaging.operation.name": "send",
                "messaging.destination.name": topic,
                "messaging.destination.partition.id": str(partition),
                "messaging.batch.message_count": count,
            },
            [Link(origin) for origin in origins],
        )

    @contextlib.contextmanager
    def _unheard(self) -> Iterator[None]:
        """Whatever goes wrong in here is no reason to take a batch for one that was not sent."""
        try:
            yield
        except Exception as exc:  # noqa: BLE001 -- told as far as the log can be written
            with contextlib.suppress(Exception):
                held_back = self._troubles.held_back(None)
                if held_back is not None:
                    what = type(exc).__name__
                    log.warning("tracing failed", error=what, suppressed=held_back)

    async def stop(self, seconds: float) -> None:
        """Export what is left, within the time; what is not out then is lost."""
        loop = asyncio.get_running_loop()
        stopped = asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # it took longer than the loop was there
                loop.call_soon_threadsafe(stopped.set)

        # A daemon: one that hangs on the collector must not keep the process.
        threading.Thread(target=shut_down, name="tracing stop", daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                await stopped.wait()
        except TimeoutError:
            log.warning("the last spans were not exported in time")


class EndpointTracing:
    """Starts the spans of the requests to one endpoint."""

    def __init__(self, tracing: Tracing, name: str, path: str) -> None:
        self._tracing = tracing
        self._path = path
        self._fixed = {"http.route": path, "sms_bridge.endpoint": name}

    def request(self, scope: Mapping[str, Any], request_id: str) -> "RequestSpan":
        """Start the span of the request that an ASGI scope describes."""
        method: str = scope["method"]
        known = method in _METHODS
        attributes = {
            **self._fixed,
            "http.request.method": method if known else "_OTHER",
            "url.scheme": scope["scheme"],
            "url.path": scope["path"],
            "network.protocol.version": scope["http_version"],
            "sms_bridge.request_id": request_id,
        }
        if not known:
            attributes["http.request.method_original"] = clipped(method, ID_CHARACTERS)
        name = f"{method if known else 'HTTP'} {self._path}"
        span = self._tracing.server_span(name, scope["headers"], attributes)
        return RequestSpan(span, message_ids=self._tracing.message_ids)


class RequestSpan:
    """A request's span; `trace` is the context that its events carry."""

    __slots__ = ("_described", "_message_ids", "_span", "trace", "trace_id")

    def __init__(self, span: Span, *, message_ids: bool) -> None:
        context = span.get_span_context()
        self._span = span
        self._message_ids = message_ids
        self._described = False
        self.trace_id = format_trace_id(context.trace_id)
        self.trace = Trace(
            f"00-{self.trace_id}-{format_span_id(context.span_id)}-{context.trace_flags:02x}",
            context.trace_state.to_header(),
        )

    def describe(self, request: Request) -> None:
        """Say what became of the request."""
        self._described = True
        if not self._span.is_recording():
            return
        status = request.status
        attributes = _attributes(request, message_ids=self._message_ids)
        if status is None:
            _fail(self._span, CLIENT_LEFT)
        else:
            attributes["http.response.status_code"] = status
            if status >= 500:  # noqa: PLR2004 -- a client's mistake is no error of the server's
                _fail(self._span, str(status))
        self._span.set_attributes(attributes)

    def end(self) -> None:
        """End it, whatever has happened."""
        if not self._described:
            _fail(self._span, UNEXPECTED)
        self._span.end()


def describe(request: Request) -> None:
    """See what became of a request: an observer."""
    if isinstance(request.span, RequestSpan):
        request.span.describe(request)


def _attributes(request: Request, *, message_ids: bool) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if request.body is not None:
        attributes["http.request.body.size"] = len(request.body)
    if request.error is not None:
        attributes["sms_bridge.rejection"] = request.error.reason
    receipt = request.receipt
    if receipt is not None:
        attributes["sms_bridge.states"] = len(receipt.items)
        attributes["sms_bridge.listed"] = len(receipt.listed)
        attributes["sms_bridge.repeated"] = receipt.repeated
        if receipt.unlisted or receipt.rejected:
            attributes["sms_bridge.unlisted"] = len(receipt.unlisted)
        if message_ids:
            attributes["sms_bridge.listed_ids"] = _named(receipt.listed)
            attributes["sms_bridge.unlisted_ids"] = _named(receipt.unlisted)
    return attributes


class _ScopeHeaders(Getter[Headers]):
    """Reads the headers of an ASGI scope; a second `traceparent` makes both of no use."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        values = [value.decode("latin-1") for name, value in carrier if name == key.encode()]
        if key == "traceparent" and len(values) > 1:
            return None
        return values or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


_GETTER = _ScopeHeaders()


def _named(ids: Sequence[str]) -> list[str]:
    return [clipped(id_sms, ID_CHARACTERS) for id_sms in ids[:MAX_IDS]]


def _fail(span: Span, error_type: str) -> None:
    span.set_attribute("error.type", error_type)
    span.set_status(StatusCode.ERROR)


def _sampled(headers: Iterable[Sequence[tuple[str, bytes]]]) -> list[SpanContext]:
    """The spans of the requests that are sampled, each once."""
    parents = {value: None for ours in headers for name, value in ours if name == "traceparent"}
    return [origin for parent in parents if (origin := _origin(parent)).trace_flags.sampled]


def _origin(traceparent: bytes) -> SpanContext:
    """The span that a header of our own names."""
    _, trace_id, span_id, flags = traceparent.decode("ascii").split("-")
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=False,
        trace_flags=TraceFlags(int(flags, 16)),
    )
