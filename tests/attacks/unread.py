"""3: answers that are not read."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from tests.attacks.rig import MAX_BODY_BYTES, MEGABYTE, Row, Target, resident, target
from tests.support.senders import document
from tests.support.wire import post

HELD_SECONDS = 35.0
READ_BYTES = 15
TIMEOUT_SECONDS = 10.0


def run() -> Iterator[Row]:
    """Long ids that are invalid, and many that are valid."""
    for number, name, body in (
        (20, "20 answers to an id of 4 MB", _long_id),
        (40, "40 answers to an id of 4 MB", _long_id),
        (40, "40 answers to 5,000 ids of 64 characters", _many_ids),
    ):
        with target() as it:
            yield name, _hold(it, number, body)


def _long_id(number: int) -> bytes:
    frame = len(document(""))
    return document(f"{number:03}".ljust(MAX_BODY_BYTES - frame, "z"))


def _many_ids(number: int) -> bytes:
    return document(*(f"{number}-{n}-".ljust(64, "z") for n in range(5000)))


def _hold(it: Target, number: int, body: Callable[[int], bytes]) -> str:
    before = resident(it.pid)
    with ExitStack() as stack:
        clients = []
        for n in range(number):
            client = stack.enter_context(_client(it))
            try:
                client.sendall(post("/open", body(n)))
                client.recv(READ_BYTES)
            except OSError:
                continue
            clients.append(client)
        held, gauges = resident(it.pid), it.in_flight()
        ended, seconds = _wait(clients)
    after = resident(it.pid)
    sizes = ", ".join(f"{n / MEGABYTE:.0f}" for n in (before, held, after))
    return (
        f"{sizes} MB resident before, while held, at the end; in flight while held: {gauges}; "
        f"{ended} of {len(clients)} connections ended within {seconds:.0f} s"
    )


def _client(it: Target) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(TIMEOUT_SECONDS)
    client.connect(it.public)
    return client


def _wait(clients: list[socket.socket]) -> tuple[int, float]:
    """How many were ended from the other side, without a byte read, and after how long."""
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLERR | select.POLLHUP)
    started = time.monotonic()
    ended: set[int] = set()
    while len(ended) < len(clients) and time.monotonic() < started + HELD_SECONDS:
        for number, _ in poll.poll(500):
            ended.add(number)
            poll.unregister(number)
    return len(ended), time.monotonic() - started
