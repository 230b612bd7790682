"""Measures the gateways in turns: as fast as answers come, then all at one rate."""

import math
from collections.abc import Callable, Mapping
from statistics import median

from benchmarks.figures import PEERS, PEERS_OPEN, turned
from benchmarks.load import Closed, Generators
from benchmarks.peers.gateways import BRIDGE, Gateway

# A gateway is warm when another measurement is not so much cheaper: JVMs compile for long.
MAX_WARM_UPS, STILL_COLD = 10, 0.95
SHARE_OF_BRIDGE = 0.5

Add = Callable[[str, str, int, int, dict[str, float]], None]


class Phase:
    """Rounds of measurements, each of so many seconds, of all gateways; `add` is given each."""

    def __init__(
        self,
        gateways: Mapping[str, Gateway],
        generators: Generators,
        add: Add,
        rounds: int,
        seconds: float,
    ) -> None:
        self._gateways = gateways
        self._generators = generators
        self._add = add
        self._rounds = rounds
        self._seconds = seconds

    def measure(self, states: int) -> None:
        """Measure with documents of so many states."""
        for gateway in self._gateways.values():
            self._warm_up(gateway, states)
        rates = [self._closed_round(states, number)[BRIDGE] for number in range(self._rounds)]
        for number in range(self._rounds):
            self._open_round(states, number, SHARE_OF_BRIDGE * median(rates))

    def _warm_up(self, gateway: Gateway, states: int) -> None:
        cost = math.inf
        for _ in range(MAX_WARM_UPS):
            done = self._closed(gateway, states)
            before, cost = cost, done.gateway_cpu / max(1, done.requests)
            if cost > STILL_COLD * before:
                return

    def _closed_round(self, states: int, number: int) -> dict[str, float]:
        """Return the documents a second of each."""
        rates = {}
        for name, gateway in turned(self._gateways, number):
            before = gateway.written()
            done = self._closed(gateway, states)
            # What wrk has begun when its time is over is published and not counted.
            missing = max(0, done.requests * states - (gateway.written() - before))
            figures = {**done.figures(states), "missing": float(missing)}
            self._add(PEERS, name, states, number, figures)
            rates[name] = figures["requests_per_second"]
        return rates

    def _open_round(self, states: int, number: int, rate: float) -> None:
        for name, gateway in turned(self._gateways, number):
            done = self._generators.open(
                gateway.program, states, rate, self._seconds, listed=states
            )
            if done.latencies_ms:
                self._add(PEERS_OPEN, name, states, number, done.figures(states))

    def _closed(self, gateway: Gateway, states: int) -> Closed:
        return self._generators.closed(
            [gateway.program], states, self._seconds, connections_for(states)
        )


def connections_for(states: int) -> int:
    """How many connections a closed loop has, for documents of this size."""
    return 64 if states <= 10 else 16  # noqa: PLR2004
