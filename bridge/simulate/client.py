"""Connections of the simulated provider: each a POST, its whole answer or the fault, the next POST.

It says which of the ways that a post can fail it was, and never tries again by itself: both are the
figures that a run is made for.
"""

import asyncio
import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Self, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bridge.model import Form

_MAX_ANSWER_BYTES = 16 * 2**20
_CONTENT_TYPES = {Form.XML: "text/xml; charset=utf-8", Form.JSON: "application/json"}


class FaultError(Exception):
    """A post that ended without an answer; `kind` is a key of the report's `faults`."""

    def __init__(self, kind: str, detail: object) -> None:
        self.kind = kind
        super().__init__(str(detail) or type(detail).__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and the head of every request but for its length."""

    host: str
    port: int
    tls: bool
    head: bytes = field(repr=False)

    @classmethod
    def of(cls, url: str, form: Form = Form.XML) -> Self:
        """Read an http or https URL; raises ValueError without repeating it."""
        try:
            split = urlsplit(url)
            host = (split.hostname or "").encode("idna").decode()
            port = split.port
        except ValueError:
            raise ValueError("url is not a URL") from None
        if split.scheme not in ("http", "https") or not host:
            raise ValueError("url is not http:// or https:// with a host")
        tls = split.scheme == "https"
        return cls(host, port or (443 if tls else 80), tls, _head(split, host, form))


def _head(url: SplitResult, host: str, form: Form) -> bytes:
    path = quote(url.path or "/", safe="/%:@!$&'()*+,;=~")
    query = "?" + quote(url.query, safe="/%:@!$&'()*+,;=~?") if url.query else ""
    authority = f"[{host}]" if ":" in host else host
    lines = [
        f"POST {path}{query} HTTP/1.1",
        f"Host: {authority}" if url.port is None else f"Host: {authority}:{url.port}",
        "User-Agent: sms-bridge-simulate",
        f"Content-Type: {_CONTENT_TYPES[form]}",
    ]
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        lines.append(f"Authorization: Basic {b64encode(pair.encode()).decode()}")
    return "\r\n".join([*lines, "Content-Length: "]).encode()


class Pool:
    """The connections to one target, used again while the receiver keeps them alive."""

    def __init__(self, target: Target, ssl_context: ssl.SSLContext | None) -> None:
        self._target = target
        self._ssl = (ssl_context or ssl.create_default_context()) if target.tls else None
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def post(self, body: bytes) -> Answer:
        """Post the body and return the whole answer; raises FaultError."""
        connection = self._kept_alive() or await self._connect()
        try:
            return await connection.post(b"%b%d\r\n\r\n%b" % (self._target.head, len(body), body))
        finally:
            if connection.reusable:
                self._idle.append(connection)
            else:
                connection.abort()

    async def aclose(self) -> None:
        """Close every connection and wait until the loop has let go of them."""
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.closed.wait()

    def _kept_alive(self) -> "_Connection | None":
        while self._idle:
            if (connection := self._idle.pop()).reusable:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._open),
                self._target.host,
                self._target.port,
                ssl=self._ssl,
            )
        except ssl.SSLError as exc:
            raise FaultError("tls", exc) from exc
        except OSError as exc:
            raise FaultError("connect", exc) from exc
        return connection


class _Connection(asyncio.Protocol):
    """One connection: a POST, its answer, the next POST.

    An exchange that ends in any other way than with a whole answer spoils the connection.
    """

    def __init__(self, registry: "set[_Connection]") -> None:
        self.reusable = True
        self.closed = asyncio.Event()
        self._registry = registry
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[Answer] | None = None
        self._parser: HttpResponseParser
        self._body = bytearray()
        self._sized = False
        self._until_close = False  # the answer has no length: the end of the connection ends it

    async def post(self, request: bytes) -> Answer:
        """Write the request and return the answer; raises FaultError."""
        self.reusable = False
        self._body.clear()
        self._until_close = False
        self._parser = HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    def abort(self) -> None:
        self.reusable = False
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._registry.add(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as exc:
            self.reusable = False
            self._fail("protocol", exc)

    def eof_received(self) -> None:
        self.reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._until_close and exc is None:
            self._finish()
        self._fail("closed", exc or "the connection was closed before the answer was whole")
        self._registry.discard(self)
        self.closed.set()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._sized = False
        self.reusable = False

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._sized |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self._until_close = not self._sized

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > _MAX_ANSWER_BYTES:
            self._fail("protocol", f"the answer is over {_MAX_ANSWER_BYTES} bytes")
            self.abort()

    def on_message_complete(self) -> None:
        self._until_close = False
        if self._parser.get_status_code() < 200:  # noqa: PLR2004 - not the answer yet
            return
        sent = self._transport.get_write_buffer_size() == 0
        self.reusable = sent and self._parser.should_keep_alive()
        self._finish()

    def _finish(self) -> None:
        if self._answer is not None and not self._answer.done():
            answer = Answer(self._parser.get_status_code(), bytes(self._body))
            self._answer.set_result(answer)

    def _fail(self, kind: str, detail: object) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(FaultError(kind, detail))
