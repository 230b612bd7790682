"""Runs the attacks that are named, or all of them, and prints what came of each."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.attacks import (
    broken,
    costly,
    files,
    framing,
    half_close,
    log_line,
    refusals,
    slow,
    starve,
    too_large,
    trailers,
    uncounted,
    unread,
)
from tests.attacks.rig import Row

ATTACKS: dict[str, Callable[[], Iterator[Row]]] = {
    "trailers": trailers.run,
    "uncounted": uncounted.run,
    "unread": unread.run,
    "slow": slow.run,
    "starve": starve.run,
    "too_large": too_large.run,
    "costly": costly.run,
    "files": files.run,
    "half_close": half_close.run,
    "log_line": log_line.run,
    "framing": framing.run,
    "broken": broken.run,
    "refusals": refusals.run,
}


def main() -> None:
    """Print the table, and keep it as JSON where a file is named."""
    parser = argparse.ArgumentParser(prog="python -m tests.attacks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ATTACKS))
    parser.add_argument("--json", type=Path, help="a file to which the figures are added")
    arguments = parser.parse_args()
    names = arguments.names or list(ATTACKS)
    if unknown := sorted(set(names) - set(ATTACKS)):
        parser.error(f"no such attack: {', '.join(unknown)}")
    for name in names:
        started = time.monotonic()
        for row, figure in ATTACKS[name]():
            sys.stdout.write(f"{name} | {row} | {figure}\n")
            sys.stdout.flush()
            if arguments.json:
                _keep(arguments.json, f"{name}: {row}", figure)
        sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")


def _keep(file: Path, row: str, figure: str) -> None:
    figures = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(figures | {row: figure}, indent=1) + "\n")


if __name__ == "__main__":
    main()
