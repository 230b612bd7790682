"""The promise in parts, each with a name, and where each is checked. docs/reliability.md shows it.

A check is a test (`file::function`), or something that judges a whole run: the exhaustive search,
which names an invariant when it breaks (tests/exhaustive), and the chaos run, whose findings name
those that they speak for (tests/chaos/check.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

EXHAUSTIVE = frozenset({"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11"})

# By the name of a finding of the chaos run.
CHAOS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "acknowledged and missing": ("I1",),
        "states of one id, each with its event": ("I3",),
        "nothing but what was posted": ("I2", "I11"),
        "one partition per message": ("I4",),
        "what the brokers lost is said": ("I1",),
        "the unacknowledged, posted again": ("I6",),
        "probe after the last fault": ("I6",),
        "recovery after every fault": ("I6",),
        "every answer in time": ("I8",),
        "sockets bounded": ("I9",),
        "threads bounded": ("I9",),
        "memory bounded": ("I9",),
        "nothing grows in a calm run": ("I9",),
        "answers as fast at the end of a calm run": ("I8",),
        "SIGTERM ends with 0 in time": ("I10",),
    }
)


@dataclass(frozen=True, slots=True)
class Invariant:
    """One part of the promise. `properties` and `fuzz` are tests; `tests` those of single cases."""

    name: str
    says: str
    properties: tuple[str, ...] = ()
    fuzz: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()

    @property
    def is_chaos_s(self) -> bool:
        """Whether the chaos run speaks for it."""
        return any(self.name in names for names in CHAOS.values())

    @property
    def is_exhaustive(self) -> bool:
        """Whether the exhaustive search does."""
        return self.name in EXHAUSTIVE

    @property
    def checks(self) -> tuple[str, ...]:
        """All tests that are named."""
        return (*self.properties, *self.fuzz, *self.tests)


_PUBLISHER = "tests/kafka/test_publisher.py"
_ENDURANCE = "tests/gateway/test_endurance.py"
_MEMORY = "tests/gateway/test_memory.py"
_DRAIN = "tests/gateway/test_drain.py"
_FUZZ = ("tests/gateway/test_fuzz.py::test_made_up_bodies_are_answered_as_the_contract_says",)
_IDENTITY = ("tests/test_identity.py::test_two_states_are_one_record_only_if_they_are_the_same",)

INVARIANTS = (
    Invariant(
        "I1",
        "An id is listed only if every state that carries it is durably in Kafka when the answer "
        "is sent",
        ("tests/test_ack.py::test_an_id_is_listed_if_and_only_if_all_its_states_are_durable",),
        _FUZZ,
        (f"{_ENDURANCE}::test_an_id_of_which_one_state_fails_is_never_acknowledged",),
    ),
    Invariant("I2", "The same state has the same (`source`, `id`), whenever it comes", _IDENTITY),
    Invariant("I3", "Different states have different ids", _IDENTITY),
    Invariant(
        "I4",
        "All records of a message are in one partition, the one that Java's partitioner chooses",
        (
            "tests/kafka/test_partitions.py::test_the_partition_is_the_one_that_aiokafka_would_choose",
        ),
    ),
    Invariant(
        "I5",
        "Nothing is written after its request's answer said that it was not handed over",
        tests=(
            f"{_PUBLISHER}::test_without_kafka_it_has_failed_and_never_gets_there_later",
            f"{_PUBLISHER}::test_what_waits_behind_a_batch_in_flight_is_withdrawn_at_its_deadline",
        ),
    ),
    Invariant(
        "I6",
        "Every valid state that was not listed can be listed by a later post, within a bounded "
        "time after the last fault",
        tests=(
            "tests/gateway/test_endurance.py::test_kafka_is_away_under_two_thousand_posts_at_once",
        ),
    ),
    Invariant(
        "I7",
        "A state that cannot be taken costs no other its place in the answer",
        fuzz=_FUZZ,
        tests=(
            "tests/test_ack.py::test_one_failed_state_costs_no_other_id",
            "tests/kafka/test_publisher.py::test_one_bad_record_costs_itself_alone",
        ),
    ),
    Invariant(
        "I8",
        "Every request has its answer by its deadline",
        tests=("tests/kafka/test_publisher.py::test_no_answer_by_the_deadline_is_unknown",),
    ),
    Invariant(
        "I9",
        "Memory, tasks, producers and connections are bounded, whatever Kafka and the senders do",
        tests=(
            f"{_MEMORY}::test_the_worst_documents_stay_under_the_chart_s_limit_with_kafka_away",
            "tests/chaos/test_chaos.py::test_a_hundred_replacements_leave_nothing_behind",
        ),
    ),
    Invariant(
        "I10",
        "The drain ends in its time, answers what is in flight truly, and leaves nothing behind",
        tests=(
            f"{_DRAIN}::test_without_kafka_posts_in_flight_are_answered_truthfully",
            "tests/gateway/test_endurance.py::test_sigterm_in_the_middle_of_requests",
        ),
    ),
    Invariant(
        "I11",
        "No id is listed, and nothing is written, that was not posted",
        fuzz=_FUZZ,
    ),
)


def table() -> Iterable[str]:
    """The rows of the table in docs/reliability.md."""
    yield "| | invariant | exhaustive search | properties | fuzzing | chaos | single cases |"
    yield "|---|---|---|---|---|---|---|"
    for each in INVARIANTS:
        cells = (
            each.name,
            each.says,
            "yes" if each.is_exhaustive else "",
            _files(each.properties),
            _files(each.fuzz),
            "yes" if each.is_chaos_s else "",
            _files(each.tests),
        )
        yield f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def _files(tests: Iterable[str]) -> str:
    return ", ".join(f"`{file}`" for file in dict.fromkeys(t.partition("::")[0] for t in tests))
