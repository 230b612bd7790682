"""New connections of a listener that several processes share: each accepts its part of them.

The kernel gives a connection to whoever accepts first, which may be the same process for all of a
proxy's pool. So each process says in shared memory how many connections it has open, and one that
is ahead of another waits a moment for it. No connection belongs to a process before it is accepted:
those that wait while one dies, or hangs, are accepted by the others.
"""

import asyncio
import mmap
import os
import socket
import tempfile
from collections.abc import Callable

import structlog

from bridge.gateway.listeners import ACCEPTS

log = structlog.get_logger(__name__)

AHEAD = 1  # connections more than the process that has fewest, beside an eighth
WAIT_SECONDS = 0.02  # for a process that has fewer
LOOK_SECONDS = 0.002  # whether it has caught up
FAULT_SECONDS = 0.1  # until another attempt, if the system has no descriptor or memory left
NOBODY = 2**62  # what stands for a process that accepts nothing
_SLOT_BYTES = 8


class Loads:
    """How many connections each process has open, in memory that they share by a descriptor."""

    def __init__(self, descriptor: int, processes: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, processes * _SLOT_BYTES)
        self._open = memoryview(self._memory).cast("q")

    @classmethod
    def new(cls, processes: int) -> "Loads":
        """Shared memory for so many processes, none of which accepts yet."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("connections")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, processes * _SLOT_BYTES)
        loads = cls(descriptor, processes)
        for index in range(processes):
            loads.leave(index)
        return loads

    def set(self, index: int, connections: int) -> None:
        """Say how many connections a process has open."""
        self._open[index] = connections

    def leave(self, index: int) -> None:
        """Say that a process accepts nothing: nobody waits for it."""
        self._open[index] = NOBODY

    @property
    def fewest(self) -> int:
        """The connections of the process that has fewest."""
        return min(self._open)


class Acceptor:
    """One process's part in a listener; to uvicorn it looks like a server of asyncio's.

    `count` tells how many connections are open here.
    """

    def __init__(
        self,
        listener: socket.socket,
        loads: Loads,
        index: int,
        count: Callable[[], int],
        new_protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._listener = listener
        self._loads = loads
        self._index = index
        self._count = count
        self._new_protocol = new_protocol
        self._loop = asyncio.get_running_loop()
        self._starting: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._granted = 0  # connections to accept all the same, after a wait
        self._next_grant = 1
        self._watch()

    def show(self) -> None:
        """Tell the other processes how many connections are open here."""
        if self._listener.fileno() != -1:
            self._loads.set(self._index, self._mine)

    def close(self) -> None:
        """Accept no more; the listener itself is closed once every process has closed its own."""
        if self._timer is not None:
            self._timer.cancel()
        if self._listener.fileno() != -1:
            self._loop.remove_reader(self._listener)
        self._loads.leave(self._index)
        self._listener.close()

    async def wait_closed(self) -> None:
        """Wait for what was accepted last to be connected."""
        if self._starting:
            await asyncio.wait(self._starting)

    def _watch(self) -> None:
        self._timer = None
        self.show()
        self._loop.add_reader(self._listener, self._accept_some)

    def _watch_in(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._timer = self._loop.call_later(seconds, self._watch)

    def _wait_until(self, deadline: float) -> None:
        """Leave connections to others, until these have caught up."""
        if not self._is_ahead():
            self._watch()
        elif self._loop.time() < deadline:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._wait_until, deadline)
        else:
            # It may hang: more and more connections between two waits.
            self._granted = self._next_grant
            self._next_grant = min(2 * self._next_grant, ACCEPTS)
            self._watch()

    def _is_ahead(self) -> bool:
        self.show()
        fewest = self._loads.fewest
        return self._mine > fewest + fewest // 8 + AHEAD

    @property
    def _mine(self) -> int:
        return self._count() + len(self._starting)

    def _accept_some(self) -> None:
        """Accept what is waiting, as long as no other process has fewer connections."""
        for _ in range(ACCEPTS):
            if not self._is_ahead():
                self._granted, self._next_grant = 0, 1
            elif self._granted == 0:
                self._loop.remove_reader(self._listener)
                self._wait_until(self._loop.time() + WAIT_SECONDS)
                return
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as exc:
                log.warning("connection not accepted", error=str(exc))
                self._watch_in(FAULT_SECONDS)
                return
            self._granted = max(self._granted - 1, 0)
            self._start(connection)
        self.show()

    def _start(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        task: asyncio.Task[object] = self._loop.create_task(self._connect(connection))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._new_protocol, connection)
        except OSError:  # it has gone already
            connection.close()
