"""3: answers that are not read."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.attacks.rig import MAX_BODY_BYTES, MEGABYTE, Row, Target, Watch, resident, target
from tests.support.senders import document
from tests.support.wire import post

HELD_SECONDS = 35.0
READ_BYTES = 15
AT_ONCE = 6
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
    """Of characters that are escaped: the answer is four times as long."""
    return document(f"{number:03}".ljust(MAX_BODY_BYTES - len(document("")), ">"))


def _many_ids(number: int) -> bytes:
    return document(*(f"{number}-{n}-".ljust(64, "z") for n in range(5000)))


def _hold(it: Target, number: int, body: Callable[[int], bytes]) -> str:
    before = resident(it.pid)
    with ExitStack() as stack:
        clients = [stack.enter_context(_client(it)) for _ in range(number)]
        bodies = [body(n) for n in range(number)]
        with Watch(it) as watch, ThreadPoolExecutor(AT_ONCE) as senders:
            begun = list(senders.map(_post, clients, bodies))
        answered = [client for client, has in zip(clients, begun, strict=True) if has]
        held, gauges = resident(it.pid), it.in_flight()
        ended, seconds = _wait(it, len(answered))
    after = resident(it.pid)
    sizes = ", ".join(f"{n / MEGABYTE:.0f}" for n in (before, held, after))
    return (
        f"{sizes} MB resident before, while held, at the end; in flight while held: {gauges}; "
        f"{ended} of the {len(answered)} that were answered ended within {seconds:.0f} s; {watch}"
    )


def _post(client: socket.socket, body: bytes) -> bool:
    """Whether an answer other than 503 begins."""
    try:
        client.sendall(post("/open", body))
        return client.recv(READ_BYTES)[9:12] not in (b"", b"503")
    except OSError:
        return False


def _client(it: Target) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(TIMEOUT_SECONDS)
    client.connect(it.public)
    return client


def _wait(it: Target, number: int) -> tuple[int, float]:
    """How many connections the gateway has ended, and after how long.

    The kernel keeps what was written to a client that does not read: that one sees no end.
    """
    open_before = _files(it.pid)
    started = time.monotonic()
    ended = 0
    while ended < number and time.monotonic() < started + HELD_SECONDS:
        time.sleep(0.5)
        ended = open_before - _files(it.pid)
    return ended, time.monotonic() - started


def _files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
