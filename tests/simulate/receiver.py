"""A receiver of documents that answers as its script says."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from bridge.simulate import (
    Plan,
    Report,
)

HANG = None  # a script's answer: none, until the client leaves


@dataclass(frozen=True, slots=True)
class Request:
    """One POST as the receiver saw it; `number` counts from 0 over all connections."""

    number: int
    head: str
    body: bytes
    at: float

    @property
    def ids(self) -> list[str]:
        """The ids in order."""
        return re.findall(r'id_sms"?[=:]"([^"]*)"', self.body.decode())

    @property
    def lines(self) -> dict[str, bytes]:
        """Each state's line, byte for byte, by id."""
        return dict(zip(self.ids, self.body.splitlines()[2:-1], strict=True))


Script = Callable[[Request], bytes | None]


def http(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def listing(*ids: str) -> bytes:
    listed = "".join(f"     <id_sms>{i}</id_sms>\n" for i in ids)
    return f'<?xml version="1.0" encoding="utf-8" ?>\n<response>\n{listed}</response>'.encode()


def everything(request: Request) -> bytes:
    return http(listing(*request.ids))


def everything_in_json(request: Request) -> bytes:
    """As the provider's page has it: ids as numbers."""
    return http(json.dumps([{"id_sms": int(id_sms)} for id_sms in request.ids]).encode())


class Receiver:
    """An HTTP server that answers by script and closes where an answer is not whole."""

    def __init__(self, script: Script) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.url = ""
        self.handlers: set[asyncio.Task[Any]] = set()
        self._script = script

    def posts_of(self, id_sms: str) -> list[Request]:
        """Return the requests that hold the id, in order."""
        return [request for request in self.requests if id_sms in request.ids]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests until either side closes it."""
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.handlers.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client left
        finally:
            writer.close()
            self.handlers.discard(task)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(head.partition("Content-Length: ")[2].split()[0])
        body = await reader.readexactly(size)
        request = Request(len(self.requests), head, body, perf_counter())
        self.requests.append(request)
        answer = self._script(request)
        if answer is HANG:
            await reader.read()
            return False
        writer.write(answer)
        await writer.drain()
        if b"Connection: close" in answer:
            await reader.read()  # the client is to leave
            return False
        whole = re.search(rb"Content-Length: (\d+)", answer)
        end = answer.find(b"\r\n\r\n") + 4
        return whole is not None and len(answer) - end >= int(whole[1])


@asynccontextmanager
async def receiving(script: Script = everything, port: int = 0) -> AsyncIterator[Receiver]:
    """Serve on a free port of 127.0.0.1, and hold that the client has closed every connection."""
    receiver = Receiver(script)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", port)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/webhook"
    try:
        yield receiver
    finally:
        server.close()
        async with asyncio.timeout(60):
            while receiver.handlers:
                await asyncio.wait(set(receiver.handlers))
            await server.wait_closed()


def plan(url: str, messages: int, **changes: Any) -> Plan:
    options: dict[str, Any] = {"seed": 7, "retry_seconds": 0.01, **changes}
    return Plan(url, messages, **options)


def assert_adds_up(report: Report) -> None:
    """Every figure that can be derived from another agrees with it."""
    tally = report.tally
    assert tally.posts == sum(report.answers.values()) + sum(report.faults.values())
    assert tally.sent == sum(attempts * count for attempts, count in report.attempts.items())
    assert tally.posted == tally.messages == sum(report.attempts.values())
    assert tally.acknowledged + tally.unacknowledged == tally.messages
    assert tally.waiting == 0
    assert len(report.ids(acknowledged=True)) == tally.acknowledged
    assert len(report.ids(acknowledged=False)) == tally.unacknowledged
