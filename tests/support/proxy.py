"""A TCP proxy that does to connections what bad networks do. It knows no protocol.

Requests are what the client sends, responses what comes back.
"""

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

HOST = "127.0.0.1"
CHUNK_BYTES = 64 * 1024

Address = tuple[str, int]


class Direction(Enum):
    REQUESTS = "requests"
    RESPONSES = "responses"


BOTH = frozenset(Direction)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What happens to the bytes of every connection; by default they pass.

    `swallow`: what goes in these directions is read and never arrives. `latency_seconds` is
    added to every chunk, and `bytes_per_second` limits each direction of each connection.
    `cut_before`: each connection is cut when it asks for more than so many request bytes to be
    passed on (those pass). `cut_after`: each connection is cut by the first response that comes
    after so many request bytes were passed on; the client sees nothing of it.
    """

    swallow: frozenset[Direction] = frozenset()
    latency_seconds: float = 0.0
    bytes_per_second: float | None = None
    cut_before: int | None = None
    cut_after: int | None = None

    def __str__(self) -> str:
        """Those that are not the default."""
        words = [f"swallow {way.value}" for way in Direction if way in self.swallow]
        limits = ("latency_seconds", "bytes_per_second", "cut_before", "cut_after")
        words += [
            f"{n} {getattr(self, n)}" for n in limits if getattr(self, n) != getattr(CLEAR, n)
        ]
        return ", ".join(words) or "clear"


CLEAR = Conditions()


@dataclass(slots=True, eq=False)
class _Link:
    """One connection; `passed` counts request bytes under the present conditions."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    passed: int = 0
    lossy: bool = False  # bytes of it are gone, so that it can never be whole again
    orphaned: bool = False  # for good: nothing passes any more, not even an end
    over: asyncio.Event = field(default_factory=asyncio.Event)  # cut, orphaned or not

    def abort(self) -> None:
        self.over.set()
        for writer in (self.client, self.server):
            if writer is not None:
                writer.transport.abort()


@dataclass(slots=True)
class Counts:
    """What the proxy has done so far: connections accepted, and connections that it cut."""

    accepted: int = 0
    cut: int = 0


def end(listener: asyncio.Server) -> None:
    """Refuse connections at once, and leave the port in the loop's next turn.

    A server that is closed between accepting a connection and handling it loses the socket:
    asyncio of Python 3.11 fails there, and says nothing.
    """
    loop = asyncio.get_running_loop()
    for listening in listener.sockets:
        loop.remove_reader(listening.fileno())
        listening.shutdown(socket.SHUT_RDWR)
    loop.call_soon(listener.close)


class Proxy:
    """Listens on a port of a loopback address and forwards to the first upstream that answers.

    The port is the same for as long as the proxy lives; 0 takes any free one. `upstreams` may
    be changed at any time, which holds for new connections; `host` holds when it next accepts.
    `name` is what clients call it by; its host if it has none.
    """

    def __init__(
        self, upstreams: Sequence[Address], port: int = 0, *, host: str = HOST, name: str = ""
    ) -> None:
        self.upstreams = upstreams
        self.port = port
        self.host = host
        self._name = name
        self.counts = Counts()
        self._conditions = CLEAR
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening and end every connection."""
        self.refuse()
        await self._turns()  # a connection that was just accepted has its handler by then
        self.cut()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._turns()  # and what was cut has closed its socket

    @staticmethod
    async def _turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    @property
    def address(self) -> str:
        """host:port to connect to."""
        return f"{self._name or self.host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._links)

    async def accept(self) -> None:
        """Listen (again), on the same port as before."""
        if self._listener is None:
            await asyncio.sleep(0)  # a listener that was just ended has left the port by then
            self._listener = await asyncio.start_server(self._connected, self.host, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Stop listening: whoever connects is refused. Open connections stay."""
        listener, self._listener = self._listener, None
        if listener is not None:
            end(listener)

    def cut(self) -> None:
        """Cut every open connection at once."""
        for link in list(self._links):
            self._cut(link)

    def impose(self, conditions: Conditions) -> None:
        """Let other conditions hold, from the next byte on.

        Connections that lost bytes to the old ones are cut: nothing true can follow on them.
        """
        self._conditions = conditions
        for link in list(self._links):
            link.passed = 0
            if link.lossy and not link.orphaned:
                self._cut(link)

    def orphan(self) -> None:
        """Let every open connection be half open: silent from now on, and closed for neither end.

        Neither other conditions nor the end of one side change that; `cut` ends them.
        """
        for link in self._links:
            link.lossy = link.orphaned = True

    def heal(self) -> None:
        """Let everything pass."""
        self.impose(CLEAR)

    # --- one connection ------------------------------------------------------------------

    def _cut(self, link: _Link) -> None:
        self.counts.cut += 1
        self._links.discard(link)
        link.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.counts.accepted += 1
        link = _Link(writer)
        self._links.add(link)
        try:
            with contextlib.suppress(OSError):
                await self._serve(link, reader)
        except asyncio.CancelledError:
            link.abort()
        finally:
            self._links.discard(link)
            self._handlers.discard(task)
            link.abort()

    async def _serve(self, link: _Link, reader: asyncio.StreamReader) -> None:
        server_reader, link.server = await self._dial()
        if link not in self._links:  # cut meanwhile
            return
        pumps = {
            asyncio.ensure_future(self._requests(link, reader, link.server)),
            asyncio.ensure_future(self._responses(link, server_reader, link.client)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if link.orphaned:
                await link.over.wait()
            elif link in self._links:  # an orderly end: what was passed on arrives
                await _flush(link.client, link.server)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for upstream in self.upstreams:
            with contextlib.suppress(OSError):
                return await asyncio.open_connection(*upstream)
        raise ConnectionRefusedError("no upstream accepts")

    async def _requests(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if link.orphaned:
                continue
            await self._delay(len(data))
            now = self._conditions
            if now.cut_before is not None and link.passed + len(data) > now.cut_before:
                writer.write(data[: max(0, now.cut_before - link.passed)])
                await writer.drain()
                self._cut(link)
                return
            await self._pass(link, Direction.REQUESTS, data, writer)
            link.passed += len(data)

    async def _responses(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if link.orphaned:
                continue
            await self._delay(len(data))
            now = self._conditions
            if now.cut_after is not None and link.passed > now.cut_after:
                self._cut(link)
                return
            await self._pass(link, Direction.RESPONSES, data, writer)

    async def _pass(
        self, link: _Link, direction: Direction, data: bytes, writer: asyncio.StreamWriter
    ) -> None:
        if link.lossy or direction in self._conditions.swallow:
            link.lossy = True
            return
        writer.write(data)
        await writer.drain()

    async def _delay(self, size: int) -> None:
        now = self._conditions
        seconds = now.latency_seconds
        if now.bytes_per_second is not None:
            seconds += size / now.bytes_per_second
        if seconds:
            await asyncio.sleep(seconds)


async def _flush(*writers: asyncio.StreamWriter) -> None:
    for writer in writers:
        writer.close()
    for writer in writers:
        with contextlib.suppress(OSError):
            await writer.wait_closed()
