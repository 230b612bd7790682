"""`python -m tests.exhaustive`: searches from the command line. Ends 0 only if nothing breaks.

First each scenario up to its bound, then schedules at random of what lies beyond it, for as long as
there is time. What breaks an invariant is told as a story, with the choices that replay it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
    how: str  # exhausted, part or random
    schedules: int
    states: int
    events: int
    callbacks: int
    seconds: float
    processor_seconds: float
    broken: str | None = None
    invariant: str | None = None
    detail: str | None = None
    steps: int = 0
    faults: int = 0
    choices: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Search as told, print a line a search, and the story of what was found."""
    options = _parser().parse_args(arguments)
    chosen = [_changed(BY_NAME[name], options) for name in options.scenario or BY_NAME]
    if options.replay is not None:
        return _replayed(chosen[0], options.replay)
    lines = []
    for line in _searched(chosen, options):
        lines.append(line)
        click.echo(_text(line))
        if line.broken:
            break
    if options.json:
        click.echo(json.dumps([asdict(line) for line in lines]))
    return int(any(line.broken for line in lines))


def _searched(chosen: Sequence[Scenario], options: argparse.Namespace) -> Iterator[Line]:
    ends = time.monotonic() + options.seconds
    for number, scenario in enumerate(chosen):
        share = max(ends - time.monotonic(), 0.0) / (len(chosen) - number)
        yield _line(scenario, options, partial(exhaust, scenario, share))
    seed = options.seed
    while time.monotonic() < ends and not options.no_walk:
        for scenario in map(_beyond, chosen):
            share = min(max(ends - time.monotonic(), 0.0) / len(chosen), WALK_SECONDS)
            yield _line(scenario, options, partial(walk, scenario, share, seed))
        seed += 1


def _line(scenario: Scenario, options: argparse.Namespace, search: Callable[[], Totals]) -> Line:
    began = time.process_time()
    totals = search()
    used = time.process_time() - began
    how = "random" if not totals.states else "exhausted" if totals.complete else "part"
    line = Line(
        scenario.name,
        how,
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
    if not options.quiet:
        _tell(found)
    return replace(
        line,
        broken=str(found.broken),
        invariant=found.broken.invariant,
        detail=str(found.broken),
        steps=found.steps,
        faults=found.faults,
        choices=_written(found),
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


def _tell(found: Found) -> None:
    click.echo(f"\n{found.scenario.name}: {found.scenario.about}")
    replay(found.scenario, found.choices, click.echo)
    click.echo(f"BROKEN   {found.broken}\n")


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
        f"{line.scenario:17} {line.how:9} {line.schedules:8,} schedules  {line.states:8,} states  "
        f"{line.events:10,} events  {line.seconds:6.1f} s  {rate:5.0f} a processor second"
    )
    if not line.broken:
        return text
    return (
        f"{text}\nBROKEN   {line.broken} ({line.steps} steps, {line.faults} faults)\n"
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
    parser.add_argument("--json", action="store_true", help="all again as JSON, on the last line")
    parser.add_argument("--quiet", action="store_true", help="no stories")
    return parser


if __name__ == "__main__":
    sys.exit(main())
