"""`python -m tests.chaos`: a run from the command line.

Ends 0 only if every invariant holds, and 77 where this machine does not allow the scenario.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import click
import pytest

from tests.chaos.check import Verdict, statuses
from tests.chaos.fault import FAULTS, kinds
from tests.chaos.rig import Settings
from tests.chaos.run import run
from tests.chaos.scenarios import SCENARIOS, UnavailableError

UNAVAILABLE = 77  # what test programs end with by convention that are skipped


def main(arguments: list[str] | None = None) -> int:
    """Run as told, print the faults as they happen and the report at the end."""
    options = _parser().parse_args(arguments)
    scenario = SCENARIOS[options.scenario]
    settings = _settings(options, scenario.settings)
    try:
        scenario.enter()
        click.echo(f"seed {settings.seed}, {settings.seconds:.0f} s, {settings.nodes} nodes")
        with ExitStack() as stack:
            verdict = asyncio.run(run(settings, *scenario.start(settings, stack)))
    except (UnavailableError, pytest.skip.Exception) as exc:  # the latter: a program is missing
        click.echo(f"this machine does not allow it: {exc}", err=True)
        return UNAVAILABLE
    text = "\n".join(render(verdict)) + "\n"
    click.echo(text, nl=False)
    if options.report:
        options.report.write_text("\n".join(verdict.log) + f"\n\n{text}")
    if options.json:
        options.json.write_text(report(verdict, settings))
    return 0 if verdict.holds else 1


def _settings(options: argparse.Namespace, scenario: Settings) -> Settings:
    """Those of the scenario; options override them."""
    told = {name: value for name, value in vars(options).items() if value is not None}
    names = {each.name for each in fields(Settings)}
    settings = replace(scenario, **{k: v for k, v in told.items() if k in names})
    return replace(settings, each_first=options.mode == "each")


def render(verdict: Verdict) -> Iterable[str]:
    """The report, then the invariants, then one word."""
    yield from verdict.report
    for finding in verdict.findings:
        yield f"{'holds ' if finding.holds else 'BROKEN'}  {finding.name}: {finding.detail}"
    yield "PASSED" if verdict.holds else "FAILED"


def report(verdict: Verdict, settings: Settings) -> str:
    """As JSON: the run, and of each invariant whether it was satisfied, violated or unchecked."""
    run_of = {
        "seed": settings.seed,
        "seconds": settings.seconds,
        "nodes": settings.nodes,
        "gateways": settings.gateways,
        "faults": [] if settings.calm else sorted(kind.name for kind in kinds(settings)),
    }
    said = {
        "run": run_of,
        "invariants": statuses(verdict.findings),
        "quarters": verdict.figures.quarters,
    }
    return json.dumps(said, indent=2) + "\n"


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := [kind for kind in kinds if kind not in FAULTS]:
        raise argparse.ArgumentTypeError(f"no such fault: {', '.join(unknown)}")
    return kinds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "--scenario",
        choices=SCENARIOS,
        default="plain",
        help="the rig and its faults; other options override its settings",
    )
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--nodes", type=int, choices=(1, 3))
    parser.add_argument("--gateways", type=int, help="behind a balancer, if more than one")
    parser.add_argument("--processes", type=int, help="that serve, in each gateway")
    parser.add_argument("--providers", type=int)
    parser.add_argument("--publish-timeout", type=float, dest="publish_timeout_seconds")
    parser.add_argument("--quiet", type=float, dest="quiet_seconds", help="at the end, in seconds")
    parser.add_argument(
        "--mode",
        choices=("each", "random"),
        default="each",
        help="go through every kind once first, or leave all to chance",
    )
    parser.add_argument(
        "--faults",
        type=_kinds,
        help=f"some kinds only, with commas between: {', '.join(FAULTS)}",
    )
    parser.add_argument("--report", type=Path, help="write the report to this file as well")
    parser.add_argument(
        "--json", type=Path, help="write what became of each invariant to this file, as JSON"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
