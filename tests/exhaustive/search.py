"""Runs schedules: all of a scenario's up to its bound, or some at random beyond it.

A coroutine cannot be copied, so that each schedule runs from its beginning. One that comes to a
state that was seen, with no more left to spend than then, ends there: its future is known.
"""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from tests.exhaustive.fingerprint import fingerprint
from tests.exhaustive.scenarios import Scenario
from tests.exhaustive.schedule import Schedule
from tests.exhaustive.world import BrokenError, Event

COLLECT_EVERY = 2000  # schedules, between two collections of cycles
Choices = tuple[int, ...]
Spent = tuple[int, int, int]  # faults, overlaps, and hundredths of a second


@dataclass(slots=True)
class Found:
    """A schedule that breaks an invariant."""

    scenario: Scenario
    choices: Choices
    broken: BrokenError
    steps: int
    faults: int


@dataclass(slots=True)
class Totals:
    """What a search has come to."""

    schedules: int = 0
    pruned: int = 0
    states: int = 0
    events: int = 0
    callbacks: int = 0
    seconds: float = 0.0
    complete: bool = False
    bound: int = -1  # faults, up to which all schedules were run
    found: Found | None = None


@dataclass(slots=True)
class Seen:
    """States by fingerprint, each with what had been spent when it was come to."""

    spent: dict[int, list[Spent]] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)

    def is_known(self, state: int, spent: Spent) -> bool:
        """Whether it was seen with no more spent; if not, it is from now on."""
        before = self.spent.get(state)
        if before is None:
            self.spent[state] = [spent]
            return False
        if any(all(a <= b for a, b in zip(each, spent, strict=True)) for each in before):
            return True
        before.append(spent)
        return False


def exhaust(
    scenario: Scenario,
    seconds: float,
    *,
    deduplicate: bool = True,
) -> Totals:
    """All schedules up to the scenario's bound, or as many as there is time for."""
    totals = Totals()
    began = time.perf_counter()
    with quiet():
        # With fewest faults first: what breaks then has the shortest story.
        for max_faults in range(scenario.max_faults + 1):
            bounded = replace(scenario, max_faults=max_faults)
            totals.complete = _exhaust(bounded, began + seconds, totals, deduplicate=deduplicate)
            if not totals.complete or totals.found:
                break
            totals.bound = max_faults
    totals.seconds = time.perf_counter() - began
    return totals


def _exhaust(scenario: Scenario, ends: float, totals: Totals, *, deduplicate: bool) -> bool:
    """Whether there are no more schedules with so many faults."""
    seen = Seen()
    stack: list[Choices] = [()]
    while stack and totals.found is None:
        if time.perf_counter() > ends:
            totals.states += len(seen.spent)
            return False
        descent = _Descent(stack.pop(), stack, seen if deduplicate else None)
        schedule = Schedule(scenario, descent.choose)
        if deduplicate:
            schedule.settles = descent.settles
        broken = schedule.run()
        totals.pruned += descent.is_pruned
        _count(totals, schedule, tuple(descent.taken), broken)
    totals.states += len(seen.spent)
    return True


class _Descent:
    """One schedule of a search in depth: its choices so far, then always the first that is left."""

    def __init__(self, prefix: Choices, stack: list[Choices], seen: Seen | None) -> None:
        self._prefix = prefix
        self._stack = stack
        self._seen = seen
        self.taken: list[int] = []
        self.is_pruned = False

    def choose(self, schedule: Schedule, events: Sequence[Event | None]) -> int | None:
        depth = len(self.taken)
        if depth < len(self._prefix):
            self.taken.append(self._prefix[depth])
            return self._prefix[depth]
        if self._seen is not None:
            hundredths = round(schedule.world.seconds * 100)
            spent = schedule.world.faults, schedule.world.overlaps, hundredths
            if self._seen.is_known(fingerprint(schedule.world), spent):
                self.is_pruned = True
                return None
        for other in range(len(events) - 1, 0, -1):
            self._stack.append((*self.taken, other))
        self.taken.append(0)
        return 0

    def settles(self, state: int) -> bool:
        """Whether the end of this state is yet to be seen."""
        if self._seen is None or state not in self._seen.settled:
            if self._seen is not None:
                self._seen.settled.add(state)
            return True
        return False


def walk(scenario: Scenario, seconds: float, seed: int, *, limit: int = 0) -> Totals:
    """Schedules at random, one after the other."""
    totals = Totals()
    began = time.perf_counter()
    with quiet():
        while time.perf_counter() - began < seconds and (not limit or totals.schedules < limit):
            rng = random.Random(f"{seed} {totals.schedules}")
            taken: list[int] = []

            def choose(_: Schedule, events: Sequence[Event | None]) -> int:
                taken.append(_drawn(rng, events))  # noqa: B023 -- it does not outlive the turn
                return taken[-1]  # noqa: B023

            schedule = Schedule(scenario, choose)
            broken = schedule.run()
            _count(totals, schedule, tuple(taken), broken)
            if totals.found is not None:
                break
    totals.seconds = time.perf_counter() - began
    return totals


def replay(scenario: Scenario, choices: Choices, tell: Callable[[str], None]) -> BrokenError | None:
    """The schedule of these choices, told; past them as it goes without faults."""
    left = iter(choices)
    with quiet():
        return Schedule(scenario, lambda _schedule, _events: next(left, 0), tell).run()


def shortened(found: Found) -> Found:
    """The same end with as many choices at the end left away, or turned to the usual, as can be."""
    best = found
    for number in range(len(found.choices) - 1, -1, -1):
        if best.choices[number : number + 1] in {(), (0,)}:
            continue
        tried = (*best.choices[:number], 0, *best.choices[number + 1 :])
        again = _again(found, tried)
        if again is not None and (again.faults, again.steps) <= (best.faults, best.steps):
            best = again
    return best


def _again(found: Found, choices: Choices) -> Found | None:
    taken: list[int] = []
    left = iter(choices)

    def choose(_: Schedule, events: Sequence[Event | None]) -> int:
        number = next(left, 0)
        taken.append(number if number < len(events) else 0)
        return taken[-1]

    with quiet():
        schedule = Schedule(found.scenario, choose)
        broken = schedule.run()
    if broken is None or broken.invariant != found.broken.invariant:
        return None
    return Found(found.scenario, tuple(taken), broken, schedule.world.step, schedule.world.faults)


def _drawn(rng: random.Random, events: Sequence[Event | None]) -> int:
    """One of the events; something between two callbacks, and a fault, less often."""
    if events[0] is None:
        return rng.randrange(1, len(events)) if rng.random() < 0.1 else 0
    usual = [n for n, event in enumerate(events) if event is not None and not event.cost]
    if usual and (len(usual) == len(events) or rng.random() > 0.2):
        return rng.choice(usual)
    return rng.randrange(len(events))


def _count(totals: Totals, schedule: Schedule, taken: Choices, broken: BrokenError | None) -> None:
    world = schedule.world
    totals.schedules += 1
    totals.events += world.step
    totals.callbacks += schedule.callbacks
    if broken is not None:
        totals.found = Found(schedule.scenario, taken, broken, world.step, world.faults)
    if not totals.schedules % COLLECT_EVERY:
        gc.collect()


@contextmanager
def quiet() -> Iterator[None]:
    """No log, no jitter, and no collector between two callbacks."""
    uniform = random.uniform
    was_enabled = gc.isenabled()
    kept = structlog.get_config() if structlog.is_configured() else None
    silent: Any = _Silent
    structlog.configure(wrapper_class=silent, cache_logger_on_first_use=False)
    random.uniform = _middle  # type: ignore[assignment]
    gc.disable()
    try:
        yield
    finally:
        random.uniform = uniform
        if was_enabled:
            gc.enable()
        structlog.reset_defaults()
        if kept is not None:
            structlog.configure(**kept)


class _Silent:
    """A logger that says nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        self.debug = self.info = self.warning = self.error = self.exception = _nothing


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


def _nothing(*_: object, **__: object) -> None:
    """Say nothing."""
