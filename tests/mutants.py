"""`python -m tests.mutants`: ways to break the promise, each caught by a test within seconds.

A mutant is a copy of the package with one small change. Those that only a real Kafka under fire
brings to light are in tests/chaos/mutants.py; `make mutants` runs both.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

import bridge

PACKAGE = Path(bridge.__file__).parent
ROOT = Path(__file__).parents[1]
SECONDS_TO_HANG = 300
TESTS_FAILED = 1  # the exit status of pytest; any other but 0 is trouble with the run itself

# Imported before pytest puts the tree itself first, so that all of it comes from the copy.
_RUN = "import sys, bridge, pytest; print(bridge.__file__); sys.exit(pytest.main(sys.argv[1:]))"


class AnchorError(Exception):
    """The text that a mutant changes is not there, or not only once: the mutant needs a look."""


@dataclass(frozen=True, slots=True)
class Change:
    """A way to break the promise: `anchor`, once in `file`, becomes `replacement`."""

    name: str
    file: str
    anchor: str
    replacement: str


@dataclass(frozen=True, slots=True)
class FastMutant(Change):
    """One that must fail `test`, in pytest's notation; the present program must pass it."""

    test: str


FAST = (
    FastMutant(
        "acknowledges what is pending",
        "pipeline.py",
        "outcome.result is Result.PUBLISHED for outcome in",
        "outcome.result is not Result.FAILED for outcome in",
        "tests/test_endurance.py::test_an_id_of_which_one_state_fails_is_never_acknowledged",
    ),
    FastMutant(
        "acknowledges an id when any of its states is published",
        "ack.py",
        "is_durable and whole.get(state.id_sms, True)",
        "is_durable or whole.get(state.id_sms, False)",
        "tests/test_ack.py",
    ),
    FastMutant(
        "never replaces the producer",
        "kafka/supervisor.py",
        "        connection.fail(cause)\n",
        "        return\n",
        "tests/test_supervisor.py::test_nobody_is_handed_a_connection_that_was_given_up",
    ),
    FastMutant(
        "remembers an event before the broker's answer",
        "duplicates.py",
        "        outcomes = await self._publisher.publish(fresh, deadline)\n",
        "        self._remember(fresh, [REPEATED] * len(fresh), topic_ids)\n"
        "        outcomes = await self._publisher.publish(fresh, deadline)\n",
        "tests/test_duplicates.py::test_nothing_is_remembered_before_the_answer",
    ),
    FastMutant(
        "ends a wait each time that the loop rings",
        "timeouts.py",
        "            self.leave(wait)\n            wait.end()\n",
        "            wait.end()\n",
        "tests/test_timeouts.py::test_a_wait_that_is_ended_and_has_not_run_yet_is_not_ended_again",
    ),
    FastMutant(
        "lets a cancellation pass without a word",
        "webhook.py",
        "except (Exception, asyncio.CancelledError) as exc:",
        "except Exception as exc:",
        "tests/test_webhook.py::"
        "test_a_cancellation_that_nobody_asked_for_is_a_fault_like_any_other",
    ),
    FastMutant(
        "logs ids as long as a body",
        "webhook.py",
        "[clipped(i, ID_CHARACTERS) for i in unlisted[:MAX_LOGGED_IDS]]",
        "unlisted[:MAX_LOGGED_IDS]",
        "tests/test_clip.py::test_the_ids_that_are_not_listed_are_clipped_each",
    ),
    FastMutant(
        "names ids as long as a body in spans",
        "tracing/spans.py",
        "[clipped(id_sms, ID_CHARACTERS) for id_sms in ids[:MAX_IDS]]",
        "list(ids[:MAX_IDS])",
        "tests/test_clip.py::test_nothing_that_looks_on_grows_with_what_is_sent[id]",
    ),
    FastMutant(
        "reads elements nested without end",
        "parse.py",
        "            if depth > MAX_DEPTH:\n",
        "            if depth > MAX_ELEMENTS:\n",
        "tests/test_hostile.py::"
        "test_a_hostile_body_is_answered_as_the_contract_says[structure-deep_nesting]",
    ),
)


@contextmanager
def mutated(change: Change) -> Iterator[Path]:
    """A directory with the changed package in it; AnchorError where the change does not fit."""
    with tempfile.TemporaryDirectory(prefix="sms-mutant-") as directory:
        copy = Path(directory) / PACKAGE.name
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / change.file
        text = file.read_text()
        if (found := text.count(change.anchor)) != 1:
            raise AnchorError(f"{change.name}: {found} times in {change.file}: {change.anchor!r}")
        file.write_text(text.replace(change.anchor, change.replacement))
        done = _python(Path(directory), "-c", "import bridge; print(bridge.__file__)")
        _check_origin(done, Path(directory))
        yield Path(directory)


def caught(mutant: FastMutant) -> bool:
    """Whether its test fails with it. AnchorError where that cannot be said."""
    with mutated(mutant) as directory:
        try:
            done = _tested(directory, mutant.test)
        except subprocess.TimeoutExpired:
            return True
    _check_origin(done, directory)
    if done.returncode not in {0, TESTS_FAILED}:
        raise AnchorError(f"{mutant.name}: no verdict of {mutant.test}: {done.stdout}")
    return done.returncode == TESTS_FAILED


def presently_failing() -> str:
    """What pytest says of the tests where the present program does not pass them all."""
    done = _tested(ROOT, *dict.fromkeys(mutant.test for mutant in FAST))
    return done.stdout if done.returncode else ""


def _tested(package: Path, *tests: str) -> "subprocess.CompletedProcess[str]":
    options = ("-q", "--exitfirst", "--tb=line", "-p", "no:cacheprovider")
    return _python(package, "-c", _RUN, *options, *tests)


def _python(package: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        # Safe: else the tree itself would come before the copy.
        env={**os.environ, "PYTHONPATH": str(package), "PYTHONSAFEPATH": "1"},
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS_TO_HANG,
    )


def _check_origin(done: "subprocess.CompletedProcess[str]", directory: Path) -> None:
    """A mutant that is not the one that runs would be caught by nothing, or escape for nothing."""
    origin = done.stdout.partition("\n")[0]
    if not Path(origin).is_relative_to(directory):
        raise AnchorError(f"the package is not the copy's: {origin or done.stderr}")


def main() -> int:
    """Try them all and print a table; 1 if one escapes, or if the present program fails."""
    failing = presently_failing()
    click.echo(f"{'BROKEN' if failing else 'passed':8} the present program {failing}")
    escaped = 0
    for mutant in FAST:
        is_caught = caught(mutant)
        escaped += not is_caught
        click.echo(f"{'caught' if is_caught else 'ESCAPED':8} {mutant.name}: {mutant.test}")
    return int(bool(failing or escaped))


if __name__ == "__main__":
    sys.exit(main())
