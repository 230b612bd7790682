"""The search: it finds what is planted, tells it as it was, and prunes nothing that counts."""

import asyncio
import random
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge import ack, pipeline
from bridge.kafka.limits import _Refused
from bridge.model import Outcome, Result
from tests.exhaustive import __main__ as command
from tests.exhaustive import guards
from tests.exhaustive.fingerprint import Fingerprint, fingerprint
from tests.exhaustive.loop import EPOCH, new_loop
from tests.exhaustive.mutants import search as attacked
from tests.exhaustive.mutants import unseen
from tests.exhaustive.provider import Attempt, state
from tests.exhaustive.scenarios import BY_NAME, REJECTED, SCENARIOS, STATUS, Scenario
from tests.exhaustive.schedule import Schedule
from tests.exhaustive.search import exhaust, quiet, replay, shortened, walk
from tests.mutants import PACKAGE

SMALL = Scenario(
    "small",
    "one state, one fault",
    ((state("1"),),),
    faults=("lose", "broken", "hang", "unheard", "truncate"),
    attempts=2,
    seconds=5.0,
    overlaps=0,
    partitions={STATUS: 1, REJECTED: 1},
)
PATIENCE = 600.0  # seconds: the bound of a search is its schedules, not the machine


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway that lists what is pending."""
    of_pending = ack.acknowledged

    def acknowledged(items: Any, unprocessed_ids: Any = ()) -> tuple[list[str], list[str]]:
        for item in items:
            if item.outcome.result is Result.UNKNOWN:
                item.outcome = item.outcome._replace(result=Result.PUBLISHED)
        return of_pending(items, unprocessed_ids)

    monkeypatch.setattr(pipeline, "acknowledged", acknowledged)


def test_nothing_breaks_up_to_the_bound_of_a_small_scenario() -> None:
    totals = exhaust(SMALL, PATIENCE)
    assert totals.found is None
    assert totals.complete
    assert totals.bound == SMALL.max_faults


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_nothing_breaks_without_a_fault(scenario: Scenario) -> None:
    totals = exhaust(replace(scenario, max_faults=0), PATIENCE)
    assert totals.found is None
    assert totals.complete


@pytest.mark.usefixtures("eager")
def test_what_is_planted_is_found_told_and_found_again_by_its_choices() -> None:
    found = exhaust(SMALL, PATIENCE).found
    assert found is not None
    assert found.broken.invariant == "I1"
    least = shortened(found)
    assert least.faults == 1
    assert least.steps <= found.steps
    stories: list[list[str]] = [[], []]
    for story in stories:
        broken = replay(least.scenario, least.choices, story.append)
        assert str(broken) == str(least.broken)
    assert stories[0] == stories[1]
    assert "the provider posts document 1, post 1" in stories[0][0]
    assert "answers post 1: lists 1 (1 published)" in stories[0][-1]


@pytest.mark.usefixtures("eager")
def test_a_walk_at_random_finds_it_too_and_the_same_seed_the_same() -> None:
    one, other = (walk(SMALL, PATIENCE, seed=7).found for _ in range(2))
    assert one is not None
    assert other is not None
    assert one.broken.invariant == "I1"
    assert one.choices == other.choices
    assert str(replay(SMALL, one.choices, lambda _: None)) == str(one.broken)


@pytest.mark.usefixtures("eager")
def test_the_command_prints_what_replays_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--scenario", "losing", "--seconds", str(PATIENCE), "--no-walk"]) == 1
    printed = capsys.readouterr().out.splitlines()
    (line,) = (line for line in printed if line.startswith("replay:"))
    story = printed[2 : printed.index("", 2)]
    assert command.main(line.partition("tests.exhaustive ")[2].split()) == 1
    assert capsys.readouterr().out.splitlines() == story


def test_the_command_ends_with_0_if_nothing_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--scenario", "sequence", "--faults", "0", "--seconds", str(PATIENCE), "--no-walk"]
    assert command.main(options) == 0
    assert "exhausted" in capsys.readouterr().out


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_same_choices_come_to_the_same_states(scenario: Scenario) -> None:
    """Wherever the objects lie in memory: or what was seen would not be known again."""
    kept = []
    for seed in range(20):
        ways: list[list[int]] = []
        for _ in range(3):
            ways.append([])
            rng = random.Random(seed)

            def choose(schedule: Schedule, events: Sequence[Any]) -> int:
                ways[-1].append(fingerprint(schedule.world))  # noqa: B023 -- used in the turn
                return rng.randrange(len(events))  # noqa: B023

            with quiet():
                Schedule(scenario, choose).run()
            kept.append([object() for _ in range(len(ways) * 50)])  # the next lie elsewhere
        assert ways[0] == ways[1] == ways[2]


@contextmanager
def noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[tuple[Any, ...]]]:
    """What was answered, is in the logs and is remembered, wherever a schedule comes by."""
    reached: set[tuple[Any, ...]] = set()
    drain = Schedule._drain

    def noting(self: Schedule) -> None:
        drain(self)
        world = self.world
        reached.add(
            (
                tuple((a.heard, a.answered, _results(a)) for a in world.attempts),
                tuple(
                    (p.end, p.epoch, p.start, tuple(each.records for each in p.log))
                    for topic in world.cluster.topics.values()
                    for p in topic.partitions
                ),
                tuple(
                    (name, round(refused.until - self.loop.now, 3), refused.fill, refused.record)
                    for gateway in world.gateways
                    for name, refused in gateway.publisher._limits._refused.items()
                ),
                sum(not client.closed for client in world.producers),
            )
        )

    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "_drain", noting)
        yield reached


def _results(attempt: Attempt) -> tuple[Result, ...]:
    return tuple(item.outcome.result for item in attempt.items) if attempt.answered else ()


@pytest.mark.parametrize(
    "scenario",
    [
        replace(SMALL, seconds=3.0, faults=("broken", "truncate", "unheard")),
        replace(SMALL, seconds=3.0, faults=("hang", "lose"), attempts=1),
        replace(BY_NAME["too-large-untold"], max_faults=1),
        replace(BY_NAME["past-the-limit"], max_faults=1, attempts=1),
    ],
    ids=["losses", "hang", "too large", "past the limit"],
)
def test_what_is_pruned_leads_nowhere_else(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without it the same is reached, by fewer events."""
    with noted(monkeypatch) as all_ends:
        every = exhaust(scenario, PATIENCE, deduplicate=False)
    with noted(monkeypatch) as its_ends:
        pruned = exhaust(scenario, PATIENCE)
    assert every.complete
    assert pruned.complete
    assert its_ends == all_ends
    assert pruned.events < every.events


def test_two_ways_to_one_state_have_one_fingerprint() -> None:
    """The order in which two partitions answer is forgotten once both have; a loss is not."""
    prints = []
    for order in ((0, 0, 0), (0, 1, 0)):
        seen: list[int] = []
        left = iter(order)

        def choose(schedule: Schedule, events: Any, left: Any = left, seen: Any = seen) -> int:
            if not any(event.kind == "serve" for event in events):
                seen.append(fingerprint(schedule.world))
            return next(left, 0)

        scenario = replace(BY_NAME["sending"], max_faults=0, attempts=1)
        assert Schedule(scenario, choose).run() is None
        prints.append(seen)
    assert prints[0] == prints[1]
    assert len({*prints[0]}) == len(prints[0])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Outcome(Result.PUBLISHED), Outcome(Result.FAILED)),
        (EPOCH - 1.0, EPOCH - 2.0),  # as moments; their distances have the same hash()
        (range(1), range(5, 9)),
        (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        ({1: "a"}, {1: "b"}),
    ],
    ids=["outcomes", "moments", "ranges", "times", "values"],
)
def test_what_differs_has_another_fingerprint(one: object, other: object) -> None:
    prints = [Fingerprint(EPOCH).of([each]) for each in (one, one, other)]
    assert prints[0] == prints[1] != prints[2]


def test_what_nobody_thought_of_has_no_fingerprint() -> None:
    """It would count as equal, whatever it holds."""
    with pytest.raises(TypeError, match="no fingerprint"):
        Fingerprint(EPOCH).of([array("b")])


def test_how_long_a_refusal_is_remembered_counts() -> None:
    scenario = replace(BY_NAME["too-large-untold"], max_faults=0)
    prints = []

    def choose(schedule: Schedule, _: Any) -> int:
        limits = schedule.world.gateways[0].publisher._limits
        for until in (28.0, 30.0, 30.0):
            limits._refused[STATUS] = _Refused(EPOCH + until)
            prints.append(fingerprint(schedule.world))
        del limits._refused[STATUS]
        return 0

    Schedule(scenario, choose).run()
    assert prints[0] != prints[1] == prints[2]


def test_time_stands_still_until_a_timer_rings() -> None:
    loop = new_loop()
    rang: list[str] = []
    with loop.running():
        loop.call_later(2, rang.append, "second")
        loop.call_later(1, rang.append, "first")
        cancelled = loop.call_later(0.5, rang.append, "never")
        cancelled.cancel()
        assert loop.time() == EPOCH
        loop.ring(0)
        assert loop.time() == EPOCH + 1
        loop.run_next()
        assert rang == ["first"]


def test_a_deferred_callback_runs_once_no_other_is_ready() -> None:
    loop = new_loop()
    ran: list[str] = []
    with loop.running():
        loop.call_soon(ran.append, "deferred")
        loop.call_soon(lambda: loop.call_soon(ran.append, "what the other made ready"))
        loop.defer()
        while loop.ready:
            loop.run_next()
    assert ran == ["what the other made ready", "deferred"]


def test_the_loop_runs_what_asyncio_offers() -> None:
    """Timeouts, waits and tasks, with nothing of the machine's clock."""
    loop = new_loop()

    async def late() -> str:
        try:
            async with asyncio.timeout(3):
                await asyncio.wait([asyncio.create_task(asyncio.sleep(9))], timeout=5)
        except TimeoutError:
            return "in time"
        return "too late"

    with loop.running():
        task = loop.create_task(late())
        while not task.done():
            if loop.ready:
                loop.run_next()
            else:
                loop.ring(0)
        assert task.result() == "in time"
        assert loop.time() == EPOCH + 3


def test_every_mutant_of_the_quick_tests_is_attacked_or_named_as_unseen() -> None:
    """Unseen are other modules, how a producer is opened, and whose records go first."""
    assert {c.name for c in unseen() if c.file.startswith(("kafka", "ack", "timeouts"))} == {
        "asks for one replica's answer, without idempotence",
        "ends a wait each time that it is due",
        "lists ids as long as a body",
        "has small requests wait for large ones",
        "gives every batch to the same requests first",
        "sends records that were refused together with as many of others",
    }


@pytest.mark.parametrize(
    "attack", [*guards.SEEN, *guards.REDUNDANT], ids=lambda attack: attack.change.name
)
def test_a_guard_is_there_to_be_taken_away(attack: guards.Attack) -> None:
    text = (PACKAGE / attack.change.file).read_text("utf-8")
    assert text.count(attack.change.anchor) == 1
    assert attack.scenario in BY_NAME


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack",
    [attack for attack in guards.SEEN if attack.change.name in guards.QUICK],
    ids=lambda attack: attack.change.name,
)
def test_a_guard_that_is_missing_is_noticed(attack: guards.Attack) -> None:
    assert attacked(attack, PATIENCE).is_as_it_should_be
