"""Many senders at once, honest and hostile ones: nobody else waits. SMS_BRIDGE_LONG=1 has more."""

import asyncio
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.gateway.long import MIB, long_or_short, percentile, say
from tests.support.fake_kafka import until
from tests.support.gateway import Gateway, configuration
from tests.support.senders import Load, Post, Sender, Stalls, document, memory, probing

LIVEZ_SECONDS = 0.1

# --- many honest senders -----------------------------------------------------------------


BUSY = 300
NEW = 200
ROUNDS = 9  # of posts by everybody else, until the last of the new has an answer


async def test_busy_connections_do_not_keep_new_ones_waiting(on_embedded: Gateway) -> None:
    """Whoever connects is accepted, however much the others post on connections kept alive."""
    load = Load(on_embedded.server_address, "busy")
    async with load.running(BUSY):
        await until(lambda: len(load.posts) > 2 * BUSY, seconds=120)
        before = len(load.posts)
        senders = [Sender(on_embedded.server_address) for _ in range(NEW)]
        posts = await asyncio.gather(*(s.post(document(f"{n}")) for n, s in enumerate(senders)))
        rounds = (len(load.posts) - before) / BUSY
        for sender in senders:
            sender.close()
    say(longest=max(p.seconds for p in posts), rounds=rounds)
    assert {p.status for p in posts} <= {200, 503}
    assert rounds < ROUNDS


# --- hostile senders ---------------------------------------------------------------------


SLOW = long_or_short(5000, 1000)
SLOW_SECONDS = long_or_short(15, 4)
HEADER_BYTES = 50 * MIB
BODY_BYTES = long_or_short(200, 50) * MIB
HOSTILE_ROUNDS = long_or_short(100, 20)
HOSTILE_BYTES = 256 * MIB
CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"

HALF_HEAD = b"POST /webhook HTTP/1.1\r\nHost: x\r\nX-Slow: "
HALF_BODY = b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n<response>"


@pytest.fixture
def on_embedded(new_embedded: type[EmbeddedBroker], topic: str) -> Iterator[Gateway]:
    """The program on the in-memory broker."""
    with (
        new_embedded(topic, f"{topic}.rejected") as broker,
        Gateway(configuration(broker.bootstrap_servers, topic)) as running,
    ):
        yield running


def _in_flight_bytes(gateway: Gateway) -> float:
    metrics = gateway.admin("/metrics").body.decode()
    (line,) = [m for m in metrics.splitlines() if m.startswith("sms_bridge_in_flight_bytes ")]
    return float(line.split()[1])


def _admin_address(gateway: Gateway) -> tuple[str, int]:
    (listening,) = [line for line in gateway.logs() if line["event"] == "listening"]
    host, port = listening["admin"].rsplit(":", 1)
    return host, int(port)


@asynccontextmanager
async def alive_meanwhile(gateway: Gateway) -> AsyncIterator[None]:
    """Hold it against the block that `/livez` answers at once, and memory is bounded."""
    pid = gateway.process.pid
    async with Stalls() as stalls, probing(_admin_address(gateway), pid) as probes:
        yield
        seen = len(probes)
        await until(lambda: len(probes) > seen)
    late = [p.seconds - stalls.within(p.started, p.ended) - p.queued for p in probes]
    peak = memory(pid)[1]
    say(
        probes=len(probes),
        p50=percentile([p.seconds for p in probes], 0.5),
        longest=max(p.seconds for p in probes),
        longest_less_stalls=max(late),
        longest_stall=stalls.longest,
        peak_mib=peak // MIB,
    )
    assert {p.status for p in probes} == {200}
    assert max(late) < LIVEZ_SECONDS
    assert peak < HOSTILE_BYTES


async def test_thousands_of_slow_connections(on_embedded: Gateway) -> None:
    """Half heads, half bodies, a byte now and then: honest posts are served all the while."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < SLOW + 200:
        pytest.skip(f"{SLOW} connections need more than {files} open files")
    writers: list[asyncio.StreamWriter] = []
    limit = asyncio.Semaphore(100)

    def close_all() -> None:
        for writer in writers:
            writer.transport.abort()

    async def open_one(number: int) -> None:
        async with limit:
            _, writer = await asyncio.open_connection(*on_embedded.server_address)
        writer.write(HALF_BODY if number % 2 else HALF_HEAD)
        writers.append(writer)

    async with AsyncExitStack() as stack:
        stack.callback(close_all)
        await stack.enter_async_context(alive_meanwhile(on_embedded))
        await asyncio.gather(*(open_one(number) for number in range(SLOW)))
        opened = time.monotonic()
        sender = Sender(on_embedded.server_address)
        answers: list[Post] = []
        while time.monotonic() - opened < SLOW_SECONDS:
            for writer in writers[:: len(writers) // 50]:
                if not writer.is_closing():  # the gateway has had enough of some
                    writer.write(b"x")
            answers.append(await sender.post(document(str(len(answers)))))
            await asyncio.sleep(0.05)
        sender.close()
        assert {a.status for a in answers} == {200}
        assert all(answer.listed for answer in answers)
        say(slow=len(writers), posts=len(answers), slowest=max(a.seconds for a in answers))


STOPPED = (9, 64)
STOPPED_BYTES = 4 * MIB
STOPPED_HEAD = f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {STOPPED_BYTES}\r\n\r\n"
PIECE = b"<response>".ljust(0x10000)


async def _stop_short(gateway: Gateway) -> None:
    """Send all of a large body but its last ten bytes, and wait; over again once it is refused."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(*gateway.server_address)
            try:
                writer.write(STOPPED_HEAD.encode())
                for left in range(STOPPED_BYTES - 10, 0, -len(PIECE)):
                    writer.write(PIECE[:left])
                    await writer.drain()
                await reader.read()
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("count", STOPPED)
async def test_large_bodies_that_stop_short_of_their_end(on_embedded: Gateway, count: int) -> None:
    """They hold megabytes each, and honest posts are served all the while: also in two pieces."""
    tasks: list[asyncio.Task[None]] = []

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async with AsyncExitStack() as stack:
        stack.push_async_callback(end)
        await stack.enter_async_context(alive_meanwhile(on_embedded))
        tasks += [asyncio.create_task(_stop_short(on_embedded)) for _ in range(count)]
        await until(lambda: _in_flight_bytes(on_embedded) > 8 * MIB, seconds=10)
        sender = Sender(on_embedded.server_address)
        answers: list[Post] = []
        began = time.monotonic()
        while time.monotonic() - began < SLOW_SECONDS:
            body = document(*(f"{len(answers)}.{n}" for n in range(10)))
            pieces = (body[:500], body[500:]) if len(answers) % 2 else (body,)
            answers.append(await sender.post(*pieces))
        sender.close()
    say(stopped=count, posts=len(answers), slowest=max(a.seconds for a in answers))
    assert {a.status for a in answers} == {200}
    assert all(len(answer.listed) == 10 for answer in answers)


async def _pour(gateway: Gateway, head: bytes, piece: bytes, size: int) -> tuple[int, bytes]:
    """Send until all is sent or the gateway has had enough: bytes sent, and what it said."""
    reader, writer = await asyncio.open_connection(*gateway.server_address)
    said: list[bytes] = []

    async def listen() -> None:  # at once: what comes later is lost with the connection
        with suppress(OSError):
            while data := await reader.read(65536):
                said.append(data)

    listening = asyncio.create_task(listen())
    sent = 0
    with suppress(OSError):
        writer.write(head)
        while sent < size and not listening.done():
            writer.write(piece)
            sent += len(piece)
            await writer.drain()
            await asyncio.sleep(0)
    await listening
    writer.transport.abort()
    return sent, b"".join(said)


async def test_a_header_of_fifty_megabytes(on_embedded: Gateway) -> None:
    """Refused once it is too large, not once it is whole."""
    one_line, many_lines = b"x" * 0x10000, b"x: y\r\n" * 10_000
    results: list[tuple[int, bytes]] = []
    async with alive_meanwhile(on_embedded):
        for _ in range(HOSTILE_ROUNDS):
            results += await asyncio.gather(
                _pour(on_embedded, HALF_HEAD, one_line, HEADER_BYTES),
                _pour(on_embedded, HALF_HEAD + b"y\r\n", many_lines, HEADER_BYTES),
            )
    _assert_refused(results, HEADER_BYTES, {b"HTTP/1.1 431"})


def _assert_refused(results: Sequence[tuple[int, bytes]], size: int, allowed: set[bytes]) -> None:
    """None was read to its end. What a sender goes on to send may cut the answer off."""
    heard = Counter(said[:12] for _, said in results)
    say(most_sent_mib=max(sent for sent, _ in results) / MIB, heard=dict(heard))
    assert max(sent for sent, _ in results) < size
    assert heard.keys() <= allowed | {b""}


async def test_a_chunked_body_without_end(on_embedded: Gateway) -> None:
    """Refused once it is too large, whatever it goes on to send."""
    head = b"POST /webhook HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    results: list[tuple[int, bytes]] = []
    async with alive_meanwhile(on_embedded):
        for _ in range(HOSTILE_ROUNDS):
            results += await asyncio.gather(
                *(_pour(on_embedded, head, CHUNK, BODY_BYTES) for _ in range(4))
            )
    _assert_refused(results, BODY_BYTES, {b"HTTP/1.1 413", b"HTTP/1.1 503"})
