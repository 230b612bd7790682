"""`python -m tests.exhaustive.mutants`: the search held against programs that break the promise.

Each mutant is a copy of the package with one small change, and its scenario is searched until an
invariant breaks. Those of tests/mutants.py that change other modules (HTTP, the parser, the log)
cannot be seen from here, and are named as such.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.exhaustive.guards import REDUNDANT, SEEN, Attack
from tests.mutants import FAST, ROOT, AnchorError, Change, mutated

SECONDS = 120.0  # of a search for one mutant
_RUN = (
    "import sys; sys.path.append(sys.argv.pop(1)); import bridge; print(bridge.__file__); "
    "from tests.exhaustive.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a mutant: the line of the search (tests/exhaustive/__main__.py)."""

    attack: Attack
    line: dict[str, Any]

    @property
    def is_as_it_should_be(self) -> bool:
        """Caught; or, of a guard that is held twice, unnoticed up to the bound."""
        if self.attack in REDUNDANT:
            return bool(self.line["invariant"] is None and self.line["how"] == "exhausted")
        return self.line["invariant"] is not None


def unseen() -> list[Change]:
    """Those of the other tests that cannot be seen from here."""
    names = {attack.change.name for attack in (*SEEN, *REDUNDANT)}
    return [change for change in FAST if change.name not in names]


def search(attack: Attack, seconds: float = SECONDS) -> Verdict:
    """Search the mutant's scenario. AnchorError if it cannot be tried."""
    options = ["--scenario", attack.scenario, "--seconds", str(seconds)]
    if attack.faults is not None:
        options += ["--faults", str(attack.faults)]
    with mutated(attack.change) as directory:
        done = subprocess.run(
            [sys.executable, "-c", _RUN, str(ROOT), *options, "--json", "--quiet", "--no-walk"],
            env={**os.environ, "PYTHONPATH": str(directory), "PYTHONSAFEPATH": "1"},
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds + 300,
        )
        origin = done.stdout.partition("\n")[0]
        if not Path(origin).is_relative_to(directory):
            raise AnchorError(f"the package is not the copy's: {origin or done.stderr}")
    lines = json.loads(done.stdout.strip().rpartition("\n")[2] or "null")
    if not isinstance(lines, list):
        raise AnchorError(f"{attack.change.name}: no verdict: {done.stdout}{done.stderr}")
    return Verdict(attack, lines[-1])


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them all and print a table; 1 if one escapes."""
    parser = argparse.ArgumentParser(prog="python -m tests.exhaustive.mutants", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each search at most")
    parser.add_argument("--only", default="", help="those with this text in their name")
    parser.add_argument("--first", type=int, default=0, help="begin with the one of this number")
    options = parser.parse_args(arguments)
    escaped = 0
    for attack in (*SEEN, *REDUNDANT)[options.first :]:
        if options.only in attack.change.name:
            verdict = search(attack, options.seconds)
            escaped += not verdict.is_as_it_should_be
            click.echo(row(verdict))
    for change in unseen():
        if options.only in change.name:
            click.echo(f"not seen  {change.name} ({change.file})")
    return int(escaped > 0)


def row(verdict: Verdict) -> str:
    """One mutant: what broke, with how many steps and faults, in which schedule."""
    line, change = verdict.line, verdict.attack.change
    where = f"{change.name} ({change.file}), {verdict.attack.scenario}"
    if line["invariant"] is None:
        word = "harmless" if verdict.is_as_it_should_be else "ESCAPED "
        return f"{word}  {where}: {line['schedules']:,} schedules, {line['how']}"
    word = "caught  " if verdict.is_as_it_should_be else "HARMFUL "
    return (
        f"{word}  {where}: {line['invariant']} with {line['steps']} steps and {line['faults']} "
        f"faults, schedule {line['schedules']:,}"
    )


if __name__ == "__main__":
    sys.exit(main())
