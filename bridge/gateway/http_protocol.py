"""HTTP/1.1 on one connection, one request at a time; what it may cost is bounded at every step.

Everything that a peer sends counts: the bytes, pieces and seconds of a head here, those of a body
where it is read. A body is not looked at before the application asks for it, so that who is
refused by the head costs no more than that. What uvicorn has for this takes a head of any size,
counts trailers as headers and keeps answers that nobody reads.
"""

import asyncio
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import structlog
import uvicorn
from starlette.types import Scope
from uvicorn.server import ServerState

from bridge.ack import problem
from bridge.errors import RequestError
from bridge.gateway.connections import Connections
from bridge.gateway.exchange import BODY_IS_HERE, Exchange
from bridge.gateway.framing import Head, HeadReader, body_of, whole_head

log = structlog.get_logger(__name__)

HEAD_SECONDS = 10.0
UNREAD_SECONDS = 20.0  # for the peer to read an answer
LINGER_SECONDS = 10.0  # for a refused sender to see the answer, after which it is cut
LINGER_BYTES = 64 * 1024 * 1024
LINGER_PAUSE_SECONDS = 0.002  # after each piece that is thrown away: some 32 MB/s
STOPPING_LINGER_SECONDS = 0.5  # once the server is stopping
PIECE_BYTES = 64 * 1024
MAX_WAITING_BYTES = 64 * 1024  # that have come and that nobody has asked for

_BODY_IS_HERE: dict[str, dict[str, object]] = {BODY_IS_HERE: {}}
_piece = memoryview(bytearray(PIECE_BYTES))  # what the loop reads into; emptied at once


class HttpProtocol(asyncio.BufferedProtocol):
    """One connection, under uvicorn's server."""

    _transport: asyncio.Transport

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections,
    ) -> None:
        del app_state  # there is no lifespan
        self._app = config.loaded_app
        self._keep_alive_seconds = config.timeout_keep_alive
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._connections = connections
        self.head_bytes = 0
        self.disconnected = False
        self._reader: HeadReader | None = None  # of a head that comes in pieces
        self._exchange: Exchange | None = None
        self._task: asyncio.Task[None] | None = None  # the exchange's
        self._waiting = b""  # what has come and is not looked at yet
        self._more: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._full = self._paused = self._ended = False  # writing, reading, the peer's side
        self._stopping = self._begun = False  # the server, the first head
        self._discarded: int | None = None  # bytes, from the last answer on
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = math.inf
        self._at_deadline: Callable[[], None] = self.cut

    # --- the transport's callbacks -------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a connection: its first head is due."""
        self._transport = cast("asyncio.Transport", transport)
        # Whatever does not go out at once is a peer that does not read.
        self._transport.set_write_buffer_limits(high=0)
        self._peer = _address(transport.get_extra_info("peername"))
        self._host = _address(transport.get_extra_info("sockname"))
        self._server.connections.add(cast("Any", self))  # for its shutdown
        self._limit(HEAD_SECONDS, self._refuse_slow)
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        del exc
        self.disconnected = True
        self._server.connections.discard(cast("Any", self))
        self._connections.closed(self)
        self._waiting = b""
        self._limit(math.inf, _nothing)  # the method that was there would be a cycle of garbage
        if self._timer is not None:
            self._timer.cancel()
        self._resume(self._more)
        self._resume(self._room)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read into."""
        del sizehint
        return _piece

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has come."""
        if self._discarded is not None:
            self._discard(nbytes)
            return
        data = bytes(_piece[:nbytes])
        self._waiting = self._waiting + data if self._waiting else data
        self._proceed()

    def eof_received(self) -> bool:
        """Let a client that has said all it has to say still get its answer."""
        self._ended = True
        self._resume(self._more)
        return self._exchange is not None or bool(self._waiting)

    def pause_writing(self) -> None:
        """Note that the peer does not read."""
        self._full = True

    def resume_writing(self) -> None:
        """Note that the peer has read all there was."""
        self._full = False
        self._resume(self._room)

    # --- uvicorn's ------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End, with the answer that is due."""
        self._stopping = True
        if self._exchange is not None:
            self._exchange.keep_alive = False
        elif self._discarded is None:
            self._transport.close()
        else:
            self._limit(STOPPING_LINGER_SECONDS, self.cut)

    # --- requests ------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Do what can be done with the bytes that wait."""
        if self.disconnected or self._discarded is not None:
            return
        if self._exchange is None:
            try:
                self._read_head()
            except RequestError as error:
                self._refuse(error)
        elif len(self._waiting) > MAX_WAITING_BYTES or self._exchange.body.complete:
            self._pause_reading()
        self._resume(self._more)

    def _read_head(self) -> None:
        self._begun = True
        data, self._waiting = self._waiting, b""
        whole = whole_head(data) if self._reader is None else None
        if whole is not None:
            head, self._waiting = whole
            self._begin(head)
        else:
            self._read_piece(data)

    def _read_piece(self, data: bytes) -> None:
        reader = self._reader = self._reader or HeadReader()
        rest = reader.feed(data)
        if rest is None and self._ended:
            self._close()
        elif rest is None:
            if self._at_deadline != self._refuse_slow:
                # Only now: nearly every head comes in one piece.
                self._limit(HEAD_SECONDS, self._refuse_slow)
            self._connections.add_head_bytes(self, len(data))
        else:
            self._reader, self._waiting = None, rest
            self._begin(reader.head())

    def _begin(self, head: Head) -> None:
        self._limit(math.inf, self.cut)
        self._connections.busy(self)
        exchange = Exchange(self, head, body_of(head), self._server.default_headers)
        self._exchange = exchange
        # For the server's shutdown, which waits for it. A callback at its end would cost more.
        self._task = self._loop.create_task(exchange.run(self._app, self._scope(head)))
        self._server.tasks.add(self._task)

    def _scope(self, head: Head) -> Scope:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": head.version,
            "method": head.method,
            "scheme": "http",
            "path": head.path,
            "raw_path": head.raw_path,
            "query_string": head.query,
            "root_path": "",
            "headers": head.headers,
            "client": self._peer,
            "server": self._host,
            "extensions": _BODY_IS_HERE if self.body_is_here() else {},
        }

    def _refuse_slow(self) -> None:
        self._refuse(RequestError(HTTPStatus.REQUEST_TIMEOUT, "the head did not come in time"))

    def _refuse(self, error: RequestError) -> None:
        """Answer without an application, which a request without a head has not reached."""
        if self._transport.is_closing():
            return
        status, detail = error.status, str(error)
        if self._begun:  # a connection that nothing was ever sent on is no request
            self._connections.refused(status, detail, self._peer[0] if self._peer else None)
        content = problem(status, status.phrase, detail)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+xml\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self._transport.write(head.encode() + content)
        self._linger()

    # --- what an exchange asks for -------------------------------------------------------

    def take_body(self) -> bytes:
        """What has come of the body since the last time. Raises RequestError."""
        if self._exchange is None:
            return b""
        content, self._waiting = self._exchange.body.take(self._waiting)
        if not self._exchange.body.complete:
            self._resume_reading()
            if not content and self._ended:
                self.disconnected = True
        return content

    def body_is_here(self) -> bool:
        """Whether all of the body has come, taken or not."""
        return self._exchange is None or self._exchange.body.ends_within(self._waiting)

    async def more(self) -> None:
        """Wait until more of the body comes, or the connection ends."""
        if not self.disconnected:
            self._more = self._loop.create_future()
            await self._more

    async def write(self, data: bytes) -> None:
        """Send it, and wait until the peer has made room for it; cut a peer that does not."""
        if self.disconnected or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._full:
            self._limit(UNREAD_SECONDS, self.cut)
            self._room = self._loop.create_future()
            await self._room
            self._limit(math.inf, self.cut)

    def answered(self) -> None:
        """Go on to the next request, or to the end."""
        exchange = self._end_exchange()
        self._resume(self._more)
        if self.disconnected or exchange is None:
            return
        body = exchange.body
        if not body.complete and body.ends_within(self._waiting):
            _, self._waiting = body.take(self._waiting)
        if not exchange.keep_alive or (self._ended and not self._waiting):
            if body.complete and not self._waiting:
                self._close()
            else:
                self._linger()
            return
        self._connections.idle(self)
        self._limit(self._keep_alive_seconds, self._close)
        self._resume_reading()
        if self._waiting:
            self._loop.call_soon(self._proceed)

    def failed(self, exc: BaseException | None) -> None:
        """End a connection whose answer will not come; say why if none has begun."""
        exchange = self._end_exchange()
        if exc is None or exchange is None or exchange.started:
            self.cut()
        elif isinstance(exc, RequestError):
            self._refuse(exc)
        else:
            log.error("request failed", exc_info=exc)
            fault = "a fault of the gateway's own"
            self._refuse(RequestError(HTTPStatus.INTERNAL_SERVER_ERROR, fault))

    def _end_exchange(self) -> Exchange | None:
        exchange, self._exchange = self._exchange, None
        if self._task is not None:
            self._server.tasks.discard(self._task)
            self._task = None
        return exchange

    # --- the end -------------------------------------------------------------------------

    def _close(self) -> None:
        self._transport.close()

    def cut(self) -> None:
        """End at once, with what has not gone out."""
        self._transport.abort()

    def _linger(self) -> None:
        """Say that this is the end, and throw away what still comes, for a while.

        A connection that is closed with unread bytes is reset, and takes its answer along before
        the sender has seen it (RFC 9112, 9.6).
        """
        self._waiting = b""
        self._discarded = 0
        if self._ended:
            self._close()
            return
        self._connections.busy(self)
        self._connections.idle(self)
        self._limit(STOPPING_LINGER_SECONDS if self._stopping else LINGER_SECONDS, self.cut)
        self._transport.write_eof()
        self._resume_reading()

    def _discard(self, nbytes: int) -> None:
        self._discarded = (self._discarded or 0) + nbytes
        if self._discarded > LINGER_BYTES:
            self.cut()
            return
        self._pause_reading()
        self._loop.call_later(LINGER_PAUSE_SECONDS, self._resume_reading)

    # --- waits ---------------------------------------------------------------------------

    def _limit(self, seconds: float, at_deadline: Callable[[], None]) -> None:
        """Set the one time limit that the connection has, in place of the one before.

        The loop's timer is left as it is if it rings earlier: most limits are gone by then.
        """
        self._at_deadline = at_deadline
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._arm()

    def _arm(self) -> None:
        self._timer = None
        if self._deadline < math.inf:
            self._timer = self._loop.call_at(self._deadline, self._ring)

    def _ring(self) -> None:
        if self._loop.time() < self._deadline:
            self._arm()
        else:
            self._timer = None
            self._at_deadline()

    @staticmethod
    def _resume(waiter: "asyncio.Future[None] | None") -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _pause_reading(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()


def _nothing() -> None:
    """What is due of a connection that has ended."""


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
