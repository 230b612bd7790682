"""One request and its answer between a connection and an ASGI application."""

import asyncio
from collections.abc import MutableMapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

import structlog
from starlette.types import ASGIApp, Message, Scope

from bridge.gateway.framing import Body, Head

log = structlog.get_logger(__name__)

# An extension of ASGI's scope: all of the body has come, so that it needs no time to be received.
BODY_IS_HERE = "bridge.body_is_here"

_DISCONNECT: Message = {"type": "http.disconnect"}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}
_NO_CONTENT = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Connection(Protocol):
    """What an exchange asks of its connection; http_protocol says what each does."""

    disconnected: bool

    def take_body(self) -> bytes: ...  # noqa: D102
    def body_is_here(self) -> bool: ...  # noqa: D102
    async def more(self) -> None: ...  # noqa: D102
    async def write(self, data: bytes) -> None: ...  # noqa: D102
    def answered(self) -> None: ...  # noqa: D102
    def failed(self, exc: BaseException | None) -> None: ...  # noqa: D102


class Exchange:
    """One request's ASGI connection. The answer's head goes out with the first of its body."""

    def __init__(
        self,
        connection: Connection,
        head: Head,
        body: Body,
        default_headers: list[tuple[bytes, bytes]],
    ) -> None:
        self._connection = connection
        self._default_headers = default_headers
        self._is_head = head.method == "HEAD"
        self._waits_for_continue = head.expects_continue
        self._start: MutableMapping[str, Any] | None = None
        self._chunked = False
        self._delivered = False  # all of the body, to the application
        self.body = body
        self.keep_alive = head.keep_alive
        self.started = False
        self.complete = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Have the application answer; whatever it does, the connection comes to an end."""
        try:
            await app(scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._connection.failed(None)  # the server is stopping
        except Exception as exc:  # noqa: BLE001 -- the program goes on without this request
            self._connection.failed(exc)
        else:
            if not self.complete:
                self._connection.failed(None)

    async def receive(self) -> Message:
        """The next of the body, or that nobody is there any more. Raises RequestError."""
        connection = self._connection
        if self._waits_for_continue and not self.started and not connection.body_is_here():
            self._waits_for_continue = False
            await connection.write(_CONTINUE)
        while True:
            if connection.disconnected or self.complete:
                return _DISCONNECT
            if not self._delivered:
                content = connection.take_body()
                self._delivered = self.body.complete
                if content or self._delivered:
                    more = not self._delivered
                    return {"type": "http.request", "body": content, "more_body": more}
            await connection.more()

    async def send(self, message: Message) -> None:
        """Send a part of the answer; the last of it returns once the peer has made room for it."""
        if self._connection.disconnected:
            return
        if message["type"] == "http.response.start":
            self._start = message
            return
        content: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        data = b"" if self.started else self._head(content, more=more)
        if self._chunked:
            content = b"%x\r\n%b\r\n" % (len(content), content) if content else b""
            content += b"" if more else b"0\r\n\r\n"
        if not self._is_head:
            data += content
        await self._connection.write(data)
        if not more and not self.complete:
            self.complete = True
            self._connection.answered()

    def _head(self, content: bytes, *, more: bool) -> bytes:
        """The answer's head. A connection whose body has not come is of no more use."""
        if self._start is None:
            raise RuntimeError("the answer has no start")
        self.started = True
        status = self._start["status"]
        lines, has_length, closes = _head_lines(
            status, (*self._default_headers, *map(tuple, self._start.get("headers", ())))
        )
        if not has_length and status not in _NO_CONTENT:
            self._chunked = more
            length = b"content-length: %d\r\n" % len(content)
            lines += b"transfer-encoding: chunked\r\n" if more else length
        if closes:
            self.keep_alive = False
        elif not self.keep_alive or not self._connection.body_is_here():
            self.keep_alive = False
            lines += b"connection: close\r\n"
        return lines + b"\r\n"


@lru_cache(maxsize=256)
def _head_lines(status: int, headers: tuple[tuple[bytes, bytes], ...]) -> tuple[bytes, bool, bool]:
    """The beginning of an answer's head, and whether it has a length and ends the connection.

    Answers have the same headers again and again within a second, after which the date changes.
    """
    lines, has_length, closes = _STATUS_LINES[status], False, False
    for name, value in headers:
        lines += b"%b: %b\r\n" % (name, value)
        lowered = name.lower()
        has_length |= lowered == b"content-length"
        closes |= lowered == b"connection" and value.lower() == b"close"
    if lines.count(b"\n") != len(headers) + 1:
        raise RuntimeError("a header of the answer has a line break")
    return lines, has_length, closes
