"""`python -m tests.fuzzing`: fuzzes guided by coverage, and ends 0 only if all holds.

It begins with the corpus, which is in the repository, and with what earlier runs have found in
`.cache/fuzzing`. An input that does not hold is kept there, and the command that tries it again is
printed.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import click

from tests.fuzzing.corpus import CORPUS, MAX_BYTES, inputs, rewrite
from tests.fuzzing.targets import TARGETS, bounded

FOUND = Path(".cache/fuzzing")
# How often a line of the YAML parser runs says little, and would double the corpus.
MERGE_OPTIONS = {"config": ("-use_counters=0",)}
TIMEOUT_SECONDS = 60  # of an input that hangs; targets.py bounds what one may cost


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz each target for its share of the time; or do with one what else is asked for."""
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = options.target or list(TARGETS)
    if options.again:
        if len(chosen) != 1:
            parser.error("--again needs one --target")
        with TARGETS[chosen[0]]() as one:
            bounded(one)(options.again.read_bytes())
        return 0
    if find_spec("atheris") is None:
        click.echo("fuzzing needs atheris, which has wheels for Linux on x86-64 alone", err=True)
        return 2
    if options.minimise:
        ended = [minimise(name) for name in chosen]
    else:
        seconds = max(1, round(options.seconds / len(chosen)))
        ended = [fuzz(name, seconds, options.seed) for name in chosen]
    return int(any(ended))  # one that was killed has a status below 0


def fuzz(name: str, seconds: int, seed: int) -> int:
    """Run libFuzzer; its exit status."""
    click.echo(f"== {name}")
    found, broken = FOUND / name, FOUND / f"{name}-broken"
    for directory in (found, broken):
        directory.mkdir(parents=True, exist_ok=True)
    limits = (f"-max_total_time={seconds}", f"-timeout={TIMEOUT_SECONDS}", f"-seed={seed}")
    code = _guided(name, "fuzz", *limits, f"-artifact_prefix={broken}/", found, CORPUS / name)
    if code:
        kept = max(broken.iterdir(), key=lambda path: path.stat().st_mtime, default="FILE")
        click.echo(f"again: {sys.executable} -m tests.fuzzing --target {name} --again {kept}")
    return code


def minimise(name: str) -> int:
    """Keep of the corpus, and of what was found, the fewest inputs that cover as much."""
    with tempfile.TemporaryDirectory() as directory:
        kept, program = Path(directory) / "kept", Path(directory) / "program"
        kept.mkdir()
        program.write_text(f'#!/bin/sh\nexec {shlex.join(_command(name))} "$0" "$@"\n')
        program.chmod(0o700)
        merged = (kept, CORPUS / name, FOUND / name)
        for each in merged:
            each.mkdir(parents=True, exist_ok=True)
        code = _guided(name, program, "-set_cover_merge=1", *MERGE_OPTIONS.get(name, ()), *merged)
        if not code:
            rewrite(name, [path.read_bytes() for path in kept.iterdir()])
    click.echo(f"{name}: {len(inputs(name))} inputs")
    return code


def _guided(name: str, *arguments: str | Path) -> int:
    limit = f"-max_len={MAX_BYTES[name]}"
    return subprocess.run([*_command(name), *arguments, limit], check=False).returncode


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "tests.fuzzing.guided", name]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--target", action="append", choices=list(TARGETS), help="this one only")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=0, help="libFuzzer's; 0 draws one")
    parser.add_argument("--again", type=Path, help="try this input, without guidance")
    parser.add_argument("--minimise", action="store_true", help="write the corpus anew")
    return parser


if __name__ == "__main__":
    sys.exit(main())
