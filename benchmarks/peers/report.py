"""The tables, the bars and the plot of the bridge among its peers."""

from collections.abc import Callable, Iterable, Iterator

from benchmarks.bars import Bar, at_most
from benchmarks.figures import PEERS as CLOSED
from benchmarks.figures import PEERS_OPEN as OPEN
from benchmarks.figures import Results, Spread
from benchmarks.peers.gateways import BRIDGE
from benchmarks.peers.programs import BRIDGE_HAS, PEERS
from benchmarks.plot import Series, line, panel, picture
from benchmarks.tables import Row, cell, percent, short, whole

KINDS = frozenset({CLOSED, OPEN})
NAMES = (BRIDGE, *(peer.name for peer in PEERS))
# Whose CPU time a record the bridge's must not exceed, and how often that of a plain Go gateway.
SLOWER_PEERS, SMALL = ("node", "benthos", "spring"), (1, 10)
TIMES_OF_GO = 1.3


def tables(results: Results) -> Iterator[tuple[str, Iterable[Row]]]:
    """Yield each table with its title."""
    yield "The bridge among its peers: as fast as answers come", _closed(results)
    yield "All at half of the bridge's throughput: latency from the scheduled time", _open(results)
    yield "What each has that the bridge has", _has(results)


def bars(results: Results) -> list[Bar]:
    """Hold the bridge against its peers, and each of them against what it was sent."""

    def cost(states: int, name: str) -> Spread | None:
        return results.ratio(CLOSED, BRIDGE, (name,), states, "cpu_us")

    ahead = [
        at_most(f"{states} a document: CPU a record, of {name}'s", 1.0, cost(states, name))
        for states in SMALL
        for name in SLOWER_PEERS
    ]
    missing = [s.figures["missing"] for s in results.samples if "missing" in s.figures]
    most = Spread.of([max(missing)]) if missing else None
    return [
        *ahead,
        at_most("100 a document: CPU a record, of go's", TIMES_OF_GO, cost(100, "go")),
        at_most("acknowledged records that are missing", 0, most),
    ]


def _closed(results: Results) -> Iterator[Row]:
    of_bridge = "of the bridge's"
    figures = ("records/s", of_bridge, "CPU us a record", of_bridge)
    rest: dict[str, tuple[str, Callable[[float], str]]] = {
        "p99 ms": ("p99_ms", short),
        "memory MB": ("rss_mb", whole),
        "gateway's core": ("gateway_share", percent),
        "failed": ("failed", whole),
        "missing": ("missing", whole),
    }
    yield "states a document", "gateway", *figures, *rest
    for states in results.sizes(CLOSED):
        for name in NAMES:
            place = CLOSED, name, states
            cells = []
            for figure, form in (("states_per_second", whole), ("cpu_us", short)):
                cells.append(cell(results.spread(*place, figure), form))
                cells.append(cell(results.ratio(CLOSED, name, (BRIDGE,), states, figure), short))
            cells += [cell(results.spread(*place, figure), form) for figure, form in rest.values()]
            if any(cells):
                yield f"{states:,}", name, *cells


def _open(results: Results) -> Iterator[Row]:
    yield "states a document", "gateway", "posts/s", "p50 ms", "p99 ms", "CPU us a record", "failed"
    figures = (
        ("requests_per_second", short),
        ("p50_ms", short),
        ("p99_ms", short),
        ("cpu_us", short),
        ("failed", whole),
    )
    for states in results.sizes(OPEN):
        for name in NAMES:
            cells = [cell(results.spread(OPEN, name, states, f), form) for f, form in figures]
            if any(cells):
                yield f"{states:,}", name, *cells


def _has(results: Results) -> Iterator[Row]:
    yield (
        "gateway",
        "made of",
        "partial acknowledgement",
        "dead letters",
        "stable ids",
        "limits",
        "supervision",
    )
    measured = {sample.subject for sample in results.samples if sample.kind in KINDS}
    yield BRIDGE, "", *BRIDGE_HAS
    for peer in PEERS:
        if peer.name in measured:
            yield peer.name, peer.made_of, *peer.has


def draw(results: Results) -> str:
    """Return the picture: records a second, and records a second of CPU time."""
    per_cpu_second = {
        name: [(states, 1e6 / cost) for states, cost in line(results, CLOSED, name, "cpu_us")]
        for name in NAMES
    }
    per_second: Series = {name: line(results, CLOSED, name, "states_per_second") for name in NAMES}
    return picture(
        panel(0, "records per second (closed loop)", per_second),
        panel(1, "records per second of CPU time", per_cpu_second),
    )
