"""What a request's head may cost: its bytes and its time, on real sockets."""

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from bridge.demo.child import wait_until
from bridge.gateway import exchange, framing
from bridge.gateway import http_protocol as protocol
from bridge.gateway.connections import Connections
from bridge.gateway.responses import Answer

LARGE_BYTES = 20_000_000  # more than the kernel keeps for a connection


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo the path and the body; `/wait` takes a while, `/large` says much."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/wait":
        await asyncio.sleep(0.3)
    if scope["path"] == "/large":
        body = b"x" * LARGE_BYTES
    await Answer(200, b"%b %b" % (scope["path"].encode(), body)).send(send, close=False)


class Server(uvicorn.Server):
    """Starts and ends at once, and not at its next tick."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.runs = threading.Event()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self.runs.set()
        await self._ended.wait()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)


@contextmanager
def serving(connections: Connections | None = None) -> Iterator[tuple[str, int]]:
    connections = connections or Connections()
    config = uvicorn.Config(
        application,
        http=partial(protocol.HttpProtocol, connections=connections),  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
    )
    server = Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert server.runs.wait(30)
        try:
            yield listener.getsockname()
        finally:
            server.end()
            thread.join()


def reply(address: tuple[str, int], *pieces: bytes) -> bytes:
    """Everything that the server sends until it closes the connection."""
    with closing(socket.create_connection(address, timeout=10)) as client:
        for piece in pieces:
            client.sendall(piece)
        return b"".join(iter(lambda: client.recv(65536), b""))


def whole(client: socket.socket, end: bytes) -> bytes:
    """What the server sends, as far as `end`, in however many pieces."""
    answer = b""
    while not answer.endswith(end):
        piece = client.recv(65536)
        assert piece, answer
        answer += piece
    return answer


REQUEST = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"


def test_requests_on_one_connection_are_served() -> None:
    with serving() as address:
        last = b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answers = reply(address, REQUEST % 1, REQUEST % 2, last)
    assert [answers.count(b"\r\n\r\n/%d " % n) for n in (1, 2, 3)] == [1, 1, 1]


def test_a_head_just_under_the_limit_is_served() -> None:
    with serving() as address:
        value = b"x" * (framing.MAX_HEAD_BYTES - 100)
        head = b"GET /1 HTTP/1.1\r\nConnection: close\r\nX: %b\r\n\r\n" % value
        assert reply(address, head).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [framing.MAX_HEAD_BYTES, 1_000_000, 50_000_000])
def test_a_head_over_the_limit_is_431_whether_complete_or_not(size: int) -> None:
    """The answer is seen, also by who sends it all before reading."""
    with serving() as address:
        assert reply(address, b"GET /1 HTTP/1.1\r\nX: " + b"x" * size).startswith(b"HTTP/1.1 431")


def test_a_head_of_very_many_headers_is_431() -> None:
    with serving() as address:
        head = b"GET /1 HTTP/1.1\r\n%b\r\n" % (b"a:\r\n" * (framing.MAX_HEADERS + 1))
        assert reply(address, head).startswith(b"HTTP/1.1 431")


def test_a_refused_sender_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_BYTES", 1_000_000)
    broken = pytest.raises((ConnectionResetError, BrokenPipeError))
    with serving() as address, closing(socket.create_connection(address)) as client, broken:
        client.sendall(b"GET /1 HTTP/1.1\r\nX: " + b"x" * 50_000_000)


@pytest.mark.parametrize("start", [b"", b"GET /1 HTTP/1.1\r\nHost", b"\r\n"])
def test_a_head_that_does_not_come_is_408(start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    with serving() as address:
        assert reply(address, start).startswith(b"HTTP/1.1 408")


def test_the_time_for_a_head_starts_anew_with_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with serving() as address, closing(socket.create_connection(address, timeout=10)) as client:
        client.sendall(REQUEST % 1)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        client.sendall(b"GET /2 HTTP/1.1\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_slow_body_is_not_the_heads_business(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint has its own time for that."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)

    async def post(address: tuple[str, int]) -> bytes:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"POST /1 HTTP/1.1\r\nConnection: close\r\nContent-Length: 4\r\n\r\n")
        for byte in (b"a", b"b", b"c", b"d"):
            await asyncio.sleep(0.05)
            writer.write(byte)
        answer = await reader.read()
        writer.close()
        return answer

    with serving() as address:
        assert asyncio.run(post(address)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("split", [True, False])
def test_a_request_for_another_protocol_keeps_its_body(split: bool) -> None:
    """Java's client asks for HTTP/2 with the first request of every connection."""
    head = (
        b"POST /1 HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAEAAEAA\r\nContent-Length: 4\r\n\r\n"
    )
    with serving() as address, closing(socket.create_connection(address, timeout=10)) as client:
        client.sendall(head if split else head + b"abcd")
        if split:
            time.sleep(0.05)  # the head is to come alone
            client.sendall(b"abcd")
        assert whole(client, b"/1 abcd").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("cut", range(len(b"1.1\r\nUpgrade: h2c\r\n")))
def test_a_request_for_another_protocol_may_come_in_two_pieces(cut: int) -> None:
    head = b"POST /1 HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 4\r\n\r\n"
    cut += head.index(b"1.1")
    with serving() as address, closing(socket.create_connection(address, timeout=10)) as client:
        client.sendall(head[:cut])
        time.sleep(0.02)  # that piece is to come alone
        client.sendall(head[cut:] + b"abcd")
        assert whole(client, b"/1 abcd").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("before", [b"", b"\r", b"\r\n", b"\r\n\r"])
def test_a_body_never_grows_into_a_request_of_its_own(before: bytes) -> None:
    """Whoever could have it do so would write a head, X-Forwarded-For and all, behind a proxy."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: xx\r\n\r\n"
    assert len(smuggled) % 2 == 0
    body = b"x" + b"\r\nupgrade:" * (len(smuggled) // 2) + smuggled
    head = b"POST /1 HTTP/1.1\r\nContent-Length: %d" % len(body)
    with serving() as address, closing(socket.create_connection(address, timeout=10)) as client:
        client.sendall(head + before)
        time.sleep(0.02)  # that piece is to come alone
        client.sendall(b"\r\n\r\n"[len(before) :] + body)
        client.sendall(b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answers = b"".join(iter(lambda: client.recv(65536), b""))
    assert answers.endswith(b"/last ")
    assert answers.count(b"HTTP/1.1 200") == 2


def test_a_head_that_comes_while_the_one_before_is_answered_is_limited_too() -> None:
    with serving() as address:
        first = b"POST /wait HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
        answers = reply(address, first + b"GET /2 HTTP/1.1\r\nX: " + b"x" * 10_000_000)
    assert answers.startswith(b"HTTP/1.1 200")
    assert answers.count(b"HTTP/1.1 431") == 1


# --- the end of a connection -------------------------------------------------------------


def test_an_answer_that_is_not_read_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.2)
    connections = Connections()
    with serving(connections) as address, closing(socket.create_connection(address)) as client:
        client.sendall(b"GET /large HTTP/1.1\r\n\r\n")
        wait_until(lambda: bool(connections.open), "the connection is there")
        wait_until(lambda: not connections.open, "the connection is cut")


def test_an_answer_that_is_read_slowly_is_whole() -> None:
    with serving() as address, closing(socket.create_connection(address, timeout=10)) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nConnection: close\r\n\r\n")
        size = 0
        while piece := client.recv(1_000_000):
            size += len(piece)
            time.sleep(0.001)
    assert size > LARGE_BYTES


def test_only_the_connections_that_are_silent_longest_go_when_there_are_too_many() -> None:
    connections = Connections(limit=3)
    with serving(connections) as address, contextlib.ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(closing(socket.create_connection(address, timeout=10)))

        busy, first, second = (connect() for _ in range(3))
        busy.sendall(b"POST /1 HTTP/1.1\r\nContent-Length: 4\r\n\r\n")
        wait_until(lambda: len(connections.silent) == 2, "two are silent")
        third = connect()
        assert first.recv(1) == b""  # or a reset, which is an OSError
        for client, data in ((busy, b"body"), (second, REQUEST % 2), (third, REQUEST % 3)):
            client.sendall(data)
            assert client.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("sent", "statuses"), [(b"", []), (b"GET", [408]), (b"\r\n", [408]), (b"GET x\r\n", [400])]
)
def test_what_is_refused_without_a_request_is_noted_with_its_peer(
    sent: bytes, statuses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection on which nothing was ever sent is none: many probes are no more than that."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    noted: list[tuple[int, str | None]] = []
    connections = Connections(refused=lambda status, _, peer: noted.append((status, peer)))
    with serving(connections) as address:
        assert reply(address, sent).startswith(b"HTTP/1.1 4")
    assert noted == [(status, "127.0.0.1") for status in statuses]


def test_a_server_that_stops_waits_for_no_refused_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 600)
    monkeypatch.setattr(protocol, "STOPPING_LINGER_SECONDS", 0.1)
    with serving() as address:
        client = socket.create_connection(address, timeout=10)
        client.sendall(b"no HTTP\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 400")
    client.close()  # only now, after the server's end


def test_a_request_leaves_nothing_for_the_collector() -> None:
    """Cycles of garbage would keep bodies until it comes, which is made to come seldom."""
    chunked = b"POST /1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    kept = (protocol.HttpProtocol, exchange.Exchange, framing.HeadReader)
    gc.collect()
    gc.disable()
    try:
        with serving() as address:
            for data in (REQUEST % 1, chunked, b"no HTTP\r\n\r\n", b"GET"):
                with closing(socket.create_connection(address, timeout=10)) as client:
                    client.sendall(data)
                    if data != b"GET":
                        client.recv(65536)
        assert [one for one in gc.get_objects() if isinstance(one, kept)] == []
    finally:
        gc.enable()
