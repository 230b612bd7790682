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
        "ack.py",
        "item.outcome.result is _PUBLISHED",
        "item.outcome.result is not Result.FAILED",
        "tests/gateway/test_endurance.py::test_an_id_of_which_one_state_fails_is_never_acknowledged",
    ),
    FastMutant(
        "acknowledges an id when any of its states is published",
        "ack.py",
        "is_durable and whole.get(id_sms, True)",
        "is_durable or whole.get(id_sms, False)",
        "tests/test_ack.py",
    ),
    FastMutant(
        "never replaces the producer",
        "kafka/supervisor.py",
        "        producer.fail(cause)\n",
        "        return\n",
        "tests/kafka/test_supervisor.py::test_nobody_is_handed_a_connection_that_was_given_up",
    ),
    FastMutant(
        "remembers an event before the broker's answer",
        "duplicates.py",
        "        outcomes = await self._publisher.publish(fresh, deadline, on_too_large)\n",
        "        self._remember(fresh, [Outcome(Result.PUBLISHED, 0, 0)] * len(fresh), logs)\n"
        "        outcomes = await self._publisher.publish(fresh, deadline, on_too_large)\n",
        "tests/test_duplicates.py::test_nothing_is_remembered_before_the_answer",
    ),
    FastMutant(
        "ends a wait each time that it is due",
        "timeouts.py",
        "        if not self.ended:\n"
        "            self.ended = True\n"
        "            self._task.cancel()\n",
        "        self.ended = True\n        self._task.cancel()\n",
        "tests/gateway/test_in_flight.py",
    ),
    FastMutant(
        "lets a cancellation pass without a word",
        "gateway/webhook.py",
        "except (Exception, asyncio.CancelledError) as exc:",
        "except Exception as exc:",
        "tests/gateway/test_refusals.py::"
        "test_a_cancellation_that_nobody_asked_for_is_a_fault_like_any_other",
    ),
    FastMutant(
        "logs ids as long as a body",
        "observability/requests.py",
        "shown = clipped(id_sms, ID_CHARACTERS)",
        "shown = id_sms",
        "tests/test_clip.py::test_the_ids_that_are_not_listed_are_clipped_each",
    ),
    FastMutant(
        "logs the first ids alone",
        "observability/requests.py",
        "        for more in ids:\n",
        "        for more in ():\n",
        "tests/gateway/test_unlisted_ids.py::"
        "test_ten_thousand_ids_of_one_document_are_all_in_the_log",
    ),
    FastMutant(
        "holds back ids with the line of a refusal",
        "observability/requests.py",
        'if "unlisted" not in fields:',
        "if True:",
        "tests/gateway/test_unlisted_ids.py::"
        "test_a_document_for_which_there_was_no_room_names_its_ids",
    ),
    FastMutant(
        "names ids as long as a body in spans",
        "observability/tracing/spans.py",
        "[clipped(id_sms, ID_CHARACTERS) for id_sms in ids[:MAX_IDS]]",
        "list(ids[:MAX_IDS])",
        "tests/test_clip.py::test_nothing_that_looks_on_grows_with_what_is_sent[id]",
    ),
    FastMutant(
        "reads elements nested without end",
        "parse/xml_form.py",
        "        if depth > limits.MAX_DEPTH:\n",
        "        if depth > limits.MAX_ELEMENTS:\n",
        "tests/hostile/test_hostile.py::"
        "test_a_hostile_body_is_answered_as_the_contract_says[structure-deep_nesting]",
    ),
    FastMutant(
        "reads the last of two attributes of one name",
        "parse/plain_form.py",
        "if len(element) < len(pairs) or ",
        "if ",
        "tests/test_plain_form.py::test_what_is_not_plain_is_left_to_the_one_that_decides",
    ),
    FastMutant(
        "takes the dead letter of a too large event for granted",
        "pipeline.py",
        "        await self._publish(letters, self._deadline)\n",
        "        await self._publish(letters, self._deadline)\n"
        "        for letter in letters:\n"
        "            letter.outcome = Outcome(Result.PUBLISHED)\n",
        "tests/gateway/test_webhook.py::"
        "test_an_event_too_large_whose_dead_letter_is_not_in_kafka_is_not_listed",
    ),
    FastMutant(
        "takes an abandoned batch for published",
        "kafka/producer.py",
        "        for reply in list(self.in_flight):\n"
        "            self._settle(reply, AbandonedError())\n",
        "        for reply in list(self.in_flight):\n            self._settle(reply, 0)\n",
        "tests/kafka/test_publisher.py::"
        "test_a_connection_that_is_given_up_leaves_its_records_to_the_next",
    ),
    FastMutant(
        "takes a batch of which the client lets go for published",
        "kafka/producer.py",
        "        if answer.cancelled():\n            self._settle(reply, AbandonedError())\n",
        "        if answer.cancelled():\n            self._settle(reply, 0)\n",
        "tests/kafka/test_publisher.py::"
        "test_a_batch_of_which_aiokafka_lets_go_is_not_taken_for_published",
    ),
    FastMutant(
        "asks for one replica's answer, without idempotence",
        "kafka/producer.py",
        '            acks="all",\n            enable_idempotence=True,\n',
        "            acks=1,\n",
        "tests/kafka/test_broker_errors.py::"
        "test_what_is_asked_for_is_every_replica_s_answer_and_no_repetition",
    ),
    FastMutant(
        "has small requests wait for large ones",
        "kafka/publisher.py",
        "        return self.large if request.large else self.small\n",
        "        return self.small\n",
        "tests/kafka/test_publisher.py::"
        "test_a_small_request_does_not_wait_for_all_of_a_large_one_nor_the_reverse",
    ),
    FastMutant(
        "gives every batch to the same requests first",
        "kafka/publisher.py",
        "        queue.large_first = not queue.large_first\n",
        "        queue.large_first = False\n",
        "tests/kafka/test_publisher.py::test_records_that_fill_a_batch_each_take_turns",
    ),
    FastMutant(
        "sends records that were refused together with as many of others",
        "kafka/publisher.py",
        "min([chunk.most for chunk in taken], default=NO_LIMIT)",
        "NO_LIMIT",
        "tests/kafka/test_publisher.py::"
        "test_a_batch_holds_no_more_than_any_of_its_records_may_share_it_with",
    ),
    FastMutant(
        "frees a large document at once",
        "gateway/webhook.py",
        "                _free(request.prepared.items)\n",
        "                pass\n",
        "tests/gateway/test_webhook.py::test_what_a_large_document_holds_is_freed_in_steps",
    ),
    FastMutant(
        "gives sequence numbers back that may have been used",
        "kafka/internals.py",
        "self._batch is None or self._batch.retry_count != 1",
        "self._batch is None",
        "tests/kafka/test_broker_errors.py::"
        "test_numbers_that_may_have_been_used_are_not_given_back",
    ),
    FastMutant(
        "remembers what was sent before a replacement",
        "duplicates.py",
        "if generation == self._cluster.generation == self._generation:",
        "if self._cluster.generation == self._generation:",
        "tests/test_duplicates.py::"
        "test_what_was_sent_before_a_replacement_is_not_remembered_after_it",
    ),
    FastMutant(
        "believes a repeat whose record was deleted",
        "duplicates.py",
        "offset >= starts[partition]",
        "offset >= 0",
        "tests/test_duplicates.py::"
        "test_what_was_deleted_from_the_beginning_of_a_log_is_written_again",
    ),
    FastMutant(
        "believes a repeat under another leader",
        "duplicates.py",
        "if partition in known.epochs and known.epochs[partition] == now.epochs.get(partition)",
        "if partition in known.epochs",
        "tests/test_duplicates.py::test_a_partition_with_another_leader_may_have_lost_its_end",
    ),
    FastMutant(
        "lists ids as long as a body",
        "ack.py",
        "        if len(id_sms) > MAX_LISTED_CHARACTERS:\n",
        "        if False:\n",
        "tests/test_ack.py",
    ),
    FastMutant(
        "identifies a state by its channels alone",
        "event.py",
        "    for name, value in values.items():\n        framed",
        "    for name, value in channels.items():\n        framed",
        "tests/test_identity.py",
    ),
    FastMutant(
        "identifies a dead letter without the child elements",
        "event.py",
        "    if received.children:\n        yield received.children\n",
        "",
        "tests/test_identity.py",
    ),
    FastMutant(
        "identifies a value by its lower case",
        "parse/states.py",
        "given = value.strip()\n",
        "given = value.strip().lower()\n",
        "tests/test_identity.py",
    ),
    FastMutant(
        "suppresses states by their id alone",
        "event.py",
        "headers, arrival.timestamp_ms, identity)",
        "headers, arrival.timestamp_ms, id_sms)",
        "tests/test_identity.py",
    ),
    FastMutant(
        "counts unfinished bodies against complete ones",
        "gateway/admission.py",
        "or self.finished_bytes >= self.max_bytes",
        "or self.bytes >= self.max_bytes",
        "tests/gateway/test_admission.py",
    ),
    FastMutant(
        "lets the time of a state go before its rank",
        "subscriber.py",
        "    rank: int\n    has_time: bool\n    changed_at: datetime\n",
        "    has_time: bool\n    changed_at: datetime\n    rank: int\n",
        "tests/test_subscriber.py",
    ),
    FastMutant(
        "reads documents in order of arrival",
        "gateway/reader.py",
        "min(self.waiting, key=lambda waiting: waiting.due)",
        "next(iter(self.waiting))",
        "tests/gateway/test_reader.py",
    ),
    FastMutant(
        "counts a heavy state as a light one",
        "gateway/webhook.py",
        "weight(len(prepared.items), prepared.attributes, prepared.characters)",
        "len(prepared.items)",
        "tests/gateway/test_in_flight.py",
    ),
    FastMutant(
        "takes trailers without a limit",
        "gateway/framing.py",
        "        if known > MAX_FRAMING_BYTES:\n",
        "        if False:\n",
        "tests/gateway/test_framing.py",
    ),
    FastMutant(
        "has no limit on chunks of one byte",
        "gateway/framing.py",
        "        if self._chunks > FREE_CHUNKS + self._size // MIN_CHUNK_BYTES:\n",
        "        if False:\n",
        "tests/gateway/test_framing.py",
    ),
    FastMutant(
        "cuts the connections that came last",
        "gateway/connections.py",
        "self._cut(next(iter(self.silent)))",
        "self._cut(next(reversed(self.silent)))",
        "tests/gateway/test_connections.py",
    ),
    FastMutant(
        "gives back the bytes of an answer before it is read",
        "gateway/webhook.py",
        "                lease.hold_bytes(len(reply.body))\n",
        "",
        "tests/gateway/test_webhook.py::"
        "test_an_answer_that_is_not_read_keeps_its_bytes_and_nothing_else",
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
