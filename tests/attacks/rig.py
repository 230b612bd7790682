"""What the attacks share: a gateway on the in-memory broker, an honest sender, and a watch."""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Self

from bridge.demo.embedded_broker import EmbeddedBroker
from tests.support.gateway import Gateway, configuration
from tests.support.senders import document, memory
from tests.support.wire import Address, Wire, head, post

Row = tuple[str, str]

TOPIC = "attacks"
TOKEN = "a-token-for-attacks"
ALLOWED = "203.0.113.7"
ALONE_SECONDS = 4.0
SECONDS = 12.0
PAUSE_SECONDS = 0.05  # of the honest sender
PROBE_SECONDS = 0.02
MEGABYTE = 1_000_000
MAX_BODY_BYTES = 4 * 2**20

_ENDPOINT: dict[str, Any] = {"source": "urn:example:sms:main", "timezone": "UTC"}
ENDPOINTS: list[dict[str, Any]] = [
    _ENDPOINT | {"name": "open", "path": "/open", "auth": "none"},
    _ENDPOINT | {"name": "allowed", "path": "/allowed", "auth": {"allow": [ALLOWED]}},
    _ENDPOINT | {"name": "token", "path": "/token", "auth": {"tokens": [TOKEN]}},
]


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway under attack, and its broker."""

    gateway: Gateway
    broker: EmbeddedBroker

    @property
    def public(self) -> Address:
        return self.gateway.server_address

    @property
    def admin(self) -> Address:
        (line,) = [line for line in self.gateway.logs() if line["event"] == "listening"]
        host, port = line["admin"].rsplit(":", 1)
        return host, int(port)

    @property
    def pid(self) -> int:
        return self.gateway.process.pid

    def metrics(self) -> str:
        return self.gateway.admin("/metrics").body.decode()

    def in_flight(self) -> str:
        """What the gauges say."""
        series = re.compile(r"^sms_bridge_in_flight_(posts|bytes|states) (\S+)", re.MULTILINE)
        return ", ".join(f"{float(n):.0f} {what}" for what, n in series.findall(self.metrics()))

    def answers(self) -> Counter[int]:
        """The requests so far by code, of whatever endpoint."""
        series = re.compile(r'^sms_bridge_requests_total\{.*code="(\d+)".*\} (\S+)', re.MULTILINE)
        counts: Counter[int] = Counter()
        for code, number in series.findall(self.metrics()):
            counts[int(code)] += int(float(number))
        return counts


@contextmanager
def target(*, prefix: Sequence[str] = (), **sections: Any) -> Iterator[Target]:
    """A gateway with an open endpoint, one for an address and one for a token."""
    sections = {"endpoints": ENDPOINTS} | sections
    with EmbeddedBroker(TOPIC, f"{TOPIC}.rejected") as broker:
        config = configuration(broker.bootstrap_servers, TOPIC, **sections)
        with Gateway(config, prefix=prefix) as gateway:
            yield Target(gateway, broker)


@dataclass(slots=True)
class Honest:
    """Posts at a steady pace, one after the other, and notes what becomes of each."""

    address: Address
    path: str = "/open"
    lines: tuple[str, ...] = ()
    body: Callable[[int], bytes] = lambda n: document(f"honest{n}")
    statuses: Counter[int | None] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=count)
    elapsed: float = 0.0

    def go(self, seconds: float) -> None:
        """Post for so long."""
        with ExitStack() as stack:
            wire: Wire | None = None
            started = time.monotonic()
            while time.monotonic() < started + seconds:
                data = post(self.path, self.body(next(self.numbers)), *self.lines)
                before = time.monotonic()
                status = None
                try:
                    wire = wire or stack.enter_context(Wire(self.address))
                    wire.send(data)
                    reply = wire.reply()
                    status = reply.status
                    if reply.headers.get("connection") == "close":
                        wire = None
                except (OSError, EOFError):
                    wire = None
                self.seconds.append(time.monotonic() - before)
                self.statuses[status] += 1
                time.sleep(PAUSE_SECONDS)
            self.elapsed = time.monotonic() - started

    @property
    def rate(self) -> float:
        """Answered with 200, a second."""
        return self.statuses[200] / self.elapsed

    def of_all(self) -> str:
        others = {k: n for k, n in self.statuses.items() if k != 200}
        words = ", ".join(f"{n} {k or 'without answer'}" for k, n in others.items())
        return f"{self.statuses[200]} of {self.statuses.total()} were 200" + (
            f" ({words})" if words else ""
        )

    def milliseconds(self) -> str:
        ranked = sorted(self.seconds)
        return f"p50 {ranked[len(ranked) // 2] * 1000:.0f} ms, worst {ranked[-1] * 1000:.0f} ms"


class Watch:
    """Asks for `/livez` on new connections, and notes the most memory that the process had."""

    def __init__(self, target: Target) -> None:
        self._admin = target.admin
        self._pid = target.pid
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._probe, self._weigh)]
        self.livez: list[float] = []
        self.failed = 0
        self.peak = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        slowest = max(self.livez, default=0.0) * 1000
        return f"/livez {slowest:.0f} ms at most{failed}; {self.peak / MEGABYTE:.0f} MB resident"

    def _probe(self) -> None:
        while not self._stop.wait(PROBE_SECONDS):
            started = time.monotonic()
            try:
                with Wire(self._admin) as wire:
                    wire.send(head("GET", "/livez"))
                    self.failed += wire.reply().status != 200
            except (OSError, EOFError):
                self.failed += 1
            self.livez.append(time.monotonic() - started)

    def _weigh(self) -> None:
        while not self._stop.wait(PROBE_SECONDS):
            self.peak = max(self.peak, resident(self._pid))


def resident(pid: int) -> int:
    """Bytes that the process has in memory now."""
    return memory(pid)[0]


@contextmanager
def attackers(number: int, attack: Callable[[threading.Event], None]) -> Iterator[None]:
    """So many at once, each doing it again and again, whatever is done to its connections."""
    stop = threading.Event()

    def persist() -> None:
        while not stop.is_set():
            try:
                attack(stop)
            except (OSError, EOFError):
                stop.wait(0.01)

    threads = [threading.Thread(target=persist) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def beside(
    target: Target, number: int, attack: Callable[[threading.Event], None], honest: Honest
) -> str:
    """The honest sender alone, then beside the attack; and what the watch sees meanwhile."""
    alone = Honest(target.public, honest.path, honest.lines, honest.body, numbers=honest.numbers)
    alone.go(ALONE_SECONDS)
    with attackers(number, attack), Watch(target) as watch:
        honest.go(SECONDS)
    return f"{honest.rate:.1f} honest posts a second, alone {alone.rate:.1f}; {watch}"
