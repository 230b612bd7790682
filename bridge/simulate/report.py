"""What a run of the simulated provider has come to."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import orjson

from bridge.simulate.plan import Plan

SAMPLE = 20  # ids named in a summary


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a run has come, in states, but for `posts`.

    `sent` counts every sending, `posted` each state once; `waiting` are those that were not
    listed and will be sent again, `unacknowledged` those that are out of attempts.
    """

    messages: int
    posts: int
    sent: int
    posted: int
    acknowledged: int
    retried: int
    waiting: int
    unacknowledged: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one state.

    `acknowledged_after` is in seconds from the start of the run, or None.
    """

    id_sms: str
    attempts: int
    acknowledged_after: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the start of a post to the end of its answer, over all answers."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class SlowestAnswer:
    """The answer that took longest; `after_seconds` is when its post began in the run."""

    milliseconds: float
    status: int
    states: int
    after_seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has come to.

    `answers` counts posts by HTTP status, `faults` posts without an answer by kind (`connect`,
    `tls`, `timeout`, `closed`, `protocol`) and `last_fault` says what the newest one was.
    `unreadable_answers` are those that hold no list of ids; they acknowledge nothing.
    `foreign_ids` counts ids that were listed in answer to a post without them.
    `attempts` is how many states took how many attempts. `states_per_second` are acknowledged
    ones. `latency` and `slowest` are None if no post was answered.
    """

    plan: Plan
    tally: Tally
    attempts: Mapping[int, int]
    answers: Mapping[int, int]
    faults: Mapping[str, int]
    last_fault: str | None
    unreadable_answers: int
    foreign_ids: int
    foreign_id_sample: tuple[str, ...]
    duration_seconds: float
    latency: Latency | None
    slowest: SlowestAnswer | None
    _attempts: bytes = field(repr=False)
    _acknowledged_after: Sequence[float] = field(repr=False)

    @property
    def acknowledged(self) -> int:
        """The number of states that an answer has listed."""
        return self.tally.acknowledged

    @property
    def unacknowledged(self) -> int:
        """The number of states that no answer has listed."""
        return self.plan.messages - self.tally.acknowledged

    @property
    def ok(self) -> bool:
        """Whether every state was acknowledged, and nothing that was not asked."""
        return self.unacknowledged == 0 and self.foreign_ids == 0

    @property
    def states_per_second(self) -> float:
        """Acknowledged states per second of the run."""
        return self.acknowledged / self.duration_seconds if self.duration_seconds else 0.0

    @property
    def acknowledged_ids(self) -> frozenset[str]:
        """Every id that an answer has listed; built anew at each call."""
        return frozenset(d.id_sms for d in self.deliveries() if d.acknowledged_after is not None)

    @property
    def unacknowledged_ids(self) -> frozenset[str]:
        """Every id that no answer has listed; built anew at each call."""
        return frozenset(d.id_sms for d in self.deliveries() if d.acknowledged_after is None)

    def deliveries(self) -> Iterator[Delivery]:
        """Tell what became of each state, in order of id."""
        for id_sms, attempts, after in zip(
            self.plan.ids, self._attempts, self._acknowledged_after, strict=True
        ):
            yield Delivery(str(id_sms), attempts, None if math.isnan(after) else after)

    def to_dict(self) -> dict[str, object]:
        """Return the figures, fit for JSON, without the URL and with a few ids at most."""
        tally = self.tally
        missing = (d.id_sms for d in self.deliveries() if d.acknowledged_after is None)
        return {
            "ok": self.ok,
            "seed": self.plan.seed,
            "first_id": self.plan.ids.start,
            "messages": tally.messages,
            "posts": tally.posts,
            "sent": tally.sent,
            "posted": tally.posted,
            "acknowledged": tally.acknowledged,
            "unacknowledged": self.unacknowledged,
            "unacknowledged_sample": list(islice(missing, SAMPLE)),
            "retried": tally.retried,
            "attempts": _by_text(self.attempts),
            "answers": _by_text(self.answers),
            "faults": _by_text(self.faults),
            "last_fault": self.last_fault,
            "unreadable_answers": self.unreadable_answers,
            "foreign_ids": self.foreign_ids,
            "foreign_id_sample": list(self.foreign_id_sample),
            "duration_seconds": self.duration_seconds,
            "states_per_second": self.states_per_second,
            "latency_ms": self.latency and asdict(self.latency),
            "slowest": self.slowest and asdict(self.slowest),
        }


def write_report(report: Report, path: Path | str) -> None:
    """Write the figures and every id, acknowledged or not, as JSON; ids in numeric order."""
    ids: dict[bool, list[str]] = {True: [], False: []}
    for delivery in report.deliveries():
        ids[delivery.acknowledged_after is not None].append(delivery.id_sms)
    content = {
        **report.to_dict(),
        "acknowledged_ids": ids[True],
        "unacknowledged_ids": ids[False],
    }
    Path(path).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def _by_text(counts: Mapping[int, int] | Mapping[str, int]) -> dict[str, int]:
    return {str(key): count for key, count in counts.items()}
