"""How long small requests take while large documents stream in: `python -m tests.fairness`.

The real program on the in-memory broker. Small POSTs of one state, middling ones of 41 kB and GETs
of `/livez`, one at a time each, first alone and then beside connections that post large bodies
without a pause.
"""

import argparse
import http.client
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

from bridge.demo.child import wait_until
from bridge.demo.embedded_broker import EmbeddedBroker
from tests.hostile.corpus import LARGE
from tests.support.gateway import Gateway, configuration

STATES = 10_000
MIDDLING_STATES = 440
PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.005  # between two small requests
_STATE = (
    '<state id_sms="@@@@@@{:05}" time="2011-01-01 12:57:46" sms="read" viber="read">read</state>'
)
_MANY = f"<response>{''.join(_STATE.format(n) for n in range(STATES))}</response>".encode()
_LARGEST = f"<response>{''.join(_STATE.format(n) for n in range(37_500))}</response>".encode()
_MIDDLING = (
    f"<response>{''.join(_STATE.format(n) for n in range(MIDDLING_STATES))}</response>".encode()
)


@dataclass(slots=True)
class Latencies:
    """Seconds to the answer, as requests at a steady rate would have seen them.

    While one waits, those that would have come meanwhile wait too: each is counted with what
    was left of the wait.
    """

    seconds: list[float] = field(default_factory=list)
    answers: int = 0

    def add(self, seconds: float) -> None:
        """One answer, and those that it held up."""
        self.answers += 1
        while seconds > 0:
            self.seconds.append(seconds)
            seconds -= PAUSE_SECONDS

    def quantile(self, q: float) -> float:
        """In milliseconds; 1.0 gives the longest."""
        ranked = sorted(self.seconds)
        return ranked[min(int(q * len(ranked)), len(ranked) - 1)] * 1000

    def __str__(self) -> str:
        p50, p90, p99, longest = (self.quantile(q) for q in (0.5, 0.9, 0.99, 1.0))
        return f"p50 {p50:.1f}  p90 {p90:.1f}  p99 {p99:.1f}  max {longest:.1f} ms"


@dataclass(slots=True)
class Figures:
    """What was seen: the small POSTs, the health checks, and how many large bodies went in."""

    posts: Latencies = field(default_factory=Latencies)
    middling: Latencies = field(default_factory=Latencies)
    health: Latencies = field(default_factory=Latencies)
    large: int = 0
    served: int = 0  # middling POSTs that were acknowledged
    refused: int = 0  # small and middling POSTs that were not acknowledged

    def __str__(self) -> str:
        return (
            f"post: {self.posts}   middling: {self.middling}   livez: {self.health}   "
            f"large bodies: {self.large}"
        )


def largest(number: int) -> bytes:
    """An honest document of 3.5 MB, of which 10,000 states are processed."""
    return _LARGEST.replace(b"@@@@@@", b"%06d" % number)


def middling(number: int) -> bytes:
    """An honest document of 41 kB: too large to be read on the event loop."""
    return _MIDDLING.replace(b"@@@@@@", b"%06d" % number)


def many_states(number: int) -> bytes:
    """An honest document of 10,000 states, near 1 MB, whose ids no other number has."""
    return _MANY.replace(b"@@@@@@", b"%06d" % number)


def hostile(name: str) -> Callable[[int], bytes]:
    """The body of that name in the corpus, always the same."""
    body = LARGE[name][0]()
    return lambda _: body


def measure(
    gateway: Gateway, seconds: float, *large: Callable[[int], bytes], least: int = 0
) -> Figures:
    """Send small requests for so long, with one connection for each source of large bodies.

    It takes longer where fewer than `least` large ones have gone in by then.
    """
    figures = Figures()
    numbers = count()
    stop = threading.Event()

    def small_post() -> None:
        body = f'<response><state id_sms="s{next(numbers)}" time="">send</state></response>'
        status, answer = _request(posts, "POST", "/webhook", body.encode())
        figures.refused += status != 200 or b"<id_sms>" not in answer

    def middling_post() -> None:
        status, answer = _request(others, "POST", "/webhook", middling(next(numbers)))
        is_served = status == 200 and answer.count(b"<id_sms>") == MIDDLING_STATES
        figures.served += is_served
        figures.refused += not is_served

    def large_posts(make: Callable[[int], bytes]) -> None:
        with _connection(gateway.server_address) as connection:
            while not stop.is_set():
                _request(connection, "POST", "/webhook", make(next(numbers)))
                figures.large += 1

    with (
        _connection(gateway.server_address) as posts,
        _connection(gateway.server_address) as others,
        _connection(_admin_address(gateway)) as admin,
    ):
        threads = [
            threading.Thread(target=_time, args=(figures.posts, stop, small_post)),
            threading.Thread(target=_time, args=(figures.middling, stop, middling_post)),
            threading.Thread(
                target=_time, args=(figures.health, stop, lambda: _request(admin, "GET", "/livez"))
            ),
            *(threading.Thread(target=large_posts, args=(make,)) for make in large),
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        try:
            wait_until(
                lambda: figures.large >= least, "enough large bodies", seconds=PATIENCE_SECONDS
            )
        finally:
            stop.set()
        for thread in threads:
            thread.join()
    return figures


def _time(latencies: Latencies, stop: threading.Event, work: Callable[[], object]) -> None:
    while not stop.wait(PAUSE_SECONDS):
        started = time.perf_counter()
        work()
        latencies.add(time.perf_counter() - started)


def _admin_address(gateway: Gateway) -> tuple[str, int]:
    """Where `/livez` is, as the program's first log line says."""
    (line,) = [line for line in gateway.logs() if line["event"] == "listening"]
    host, port = line["admin"].rsplit(":", 1)
    return host, int(port)


@contextmanager
def _connection(address: tuple[str, int]) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        yield connection
    finally:
        connection.close()


def _request(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


SCENES: dict[str, list[Callable[[], Callable[[int], bytes]]]] = {
    "alone": [],
    "10,000 states twice": [lambda: many_states, lambda: many_states],
    "10,000 states, hostile": [lambda: many_states, lambda: hostile("full_states")],
    "largest six times": [lambda: largest] * 6,
    "hostile twice": [lambda: hostile("states"), lambda: hostile("references")],
}


def main() -> None:
    """Print the figures of each scene."""
    parser = argparse.ArgumentParser(prog="python -m tests.fairness", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each scene")
    seconds = parser.parse_args().seconds
    with EmbeddedBroker("fair", "fair.rejected") as broker:
        config = configuration(broker.bootstrap_servers, "fair")
        with Gateway(config) as gateway:
            for scene, sources in SCENES.items():
                figures = measure(gateway, seconds, *(source() for source in sources))
                sys.stdout.write(f"{scene:24} {figures}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
