"""Has Spin search a model, and tells a counterexample's story."""

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.model.runs import Run

MODELS = Path(__file__).parent
PROGRAMS = ("spin", "gcc")
MEMORY_MEGABYTES = 3000
DEPTH = 100_000  # steps of one way
_STORED = re.compile(r"^\s*([0-9.e+]+) states, stored", re.MULTILINE)
_ERRORS = re.compile(r"errors: (\d+)")
_BROKEN = re.compile(r"^BROKEN (I\d+)", re.MULTILINE)


class SpinError(Exception):
    """The search did not come to its end."""


@dataclass(frozen=True)
class Found:
    """What a search has found. `story` are the steps to a counterexample, if there is one."""

    states: int
    broken: str | None = None
    story: tuple[str, ...] = ()


def missing() -> list[str]:
    """Those of the programs that this machine lacks."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


def search(run: Run, seconds: float) -> Found:
    """Every way of the model within its bounds, up to the first that breaks an invariant.

    Raises SpinError if the model is wrong, or the search is not complete in time, memory and depth.
    """
    with tempfile.TemporaryDirectory() as directory:
        return _search(run, seconds, Path(directory))


def _search(run: Run, seconds: float, directory: Path) -> Found:
    model = MODELS / f"{run.model}.pml"
    constants = [f"-D{name}={value}" for name, value in run.constants.items()]
    _call(directory, seconds, "spin", "-a", *constants, str(model))
    # Breadth first finds a shortest counterexample, depth first needs less memory to see all. What
    # is found soon is compiled soon.
    order = ["-O0", "-DBFS"] if run.breaks else ["-O1"]
    options = ["-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MEGABYTES}", *order]
    _call(directory, seconds, "gcc", "-w", *options, "-o", "pan", "pan.c")
    said = _call(directory, seconds, "./pan", f"-m{DEPTH}")
    stored, errors = _STORED.search(said), _ERRORS.search(said)
    if stored is None or errors is None or ("Search not completed" in said and errors[1] == "0"):
        raise SpinError(f"{run.name}: the search is not complete:\n{said}")
    if "max search depth too small" in said or "out of memory" in said:
        raise SpinError(f"{run.name}: the bounds of the search are too small:\n{said}")
    states = int(float(stored[1]))
    if errors[1] == "0":
        return Found(states)
    trail = next(directory.glob("*.trail"))
    told = _call(
        directory, seconds, "spin", "-t", "-T", "-B", "-k", trail.name, *constants, str(model)
    )
    story = [line for line in told.splitlines() if not line.startswith("spin:")]
    broken = _BROKEN.search(told)
    if broken is None and "invalid end state" in said:
        story.append("BROKEN I6: nothing can happen any more, and not every state is listed")
        return Found(states, "I6", tuple(story))
    return Found(states, broken[1] if broken else "an assertion", tuple(story))


def _call(directory: Path, seconds: float, *command: str) -> str:
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise SpinError(f"{command[0]} did not end within {seconds:g} s") from exc
    said = done.stdout + done.stderr
    # Spin ends with 1 after a story, too.
    if done.returncode and "trail ends after" not in said:
        raise SpinError(f"{' '.join(command)}:\n{said}")
    return said
