"""The proxy of the chaos harness: what it claims to do to a connection, it does."""

import asyncio
import gc
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from bridge.demo.child import free_ports
from tests.support.fake_kafka import until
from tests.support.proxy import BOTH, CLEAR, HOST, Conditions, Direction, Proxy

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[Proxy], Awaitable[Client]]


class Echo:
    """Answers every chunk with its upper case, and remembers all that it was sent."""

    def __init__(self) -> None:
        self.received = bytearray()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.received += data
                writer.write(data.upper())
                await writer.drain()
        except OSError:
            pass  # a cut connection is what these tests are about
        finally:
            writer.transport.abort()


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def upstream(echo: Echo) -> AsyncIterator[tuple[str, int]]:
    server = await asyncio.start_server(echo, HOST, 0)
    yield server.sockets[0].getsockname()[:2]
    server.close()
    await server.wait_closed()


@pytest.fixture
async def proxy(upstream: tuple[str, int]) -> AsyncIterator[Proxy]:
    async with Proxy([upstream]) as running:
        yield running


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Connect to a proxy; every connection is closed after the test."""
    writers = []

    async def connect(proxy: Proxy) -> Client:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        writers.append(writer)
        return reader, writer

    yield connect
    for writer in writers:
        writer.transport.abort()


async def ask(client: Client, data: bytes) -> bytes:
    """What comes back, as much as was sent; fewer bytes where the connection ends before."""
    reader, writer = client
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.readexactly(len(data)), 5)
    except asyncio.IncompleteReadError as exc:
        return exc.partial
    except ConnectionError:
        return b""


async def silent(client: Client) -> bool:
    """Whether nothing comes, and the connection does not end either, for a moment."""
    try:
        await asyncio.wait_for(client[0].read(1), 0.2)
    except TimeoutError:
        return True
    return False


async def ended(client: Client) -> bool:
    """Whether the connection is at its end, in order or not, before anything else comes."""
    try:
        return await asyncio.wait_for(client[0].read(1), 5) == b""
    except ConnectionError:
        return True


async def test_bytes_pass_in_both_directions(proxy: Proxy, dial: Dial) -> None:
    """Also many more than one chunk, and an orderly end is passed on."""
    client = await dial(proxy)
    assert await ask(client, b"hello") == b"HELLO"
    assert await ask(client, b"x" * 1_000_000) == b"X" * 1_000_000
    client[1].write_eof()
    assert await client[0].read() == b""
    await until(lambda: proxy.connections == 0)


@pytest.mark.parametrize(
    ("swallowed", "arrives"),
    [
        (BOTH, b""),
        (frozenset({Direction.REQUESTS}), b""),
        (frozenset({Direction.RESPONSES}), b"lost"),
    ],
)
async def test_a_black_hole_swallows_and_its_connections_end_with_it(
    proxy: Proxy, dial: Dial, echo: Echo, swallowed: frozenset[Direction], arrives: bytes
) -> None:
    """Old and new connections stay open in silence; once healed, new ones are whole."""
    old = await dial(proxy)
    assert await ask(old, b"a") == b"A"
    echo.received.clear()

    proxy.impose(Conditions(swallow=swallowed))
    old[1].write(b"lost")
    assert await silent(old)
    assert echo.received == arrives
    new = await dial(proxy)
    new[1].write(b"!")
    assert await silent(new)

    proxy.heal()
    assert await ended(old)
    assert await ask(await dial(proxy), b"b") == b"B"


async def test_a_cut_ends_every_connection_at_once(proxy: Proxy, dial: Dial) -> None:
    clients = [await dial(proxy) for _ in range(3)]
    for client in clients:
        assert await ask(client, b"a") == b"A"
    proxy.cut()
    assert [await ask(client, b"b") for client in clients] == [b""] * 3
    assert proxy.counts.cut == 3
    assert await ask(await dial(proxy), b"c") == b"C"


async def test_a_cut_before_lets_so_many_bytes_of_a_request_through(
    proxy: Proxy, dial: Dial, echo: Echo
) -> None:
    """The rest never arrives, whatever the client has been told."""
    proxy.impose(Conditions(cut_before=7))
    client = await dial(proxy)
    assert await ask(client, b"abcde") == b"ABCDE"
    assert await ask(client, b"fghij") in (b"", b"FG")
    await until(lambda: echo.received == b"abcdefg")
    await until(lambda: proxy.connections == 0)


async def test_a_cut_after_delivers_the_request_and_loses_its_answer(
    proxy: Proxy, dial: Dial, echo: Echo
) -> None:
    """Responses pass until more than so many request bytes did; then none does."""
    proxy.impose(Conditions(cut_after=5))
    client = await dial(proxy)
    assert await ask(client, b"abcde") == b"ABCDE"
    assert await ask(client, b"f") == b""
    assert echo.received == b"abcdef"


async def test_a_slow_network_adds_its_time(proxy: Proxy, dial: Dial) -> None:
    """Latency in each direction; and bytes at a rate."""
    client = await dial(proxy)
    for conditions, size, least in [
        (Conditions(latency_seconds=0.1), 1, 0.2),
        (Conditions(bytes_per_second=10_000), 1000, 0.2),
        (CLEAR, 1, 0.0),
    ]:
        proxy.impose(conditions)
        started = time.monotonic()
        assert await ask(client, b"z" * size) == b"Z" * size
        assert time.monotonic() - started >= least


async def test_refused_connections_are_accepted_again_on_the_same_port(
    proxy: Proxy, dial: Dial
) -> None:
    """Those that are open go on meanwhile."""
    port = proxy.port
    client = await dial(proxy)
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await dial(proxy)
    assert await ask(client, b"a") == b"A"
    await proxy.accept()
    assert proxy.port == port
    assert await ask(await dial(proxy), b"b") == b"B"


@pytest.mark.parametrize("turns", range(5))
async def test_no_socket_is_lost_with_the_listener(turns: int, proxy: Proxy) -> None:
    """Whatever the loop has done of accepting it when the listener ends."""
    with socket.create_connection((HOST, proxy.port)):
        for _ in range(turns):
            await asyncio.sleep(0)
        proxy.refuse()
        await proxy.accept()
        await proxy.aclose()
    gc.collect()  # pytest reports a socket that nobody closed


async def test_it_forwards_to_another_upstream(
    proxy: Proxy, dial: Dial, upstream: tuple[str, int]
) -> None:
    """The first that accepts; with none the connection ends."""
    dead = (HOST, free_ports(1)[0])
    proxy.upstreams = [dead]
    assert await ask(await dial(proxy), b"a") == b""
    proxy.upstreams = [dead, upstream]
    assert await ask(await dial(proxy), b"b") == b"B"


async def test_its_end_is_the_end_of_every_connection(
    upstream: tuple[str, int], dial: Dial
) -> None:
    async with Proxy([upstream]) as proxy:
        proxy.impose(replace(CLEAR, latency_seconds=60))
        client = await dial(proxy)
        client[1].write(b"a")
        await until(lambda: proxy.connections == 1)
    assert await ended(client)
    assert proxy.connections == 0


async def test_an_orphaned_connection_is_silent_and_stays_open(
    proxy: Proxy, dial: Dial, echo: Echo
) -> None:
    """It is told of nothing, not even that its other end has gone; new ones are sound."""
    half_open = await dial(proxy)
    assert await ask(half_open, b"hello") == b"HELLO"
    proxy.orphan()
    proxy.heal()
    half_open[1].write(b"lost")
    half_open[1].write_eof()
    assert await ask(await dial(proxy), b"again") == b"AGAIN"
    assert await silent(half_open)
    assert bytes(echo.received) == b"helloagain"
    proxy.cut()
    assert await ended(half_open)
    await until(lambda: proxy.connections == 0)
