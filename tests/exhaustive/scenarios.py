"""What is searched: small worlds, each with its documents, its faults and its bound."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.kafka.publisher import CHUNK
from tests.exhaustive.provider import State, invalid, state

STATUS, REJECTED = "status", "rejected"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One world, and how far it is searched.

    `faults` are kinds (world.py); at most `max_faults` happen in a schedule. `overlaps` is how
    often something may happen while callbacks of the former event are still to run, and `seconds`
    how long a schedule lasts before it is brought to its end. `rejects` are words whose records the
    broker does not take. `max_bytes` is the status topic's `max.message.bytes` as it may be read,
    and `enforced_bytes` as the broker keeps to it. `drains`: SIGTERM comes at some moment;
    `defers`: an overlap may also be a callback that runs only once no other is ready;
    `rests`: time passes while nobody waits, too, until SIGTERM comes;
    `reloads`: other credentials do; `cold`: the gateway is not connected yet; `one_by_one`: a post
    waits for the answer to the one before. A document of more than `at_once` states is a large
    one to the publisher, and of its states `max_states` are processed.
    """

    name: str
    about: str
    documents: tuple[tuple[State, ...], ...]
    faults: tuple[str, ...] = ()
    max_faults: int = 1
    overlaps: int = 1
    attempts: int = 3
    gateways: int = 1
    seconds: float = 11.0
    partitions: Mapping[str, int] = field(default_factory=lambda: {STATUS: 2, REJECTED: 1})
    duplicates: bool = True
    rejects: tuple[bytes, ...] = ()
    max_bytes: int | None = 1_048_588
    enforced_bytes: int | None = None
    defers: bool = False
    drains: bool = False
    rests: bool = False
    reloads: bool = False
    cold: bool = False
    one_by_one: bool = False
    at_once: int = CHUNK
    max_states: int = 1000


# Two states of one message, one of them twice, and another message, in different partitions.
PLAIN = (state("1", "deliver"), state("1", "deliver"), state("2"), state("1", "read"))
LARGE = State("2", state("2", "read", f' a="{"x" * 3000}"').xml, letter=True)
SENDING = ("lose", "deny", "broken", "expire", "let_go", "hang", "stuck")
LOSING = ("truncate", "trim", "delete", "unheard")

SCENARIOS = (
    Scenario(
        "sending",
        "one document; what can happen to a batch on its way",
        (PLAIN,),
        faults=(*SENDING, "down"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        seconds=7.0,
    ),
    Scenario(
        "races",
        "the same, with something happening between the callbacks of something else",
        ((state("1", "deliver"), state("2")),),
        faults=("broken", "hang"),
        max_faults=2,
        overlaps=1,
        attempts=1,
        seconds=7.0,
    ),
    Scenario(
        "deferring",
        "the same, with a callback that runs only once no other is ready",
        ((state("1", "deliver"), state("2")),),
        faults=("broken", "hang"),
        max_faults=1,
        overlaps=1,
        attempts=1,
        seconds=7.0,
        defers=True,
    ),
    Scenario(
        "quota",
        "two documents in one partition, with answers that ask to wait",
        ((state("1"),), (state("1", "deliver"),)),
        faults=("throttle", "broken"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        partitions={STATUS: 1, REJECTED: 1},
        seconds=7.0,
    ),
    Scenario(
        "winding-down",
        "batches of a producer that is replaced meanwhile",
        ((state("1", "deliver"), state("2")),),
        faults=("broken",),
        max_faults=2,
        overlaps=0,
        attempts=1,
        seconds=3.0,
    ),
    Scenario(
        "losing",
        "a state that is posted again, while the topic loses what it had",
        ((state("1"),),),
        faults=(*LOSING, "hang", "stale", "fail", "broken", "impatient"),
        max_faults=3,
        overlaps=0,
        partitions={STATUS: 1, REJECTED: 1},
        seconds=7.0,
    ),
    Scenario(
        "two-gateways",
        "two gateways on one topic, the provider's posts to each in turn",
        ((state("1", "deliver"), state("2")),),
        faults=("lose", "broken", "hang", "truncate", "unheard", "impatient"),
        max_faults=2,
        overlaps=0,
        gateways=2,
        partitions={STATUS: 1, REJECTED: 1},
        attempts=3,
        seconds=5.0,
    ),
    Scenario(
        "asking",
        "a state that is posted again: what happens while the cluster is asked about it",
        ((state("1"),),),
        faults=("truncate", "trim", "delete", "unheard", "stale"),
        max_faults=3,
        overlaps=0,
        attempts=2,
        seconds=1.0,
        partitions={STATUS: 1, REJECTED: 1},
    ),
    Scenario(
        "remembering",
        "a record that is lost before its broker's answer arrives, and a probe in between",
        ((state("1"),),),
        faults=("truncate", "unheard", "hang"),
        max_faults=3,
        overlaps=0,
        attempts=2,
        seconds=3.0,
        partitions={STATUS: 1, REJECTED: 1},
    ),
    Scenario(
        "losing-two",
        "the same with two documents, of which the second is posted after the first's is gone",
        ((state("1"),), (state("1", "deliver"),)),
        faults=("truncate", "delete", "unheard"),
        max_faults=2,
        overlaps=0,
        attempts=2,
        partitions={STATUS: 1, REJECTED: 1},
        seconds=3.0,
        one_by_one=True,
    ),
    Scenario(
        "sequence",
        "two documents in one partition: a batch after one whose numbers are in doubt",
        ((state("1"),), (state("1", "deliver"),)),
        faults=("lose", "deny", "broken"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        partitions={STATUS: 1, REJECTED: 1},
        seconds=7.0,
    ),
    Scenario(
        "lines",
        "a large document and a small one in one partition, in batches of two records",
        ((state("1", "deliver"), state("2"), state("1", "read")), (state("3"),)),
        faults=("lose", "deny", "broken"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        max_bytes=2000,
        partitions={STATUS: 1, REJECTED: 1},
        seconds=7.0,
        at_once=1,
    ),
    Scenario(
        "too-large",
        "a state whose event its topic does not take, an invalid one, and a good one",
        ((state("1"), LARGE, invalid("3")),),
        faults=("lose", "broken", "hang"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        max_bytes=3000,
        seconds=7.0,
    ),
    Scenario(
        "too-large-untold",
        "the same, where the topic's limit may not be read",
        ((state("1"), LARGE, state("4")),),
        faults=("lose", "broken", "hang"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        max_bytes=None,
        enforced_bytes=3000,
        partitions={STATUS: 1, REJECTED: 1},
        seconds=7.0,
    ),
    Scenario(
        "poison",
        "a record that the broker's validation refuses, among others of its partition",
        (
            (
                *(state("1", "deliver"), state("2"), state("1", "poison", taken=False)),
                *(state(id_sms) for id_sms in ("3", "4", "5", "6", "7")),
            ),
        ),
        faults=("lose", "broken", "hang", "deny"),
        max_faults=1,
        overlaps=0,
        attempts=1,
        partitions={STATUS: 1, REJECTED: 1},
        rejects=(b"poison",),
        seconds=7.0,
    ),
    Scenario(
        "past-the-limit",
        "a document with more states than are processed, of which one has two",
        ((state("1", "deliver"), state("2"), state("1"), state("3")),),
        faults=("lose", "broken", "hang"),
        max_faults=1,
        overlaps=0,
        attempts=3,
        max_states=2,
        partitions={STATUS: 1, REJECTED: 1},
        seconds=7.0,
    ),
    Scenario(
        "identity",
        "states that differ in little, and equal ones",
        (
            (
                state("1", "read", ' a="x"'),
                state("1", "read", ' a="X"'),
                state("1", "read", ' a="x"'),
                state("1", "read", ' viber="read"'),
                state("1", "deliver"),
                invalid("2", inner="<b/>"),
                invalid("2", inner="<c/>"),
            ),
        ),
        faults=("lose", "unheard", "hang"),
        max_faults=1,
        overlaps=0,
        attempts=2,
        seconds=5.0,
    ),
    Scenario(
        "cold",
        "posts to a gateway that is not connected yet",
        ((state("1"), state("2")),),
        faults=("down", "fail", "hang", "broken"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        cold=True,
        seconds=7.0,
    ),
    Scenario(
        "reload",
        "other credentials with posts in flight: a producer that succeeds a sound one",
        ((state("1", "deliver"), state("2")),),
        faults=("hang", "broken", "fail"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        reloads=True,
        seconds=5.0,
    ),
    Scenario(
        "ending",
        "SIGTERM in the moment in which a producer is given up",
        ((state("1"),),),
        faults=("fail",),
        max_faults=1,
        overlaps=1,
        attempts=1,
        drains=True,
        rests=True,
        seconds=4.0,
    ),
    Scenario(
        "drain",
        "SIGTERM with posts in flight",
        ((state("1"),), (state("3"),)),
        faults=("hang", "lose", "broken", "down"),
        max_faults=2,
        overlaps=0,
        attempts=1,
        drains=True,
        seconds=7.0,
    ),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
