"""HTTP/1.1 by hand, byte for byte, for what no client library would send. It judges nothing."""

import select
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

Address = tuple[str, int]

TIMEOUT_SECONDS = 10.0
BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; the names of its headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """One connection, to which any bytes can be sent, from a loopback address of one's choice.

    Raises OSError where the connection is broken, EOFError where it ends within an answer.
    """

    def __init__(self, address: Address, *, source: str = "", timeout: float | None = None) -> None:
        self._socket = socket.create_connection(
            address,
            timeout=TIMEOUT_SECONDS if timeout is None else timeout,
            source_address=(source, 0) if source else None,
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._came = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def half_close(self) -> None:
        """Say that nothing more comes, and go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    @property
    def answered(self) -> bool:
        """Whether anything has come, or the end of the connection, that was not read."""
        return bool(self._came or select.select([self._socket], [], [], 0)[0])

    def reply(self) -> Reply:
        """The next answer."""
        while b"\r\n\r\n" not in self._came:
            self._receive()
        head, self._came = self._came.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.split(":", 1) for line in lines)
        headers = {name.lower(): value.strip() for name, value in pairs}
        length = int(headers.get("content-length", "0"))
        while len(self._came) < length:
            self._receive()
        body, self._came = self._came[:length], self._came[length:]
        return Reply(int(first.split(" ")[1]), headers, body)

    def rest(self) -> bytes:
        """All that comes until the connection ends."""
        while block := self._socket.recv(BLOCK_BYTES):
            self._came += block
        came, self._came = self._came, b""
        return came

    def _receive(self) -> None:
        block = self._socket.recv(BLOCK_BYTES)
        if not block:
            raise EOFError(f"the connection ended after {self._came[:200]!r}")
        self._came += block


def head(method: str, path: str, *lines: str, version: str = "1.1") -> bytes:
    """A request's head, with a Host."""
    return "\r\n".join((f"{method} {path} HTTP/{version}", "Host: x", *lines, "", "")).encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def post(path: str, body: bytes, *lines: str) -> bytes:
    """A POST with a length."""
    return head("POST", path, f"Content-Length: {len(body)}", *lines) + body


def chunked_post(path: str, body: bytes, *lines: str, trailers: str = "") -> bytes:
    """A POST in chunks of at most 64 KiB, with trailers, each ended by a line break."""
    blocks = (body[n : n + BLOCK_BYTES] for n in range(0, len(body), BLOCK_BYTES))
    chunks = b"".join(chunk(block) for block in blocks)
    begin = head("POST", path, "Transfer-Encoding: chunked", *lines)
    return b"%b%b0\r\n%b\r\n" % (begin, chunks, trailers.encode())
