"""The connections of one listener: how many there may be, and which goes when there are more."""

from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

MAX_CONNECTIONS = 10_000  # each costs some 8 KB
MAX_HEAD_BYTES = 16 * 1024 * 1024  # of all heads that are not complete


class Connection(Protocol):
    """What is known of a connection here; `head_bytes` are of a head that is not complete."""

    head_bytes: int

    def cut(self) -> None:
        """End it at once."""
        ...


Refused = Callable[[HTTPStatus, str, str | None], None]
"""Called with what no application sees: the status that is answered, why, and the peer."""


def _unseen(*_: object) -> None:
    """For a listener that nobody watches."""


@dataclass(slots=True)
class Connections:
    """The open connections of one listener, bounded in number and in bytes of unfinished heads.

    Those without a request under way are `silent`, in the order in which they became so; beyond a
    limit the one that has been silent longest is cut, whether it is a client's pool or an attack.
    """

    limit: int = MAX_CONNECTIONS
    refused: Refused = _unseen
    on_cut: Callable[[], None] = _unseen
    on_closed: Callable[[], None] = _unseen
    open: set[Connection] = field(default_factory=set)
    silent: dict[Connection, None] = field(default_factory=dict)
    head_bytes: int = 0

    def opened(self, connection: Connection) -> None:
        """Count a new connection, at the cost of the one that has been silent longest."""
        self.open.add(connection)
        self.silent[connection] = None
        if len(self.open) > self.limit:
            self._cut(next(iter(self.silent)))

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self.open.discard(connection)
        self.busy(connection)
        self.on_closed()

    def busy(self, connection: Connection) -> None:
        """Note that a request has begun: its head is complete."""
        self.silent.pop(connection, None)
        self.head_bytes -= connection.head_bytes
        connection.head_bytes = 0

    def idle(self, connection: Connection) -> None:
        """Note that no request is under way any more."""
        self.silent[connection] = None

    def add_head_bytes(self, connection: Connection, count: int) -> None:
        """Count bytes of a head that is not complete, at the cost of the oldest such heads."""
        connection.head_bytes += count
        self.head_bytes += count
        while self.head_bytes > MAX_HEAD_BYTES:
            self._cut(next(c for c in self.silent if c.head_bytes))

    def _cut(self, connection: Connection) -> None:
        self.on_cut()
        self.closed(connection)
        connection.cut()
