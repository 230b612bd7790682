"""Draws throughput and latency against the states of a document, as an SVG of its own making."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import CLOSED, OPEN_80, PART, Results

WIDTH, HEIGHT = 420, 336  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 56, 48
LETTER, GAP = 7, 12  # of the legend, which is a line of names above the panel
COLOURS = {
    "bridge": "#0b6e4f",
    "baseline": "#c8553d",
    "ceiling": "#7a7f87",
    "go": "#1f77b4",
    "benthos": "#9467bd",
    "node": "#d18f00",
    "spring": "#c8553d",
}
STYLE = "font: 12px sans-serif; fill: #24292f"

Series = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class _Scale:
    """A logarithmic axis between two values, onto two pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> Iterator[float]:
        """Yield the powers of ten within."""
        for power in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1):
            yield 10.0**power


def draw(results: Results) -> str:
    """Return the whole picture."""
    return picture(
        panel(0, "states per second (closed loop)", _throughput(results)),
        panel(1, "p99 in ms at 80 % of the baseline's capacity", _latency(results)),
    )


def picture(*panels: str) -> str:
    """Return panels side by side."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {len(panels) * WIDTH} {HEIGHT}" '
        f'style="{STYLE}">\n<rect width="100%" height="100%" fill="white"/>\n'
        + "\n".join(panels)
        + "\n</svg>\n"
    )


def _throughput(results: Results) -> Series:
    found = {
        name: line(results, CLOSED, name, "states_per_second") for name in ("bridge", "baseline")
    }
    ceiling = []
    for states in results.sizes(CLOSED):
        costs = [
            results.median(CLOSED, "constant", states, "cpu_us"),
            results.median(PART, "parse", states, "cpu_us"),
            results.median(PART, "publish", states, "cpu_us"),
        ]
        known = [cost for cost in costs if cost]
        if len(known) == len(costs):
            ceiling.append((float(states), 1e6 / sum(known)))
    return {**found, "ceiling": ceiling}


def _latency(results: Results) -> Series:
    names = {"bridge": "bridge", "baseline": "baseline", "ceiling": "constant"}
    return {name: line(results, OPEN_80, of, "p99_ms") for name, of in names.items()}


def line(results: Results, kind: str, name: str, figure: str) -> list[tuple[float, float]]:
    """Return the median of a figure against the states of a document."""
    found = [(n, results.median(kind, name, n, figure)) for n in results.sizes(kind)]
    return [(float(states), value) for states, value in found if value]


def panel(place: int, title: str, series: Series) -> str:
    """Return the lines of one panel; places count from the left."""
    offset = place * WIDTH
    points = [point for curve in series.values() for point in curve]
    if not points:
        return ""
    across = _Scale(*_decades([x for x, _ in points]), offset + LEFT, offset + WIDTH - RIGHT)
    upward = _Scale(*_decades([y for _, y in points]), HEIGHT - BOTTOM, TOP)
    parts = [
        _text(offset + LEFT, TOP - 34, title, "start"),
        _text(offset + (LEFT + WIDTH) / 2, HEIGHT - 12, "states per document"),
        *_grid(across, upward),
    ]
    at = offset + LEFT
    for name, curve in series.items():
        parts += _curve(name, [(across(x), upward(y)) for x, y in curve])
        legend = _text(at, TOP - 14, name, "start", "")
        parts.append(f'<g fill="{COLOURS[name]}">{legend}</g>')
        at += LETTER * len(name) + GAP
    return "\n".join(parts)


def _decades(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return 10.0**low, 10.0 ** max(high, low + 1)


def _grid(across: _Scale, upward: _Scale) -> Iterator[str]:
    line = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="#d8dee4"/>'
    for x in across.ticks():
        yield line.format(across(x), upward.start, across(x), upward.end)
        yield _text(across(x), upward.start + 16, f"{x:,g}")
    for y in upward.ticks():
        yield line.format(across.start, upward(y), across.end, upward(y))
        yield _text(across.start - 6, upward(y) + 4, f"{y:,g}", "end")


def _curve(name: str, points: Sequence[tuple[float, float]]) -> Iterator[str]:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[name]}"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", style: str = STYLE) -> str:
    own = f' style="{style}"' if style else ' style="font: bold 12px sans-serif"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{own}>{text}</text>'
