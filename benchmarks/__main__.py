"""`python -m benchmarks`: measure, print, draw. Ends 1 where a bar that was measured is not met."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import click

from benchmarks import plot, report
from benchmarks.commits import CommitError
from benchmarks.figures import Results
from benchmarks.peers import report as peers
from benchmarks.peers.programs import PEERS
from benchmarks.run import PHASES, USUAL_PHASES, Plan, measure

HERE = Path(__file__).parent
EXIT_USAGE = 2
SOAK_SECONDS = 600.0
PLOTS = {"figures": ("throughput.svg", plot.draw), "peers": ("peers.svg", peers.draw)}
NAMES = tuple(peer.name for peer in PEERS)


def main(arguments: list[str] | None = None) -> int:
    """Run as told. A file of figures is written before anything is made of them."""
    options = _parser().parse_args(arguments)
    if options.figures:
        results = Results.read(options.figures)
    else:
        try:
            results = measure(_plan(options))
        except (FileNotFoundError, CommitError) as exc:
            click.echo(str(exc), err=True)
            return EXIT_USAGE
        results.write(options.output)
    click.echo("\n".join(report.lines(results)))
    if options.write_figures:
        report.write_figures(results)
        for name in report.sections(results):
            (HERE / PLOTS[name][0]).write_text(PLOTS[name][1](results))
    return int(any(bar.found and not bar.met for bar in report.bars(results)))


def _plan(options: argparse.Namespace) -> Plan:
    phases = options.only or USUAL_PHASES
    if options.soak and "soak" not in phases:
        phases = (*phases, "soak")
    return Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        states=options.states,
        phases=phases,
        peers=options.peers,
        soak_seconds=options.soak or SOAK_SECONDS,
        embedded=options.embedded,
        pin=options.pin,
        against=options.against,
        say=lambda line: click.echo(line, err=True),
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _some_of(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        if unknown := sorted(set(words) - set(known)):
            raise argparse.ArgumentTypeError(f"not one of {known}: {', '.join(unknown)}")
        return words

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--states", type=_numbers, default=(1, 10, 100, 1000), help="a document")
    parser.add_argument(
        "--only", type=_some_of(PHASES), default=(), help=f"some of: {', '.join(PHASES)}"
    )
    parser.add_argument(
        "--peers", type=_some_of(NAMES), default=NAMES, help=f"some of: {', '.join(NAMES)}"
    )
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="a long run as well")
    parser.add_argument("--embedded", action="store_true", help="the in-memory broker")
    parser.add_argument(
        "--no-pin", dest="pin", action="store_false", help="leave the cores to the scheduler"
    )
    parser.add_argument(
        "--against", metavar="COMMIT", help="measure the bridge of that commit beside this one"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results" / "latest.json")
    parser.add_argument(
        "--figures", type=Path, metavar="FILE", help="report on this file, and measure nothing"
    )
    parser.add_argument(
        "--write-figures", action="store_true", help="write figures.md, and draw the plot"
    )
    return parser


if __name__ == "__main__":
    # Not at once: the gateways and their broker are processes of their own, to be ended first.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    sys.exit(main())
