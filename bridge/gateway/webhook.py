"""One endpoint's POSTs, as an ASGI application: the checks in order, the body, the answer."""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, ParamSpec

import structlog
from starlette.types import Receive, Scope, Send

from bridge.ack import answer
from bridge.config.settings import Server
from bridge.errors import DocumentError, RequestError
from bridge.event import Stream
from bridge.gateway.admission import Capacity, Lease
from bridge.gateway.auth import Authenticator
from bridge.gateway.client_address import Address, Networks, Proxies
from bridge.gateway.request_ids import RequestIds
from bridge.gateway.responses import Answer, Headers, refusal
from bridge.model import Outcome, Result
from bridge.observability.metrics import EndpointMetrics, Metrics
from bridge.observability.redelivery import Unlisted
from bridge.observability.requests import Course, Observation, Observer
from bridge.parse import is_blank
from bridge.pipeline import Pipeline, Prepared, Receipt, prepare
from bridge.ratelimit import RateLimit, Repeats
from bridge.timeouts import Timeouts

if TYPE_CHECKING:
    from bridge.observability.tracing.spans import EndpointTracing, RequestSpan

log = structlog.get_logger(__name__)

P = ParamSpec("P")

RETRY_AFTER: Headers = ((b"retry-after", b"5"),)
MAX_LOGGED_IDS = 100

INLINE_BYTES = 32 * 1024  # some 350 states, 10 ms: docs/reliability.md has the measurement
COMPLAINTS_PER_SECOND = 0.1  # of requests that are refused with one status
COMPLAINTS_AT_ONCE = 5


def _now() -> datetime:
    return datetime.now(UTC)


class _Exchange:
    """One request on its way to its answer, and what there is to say of it."""

    __slots__ = (
        "began",
        "course",
        "facts",
        "headers",
        "lease",
        "refused",
        "remainder",
        "request_id",
        "span",
    )

    def __init__(self, headers: dict[bytes, bytes], request_id: str, lease: Lease) -> None:
        self.began = time.perf_counter()
        self.headers = headers
        self.request_id = request_id
        self.lease = lease
        self.facts: dict[str, object] = {}
        self.remainder = False  # not all that it brought was taken
        self.refused = False  # nothing of it was looked at
        self.span: RequestSpan | None = None
        self.course: Course | None = None  # kept where somebody watches, until the answer is known


class Webhook:
    """Answers the provider for one endpoint.

    `allow` holds the addresses that may post, None where all may; `proxies` tell the address.
    `reader` reads large documents; `burials` limits the dead letters of refused bodies.
    `publish_timeout_seconds` bounds everything from the last byte of the body to the answer;
    `draining` says whether connections are to be closed after their answers, `tracing` is None
    where requests are not traced; `observer`, if any, is told of each request.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        authenticator: Authenticator | None,
        allow: Networks | None,
        proxies: Proxies,
        pipeline: Pipeline,
        capacity: Capacity,
        reader: Executor,
        burials: RateLimit,
        metrics: Metrics,
        server: Server,
        publish_timeout_seconds: float,
        draining: Callable[[], bool],
        clock: Callable[[], datetime] = _now,
        tracing: "EndpointTracing | None" = None,
        observer: Observer | None = None,
    ) -> None:
        self._stream = stream
        self._authenticator = authenticator
        self._allow = allow
        self._proxies = proxies
        self._pipeline = pipeline
        self._capacity = capacity
        self._reader = reader
        self._burials = burials
        self._metrics = EndpointMetrics(metrics, stream.endpoint)
        self._unlisted = Unlisted()
        self._metrics.watch_unlisted(self._unlisted.oldest_seconds)
        self._server = server
        self._publish_timeout_seconds = publish_timeout_seconds
        self._timeouts = Timeouts()
        self._complaints = Repeats(per_second=COMPLAINTS_PER_SECOND, burst=COMPLAINTS_AT_ONCE)
        self._request_ids = RequestIds()
        self._draining = draining
        self._clock = clock
        self._tracing = tracing
        self._observer = observer
        self._log = log.bind(endpoint=stream.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = dict(reversed(scope["headers"]))  # the first of a name counts
        request_id = self._request_ids.of(headers.get(b"x-request-id"))
        lease = Lease(self._capacity)
        exchange = _Exchange(headers, request_id, lease)
        if self._tracing is not None:
            self._watch(self._start_span, self._tracing, exchange, scope)
        if self._observer is not None:
            exchange.course = Course()
        try:
            reply, close = await self._answer_or_fail(exchange, scope, receive)
            # A client that does not read its answer keeps the bytes of that alone.
            lease.release()
            self._watch(self._note, exchange, scope, reply)
            if self._observer is not None:
                self._watch(self._tell, self._observer, exchange, scope, reply)
            if reply is not None:
                lease.hold_bytes(len(reply.body))
                await reply.send(send, close=close or self._draining())
        finally:
            lease.release()
            if exchange.span is not None:
                self._watch(exchange.span.end)

    async def _answer_or_fail(
        self, exchange: _Exchange, scope: Scope, receive: Receive
    ) -> tuple[Answer | None, bool]:
        """What to answer, a fault of the program's own included: it acknowledges nothing."""
        try:
            return await self._answer(exchange, scope, receive), False
        except Exception as exc:  # noqa: BLE001 -- the request's line tells it all
            exchange.refused = True
            exchange.facts["exc_info"] = exc
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the gateway's own"), True

    async def _answer(self, exchange: _Exchange, scope: Scope, receive: Receive) -> Answer | None:
        """What to answer; None: nobody is there."""
        refused = self._refuse(exchange, scope)
        if refused is not None:
            exchange.refused = True
            return refused
        body = await self._read(receive, exchange.lease)
        if isinstance(body, bytes):
            return await self._process(body, exchange)
        exchange.refused = True
        return body

    # --- who looks on --------------------------------------------------------------------

    def _watch(self, watch: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Count, log, trace or show something; where that fails, the answer stands as it is."""
        try:
            watch(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 -- told as far as the log can be written
            with suppress(Exception):
                held_back = self._complaints.held_back("watching")
                if held_back is not None:
                    self._log.error("a request was not watched", exc_info=exc, suppressed=held_back)

    def _start_span(self, tracing: "EndpointTracing", exchange: _Exchange, scope: Scope) -> None:
        exchange.span = tracing.request(scope, exchange.request_id)
        exchange.facts["trace_id"] = exchange.span.trace_id

    def _note(self, exchange: _Exchange, scope: Scope, reply: Answer | None) -> None:
        """Count a request and log it, once, whatever its size."""
        status = None if reply is None else int(reply.status)
        seconds = time.perf_counter() - exchange.began
        if status is not None:
            self._metrics.answered(status, None if exchange.refused else seconds)
        facts = exchange.facts
        if exchange.span is not None:
            exchange.span.describe(status, facts)
        write = self._log.info
        if exchange.refused:
            held_back = self._complaints.held_back(status)
            if held_back is None:
                return
            facts["suppressed"] = held_back
            write = self._log.error if "exc_info" in facts else self._log.warning
        elif exchange.remainder:
            write = self._log.warning
        if exchange.refused or status == HTTPStatus.BAD_REQUEST:
            self._describe_sender(exchange, scope)
        write(
            "request" if reply is not None else "client left before the end of its body",
            request_id=exchange.request_id,
            status=status,
            seconds=round(seconds, 6),
            **facts,
        )

    def _tell(
        self, observer: Observer, exchange: _Exchange, scope: Scope, reply: Answer | None
    ) -> None:
        """Hand over what there is to see of a request, and let go of it."""
        course, exchange.course = exchange.course or Course(), None
        credentials = exchange.facts.get("credentials")
        client = self._client(scope)
        observer(
            Observation(
                endpoint=self._stream.endpoint,
                request_id=exchange.request_id,
                peer=None if client is None else str(client),
                answered_at=self._clock(),
                seconds=time.perf_counter() - exchange.began,
                status=None if reply is None else reply.status,
                answer=b"" if reply is None else reply.body,
                refused=exchange.refused or reply is None,
                credentials=None if credentials is None else str(credentials),
                course=course,
            )
        )

    # --- before the body -----------------------------------------------------------------

    def _refuse(self, exchange: _Exchange, scope: Scope) -> Answer | None:
        """The first check that the request's head fails, in the contract's order."""
        headers = exchange.headers
        if scope["method"] != "POST":
            return refusal(
                HTTPStatus.METHOD_NOT_ALLOWED, "only POST", headers=((b"allow", b"POST"),)
            )
        if self._allow is not None and self._client(scope) not in self._allow:
            return refusal(HTTPStatus.FORBIDDEN, "this address may not post")
        if self._authenticator is not None and not self._authenticator.accepts(
            headers.get(b"authorization"), scope["query_string"]
        ):
            given = b"authorization" in headers or b"token=" in scope["query_string"]
            exchange.facts["credentials"] = "wrong" if given else "missing"
            challenge = self._authenticator.challenge.encode()
            return refusal(
                HTTPStatus.UNAUTHORIZED,
                "wrong or missing credentials",
                headers=((b"www-authenticate", challenge),),
            )
        if self._capacity.exhausted:
            return self._overloaded()
        length = headers.get(b"content-length")
        if scope["http_version"] == "1.0" and length is None:
            return refusal(HTTPStatus.LENGTH_REQUIRED, "HTTP/1.0 needs a Content-Length")
        encoding = headers.get(b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            return refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "only the identity encoding")
        if length is not None and int(length) > self._server.max_body_bytes:
            exchange.facts["declared_bytes"] = int(length)
            return self._too_large()
        return None

    def _client(self, scope: Scope) -> Address | None:
        return self._proxies.client(scope["client"], scope["headers"])

    def _describe_sender(self, exchange: _Exchange, scope: Scope) -> None:
        """Say who was refused, and never what was presented."""
        client = self._client(scope)
        exchange.facts["peer"] = scope["client"][0] if scope["client"] else None
        exchange.facts["client"] = str(client) if client is not None else None

    def _overloaded(self) -> Answer:
        self._metrics.overloaded.inc()
        return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too much in flight", headers=RETRY_AFTER)

    def _too_large(self) -> Answer:
        limit = self._server.max_body_bytes
        return refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is over {limit} bytes")

    # --- the body ------------------------------------------------------------------------

    async def _read(self, receive: Receive, lease: Lease) -> bytes | Answer | None:
        """The whole body, or why not; None where the client left."""
        now = asyncio.get_running_loop().time()
        try:
            with self._timeouts.at(now + self._server.body_timeout_seconds):
                return await self._collect(receive, lease)
        except TimeoutError:
            return refusal(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time")
        except RequestError as error:
            return refusal(error.status, str(error))
        except asyncio.CancelledError:
            if not self._draining():
                raise
            # The drain's time is over. Nothing of this body was published, so it can be said.
            return refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "the gateway is stopping", headers=RETRY_AFTER
            )

    async def _collect(self, receive: Receive, lease: Lease) -> bytes | Answer | None:
        chunks: list[bytes] = []
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk: bytes = message.get("body", b"")
            if not lease.take_bytes(len(chunk)):
                return self._overloaded()
            if lease.bytes > self._server.max_body_bytes:
                return self._too_large()
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunk if len(chunks) == 1 else b"".join(chunks)

    # --- the work ------------------------------------------------------------------------

    async def _process(self, body: bytes, exchange: _Exchange) -> Answer:
        deadline = asyncio.get_running_loop().time() + self._publish_timeout_seconds
        received_at = self._clock()
        exchange.facts["bytes"] = len(body)
        course = exchange.course
        if course is not None:
            course.body = body
        if is_blank(body):
            exchange.remainder = True
            return refusal(HTTPStatus.BAD_REQUEST, "the body is empty")
        if not exchange.lease.take_post():
            exchange.refused = True
            return self._overloaded()
        max_states = self._server.max_states
        stream = self._stream
        if exchange.span is not None:
            stream = replace(stream, trace=exchange.span.trace)
        try:
            if len(body) <= INLINE_BYTES:
                prepared = prepare(stream, body, received_at, max_states=max_states)
            else:
                prepared = await self._prepare_aside(stream, body, received_at, deadline)
        except TimeoutError:
            exchange.remainder = True
            self._metrics.overloaded.inc()
            exchange.facts["errors"] = ["the document was not read in time"]
            return _nothing_taken()
        except DocumentError as error:
            exchange.remainder = True
            await self._bury(stream, error, body, received_at, deadline, exchange=exchange)
            return refusal(HTTPStatus.BAD_REQUEST, str(error))
        if not exchange.lease.take_states(len(prepared.document.states)):
            exchange.refused = True
            return self._overloaded()
        began = time.perf_counter()
        receipt = await self._pipeline.accept(stream, prepared, received_at, deadline)
        self._watch(self._account, prepared, receipt, exchange, time.perf_counter() - began)
        return (
            _nothing_taken() if receipt.refused else Answer(HTTPStatus.OK, answer(receipt.listed))
        )

    async def _prepare_aside(
        self, stream: Stream, body: bytes, received_at: datetime, deadline: float
    ) -> Prepared:
        """Read a large document beside the loop, so that small ones need not wait."""
        max_states = self._server.max_states
        work = partial(prepare, stream, body, received_at, max_states=max_states)
        with self._timeouts.at(deadline):
            return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    async def _bury(
        self,
        stream: Stream,
        error: DocumentError,
        body: bytes,
        received_at: datetime,
        deadline: float,
        *,
        exchange: _Exchange,
    ) -> None:
        """Keep a refused body for a look; the answer does not depend on it."""
        outcome: Outcome | None = None
        if self._burials.allows():
            outcome = await self._pipeline.bury(stream, error, body, received_at, deadline)
        self._watch(self._account_refused, error, outcome, exchange)

    def _account_refused(
        self, error: DocumentError, outcome: Outcome | None, exchange: _Exchange
    ) -> None:
        """Count a body that is refused, and say what became of it."""
        exchange.facts.update(
            reason=error.reason,
            detail=str(error),
            line=error.line,
            dead_letter=outcome.result.value if outcome is not None else "none",
        )
        self._metrics.refused(error.reason)
        if outcome is None or outcome.result is not Result.PUBLISHED:
            self._metrics.lost_bodies.inc()
        if exchange.course is not None:
            exchange.course.error, exchange.course.burial = error, outcome

    def _account(
        self, prepared: Prepared, receipt: Receipt, exchange: _Exchange, seconds: float
    ) -> None:
        """Say what became of a document, which took so many seconds to publish, and count it."""
        self._describe(prepared, receipt, exchange)
        course = exchange.course
        if course is not None:
            course.states, course.messages = receipt.states, prepared.messages
            course.outcomes = receipt.outcomes
            course.listed, course.unlisted = receipt.listed, receipt.unlisted
        if exchange.span is not None:
            exchange.span.ids(listed=receipt.listed, unlisted=receipt.unlisted)
        self._metrics.document_bytes.observe(exchange.lease.bytes)
        if prepared.messages:
            self._metrics.publish_seconds.observe(seconds)
        self._count(prepared, receipt)

    def _describe(self, prepared: Prepared, receipt: Receipt, exchange: _Exchange) -> None:
        unlisted, facts = receipt.unlisted, exchange.facts
        facts["states"] = len(prepared.messages)
        facts["listed"] = len(receipt.listed)
        facts["repeated"] = receipt.repeated
        results = receipt.results
        for result, count in results.items():
            facts[result.value] = count
        if unlisted or receipt.rejected:
            exchange.remainder = True
            facts["unlisted"] = len(unlisted)
            facts["unlisted_ids"] = unlisted[:MAX_LOGGED_IDS]
            facts |= {result.value: results.get(result, 0) for result in Result}
            facts["rejected"] = receipt.rejected
            facts["errors"] = receipt.errors[:3]
        if prepared.document.unprocessed_ids:
            facts["past_max_states"] = len(prepared.document.unprocessed_ids)

    def _count(self, prepared: Prepared, receipt: Receipt) -> None:
        """Count a document; most of it is rare, and costs nothing where there is none."""
        metrics = self._metrics
        metrics.document(receipt.counts)
        metrics.ids(listed=len(receipt.listed), unlisted=len(receipt.unlisted))
        for reason, count in receipt.rejected.items():
            metrics.refused(reason, count)
        if receipt.repeated:
            metrics.suppressed_duplicates.inc(receipt.repeated)
        if receipt.unknown_words:
            metrics.unknown_statuses.inc(receipt.unknown_words)
        if prepared.unreadable_times:
            metrics.unreadable_times.inc(prepared.unreadable_times)
        if prepared.future_times:
            metrics.future_times.inc(prepared.future_times)
        if receipt.gaps or receipt.unlisted or self._unlisted:
            metrics.redelivered(self._gaps(prepared, receipt))

    def _gaps(self, prepared: Prepared, receipt: Receipt) -> Iterable[float]:
        """The seconds since each event that had come before came last."""
        unlisted = frozenset(receipt.unlisted)
        events = {
            message.event_id: state.id_sms not in unlisted
            for state, message in zip(prepared.document.states, prepared.messages, strict=True)
            if message is not None
        }
        return {**receipt.gaps, **self._unlisted.came(events)}.values()


def _nothing_taken() -> Answer:
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, answer(()), headers=RETRY_AFTER)
