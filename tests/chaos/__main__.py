"""`python -m tests.chaos`: a run from the command line. Ends 0 only if every invariant holds."""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from tests.chaos.check import Verdict, statuses
from tests.chaos.faults import FAULTS, kinds
from tests.chaos.rig import Settings, new_cluster
from tests.chaos.run import run


def main(arguments: list[str] | None = None) -> int:
    """Run as told, print the faults as they happen and the report at the end."""
    options = _parser().parse_args(arguments)
    settings = Settings(
        seconds=options.seconds,
        seed=options.seed,
        nodes=options.nodes,
        processes=options.processes,
        providers=options.providers,
        publish_timeout_seconds=options.publish_timeout,
        faults=options.faults,
        each_first=options.mode == "each",
    )
    cluster, network = new_cluster(settings.nodes)
    click.echo(f"seed {settings.seed}, {settings.seconds:.0f} s, {settings.nodes} nodes")
    with cluster:
        verdict = asyncio.run(run(settings, cluster, network))
    text = "\n".join(render(verdict)) + "\n"
    click.echo(text, nl=False)
    if options.report:
        options.report.write_text("\n".join(verdict.log) + f"\n\n{text}")
    if options.json:
        options.json.write_text(report(verdict, settings))
    return 0 if verdict.holds else 1


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
        "faults": settings.faults or sorted(kind.name for kind in kinds(settings)),
    }
    said = {"run": run_of, "invariants": statuses(verdict.findings)}
    return json.dumps(said, indent=2) + "\n"


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if unknown := [kind for kind in kinds if kind not in FAULTS]:
        raise argparse.ArgumentTypeError(f"no such fault: {', '.join(unknown)}")
    return kinds


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--nodes", type=int, default=defaults.nodes, choices=(1, 3))
    parser.add_argument("--processes", type=int, default=defaults.processes, help="that serve")
    parser.add_argument("--providers", type=int, default=defaults.providers)
    parser.add_argument("--publish-timeout", type=float, default=defaults.publish_timeout_seconds)
    parser.add_argument(
        "--mode",
        choices=("each", "random"),
        default="each",
        help="go through every kind once first, or leave all to chance",
    )
    parser.add_argument(
        "--faults",
        type=_kinds,
        default=(),
        help=f"some kinds only, with commas between: {', '.join(FAULTS)}",
    )
    parser.add_argument("--report", type=Path, help="write the report to this file as well")
    parser.add_argument(
        "--json", type=Path, help="write what became of each invariant to this file, as JSON"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
