"""What a request's head may cost: its bytes and its time, on real sockets."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from bridge import protocol
from bridge.answers import Answer
from tests.brokers import wait_until


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Echo the path and the body; `/wait` takes a while."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/wait":
        await asyncio.sleep(2)
    await Answer(200, b"%b %b" % (scope["path"].encode(), body)).send(send, close=False)


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    config = uvicorn.Config(
        application, http=protocol.GuardedProtocol, ws="none", lifespan="off", log_config=None
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            wait_until(lambda: server.started, "the server runs")
            yield listener.getsockname()
        finally:
            server.should_exit = True
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
        value = b"x" * (protocol.MAX_HEAD_BYTES - 100)
        head = b"GET /1 HTTP/1.1\r\nConnection: close\r\nX: %b\r\n\r\n" % value
        assert reply(address, head).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("size", [protocol.MAX_HEAD_BYTES, 1_000_000])
def test_a_head_over_the_limit_is_431_whether_complete_or_not(size: int) -> None:
    with serving() as address:
        complete = b"GET /1 HTTP/1.1\r\nX: %b\r\n\r\n" % (b"x" * size)
        try:
            answer = reply(address, complete)
        except ConnectionResetError:  # it was closed with much of the head still to come
            assert size == 1_000_000
        else:
            assert answer.startswith(b"HTTP/1.1 431")


def test_a_head_without_an_end_is_refused_and_not_kept() -> None:
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
    with serving() as address, closing(socket.create_connection(address, timeout=30)) as client:
        client.sendall(head + before)
        time.sleep(0.02)  # that piece is to come alone
        client.sendall(b"\r\n\r\n"[len(before) :] + body)
        answer = whole(client, body)
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.recv(65536)
    assert answer.count(b"HTTP/1.1 200") == 1


def test_a_head_that_comes_while_the_one_before_is_answered_is_limited_too() -> None:
    with serving() as address, closing(socket.create_connection(address, timeout=10)) as client:
        client.sendall(b"POST /wait HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET /2 HTTP/1.1\r\nX: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.sendall(b"x" * 50_000_000)
