"""Says what the figures mean: tables in Markdown, and whether each bar is met."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.bars import Bar, at_least, at_most
from benchmarks.figures import (
    ALONE,
    BESIDE,
    CLOSED,
    FAIR,
    FORMER,
    HOSTILE,
    LONE,
    ONE_PROCESS,
    OPEN_80,
    OPEN_HALF,
    PART,
    POST,
    PROCESSES,
    PRODUCE,
    SOAK,
    START,
    TWO_GATEWAYS,
    TWO_PROCESSES,
    WATCHED,
    Results,
    Spread,
)
from benchmarks.peers import report as peers
from benchmarks.tables import Row, cell, markdown, percent, short, span, whole
from benchmarks.watched import ALL, METRICS, OFF, TRACED, USUAL
from tests.hostile.corpus import FULL

PAGE = Path(__file__).with_name("figures.md")
# Throughput, by the states of a document.
TIMES_OF_BASELINE = {100: 3.5, 10: 2.5, 1: 1.5}
NOISE = 1.05  # what two medians of the same thing may differ by
SOAK_DRIFT = 1.1
HOSTILE_ROWS = 12


def lines(results: Results) -> Iterator[str]:
    """Yield the whole report."""
    for section in sections(results).values():
        yield from section


def sections(results: Results) -> dict[str, Iterable[str]]:
    """Return the parts of the report that were measured, by the name of their place on the page."""
    kinds = {sample.kind for sample in results.samples}
    found: dict[str, Iterable[str]] = {}
    if kinds - peers.KINDS:
        found["figures"] = _section(results, _tables(results), _bars(results))
    if kinds & peers.KINDS:
        found["peers"] = _section(results, peers.tables(results), peers.bars(results))
    return found


def _section(
    results: Results, tables: Iterable[tuple[str, Iterable[Row]]], held: Iterable[Bar]
) -> Iterator[str]:
    yield "; ".join(f"{name}: {value}" for name, value in results.about.items()) + "."
    yield ""
    for title, table in tables:
        rows = list(table)
        if len(rows) > 1:
            yield from (f"**{title}**", "", *markdown(rows), "")
    yield from ("**Required**", "")
    rows = [bar.row() for bar in held]
    yield from markdown([("what", "required", "median (min to max)", ""), *rows])


def write_figures(results: Results, page: Path = PAGE) -> None:
    """Put what was measured between its marks on the page. ValueError without them."""
    for name, section in sections(results).items():
        begin, end = f"<!-- {name}: written by the benchmark -->\n", f"<!-- end of {name} -->\n"
        head, begun, rest = page.read_text().partition(begin)
        _, ended, tail = rest.partition(end)
        if not begun or not ended:
            raise ValueError(f"{page} has no place for the {name}")
        page.write_text("".join((head, begin, "\n", "\n".join(section), "\n\n", end, tail)))


def bars(results: Results) -> list[Bar]:
    """Hold the medians against what is required."""
    return [*_bars(results), *peers.bars(results)]


def _bars(results: Results) -> list[Bar]:
    parts = ("parse", "publish")
    throughput = ("states_per_second",)
    baseline, constant = ("baseline",), ("constant",)
    ratio = results.ratio
    return [
        *(
            at_least(
                f"{states} a document: states per second, of the baseline's",
                times,
                ratio(CLOSED, "bridge", baseline, states, *throughput),
            )
            for states, times in TIMES_OF_BASELINE.items()
        ),
        at_most(
            "100 states: p99 at 80 % of the baseline's capacity, of the baseline's",
            0.25,
            ratio(OPEN_80, "bridge", baseline, 100, "p99_ms"),
        ),
        at_most(
            "100 states: CPU per state, of parsing and batched publishing alone",
            1.5,
            ratio(CLOSED, "bridge", parts, 100, "cpu_us"),
        ),
        at_least(
            "1 state: requests per second, of the constant answer's",
            0.45,
            ratio(CLOSED, "bridge", constant, 1, *throughput),
        ),
        at_most(
            "1 state: p99 at half of its own capacity, of the baseline's at half of its own",
            1.0,
            ratio(OPEN_HALF, "bridge", baseline, 1, "p99_ms"),
        ),
        at_most(
            "a lone post to an idle gateway: p50, of a produce request's",
            1.5,
            ratio(LONE, POST, (PRODUCE,), 1, "p50_ms"),
        ),
        at_most(
            "1 state beside documents of 10,000: p99, ms",
            40,
            results.spread(FAIR, BESIDE, 1, "p99_ms"),
        ),
        *_no_slower(results),
        *_flat_costs(results),
        *_flat_soak(results),
        *_cheap_watching(results),
        *_bounded_hostility(results),
        at_most("exec to `/livez`, of the imports alone", 2.0, _start_ratio(results)),
    ]


def _no_slower(results: Results) -> Iterator[Bar]:
    """Yield the throughput of each size, of the former commit's, if there is one."""
    for states in results.sizes(CLOSED):
        found = results.ratio(CLOSED, "bridge", (FORMER,), states, "states_per_second")
        if found is not None:
            what = f"{states:,} a document: states per second, of the former commit's"
            yield at_least(what, round(1 / NOISE, 2), found)


def _flat_costs(results: Results) -> Iterator[Bar]:
    """Yield the CPU time per state of each size, of that of the size before."""
    sizes = [states for states in results.sizes(CLOSED) if states >= 10]  # noqa: PLR2004
    for smaller, larger in pairwise(sizes):
        pairs = zip(
            results.rounds(CLOSED, "bridge", larger, "cpu_us"),
            results.rounds(CLOSED, "bridge", smaller, "cpu_us"),
            strict=False,
        )
        found = Spread.of(after / before for after, before in pairs)
        yield at_most(f"CPU per state with {larger:,}, of that with {smaller:,}", NOISE, found)


def _flat_soak(results: Results) -> Iterator[Bar]:
    """Yield the last third of a long run, of its first third."""
    for figure, what in (
        ("states_per_second", "throughput"),
        ("rss_mb", "memory"),
        ("p99_ms", "p99"),
    ):
        found = _drift([s.figures[figure] for s in results.samples if s.kind == SOAK])
        title = f"long run: {what} in its last third, of its first"
        if figure == "states_per_second":
            yield at_least(title, round(1 / SOAK_DRIFT, 2), found)
        else:
            yield at_most(title, SOAK_DRIFT, found)


def _drift(windows: Sequence[float]) -> Spread | None:
    third = len(windows) // 3
    if not third:
        return None
    first = median(windows[:third])
    return Spread.of(value / first for value in windows[-third:])


def _cheap_watching(results: Results) -> Iterator[Bar]:
    """Yield what is left of the throughput with metrics and logs, each a bar."""
    for states in results.sizes(WATCHED) or (1, 100):
        found = results.ratio(WATCHED, USUAL, (OFF,), states, "states_per_second")
        what = f"metrics and logs, {states:,} a document: throughput, of that without them"
        yield at_least(what, 0.9, found)


def _bounded_hostility(results: Results) -> Iterator[Bar]:
    """Yield what the costliest body takes, of an honest one's; those within every limit apart."""
    spreads = {name: spread for name, spread in _hostile(results).items() if spread}
    for what, limit, full in (
        ("hostile body of 4 MB: CPU of the costliest, of an honest one's", 1.5, False),
        ("the same of those that keep to every limit", 2.0, True),
    ):
        found = [spread for name, spread in spreads.items() if (name in FULL) is full]
        yield at_most(what, limit, max(found, key=lambda s: s.median, default=None))


def _hostile(results: Results) -> dict[str, Spread | None]:
    names = dict.fromkeys(s.subject for s in results.samples if s.kind == HOSTILE)
    return {name: results.spread(HOSTILE, name, 0, "of_honest") for name in names}


def _start_ratio(results: Results) -> Spread | None:
    started = [s.figures for s in results.samples if s.kind == START]
    return Spread.of(f["livez_ms"] / f["imports_ms"] for f in started) if started else None


# --- tables ------------------------------------------------------------------------------


def _tables(results: Results) -> Iterator[tuple[str, Iterable[Row]]]:
    yield "Closed loop: as fast as answers come", _closed(results)
    yield "Ratios within each round", _ratios(results)
    yield "What the parts alone cost", _parts(results)
    yield "Open loop: latency from the scheduled time, all rounds together", _open(results)
    yield "Start and memory", _start(results)
    yield "Two gateway processes against one, on shared cores", _processes(results)
    yield "Posts one at a time to an idle gateway, beside a produce request alone", _lone(results)
    yield "One-state posts beside documents of 10,000 states", _fairness(results)
    yield "Watched less and more", _watched(results)
    yield "Hostile bodies of 4 MB, the costliest first", _hostile_rows(results)
    yield "Long run at full load, 100 states a document", _soak(results)


def _closed(results: Results) -> Iterator[Row]:
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "states/s": ("states_per_second", whole),
        "requests/s": ("requests_per_second", whole),
        "CPU us a state": ("cpu_us", short),
        "p50 ms": ("p50_ms", short),
        "p99 ms": ("p99_ms", short),
        "memory MB": ("rss_mb", whole),
        "gateway's core": ("gateway_share", percent),
        "broker": ("broker_share", percent),
        "generator": ("generator_share", percent),
        "failed": ("failed", whole),
    }
    yield "states a document", "gateway", *columns
    for states in results.sizes(CLOSED):
        for name in ("bridge", FORMER, "baseline", "tuned", "constant"):
            spreads = [
                (results.spread(CLOSED, name, states, figure), form)
                for figure, form in columns.values()
            ]
            if spreads[0][0] is not None:
                cells = [cell(spread, form) for spread, form in spreads]
                yield f"{states:,}", name, *cells


def _ratios(results: Results) -> Iterator[Row]:
    yield "states a document", "what", "median", "min to max"
    wanted = (
        ("states/s, bridge to baseline", "states_per_second", ("baseline",)),
        ("states/s, bridge to tuned baseline", "states_per_second", ("tuned",)),
        ("states/s, bridge to its former commit", "states_per_second", (FORMER,)),
        ("CPU a state, bridge to its former commit", "cpu_us", (FORMER,)),
        ("states/s, bridge to constant answer", "states_per_second", ("constant",)),
        ("CPU a state, bridge to baseline", "cpu_us", ("baseline",)),
        ("CPU a state, bridge to parsing and publishing alone", "cpu_us", ("parse", "publish")),
    )
    for states in results.sizes(CLOSED):
        for what, figure, under in wanted:
            found = results.ratio(CLOSED, "bridge", under, states, figure)
            if found is not None:
                yield f"{states:,}", what, f"{found.median:.3g}", span(found)


def _parts(results: Results) -> Iterator[Row]:
    yield "states a document", "part", "CPU us a state", "states/s"
    for states in results.sizes(PART):
        for part in ("parse", "publish"):
            cpu = results.spread(PART, part, states, "cpu_us")
            rate = results.spread(PART, part, states, "states_per_second")
            yield f"{states:,}", part, cell(cpu, short), cell(rate, whole)


def _open(results: Results) -> Iterator[Row]:
    figures = ("posts/s", "p50 ms", "p99 ms", "p99.9 ms", "answers", "failed", "late p99 ms")
    yield "states a document", "load", "gateway", *figures
    for kind in (OPEN_80, OPEN_HALF):
        for pooled in results.pooled:
            if pooled.kind != kind:
                continue
            place = kind, pooled.subject, pooled.states
            rate = results.median(*place, "requests_per_second") or 0.0
            late = results.median(*place, "late_p99_ms") or 0.0
            latencies = [short(pooled.figures[f"p{p}_ms"]) for p in ("50", "99", "999")]
            counts = [whole(pooled.figures[name]) for name in ("answers", "failed")]
            load = kind.removeprefix("open at ")
            row = (load, pooled.subject, short(rate), *latencies, *counts, short(late))
            yield f"{pooled.states:,}", *row


def _start(results: Results) -> Iterator[Row]:
    yield "what", "median", "min to max"
    for figure, what in (
        ("imports_ms", "imports alone, ms"),
        ("livez_ms", "exec to `/livez`, ms"),
        ("readyz_ms", "exec to `/readyz`, ms"),
        ("idle_mb", "resident, idle, MB"),
    ):
        found = results.spread(START, "bridge", 0, figure)
        if found:
            yield what, short(found.median), span(found)


def _processes(results: Results) -> Iterator[Row]:
    figures = (
        ("states_per_second", whole),
        ("p99_ms", short),
        ("cpu_us", short),
        *((f"{who}_share", percent) for who in ("gateway", "broker", "generator")),
    )
    shares = "gateway", "broker", "generator"
    yield "states a document", "processes", "states/s", "p99 ms", "CPU us a state", *shares
    for states in results.sizes(PROCESSES):
        for name in (ONE_PROCESS, TWO_GATEWAYS, TWO_PROCESSES):
            cells = [cell(results.spread(PROCESSES, name, states, f), form) for f, form in figures]
            yield f"{states:,}", name, *cells


def _lone(results: Results) -> Iterator[Row]:
    yield "what", "p50 ms", "p99 ms"
    for name in (PRODUCE, "constant", "baseline", POST):
        cells = [cell(results.spread(LONE, name, 1, f), short) for f in ("p50_ms", "p99_ms")]
        if any(cells):
            yield name, *cells


def _fairness(results: Results) -> Iterator[Row]:
    yield "one-state posts", "p50 ms", "p99 ms", "p99.9 ms"
    for name in (ALONE, BESIDE):
        cells = [
            cell(results.spread(FAIR, name, 1, f), short) for f in ("p50_ms", "p99_ms", "p999_ms")
        ]
        if any(cells):
            yield name, *cells


def _watched(results: Results) -> Iterator[Row]:
    unit = "of that with nothing on"
    yield "states a document", "on", "states/s", unit, "CPU us a state", unit, "least CPU us"
    figures = (("states_per_second", whole), ("cpu_us", short))
    for states in results.sizes(WATCHED):
        for name in (OFF, METRICS, USUAL, TRACED, ALL):
            cells = []
            for figure, form in figures:
                cells.append(cell(results.spread(WATCHED, name, states, figure), form))
                cells.append(cell(results.ratio(WATCHED, name, (OFF,), states, figure), short))
            cpu = results.spread(WATCHED, name, states, "cpu_us")
            yield f"{states:,}", name, *cells, short(cpu.low) if cpu else ""


def _hostile_rows(results: Results) -> Iterator[Row]:
    yield "body", "CPU, of an honest one's of the same size", "CPU ms"
    found = [(name, spread) for name, spread in _hostile(results).items() if spread]
    for name, spread in sorted(found, key=lambda each: -each[1].median)[:HOSTILE_ROWS]:
        cpu = results.spread(HOSTILE, name, 0, "cpu_ms")
        yield name.replace("_", " "), cell(spread, short), cell(cpu, short)


def _soak(results: Results) -> Iterator[Row]:
    yield "part of the run", "states/s", "p99 ms", "memory MB"
    windows = [sample.figures for sample in results.samples if sample.kind == SOAK]
    third = len(windows) // 3
    if third:
        for name, part in (
            ("first third", windows[:third]),
            ("second", windows[third:-third]),
            ("last", windows[-third:]),
        ):
            rates, p99, memory = (
                Spread.of(w[f] for w in part) for f in ("states_per_second", "p99_ms", "rss_mb")
            )
            yield name, cell(rates, whole), cell(p99, short), cell(memory, whole)
