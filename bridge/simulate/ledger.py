"""Keeps what is known of every state and every post while the simulated provider runs."""

import math
from array import array
from collections import Counter
from collections.abc import Sequence

from bridge.simulate.documents import SentState
from bridge.simulate.plan import Plan
from bridge.simulate.report import SAMPLE, Latency, Report, SlowestAnswer, Tally


class Ledger:
    """What is known of every state and every post: two bytes a state, eight a post."""

    def __init__(self, plan: Plan, start: float) -> None:
        self._plan = plan
        self._start = start
        self._end = start
        self._attempts = bytearray(plan.messages)
        self._acknowledged = bytearray(plan.messages)
        self._latencies_ms = array("d")
        self._slowest: SlowestAnswer | None = None
        self._answers: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._last_fault: str | None = None
        self._unreadable = 0
        self._foreign = 0
        self._foreign_sample: list[str] = []
        self._counts: Counter[str] = Counter()

    def answered(self, status: int, size: int, started: float, ended: float) -> None:
        """Note that a post of `size` states was answered; times in seconds."""
        self._answers[status] += 1
        took_ms = (ended - started) * 1000
        self._latencies_ms.append(took_ms)
        if self._slowest is None or took_ms > self._slowest.milliseconds:
            self._slowest = SlowestAnswer(took_ms, status, size, started - self._start)

    def fault(self, kind: str, detail: str) -> frozenset[str]:
        """Note that a post had no answer, which lists nothing."""
        self._faults[kind] += 1
        self._last_fault = f"{kind}: {detail}"
        return frozenset()

    def read(self, batch: list[SentState], listed: frozenset[str] | None) -> frozenset[str]:
        """Note what is wrong with an answer, and return the ids that it lists."""
        if listed is None:
            self._unreadable += 1
            return frozenset()
        foreign = listed.difference(state.id_sms for state in batch)
        self._foreign += len(foreign)
        room = SAMPLE - len(self._foreign_sample)
        self._foreign_sample += sorted(foreign)[:room]
        return listed

    def settle(self, batch: list[SentState], listed: frozenset[str], now: float) -> list[SentState]:
        """Count one sending of each state, and return those to be sent again."""
        self._end = now
        self._counts["posts"] += 1
        self._counts["sent"] += len(batch)
        return [state for state in batch if self._to_be_sent_again(state, listed)]

    def _to_be_sent_again(self, state: SentState, listed: frozenset[str]) -> bool:
        index = int(state.id_sms) - self._plan.ids.start
        self._attempts[index] += 1
        attempts = self._attempts[index]
        self._counts["posted"] += attempts == 1
        self._counts["retried"] += attempts == 2  # noqa: PLR2004 - the first retry
        if state.id_sms in listed:
            self._counts["acknowledged"] += 1
            self._acknowledged[index] = True
            return False
        self._counts["unacknowledged"] += attempts == self._plan.attempts
        return attempts < self._plan.attempts

    def tally(self) -> Tally:
        """How far the run has come."""
        counts = self._counts
        return Tally(
            messages=self._plan.messages,
            posts=counts["posts"],
            sent=counts["sent"],
            posted=counts["posted"],
            acknowledged=counts["acknowledged"],
            retried=counts["retried"],
            waiting=counts["posted"] - counts["acknowledged"] - counts["unacknowledged"],
            unacknowledged=counts["unacknowledged"],
        )

    def report(self) -> Report:
        """What the run has come to; it must have ended."""
        return Report(
            plan=self._plan,
            tally=self.tally(),
            attempts=dict(sorted(Counter(self._attempts).items())),
            answers=dict(sorted(self._answers.items())),
            faults=dict(sorted(self._faults.items())),
            last_fault=self._last_fault,
            unreadable_answers=self._unreadable,
            foreign_ids=self._foreign,
            foreign_id_sample=tuple(self._foreign_sample),
            duration_seconds=self._end - self._start,
            latency=_latency(self._latencies_ms),
            slowest=self._slowest,
            _acknowledged=bytes(self._acknowledged),
        )


def _latency(milliseconds: Sequence[float]) -> Latency | None:
    if not milliseconds:
        return None
    ranked = sorted(milliseconds)
    p50, p99 = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.99))
    return Latency(p50, p99, ranked[-1])
