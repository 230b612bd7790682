"""What sends to the gateway in tests of load: many connections at once, and a watch over time.

It knows HTTP/1.1 as far as the gateway's answers need it. It judges nothing.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

Address = tuple[str, int]

LISTED = re.compile(rb"<id_sms>([^<]*)</id_sms>")
WAKE_SECONDS = 0.01
NOTED_SECONDS = 0.02  # late by less is not worth a word


def document(*ids: str, status: str = "read") -> bytes:
    """One state an id, as the provider posts them."""
    states = "".join(
        f'<state id_sms="{one}" time="2011-01-01 12:57:46" sms="{status}">{status}</state>'
        for one in ids
    )
    return f'<?xml version="1.0" encoding="utf-8" ?><response>{states}</response>'.encode()


@dataclass(frozen=True, slots=True)
class Post:
    """One POST on the monotonic clock; `status` is None where no whole answer came."""

    started: float
    ended: float
    status: int | None
    listed: frozenset[str] = frozenset()
    closes: bool = False  # the answer says that the connection ends

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at a process; `queued` are the seconds in which it was kept from a processor."""

    started: float
    ended: float
    status: int | None
    queued: float

    @property
    def seconds(self) -> float:
        return self.ended - self.started


class Sender:
    """One connection, kept alive while the gateway lets it; opened again when needed."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, *pieces: bytes) -> Post:
        """Send one document and read the answer, however long it takes.

        A moment passes between its pieces.
        """
        size = sum(map(len, pieces))
        head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
        return await self.request(head + pieces[0], *pieces[1:])

    async def get(self, path: str) -> Post:
        """Ask for a path."""
        return await self.request(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def request(self, *pieces: bytes) -> Post:
        """Send these bytes and read one answer."""
        started = time.monotonic()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection(*self._address)
                started = time.monotonic()
            reader, writer = self._streams
            for number, piece in enumerate(pieces):
                if number:
                    await asyncio.sleep(WAKE_SECONDS)
                writer.write(piece)
            status, head, content = await read_answer(reader)
        except (OSError, EOFError):
            self.close()
            return Post(started, time.monotonic(), None)
        closes = b"connection: close" in head.lower()
        if closes:
            self.close()
        listed = frozenset(one.decode() for one in LISTED.findall(content))
        return Post(started, time.monotonic(), status, listed, closes)

    def close(self) -> None:
        """End the connection."""
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].transport.abort()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Status, head and content of one answer. Raises EOFError or OSError where it is not whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head.lower())
    content = await reader.readexactly(int(length[1]) if length else 0)
    return int(head.split(b" ", 2)[1]), head, content


@dataclass(slots=True)
class Load:
    """Providers that post until they are told to stop, each the same ids until they are listed.

    `pause` gives the seconds between an answer and the next post. `posts` holds every post and
    when its body was sent, `acknowledged` every id that was ever listed, `waiting` those that
    were posted and not listed yet.
    """

    address: Address
    name: str
    states: int = 1
    pause: Callable[[], float] = field(default=lambda: 0.0)
    posts: list[Post] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)  # listed and not in the post
    finishing: bool = False

    @asynccontextmanager
    async def running(self, providers: int) -> AsyncIterator[None]:
        """Post from so many connections for as long as the block lasts."""
        tasks = [asyncio.create_task(self._provide(n)) for n in range(providers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _provide(self, number: int) -> None:
        sender = Sender(self.address)
        try:
            round_ = 0
            await asyncio.sleep(self.pause())
            while not self.finishing:
                await self._deliver(
                    sender, [f"{self.name}.{number}.{round_}.{s}" for s in range(self.states)]
                )
                round_ += 1
        finally:
            sender.close()

    async def _deliver(self, sender: Sender, ids: Iterable[str]) -> None:
        left = set(ids)
        self.waiting |= left
        while left:
            post = await sender.post(document(*sorted(left)))
            self.posts.append(post)
            self.foreign |= post.listed - left
            self.acknowledged |= post.listed
            self.waiting -= post.listed
            left -= post.listed
            # A refused connection answers at once: even without a pause others have a turn.
            await asyncio.sleep(self.pause() if post.status else max(self.pause(), 0.02))


class Stalls:
    """Notes what is no fault of the gateway's; on an idle machine it is next to nothing.

    That is when this loop was late, and when the machine kept process `pid` from a processor.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid
        self._late: list[tuple[float, float]] = []  # from when, until when
        self._task: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        queued = self._queued()
        while True:
            due = time.monotonic() + WAKE_SECONDS
            await asyncio.sleep(WAKE_SECONDS)
            now, before, queued = time.monotonic(), queued, self._queued()
            # Where both were kept waiting it was in turns: a post goes through both.
            seconds = (now - due if now > due + NOTED_SECONDS else 0.0) + queued - before
            if seconds > 0:
                self._late.append((now - seconds, now))

    def _queued(self) -> float:
        return queued_seconds(self._pid) if self._pid is not None else 0.0

    def within(self, started: float, ended: float) -> float:
        """How many seconds of a time nothing was done in."""
        overlaps = (min(ended, until) - max(started, since) for since, until in self._late)
        return sum(seconds for seconds in overlaps if seconds > 0)

    @property
    def longest(self) -> float:
        return max((until - since for since, until in self._late), default=0.0)

    @property
    def total(self) -> float:
        return sum(until - since for since, until in self._late)


@asynccontextmanager
async def probing(address: Address, pid: int, path: str = "/livez") -> AsyncIterator[list[Probe]]:
    """Ask for the path, over a new connection each time, for as long as the block lasts."""
    probes: list[Probe] = []

    async def probe() -> None:
        while True:
            sender = Sender(address)
            started, before = time.monotonic(), queued_seconds(pid)
            answer = await sender.get(path)
            sender.close()
            queued = queued_seconds(pid) - before
            probes.append(Probe(started, answer.ended, answer.status, queued))
            await asyncio.sleep(WAKE_SECONDS)

    task = asyncio.create_task(probe())
    try:
        yield probes
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def queued_seconds(pid: int) -> float:
    """How long a process has been ready to run while others had the processors, in all.

    0 where the kernel does not count it.
    """
    try:
        _, queued, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0.0
    return int(queued) / 1e9


def memory(pid: int) -> tuple[int, int]:
    """Resident bytes of a process, now and at most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    now, most = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    if now is None or most is None:
        raise ProcessLookupError(pid)
    return int(now[1]) * 1024, int(most[1]) * 1024
