"""`python -m tests.exhaustive`: searches from the command line. Ends 0 only if nothing breaks.

First each scenario up to its bound, then schedules at random of what lies beyond it, for as long as
there is time. What breaks an invariant is told as a story, with the choices that replay it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial

import click

from tests.exhaustive.scenarios import BY_NAME, SCENARIOS, Scenario
from tests.exhaustive.search import Found, Totals, exhaust, replay, shortened, walk

MORE_FAULTS, MORE_OVERLAPS, MORE_SECONDS = 3, 4, 20.0  # of the walks at random, beyond the bound
WALK_SECONDS = 60.0  # of one scenario, before the next


@dataclass(frozen=True, slots=True)
class Line:
    """One search, as it is reported."""

    scenario: str
    how: str  # exhausted, the faults up to which it is, random, or broken
    schedules: int
    states: int
    events: int
    callbacks: int
    seconds: float
    processor_seconds: float
    invariant: str | None = None
    detail: str | None = None
    steps: int = 0
    faults: int = 0
    choices: str | None = None
    story: tuple[str, ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Search as told, print a line a search, and the story of what was found."""
    options = _parser().parse_args(arguments)
    chosen = [_changed(BY_NAME[name], options) for name in options.scenario or BY_NAME]
    if options.replay is not None:
        return _replayed(chosen[0], options.replay)
    lines = []
    for line in _searched(chosen, options):
        lines.append(line)
        if not options.quiet:
            click.echo("".join(f"{each}\n" for each in line.story), nl=False)
        click.echo(_text(line))
        if line.invariant:
            break
    if options.json:
        click.echo(json.dumps([asdict(line) for line in lines]))
    return int(any(line.invariant for line in lines))


def _searched(chosen: Sequence[Scenario], options: argparse.Namespace) -> Iterator[Line]:
    """Up to the bound, each scenario with its share of the time; then at random, in turns."""
    jobs = min(options.jobs, len(chosen))
    ends = time.monotonic() + options.seconds
    share = options.seconds * jobs / len(chosen)
    yield from _side_by_side([partial(exhausted, each, share) for each in chosen], jobs)
    seed = options.seed
    while time.monotonic() < ends and not options.no_walk:
        share = min((ends - time.monotonic()) * jobs / len(chosen), WALK_SECONDS)
        searches = [partial(walked, _beyond(each), share, seed) for each in chosen]
        yield from _side_by_side(searches, jobs)
        seed += 1


def _side_by_side(searches: Sequence[Callable[[], Line]], jobs: int) -> Iterator[Line]:
    """Each as soon as it is through, on so many processes."""
    if jobs == 1:
        yield from (search() for search in searches)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            for done in as_completed([pool.submit(search) for search in searches]):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def exhausted(scenario: Scenario, seconds: float) -> Line:
    """A search up to the bound."""
    return _line(scenario, partial(exhaust, scenario, seconds))


def walked(scenario: Scenario, seconds: float, seed: int) -> Line:
    """A search at random."""
    return _line(scenario, partial(walk, scenario, seconds, seed))


def _line(scenario: Scenario, search: Callable[[], Totals]) -> Line:
    began = time.process_time()
    totals = search()
    used = time.process_time() - began
    how = f"{totals.bound} faults" if totals.states else "random"
    line = Line(
        scenario.name,
        "exhausted" if totals.complete else how,
        totals.schedules,
        totals.states,
        totals.events,
        totals.callbacks,
        round(totals.seconds, 1),
        round(used, 1),
    )
    if totals.found is None:
        return line
    found = shortened(totals.found)
    story = ["", f"{scenario.name}: {scenario.about}"]
    replay(found.scenario, found.choices, story.append)
    return replace(
        line,
        how="broken",
        invariant=found.broken.invariant,
        detail=str(found.broken),
        steps=found.steps,
        faults=found.faults,
        choices=_written(found),
        story=(*story, f"BROKEN   {found.broken}", ""),
    )


def _beyond(scenario: Scenario) -> Scenario:
    return replace(
        scenario,
        max_faults=scenario.max_faults + MORE_FAULTS,
        overlaps=scenario.overlaps + MORE_OVERLAPS,
        seconds=scenario.seconds + MORE_SECONDS,
    )


def _changed(scenario: Scenario, options: argparse.Namespace) -> Scenario:
    given = {
        "max_faults": options.faults,
        "overlaps": options.overlaps,
        "seconds": options.length,
    }
    return replace(scenario, **{name: value for name, value in given.items() if value is not None})


def _written(found: Found) -> str:
    scenario = found.scenario
    bound = f"--faults {scenario.max_faults} --overlaps {scenario.overlaps}"
    choices = ",".join(map(str, found.choices))
    length = f"--length {scenario.seconds:g}"
    return f"--scenario {scenario.name} {bound} {length} --replay {choices}"


def _replayed(scenario: Scenario, choices: str) -> int:
    numbers = tuple(int(each) for each in choices.split(",") if each)
    broken = replay(scenario, numbers, click.echo)
    click.echo(f"BROKEN   {broken}" if broken else "every invariant holds")
    return int(broken is not None)


def _text(line: Line) -> str:
    rate = line.schedules / max(line.processor_seconds, 0.01)
    text = (
        f"{line.scenario:17} {line.how:10} {line.schedules:8,} schedules  {line.states:8,} states  "
        f"{line.events:10,} events  {line.seconds:6.1f} s  {rate:5.0f} a processor second"
    )
    if not line.invariant:
        return text
    return (
        f"{text}\nBROKEN   {line.detail} ({line.steps} steps, {line.faults} faults)\n"
        f"replay:  python -m tests.exhaustive {line.choices}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.exhaustive", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all searches together")
    parser.add_argument("--seed", type=int, default=1, help="of the walks at random")
    parser.add_argument(
        "--scenario",
        action="append",
        choices=[scenario.name for scenario in SCENARIOS],
        help="this one only; may be given again",
    )
    parser.add_argument("--faults", type=int, help="at most so many in a schedule")
    parser.add_argument("--overlaps", type=int, help="events between callbacks, at most so many")
    parser.add_argument("--length", type=float, help="of a schedule, in its own seconds")
    parser.add_argument("--no-walk", action="store_true", help="no walks at random")
    parser.add_argument("--replay", help="tell the schedule of these choices, with commas between")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", action="store_true", help="all again as JSON, on the last line")
    parser.add_argument("--quiet", action="store_true", help="no stories")
    return parser


if __name__ == "__main__":
    sys.exit(main())
