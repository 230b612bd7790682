"""One endpoint's POSTs, as an ASGI application: the checks in order, the body, the answer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

import structlog
from starlette.types import Receive, Scope, Send

from bridge.ack import answer
from bridge.answers import Answer, Headers, header, refusal
from bridge.auth import Authenticator
from bridge.capacity import Capacity, Lease
from bridge.errors import DocumentError
from bridge.event import Stream
from bridge.metrics import Metrics
from bridge.model import Document, Outcome, Result
from bridge.parse import is_blank
from bridge.pipeline import Pipeline, Prepared, Receipt, prepare
from bridge.ratelimit import RateLimit
from bridge.settings import Server

log = structlog.get_logger(__name__)

RETRY_AFTER: Headers = ((b"retry-after", b"5"),)
MAX_LOGGED_IDS = 100

INLINE_BYTES = 32 * 1024  # some 350 states, 10 ms: docs/reliability.md has the measurement
COMPLAINTS_PER_SECOND = 0.1  # of credentials that are refused
COMPLAINTS_AT_ONCE = 5
DISCARD_BYTES = 1024 * 1024
DISCARD_SECONDS = 1.0


def _now() -> datetime:
    return datetime.now(UTC)


class Webhook:
    """Answers the provider for one endpoint.

    `reader` reads large documents; `burials` limits the dead letters of refused bodies.
    `publish_timeout_seconds` bounds everything from the last byte of the body to the answer;
    `draining` says whether connections are to be closed after their answers.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        authenticator: Authenticator | None,
        pipeline: Pipeline,
        capacity: Capacity,
        reader: Executor,
        burials: RateLimit,
        metrics: Metrics,
        server: Server,
        publish_timeout_seconds: float,
        draining: Callable[[], bool],
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._stream = stream
        self._authenticator = authenticator
        self._pipeline = pipeline
        self._capacity = capacity
        self._reader = reader
        self._burials = burials
        self._metrics = metrics
        self._server = server
        self._publish_timeout_seconds = publish_timeout_seconds
        self._complaints = RateLimit(per_second=COMPLAINTS_PER_SECOND, burst=COMPLAINTS_AT_ONCE)
        self._draining = draining
        self._clock = clock
        self._log = log.bind(endpoint=stream.endpoint)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        refused = self._refuse(scope)
        if refused is not None:
            body_left = not await _discard(scope, receive)
            await self._send(refused, send, close=body_left)
            return
        lease = Lease(self._capacity)
        try:
            body = await self._read(receive, lease)
            if body is None:
                self._log.info("client left before the end of its body")
            elif isinstance(body, Answer):
                await self._send(body, send, close=True)
            else:
                reply = await self._process(body, lease)
                lease.release()  # a client that does not read its answer must not keep its place
                await self._send(reply, send, close=False)
        finally:
            lease.release()

    async def _send(self, reply: Answer, send: Send, *, close: bool) -> None:
        self._metrics.requests.labels(self._stream.endpoint, reply.status).inc()
        await reply.send(send, close=close or self._draining())

    # --- before the body -----------------------------------------------------------------

    def _refuse(self, scope: Scope) -> Answer | None:
        """The first check that the request's head fails, in the contract's order."""
        if scope["method"] != "POST":
            return refusal(
                HTTPStatus.METHOD_NOT_ALLOWED, "only POST", headers=((b"allow", b"POST"),)
            )
        if self._authenticator is not None and not self._authenticator.accepts(
            header(scope, b"authorization"), scope["query_string"]
        ):
            self._complain_of_credentials(scope)
            challenge = self._authenticator.challenge.encode()
            return refusal(
                HTTPStatus.UNAUTHORIZED,
                "wrong or missing credentials",
                headers=((b"www-authenticate", challenge),),
            )
        if self._capacity.exhausted:
            return _overloaded()
        length = header(scope, b"content-length")
        if scope["http_version"] == "1.0" and length is None:
            return refusal(HTTPStatus.LENGTH_REQUIRED, "HTTP/1.0 needs a Content-Length")
        encoding = header(scope, b"content-encoding")
        if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
            return refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "only the identity encoding")
        if length is not None and int(length) > self._server.max_body_bytes:
            return self._too_large()
        return None

    def _complain_of_credentials(self, scope: Scope) -> None:
        """Say who was refused, now and then, and never what was presented."""
        if self._complaints.allows():
            given = header(scope, b"authorization") or b"token=" in scope["query_string"]
            self._log.warning(
                "credentials refused",
                peer=scope["client"][0] if scope["client"] else None,
                credentials="wrong" if given else "missing",
            )

    def _too_large(self) -> Answer:
        limit = self._server.max_body_bytes
        return refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is over {limit} bytes")

    # --- the body ------------------------------------------------------------------------

    async def _read(self, receive: Receive, lease: Lease) -> bytes | Answer | None:
        """The whole body, or why not; None where the client left."""
        try:
            async with asyncio.timeout(self._server.body_timeout_seconds):
                return await self._collect(receive, lease)
        except TimeoutError:
            return refusal(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time")
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
            chunks.append(message.get("body", b""))
            if not lease.take_bytes(len(chunks[-1])):
                return _overloaded()
            if lease.bytes > self._server.max_body_bytes:
                return self._too_large()
            if not message.get("more_body", False):
                return b"".join(chunks)

    # --- the work ------------------------------------------------------------------------

    async def _process(self, body: bytes, lease: Lease) -> Answer:
        deadline = asyncio.get_running_loop().time() + self._publish_timeout_seconds
        received_at = self._clock()
        if is_blank(body):
            return refusal(HTTPStatus.BAD_REQUEST, "the body is empty")
        if not lease.take_post():
            return _overloaded()
        try:
            async with asyncio.timeout_at(deadline):
                prepared = await self._prepare(body, received_at)
        except TimeoutError:
            self._log.warning("document not read in time", bytes=len(body))
            return _nothing_taken()
        except DocumentError as error:
            await self._bury(error, body, received_at, deadline)
            return refusal(HTTPStatus.BAD_REQUEST, str(error))
        if not lease.take_states(len(prepared.document.states)):
            return _overloaded()
        receipt = await self._pipeline.accept(self._stream, prepared, received_at, deadline)
        self._account(prepared.document, receipt)
        if receipt.refused:
            return _nothing_taken()
        return Answer(HTTPStatus.OK, answer(receipt.listed))

    async def _prepare(self, body: bytes, received_at: datetime) -> Prepared:
        """Read a document: a large one beside the loop, so that small ones need not wait."""
        work = partial(prepare, self._stream, body, received_at, max_states=self._server.max_states)
        if len(body) <= INLINE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    async def _bury(
        self, error: DocumentError, body: bytes, received_at: datetime, deadline: float
    ) -> None:
        """Keep a refused body for a look; the answer does not depend on it."""
        self._metrics.dead_letters.labels(self._stream.endpoint, error.reason).inc()
        outcome: Outcome | None = None
        if self._burials.allows():
            outcome = await self._pipeline.bury(self._stream, error, body, received_at, deadline)
        self._log.warning(
            "body refused",
            reason=error.reason,
            detail=str(error),
            line=error.line,
            bytes=len(body),
            dead_letter=outcome.result.value if outcome is not None else "none",
        )
        if outcome is None or outcome.result is not Result.PUBLISHED:
            self._metrics.lost_bodies.labels(self._stream.endpoint).inc()

    def _account(self, document: Document, receipt: Receipt) -> None:
        """Count and log a document once, whatever its size."""
        name = self._stream.endpoint
        for result, count in receipt.results.items():
            self._metrics.states.labels(name, result.value).inc(count)
        for reason, count in receipt.rejected.items():
            self._metrics.dead_letters.labels(name, reason).inc(count)
        self._metrics.ids.labels(name, "yes").inc(len(receipt.listed))
        self._metrics.ids.labels(name, "no").inc(len(receipt.unlisted))
        self._metrics.repeated.labels(name).inc(receipt.repeated)
        self._metrics.unknown_statuses.labels(name).inc(receipt.unknown_words)
        if not receipt.unlisted and not receipt.rejected:
            self._log.info(
                "document",
                states=len(document.states),
                listed=len(receipt.listed),
                repeated=receipt.repeated,
            )
            return
        self._log.warning(
            "document with a remainder",
            states=len(document.states),
            listed=len(receipt.listed),
            unlisted=len(receipt.unlisted),
            unlisted_ids=receipt.unlisted[:MAX_LOGGED_IDS],
            **{result.value: receipt.results[result] for result in Result},
            rejected=dict(receipt.rejected),
            errors=receipt.errors[:3],
        )


def _nothing_taken() -> Answer:
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, answer(()), headers=RETRY_AFTER)


def _overloaded() -> Answer:
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "too much in flight", headers=RETRY_AFTER)


async def _discard(scope: Scope, receive: Receive) -> bool:
    """Read on for a moment, so that a sender sees the refusal and not a broken connection.

    Whether the body came to its end, so that the connection can be used again. A client that
    waits for `100 Continue` has sent nothing yet, and need not.
    """
    if header(scope, b"expect") is not None:
        return False
    size = 0
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while size <= DISCARD_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return True
                size += len(message.get("body", b""))
    except TimeoutError:
        pass
    return False
