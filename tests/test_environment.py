"""The virtualenvs that make sets up: what is in them, and how a set-up is interrupted."""

import os
import platform
import re
import signal
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path

import pytest

from bridge.demo.child import wait_until as poll
from tests.support.marked import MARK, processes

ROOT = Path(__file__).parents[1]
SET_UP = ROOT / ".ci/environment"


def pins(name: str) -> dict[str, str]:
    text = (ROOT / f"requirements{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def commands(target: str) -> str:
    """What make would run for a target, from nothing."""
    nothing = ["VENV=.cache/no-venv", "DEV=.cache/no-venv-dev", f"PYTHON={sys.executable}"]
    return subprocess.run(
        ["make", "--dry-run", "--always-make", target, *nothing],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    ).stdout


@pytest.mark.parametrize("target", ["demo", "run"])
def test_the_demo_s_environment_has_the_runtime_and_the_broker_alone(target: str) -> None:
    shown = commands(target)

    assert "requirements-dev.txt" not in shown
    assert "requirements-embedded.txt requirements-build.txt" in shown
    assert ".cache/no-venv/bin/sms-bridge demo" in shown
    assert pins("-embedded").keys() - pins("").keys() == {"confluent-kafka"}
    assert pins("").keys() <= pins("-embedded").keys()


def test_the_environments_agree_in_every_version() -> None:
    everything = pins("-dev")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == {"embedded", "otel", "dev"}
    for name in ("", "-embedded", "-otel", "-build"):
        assert pins(name).items() <= everything.items(), name
    for shared in pins("-docs").keys() & everything.keys():
        assert pins("-docs")[shared] == everything[shared]


def test_help_lists_the_targets_in_two_columns() -> None:
    lines = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    second = {len(found[0]) for line in lines if (found := re.match(r"  make \S+ +", line))}
    assert len(second) == 1, lines
    assert max(map(len, lines)) <= 120


def test_tests_and_lint_run_in_an_environment_of_their_own() -> None:
    shown = commands("lint")

    assert "requirements-dev.txt" in shown
    assert ".cache/no-venv-dev/bin/mypy" in shown
    assert "no-venv/bin" not in shown


@pytest.mark.parametrize(
    ("python", "says"),
    [
        ("", "make: no Python 3.11 or later; name one with PYTHON=/path/to/python"),
        ("false", "make: false is not Python 3.11 or later"),
    ],
)
def test_without_a_python_that_is_new_enough_one_line_says_so(
    python: str, says: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [SET_UP, tmp_path / "venv", python, "what for", "requirements.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", says + "\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_set_up_leaves_no_traceback_and_no_process(
    number: signal.Signals, tmp_path: Path
) -> None:
    """The signal reaches the whole group, as Ctrl-C does; `venv` takes for ever."""
    started = tmp_path / "started"
    (tmp_path / "venv.py").write_text(
        f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
    )
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [SET_UP, tmp_path / "made", sys.executable, "what for", "requirements.txt"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), MARK: mark},
        start_new_session=True,
    ) as set_up:
        poll(started.exists, "the first step")
        os.killpg(set_up.pid, number)
        shown, _ = set_up.communicate(timeout=60)

    python = f"Python {platform.python_version()}"
    assert shown == f"Setting up {tmp_path}/made, once, with {python}: what for\n"
    assert set_up.returncode == 128 + number
    poll(lambda: not processes(mark), "the end of every process")
    assert not (tmp_path / "made/.ready").exists()
