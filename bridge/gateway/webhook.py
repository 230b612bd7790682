"""One endpoint's POSTs, as an ASGI application: the checks in order, the body, the answer."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from bridge.errors import DocumentError, RequestError
from bridge.gateway.admission import Capacity, Lease, is_small, weight, weight_unread
from bridge.gateway.checks import Check, Decision, too_large
from bridge.gateway.client_address import Proxies
from bridge.gateway.exchange import BODY_IS_HERE
from bridge.gateway.reader import Reader
from bridge.gateway.request_ids import RequestIds
from bridge.gateway.responses import (
    ABOUT,
    RETRY_AFTER,
    Answer,
    acknowledgement,
    nothing_taken,
    overloaded,
    refusal,
)
from bridge.model import Item, Route
from bridge.observability.requests import Disposition, Observers, Request
from bridge.parse import form_of, is_blank
from bridge.pipeline import MANY, Pipeline, Prepared, prepare
from bridge.ratelimit import RateLimit
from bridge.timeouts import Timeouts

if TYPE_CHECKING:
    from bridge.observability.tracing.spans import EndpointTracing

_READ, _FAULT = Disposition.READ, Disposition.FAULT


def _now() -> datetime:
    return datetime.now(UTC)


def _no_wait() -> None:
    """Ends the wait for a body that is here."""


def _free(items: list[Item]) -> None:
    """Free the states of a large document in steps: at once they would hold up others for 10 ms."""
    del items[-MANY:]
    if items:
        asyncio.get_running_loop().call_soon(_free, items)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may take: seconds from its head, and from the last byte of its body."""

    max_body_bytes: int
    max_states: int
    body_timeout_seconds: float
    publish_timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Shared:
    """What all endpoints have together.

    `reader` reads large documents; `dead_letter_limit` bounds the dead letters of whole bodies;
    `draining` says whether connections are to be closed after their answers.
    """

    pipeline: Pipeline
    capacity: Capacity
    reader: Reader
    dead_letter_limit: RateLimit
    proxies: Proxies
    limits: Limits
    draining: Callable[[], bool]
    clock: Callable[[], datetime] = _now


class Webhook:
    """Answers the provider for one endpoint.

    `checks` are made before the body is read; `observers` see each request once its answer is
    known; `tracing` is None if requests are not traced.
    """

    def __init__(
        self,
        route: Route,
        checks: Sequence[Check],
        shared: Shared,
        observers: Observers,
        *,
        tracing: "EndpointTracing | None" = None,
    ) -> None:
        self._route = route
        self._checks = checks
        self._shared = shared
        self._limits = shared.limits
        self._observers = observers
        self._tracing = tracing
        self._timeouts = Timeouts()
        self._request_ids = RequestIds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        lease = Lease(self._shared.capacity)
        request = self._request(scope)
        span = request.span
        try:
            reply = await self._reply(request, receive, lease)
            close = request.disposition is _FAULT or self._shared.draining()
            if request.prepared is not None and len(request.prepared.items) > MANY:
                _free(request.prepared.items)
            del request  # an answer that is not read must keep nothing but itself
            if reply is not None:
                lease.hold_bytes(len(reply.body))
                await reply.send(send, close=close)
        finally:
            lease.release()
            if span is not None:
                self._observers.guard(span.end)

    def _request(self, scope: Scope) -> Request:
        headers = dict(reversed(scope["headers"]))  # the first of a name counts
        request = Request(
            endpoint=self._route.endpoint,
            request_id=self._request_ids.of(headers.get(b"x-request-id")),
            scope=scope,
            headers=headers,
            find_client=partial(self._shared.proxies.client, scope["client"], scope["headers"]),
        )
        if self._tracing is not None:
            self._observers.guard(self._start_span, self._tracing, request)
        return request

    @staticmethod
    def _start_span(tracing: "EndpointTracing", request: Request) -> None:
        request.span = tracing.request(request.scope, request.request_id)

    async def _reply(self, request: Request, receive: Receive, lease: Lease) -> Answer | None:
        """Decide what to answer, and let those who look on see it; None: nobody is there."""
        try:
            disposition, reply = await self._decide(request, receive, lease)
        except (Exception, asyncio.CancelledError) as exc:  # the request's line says it all
            if isinstance(exc, asyncio.CancelledError) and self._is_stopping():
                self._finish(request, Disposition.STOPPING, None)
                raise  # by the server: the drain's time is over
            # A fault of the program's own: it acknowledges nothing.
            request.exception = exc
            fault = "a fault of the gateway's own"
            reply = refusal(HTTPStatus.INTERNAL_SERVER_ERROR, fault, form=request.form)
            disposition = _FAULT
        lease.release()
        self._finish(request, disposition, reply)
        return reply

    def _finish(self, request: Request, disposition: Disposition, reply: Answer | None) -> None:
        request.disposition = disposition
        if reply is not None:
            request.status, request.answer = int(reply.status), reply.body
        request.answered_at = self._shared.clock()
        request.seconds = time.perf_counter() - request.started
        self._observers(request)

    def _is_stopping(self) -> bool:
        """Whether the server has asked for the end of this task; else a fault of ours ends it."""
        task = asyncio.current_task()
        return self._shared.draining() and task is not None and task.cancelling() > 0

    async def _decide(self, request: Request, receive: Receive, lease: Lease) -> Decision:
        for check in self._checks:
            decision = check(request)
            if decision is not None:
                return decision
        lease.expected_bytes = int(request.headers.get(b"content-length", 0))
        if BODY_IS_HERE in request.scope.get("extensions", ()):  # as nearly always
            body = await self._collect(receive, lease, _no_wait)
        else:
            body = await self._read(request, receive, lease)
        if isinstance(body, bytes):
            return await self._process(request, body, lease)
        return body

    # --- the body ------------------------------------------------------------------------

    async def _read(self, request: Request, receive: Receive, lease: Lease) -> bytes | Decision:
        """The whole body, or what to answer without it."""
        now = asyncio.get_running_loop().time()
        try:
            with self._timeouts.at(now + self._limits.body_timeout_seconds) as wait:
                return await self._collect(receive, lease, wait.end)
        except TimeoutError:
            slow = "the body did not arrive in time"
            return Disposition.BODY_TOO_SLOW, refusal(HTTPStatus.REQUEST_TIMEOUT, slow)
        except RequestError as error:
            request.detail = str(error)
            return Disposition.MALFORMED, refusal(error.status, request.detail)
        except asyncio.CancelledError:
            if not self._shared.draining():
                raise
            # The drain's time is over. Nothing of this body was published, so it can be said.
            stopping = refusal(
                HTTPStatus.SERVICE_UNAVAILABLE, "the gateway is stopping", RETRY_AFTER
            )
            return Disposition.STOPPING, stopping

    async def _collect(
        self, receive: Receive, lease: Lease, cut: Callable[[], None]
    ) -> bytes | Decision:
        body = bytearray()  # many small chunks would cost many times their bytes
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return Disposition.LEFT, None
            chunk: bytes = message.get("body", b"")
            if lease.bytes + len(chunk) > self._limits.max_body_bytes:
                return too_large(self._limits.max_body_bytes)
            if not message.get("more_body", False):
                if not lease.take_bytes(len(chunk)):
                    return Disposition.OVERLOADED, overloaded()
                if not body:
                    return chunk
                body += chunk
                return bytes(body)
            if not lease.take_part(len(chunk), cut):
                return Disposition.OVERLOADED, overloaded()
            if lease.was_cut:
                raise TimeoutError
            body += chunk

    # --- the work ------------------------------------------------------------------------

    async def _process(self, request: Request, body: bytes, lease: Lease) -> Decision:
        deadline = asyncio.get_running_loop().time() + self._limits.publish_timeout_seconds
        received_at = self._shared.clock()
        request.body, request.form = body, form_of(body)
        if is_blank(body):
            empty = refusal(HTTPStatus.BAD_REQUEST, f"the body is empty: {ABOUT}")
            return Disposition.EMPTY, empty
        route = self._route
        if request.span is not None:
            route = replace(route, trace=request.span.trace)
        try:
            prepared = await self._prepare(route, body, received_at, deadline, lease)
        except TimeoutError:
            return Disposition.LATE, nothing_taken(request.form)
        except DocumentError as error:
            lease.take_states(0)
            request.error = error
            if self._shared.dead_letter_limit.allows():
                request.dead_letter = await self._shared.pipeline.publish_dead_letter(
                    route, error, body, received_at, deadline
                )
            reply = refusal(HTTPStatus.BAD_REQUEST, str(error), form=request.form)
            return Disposition.UNREADABLE, reply
        request.prepared = prepared
        if prepared is None or not lease.take_states(
            weight(len(prepared.items), prepared.attributes, prepared.characters)
        ):
            return Disposition.OVERLOADED, overloaded(request.form)
        began = time.perf_counter()
        receipt = await self._shared.pipeline.accept(route, prepared, received_at, deadline)
        request.receipt = receipt
        request.publish_seconds = time.perf_counter() - began
        if receipt.refused:
            return _READ, nothing_taken(request.form)
        if len(receipt.items) > MANY:
            await asyncio.sleep(0)
        return _READ, acknowledgement(receipt.listed, request.form)

    async def _prepare(
        self, route: Route, body: bytes, received_at: datetime, deadline: float, lease: Lease
    ) -> Prepared | None:
        """Read a document, a large one beside the loop; None if there is no room for it.

        Raises DocumentError, or TimeoutError past the deadline.
        """
        max_states = self._limits.max_states
        if is_small(body):
            if not lease.take_post():
                return None
            return prepare(route, body, received_at, max_states=max_states)
        work = partial(prepare, route, body, received_at, max_states=max_states)
        unread = weight_unread(body, form_of(body), max_states=max_states)
        with self._timeouts.at(deadline):
            return await self._shared.reader.read(work, unread, lease, deadline)
