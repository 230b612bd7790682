"""All runs of the models and their controls: what holds, what is broken, and by which steps."""

import argparse
import sys
import time
from collections.abc import Sequence

import click

from tests.model.runs import CONTROLS, LONG, QUICK, Run
from tests.model.spin import SpinError, missing, search


def main(arguments: Sequence[str] | None = None) -> int:
    """0 if every run holds, and every control is broken as it says."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the bounded runs alone")
    parser.add_argument("--only", default="", metavar="TEXT", help="those with this in their name")
    parser.add_argument("--seconds", type=float, default=600, help="for each step of each run")
    options = parser.parse_args(arguments)
    if lacking := missing():
        click.echo(f"missing: {', '.join(lacking)}; install Debian's packages of these names")
        return 2
    runs = (*QUICK, *(() if options.quick else LONG), *CONTROLS)
    chosen = [run for run in runs if options.only in run.name]
    results = [_as_it_must(run, options.seconds) for run in chosen]
    click.echo(f"{sum(results)} of {len(results)} as they must be")
    return 0 if results and all(results) else 1


def _as_it_must(run: Run, seconds: float) -> bool:
    started = time.monotonic()
    try:
        found = search(run, seconds)
    except SpinError as error:
        click.echo(f"FAILED {run.model}: {error}")
        return False
    took = time.monotonic() - started
    is_right = found.broken == run.breaks
    verdict = f"breaks {found.broken}" if found.broken else "holds"
    wrong = (
        "" if is_right else f", and must {f'break {run.breaks}' if run.breaks else 'hold'}: FAILED"
    )
    click.echo(f"{run.model}: {run.name}: {verdict}, {found.states:,} states, {took:.1f} s{wrong}")
    for line in found.story:
        click.echo(f"    {line}")
    return is_right


if __name__ == "__main__":
    sys.exit(main())
