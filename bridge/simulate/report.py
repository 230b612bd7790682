"""What a run of the simulated provider has come to."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
    _acknowledged: bytes = field(repr=False)  # by state, whether an answer has listed it

    @property
    def ok(self) -> bool:
        """Whether every state was acknowledged, and nothing that was not asked."""
        return self.tally.acknowledged == self.plan.messages and self.foreign_ids == 0

    @property
    def states_per_second(self) -> float:
        """Acknowledged states per second of the run."""
        return self.tally.acknowledged / self.duration_seconds if self.duration_seconds else 0.0

    def ids(self, *, acknowledged: bool) -> list[str]:
        """The ids that an answer has listed, or those that none has; in numeric order."""
        listed = zip(self.plan.ids, self._acknowledged, strict=True)
        return [str(id_sms) for id_sms, is_listed in listed if is_listed == acknowledged]


def write_report(report: Report, path: Path | str) -> None:
    """Write the figures and every id, acknowledged or not, as JSON; without the URL."""
    tally = asdict(report.tally)
    del tally["waiting"]  # none, at the end
    missing = report.ids(acknowledged=False)
    content = {
        "ok": report.ok,
        "seed": report.plan.seed,
        "first_id": report.plan.ids.start,
        **tally,
        "unacknowledged_sample": missing[:SAMPLE],
        "attempts": report.attempts,
        "answers": report.answers,
        "faults": report.faults,
        "last_fault": report.last_fault,
        "unreadable_answers": report.unreadable_answers,
        "foreign_ids": report.foreign_ids,
        "foreign_id_sample": report.foreign_id_sample,
        "duration_seconds": report.duration_seconds,
        "states_per_second": report.states_per_second,
        "latency_ms": report.latency,
        "slowest": report.slowest,
        "acknowledged_ids": report.ids(acknowledged=True),
        "unacknowledged_ids": missing,
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS
    Path(path).write_bytes(orjson.dumps(content, option=options) + b"\n")
