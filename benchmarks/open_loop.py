"""A load generator that posts at scheduled times, whatever becomes of the posts before.

Latency counts from the scheduled time to the last byte of the answer, so that a stall is seen
by every request that it delays. Prints one JSON object; asks no more than HTTP needs.
"""

import argparse
import asyncio
import gc
import json
import re
import selectors
import time
from collections import deque

from benchmarks.bodies import Template, document, document_bytes, prefix, templates

HOST = "127.0.0.1"
PATH = "/webhook"
CONNECTIONS = 16  # open from the start
MAX_CONNECTIONS = 250
LAST_ANSWERS_SECONDS = 10.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_CHUNK_BREAK = re.compile(rb"\r\n[0-9a-fA-F]+\r\n")
_HEAD = b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"


class Load:
    """One run: so many posts at a fixed rate, of documents with `states` states."""

    def __init__(
        self, *, port: int, states: int, listed: int, rate: float, seconds: float, run: int
    ) -> None:
        self.listed = listed  # ids that a whole answer has
        self.latencies: list[float] = []  # seconds
        self.lateness: list[float] = []  # seconds, of this generator's own
        self.failed = 0
        self._port = port
        self._run = run
        self._interval = 1 / rate
        self._count = max(1, round(rate * seconds))
        self._templates = [_with_head(template) for template in templates(states)]
        self._free: list[_Connection] = []
        self._waiting: deque[tuple[int, float]] = deque()
        self._connections = 0
        self._all_answered = asyncio.Event()

    async def run(self) -> None:
        """Send everything when it is due, and wait for the last answers."""
        await asyncio.gather(*(self._connect() for _ in range(CONNECTIONS)))
        start = time.perf_counter() + self._interval
        for number in range(self._count):
            due = start + number * self._interval
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self.lateness.append(time.perf_counter() - due)
            self._send(number, due)
        try:
            async with asyncio.timeout(LAST_ANSWERS_SECONDS):
                await self._all_answered.wait()
        except TimeoutError:
            self.failed = self._count - len(self.latencies)

    def _send(self, number: int, due: float) -> None:
        if not self._free:
            self._waiting.append((number, due))
            if self._connections < MAX_CONNECTIONS:
                asyncio.ensure_future(self._connect())  # noqa: RUF006 -- it frees itself
            return
        template = self._templates[number % len(self._templates)]
        self._free.pop().send(document(template, prefix(self._run, number)), due)

    async def _connect(self) -> None:
        self._connections += 1
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Connection(self), HOST, self._port)

    def freed(self, connection: "_Connection") -> None:
        """Take a connection that has nothing to do."""
        self._free.append(connection)
        if self._waiting:
            self._send(*self._waiting.popleft())

    def answered(self, latency: float, *, whole: bool) -> None:
        """Note an answer; `whole` says that it lists every id."""
        if whole:
            self.latencies.append(latency)
        else:
            self.failed += 1
        if len(self.latencies) + self.failed == self._count:
            self._all_answered.set()

    def lost(self, connection: "_Connection", *, was_busy: bool) -> None:
        """Do without a connection that the server has closed."""
        self._connections -= 1
        if connection in self._free:
            self._free.remove(connection)
        if was_busy:
            self.answered(0.0, whole=False)


class _Connection(asyncio.Protocol):
    """One connection, with at most one post on it."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answer = b""
        self._end: int | None = None  # of the answer, in bytes
        self._chunked = False  # the answer has no length: the bridge's always has
        self._due: float | None = None
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._load.freed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._load.lost(self, was_busy=self._due is not None)

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._end is None and not self._chunked:
            head = self._answer.find(b"\r\n\r\n")
            if head < 0:
                return
            if length := _LENGTH.search(self._answer, 0, head + 2):
                self._end = head + 4 + int(length[1])
            else:
                self._chunked = _CHUNKED.search(self._answer, 0, head + 2) is not None
        if self._is_whole():
            self._finish(time.perf_counter())

    def _is_whole(self) -> bool:
        if self._chunked:
            return self._answer.endswith(_LAST_CHUNK)
        return self._end is not None and len(self._answer) >= self._end

    def _finish(self, now: float) -> None:
        answer, due = self._answer, self._due
        if self._chunked:
            answer = _CHUNK_BREAK.sub(b"", answer)
        self._answer, self._end, self._chunked, self._due = b"", None, False, None
        if due is not None:
            whole = answer.startswith(b"HTTP/1.1 200 ")
            whole = whole and answer.count(b"<id_sms>") == self._load.listed
            self._load.answered(now - due, whole=whole)
        self._load.freed(self)


def _with_head(template: Template) -> Template:
    head = _HEAD % (PATH.encode(), HOST.encode(), document_bytes(template))
    return head + template[0], *template[1:]


def main() -> None:
    """Run as told and print the figures, in milliseconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_loop", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--states", type=int, required=True)
    parser.add_argument("--listed", type=int, required=True, help="ids that an answer must have")
    parser.add_argument("--rate", type=float, required=True, help="posts a second")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--run", type=int, required=True, help="makes the ids its own")
    o = parser.parse_args()

    gc.disable()  # its pauses would be taken for the gateway's

    async def load() -> Load:
        load = Load(**vars(o))
        await load.run()
        return load

    # select() alone waits in microseconds; epoll and uvloop round up to a millisecond.
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        done = runner.run(load())
    figures = {
        "latencies_ms": [round(1000 * value, 3) for value in done.latencies],
        "lateness_ms": [round(1000 * value, 3) for value in done.lateness],
        "failed": done.failed,
    }
    print(json.dumps(figures))  # noqa: T201


if __name__ == "__main__":
    main()
