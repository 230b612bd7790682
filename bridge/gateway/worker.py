"""One of several processes that serve one port: what the parent process hands down, and asks for.

Instead of a private listener it has a socket to the parent, which speaks for all of them.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import TypedDict

import orjson
import structlog

from bridge.gateway.accept import Acceptor, Loads
from bridge.gateway.app import Health
from bridge.gateway.connections import Connections
from bridge.observability.metrics import Metrics, Snapshot

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG = 1  # prctl(2)
_SIZE = Struct("=Q")


class Report(TypedDict):
    """How a worker is: why it is not ready, if so, and what it has measured.

    `asked` is how often it has been asked for a report by now.
    """

    asked: int
    not_ready_because: str | None
    metrics: Snapshot


@dataclass(frozen=True, slots=True)
class Handed:
    """What a parent process hands down, as descriptors; `index` counts from 0."""

    parent: int
    index: int
    processes: int
    listener: int
    loads: int
    control: int

    @classmethod
    def parse(cls, text: str) -> "Handed":
        """Read what `str` has written. Raises ValueError."""
        numbers = [int(number) for number in text.split(",")]
        if len(numbers) != len(cls.__dataclass_fields__):
            raise ValueError("not what a parent process hands down")
        return cls(*numbers)

    def __str__(self) -> str:
        return ",".join(str(getattr(self, name)) for name in self.__dataclass_fields__)


def sent(files: Mapping[str, bytes]) -> bytes:
    """The files of the configuration in use, as a worker is sent them before all else."""
    content = orjson.dumps({path: b64encode(each).decode() for path, each in files.items()})
    return _SIZE.pack(len(content)) + content


def _received(control: socket.socket) -> dict[str, bytes]:
    """What `sent` has made. Raises EOFError if the parent has ended."""
    (size,) = _SIZE.unpack(_exactly(control, _SIZE.size))
    return {path: b64decode(each) for path, each in orjson.loads(_exactly(control, size)).items()}


def _exactly(control: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        if not (piece := control.recv(size - len(content))):
            raise EOFError("the parent process is gone")
        content += piece
    return content


class Worker:
    """This process, as one of several.

    `files` are those of the configuration that the others serve by. On the disk there may be
    another one by now, which they refuse.
    """

    def __init__(self, handed: Handed) -> None:
        """Wait for the configuration, too."""
        self.listener = socket.socket(fileno=handed.listener)
        self._index = handed.index
        self._loads = Loads(handed.loads, handed.processes)
        self._control = socket.socket(fileno=handed.control)
        self.files = _received(self._control)
        self._control.setblocking(False)

    @classmethod
    def of(cls, handed: str) -> "Worker":
        """Take what a parent process has handed down, and end with it. Raises ValueError."""
        parsed = Handed.parse(handed)
        die_with(parsed.parent)
        return cls(parsed)

    def acceptor(
        self, connections: Connections, new_protocol: Callable[[], asyncio.Protocol]
    ) -> Acceptor:
        """Accept connections from now on."""
        acceptor = Acceptor(
            self.listener, self._loads, self._index, lambda: len(connections.open), new_protocol
        )
        connections.on_closed = acceptor.show
        return acceptor

    def reports(self, health: Health, metrics: Metrics) -> "Reports":
        """What answers the parent when it asks."""
        return Reports(self._control, health, metrics)


class Reports(asyncio.Protocol):
    """Answers the parent, in the place of the private listener's server.

    Each byte asks for a report, a line of JSON. The first comes unasked: the process serves. So
    does the last: it has stopped.
    """

    def __init__(self, control: socket.socket, health: Health, metrics: Metrics) -> None:
        self._control = control
        self._health = health
        self._metrics = metrics
        self._asked = 0
        self._transport: asyncio.WriteTransport | None = None
        self._exit = asyncio.Event()

    @property
    def should_exit(self) -> bool:
        """Whether it is to end, as uvicorn's servers have it."""
        return self._exit.is_set()

    @should_exit.setter
    def should_exit(self, _: bool) -> None:
        self._exit.set()

    async def serve(self, _: object = None) -> None:
        """Answer until it is to end."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_unix_connection(lambda: self, sock=self._control)
        await self._exit.wait()
        self._write()
        transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say that this process serves."""
        self._transport = transport  # type: ignore[assignment]  # a socket's is both
        self._write()

    def data_received(self, data: bytes) -> None:
        """Answer, once to all that was asked meanwhile."""
        self._asked += len(data)
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        """End at once, as the parent has: nobody would restart, watch or drain this process."""
        del exc
        if not self._exit.is_set():
            log.error("parent process is gone")
            logging.shutdown()
            os.kill(os.getpid(), signal.SIGKILL)

    def _write(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            report = Report(
                asked=self._asked,
                not_ready_because=self._health.why_not_ready,
                metrics=self._metrics.snapshot(),
            )
            self._transport.write(orjson.dumps(report) + b"\n")


def die_with(parent: int) -> None:
    """Have the kernel end this process with its parent, however that ends.

    What does not support it leaves it to Reports, which a process that hangs does not come to.
    """
    if sys.platform == "linux":
        # ctypes itself may be out of reach where memory is never writable and executable.
        with contextlib.suppress(ImportError, OSError, AttributeError, MemoryError):
            import ctypes  # noqa: PLC0415 -- as said

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended before
        os.kill(os.getpid(), signal.SIGKILL)
