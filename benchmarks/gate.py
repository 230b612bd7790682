"""`python -m benchmarks.gate`: holds the cost of a request against that of a commit.

CPU time in process, of commit and working tree in turns of a tenth of a second on one core:
whatever else the machine does slows both alike, and the ratio is taken in each turn. Ends 1 if the
working tree is slower.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from benchmarks.bodies import write_templates
from benchmarks.commits import CommitError, before_the_change, short_name, tree_of
from benchmarks.figures import Spread
from benchmarks.programs import ROOT, pinned
from bridge.demo.child import Child

# By states a document: requests at a time, and requests in a turn.
SIZES = {1: (64, 448), 10: (64, 192), 100: (16, 32)}
WARM_UPS = 3
PAIRS, TURNS = 4, 20
LIMIT_PERCENT = 5.0
EXIT_SLOWER, EXIT_FAILED = 1, 2
# What measures a tree.
METER = ("benchmarks/in_process.py", "benchmarks/bodies.py")


class GateError(Exception):
    """A tree cannot be measured: the text says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """Documents of one size: CPU us a request, and the ratio within pairs of processes."""

    states: int
    before_us: float
    after_us: float
    ratio: Spread

    def slower(self, limit_percent: float) -> bool:
        """Whether the tree costs so much more."""
        return self.ratio.median > 1 + limit_percent / 100


class Meter(Child):
    """A tree's gateway in a process of its own, asked for one measurement after the other."""

    def __init__(self, name: str, tree: Path, templates: Path) -> None:
        super().__init__(
            name,
            *(sys.executable, "-m", "benchmarks.in_process", templates),
            log=templates / f"{name}.log",
            environ={"PYTHONHASHSEED": "0"},
            cwd=tree,
        )

    def start(self) -> None:
        """Start it; its log is a file, as users have it."""
        with self.log_file.open("wb") as log:
            self._spawn(subprocess.PIPE, log)

    def seconds(self, states: int) -> float:
        """CPU seconds of a request with so many states. GateError with what the process said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            os.write(self.process.stdin.fileno(), b"%d %d %d\n" % (states, *SIZES[states]))
        answer = self.process.stdout.readline()
        if not answer:
            raise GateError(self.output[-2000:])
        return float(answer)


def compare(before: Path, after: Path, *, pairs: int = PAIRS, turns: int = TURNS) -> list[Found]:
    """Measure two trees with so many pairs of processes, and so many turns of each pair."""
    with tempfile.TemporaryDirectory(prefix="sms-bridge-gate-") as name:
        templates = Path(name)
        for states in SIZES:
            write_templates(templates / f"{states}.templates", states)
        cores = sorted(os.sched_getaffinity(0))
        with pinned(frozenset(cores[-1:])):
            measured = [_pair(before, after, templates, turns) for _ in range(pairs)]
    return [_found(states, [pair[states] for pair in measured]) for states in SIZES]


_Turn = tuple[float, float]  # CPU seconds a request: before, after


def _pair(before: Path, after: Path, templates: Path, turns: int) -> dict[int, list[_Turn]]:
    with (
        Meter("before", before, templates) as one,
        Meter("after", after, templates) as other,
    ):
        for states in SIZES:
            for meter in (one, other) * WARM_UPS:
                meter.seconds(states)
        return {states: [_turn(one, other, states, n) for n in range(turns)] for states in SIZES}


def _turn(before: Meter, after: Meter, states: int, number: int) -> _Turn:
    """One measurement of each; who is first changes."""
    if number % 2 == 0:
        return before.seconds(states), after.seconds(states)
    last = after.seconds(states)
    return before.seconds(states), last


def _found(states: int, pairs: list[list[_Turn]]) -> Found:
    before, after = (median(turn[i] for turns in pairs for turn in turns) for i in (0, 1))
    ratios = (median(after / before for before, after in turns) for turns in pairs)
    return Found(states, before * 1e6, after * 1e6, Spread.of(ratios))


# --- the command -------------------------------------------------------------------------


def lines(commit: str, found: Sequence[Found], limit_percent: float) -> Iterator[str]:
    """Yield the table, and what follows from it."""
    yield f"| states a document | CPU us a request, {commit} | working tree | ratio (min to max) |"
    yield "|---|---|---|---|"
    for size in found:
        ratio = f"{size.ratio.median:.3f} ({size.ratio.low:.3f} to {size.ratio.high:.3f})"
        yield f"| {size.states} | {size.before_us:.0f} | {size.after_us:.0f} | {ratio} |"
    slower = [f"{size.states}" for size in found if size.slower(limit_percent)]
    verdict = f"slower with {', '.join(slower)} a document" if slower else "no slower"
    yield f"The working tree is {verdict} (limit: {limit_percent:g} %)."


def main(arguments: list[str] | None = None) -> int:
    """Compare as told and print the table."""
    options = _parser().parse_args(arguments)
    try:
        commit = short_name(options.commit or before_the_change())
        with tree_of(commit) as before:
            _add_meter(before)
            found = compare(before, ROOT, pairs=options.pairs, turns=options.turns)
    except (CommitError, GateError) as exc:
        click.echo(f"cannot compare: {exc}", err=True)
        return EXIT_FAILED
    click.echo("\n".join(lines(commit, found, options.limit)))
    return EXIT_SLOWER if any(size.slower(options.limit) for size in found) else 0


def _add_meter(tree: Path) -> None:
    """Let a commit from before the gate be measured as well."""
    if not (tree / METER[0]).exists():
        for file in METER:
            shutil.copy(ROOT / file, tree / file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__)
    parser.add_argument("commit", nargs="?", help="where the branch began, if none is named")
    parser.add_argument("--limit", type=float, default=LIMIT_PERCENT, metavar="PERCENT")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of new processes")
    parser.add_argument("--turns", type=int, default=TURNS, help="of each pair and size")
    return parser


if __name__ == "__main__":
    sys.exit(main())
