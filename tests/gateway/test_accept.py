"""How several processes share the connections of one listener, here on one loop."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from bridge.demo.child import HOST
from bridge.gateway import accept
from bridge.gateway.accept import Acceptor, Loads
from bridge.gateway.connections import Connections
from tests.support.fake_kafka import until

COUNT = 2


class Connection(asyncio.Protocol):
    """One that is counted while it is open."""

    def __init__(self, open_: set["Connection"]) -> None:
        self._open = open_

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        del transport
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._open.discard(self)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0), backlog=256) as sock:
        sock.setblocking(False)
        yield sock


class Processes:
    """Acceptors of one listener, and what each has open."""

    def __init__(self, listener: socket.socket) -> None:
        self.loads = Loads.new(COUNT)
        self.address = listener.getsockname()
        self.open: list[set[Connection]] = [set() for _ in range(COUNT)]
        self.acceptors = [
            self._acceptor(listener.dup(), index, open_) for index, open_ in enumerate(self.open)
        ]

    def _acceptor(self, sock: socket.socket, index: int, open_: set[Connection]) -> Acceptor:
        # Each has the memory mapped by itself, as in a process of its own.
        loads = Loads(self.loads.descriptor, COUNT)
        return Acceptor(sock, loads, index, lambda: len(open_), lambda: Connection(open_))

    @property
    def counts(self) -> list[int]:
        return [len(each) for each in self.open]

    async def connect(self, count: int) -> list[socket.socket]:
        sockets = [socket.create_connection(self.address) for _ in range(count)]
        before = sum(self.counts)
        await until(lambda: sum(self.counts) == before + count)
        return sockets

    async def close(self, sockets: list[socket.socket]) -> None:
        left = sum(self.counts) - len(sockets)
        for each in sockets:
            each.close()
        await until(lambda: sum(self.counts) == left)

    async def end(self) -> None:
        for acceptor in self.acceptors:
            acceptor.close()
            await acceptor.wait_closed()


@pytest.mark.parametrize("at_once", [1, 16, 64])
async def test_connections_are_shared_out(listener: socket.socket, at_once: int) -> None:
    """One by one, as a pool fills up, or all at the same moment, as a proxy starts."""
    both = Processes(listener)
    sockets = [each for _ in range(64 // at_once) for each in await both.connect(at_once)]
    assert sum(both.counts) == 64
    assert abs(both.counts[0] - both.counts[1]) <= 64 / 8 + accept.AHEAD
    await both.close(sockets)
    await both.end()


async def test_one_that_has_fewer_and_does_not_accept_keeps_nobody_waiting(
    listener: socket.socket,
) -> None:
    """It hangs: the other waits a moment for it, each time, and then accepts them all."""
    both = Processes(listener)
    asyncio.get_running_loop().remove_reader(both.acceptors[0]._listener)
    sockets = await both.connect(50)
    assert both.counts == [0, 50]
    await both.close(sockets)
    await both.end()


async def test_for_one_that_has_ended_nobody_waits(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "WAIT_SECONDS", 600)
    both = Processes(listener)
    both.acceptors[0].close()
    sockets = await both.connect(50)
    assert both.counts == [0, 50]
    await both.close(sockets)
    await both.end()


async def test_what_is_closed_is_told_at_once(listener: socket.socket) -> None:
    """Else the others would leave a process alone that has nothing to do any more."""
    both = Processes(listener)
    connections = Connections()
    acceptor = both.acceptors[0]
    acceptor._count = lambda: len(connections.open)
    connections.on_closed = acceptor.show

    class Cut:
        head_bytes = 0

        def cut(self) -> None:
            pytest.fail("nothing here cuts a connection")

    one = Cut()
    connections.opened(one)
    acceptor.show()
    assert list(both.loads._open) == [1, 0]
    connections.closed(one)
    assert list(both.loads._open) == [0, 0]
    await both.end()
    connections.closed(one)
    assert both.loads.fewest == accept.NOBODY


async def test_one_that_is_closed_accepts_no_more(listener: socket.socket) -> None:
    both = Processes(listener)
    await both.end()
    assert both.loads.fewest == accept.NOBODY
    with socket.create_connection(both.address):  # the listener itself is there still
        await asyncio.sleep(0.05)
    assert both.counts == [0, 0]


async def test_a_fault_of_the_system_is_waited_for(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor left it tries again, and does not spin."""
    monkeypatch.setattr(accept, "FAULT_SECONDS", 0.01)
    both = Processes(listener)
    both.acceptors[1].close()
    faults = [OSError(24, "Too many open files")] * 3
    real = both.acceptors[0]._listener

    class Faulty:
        def accept(self) -> tuple[socket.socket, object]:
            if faults:
                raise faults.pop()
            return real.accept()

        def fileno(self) -> int:
            return real.fileno()

        def close(self) -> None:
            real.close()

    both.acceptors[0]._listener = Faulty()  # type: ignore[assignment]
    sockets = await both.connect(1)
    assert faults == []
    await both.close(sockets)
    await both.end()
