"""What a benchmark has measured, as values that go to a file and come back from it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

CLOSED, OPEN_80, OPEN_HALF, PART, START, PROCESSES, FAIR, WATCHED, HOSTILE, SOAK, LONE = (
    "closed",
    "open at 80 % of the baseline",
    "open at half of its own",
    "part",
    "start",
    "processes",
    "fairness",
    "watched",
    "hostile",
    "soak",
    "lone",
)
ONE_PROCESS, TWO_GATEWAYS, TWO_PROCESSES = "one", "two", "two, one port"
FORMER = "former"  # the bridge of the commit that a run is against
POST, PRODUCE = "post", "produce request"  # subjects of LONE
ALONE, BESIDE = "alone", "beside large documents"  # subjects of FAIR
PEERS, PEERS_OPEN = "peers", "peers at half of the bridge's throughput"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: of what (`subject`), how (`kind`), with how many states a document.

    `figures` by name: `_per_second`, `_ms`, `_us`, `_mb` say the unit, `_share` is of one core.
    """

    kind: str
    subject: str
    states: int
    round: int
    figures: dict[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """The smallest, the middle and the largest of some rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of at least one value."""
        found = sorted(values)
        return cls(found[0], median(found), found[-1])


@dataclass(slots=True)
class Results:
    """All samples of a run. `pooled` are latencies over the rounds of one kind together."""

    about: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    pooled: list[Sample] = field(default_factory=list)

    def add(
        self, kind: str, subject: str, states: int, number: int, figures: dict[str, float]
    ) -> None:
        """Keep one measurement."""
        self.samples.append(Sample(kind, subject, states, number, figures))

    def sizes(self, kind: str) -> list[int]:
        """Return the numbers of states a document that were measured so."""
        return sorted({sample.states for sample in self.samples if sample.kind == kind})

    def rounds(self, kind: str, subject: str, states: int, figure: str) -> list[float]:
        """Return one figure, in order of the rounds."""
        return [
            sample.figures[figure]
            for sample in self.samples
            if (sample.kind, sample.subject, sample.states) == (kind, subject, states)
            and figure in sample.figures
        ]

    def spread(self, kind: str, subject: str, states: int, figure: str) -> Spread | None:
        """Return the spread of one figure over the rounds, if there are any."""
        found = self.rounds(kind, subject, states, figure)
        return Spread.of(found) if found else None

    def median(self, kind: str, subject: str, states: int, figure: str) -> float | None:
        """Return the median of one figure over the rounds."""
        spread = self.spread(kind, subject, states, figure)
        return spread.median if spread else None

    def ratio(
        self, kind: str, over: str, under: Sequence[str], states: int, figure: str
    ) -> Spread | None:
        """Return the ratio within each round; several below are summed, parts among them."""
        tops = self.rounds(kind, over, states, figure)
        bottoms = [
            self.rounds(kind, name, states, figure) or self.rounds(PART, name, states, figure)
            for name in under
        ]
        pairs = [
            (top, sum(bottom)) for top, *bottom in zip(tops, *bottoms, strict=False) if all(bottom)
        ]
        return Spread.of(top / bottom for top, bottom in pairs) if pairs else None

    def write(self, file: Path) -> None:
        """Write everything as JSON."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> "Results":
        """Return what `write` has written."""
        raw = json.loads(file.read_text())
        samples = [Sample(**sample) for sample in raw["samples"]]
        return cls(raw["about"], samples, [Sample(**sample) for sample in raw["pooled"]])


def turned(gateways: Mapping[str, T], number: int) -> list[tuple[str, T]]:
    """Return them forwards or backwards: none has the same neighbour's traces in every round."""
    items = list(gateways.items())
    return items if number % 2 == 0 else items[::-1]


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so great a share of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
