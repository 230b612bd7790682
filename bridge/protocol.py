"""uvicorn's HTTP/1.1 protocol with limits on the head of a request: its bytes and its time.

httptools takes a head of any size, and uvicorn waits for one for ever.
"""

import asyncio
import re
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from bridge.answers import refusal

MAX_HEAD_BYTES = 64 * 1024  # h11's limit, too
HEAD_SECONDS = 10.0
_UPGRADE = re.compile(rb"\n(?=upgrade:)", re.IGNORECASE)
_END_OF_HEAD = re.compile(rb"\n\r?\n")
_TAIL_BYTES = len(b"\nupgrade:") - 1  # of a head, in which something may have begun


class GuardedProtocol(HttpToolsProtocol):
    """Answers 431 to a head that is too large, and 408 to one that does not come."""

    _tail: bytes  # of the head that is due, as it came

    def connection_made(self, transport: Any) -> None:
        """Begin with a connection: its first request is due."""
        super().connection_made(transport)
        self._timer: asyncio.TimerHandle | None = None
        self._arrived = 0
        self._expect_head()
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """End with a connection."""
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has come, and count and time it while no head is complete."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request
        if not self._head_is_due and (cycle is None or cycle.response_complete):
            self._expect_head()
        came = data
        if self._head_is_due:
            data = _without_upgrade(data, self._tail)
        self._arrived = len(data)
        super().data_received(data)
        if self._head_is_due:
            self._tail = (self._tail + came)[-_TAIL_BYTES:]
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            elif self._timer is None:
                # Only now: most heads come in one piece, and a timer for each costs them dear.
                self._start_timer()

    def on_message_begin(self) -> None:
        """Begin with a request: its head is due, even while the one before is being answered."""
        super().on_message_begin()
        self._head_is_here()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """Hand the request to the application, or the refusal of a large head."""
        arrived = self._head_bytes + self._arrived  # the head and perhaps more
        self._head_is_here()
        if arrived <= MAX_HEAD_BYTES or self._sum_of_headers() <= MAX_HEAD_BYTES:
            super().on_headers_complete()
            return
        application, self.app = self.app, _too_large
        super().on_headers_complete()
        self.app = application

    def _sum_of_headers(self) -> int:
        return sum(len(name) + len(value) for name, value in self.headers)

    def _expect_head(self) -> None:
        self._head_is_due = True
        self._head_bytes = 0
        self._tail = b""

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, HTTPStatus.REQUEST_TIMEOUT)

    def _head_is_here(self) -> None:
        self._head_is_due = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer without an application, which a request without a head has not reached."""
        self._head_is_here()
        if not self.transport.is_closing():
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            self.transport.write(f"{head}content-length: 0\r\nconnection: close\r\n\r\n".encode())
            self.transport.close()


def _without_upgrade(data: bytes, tail: bytes) -> bytes:
    """Hide the header that asks for another protocol, as Java's client does for HTTP/2.

    There is none, which may be ignored (RFC 9110, 7.8); but httptools would take the body for it.
    `tail` is the end of what has come before. Nothing after the head may be touched: a body that
    grew would end in what is then read as another request.
    """
    text = tail + data
    if _UPGRADE.search(text) is None:
        return data
    end = _END_OF_HEAD.search(text)
    places = [
        max(match.end(), len(tail))  # even within the name: what is read is another one
        for match in _UPGRADE.finditer(text, 0, end.start() if end else len(text))
        if match.end() + len(b"upgrade:") > len(tail)
    ]
    for place in reversed(places):
        text = text[:place] + b"x-" + text[place:]
    return text[len(tail) :]


async def _too_large(scope: Scope, receive: Receive, send: Send) -> None:
    del scope, receive
    what = f"the head is over {MAX_HEAD_BYTES} bytes"
    await refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, what).send(send, close=True)
