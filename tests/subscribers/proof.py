"""A day on a real Kafka, written by the bridge itself in both content modes; what is made of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bridge.simulate import SentState
from bridge.subscriber import Message, StatusEvent, latest, read
from tests.subscribers.programs import Output, Row
from tests.subscribers.stream import Day, day, post
from tests.support.brokers import ExternalKafka
from tests.support.gateway import Gateway, configuration
from tests.support.topics import read_topic

MODES = ("structured", "binary")
READ_TIMEOUT_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Recording:
    """A day in a topic, and the table that the Python helper makes of it.

    `misleading` counts the messages whose last record is not their latest state.
    """

    topic: str
    day: Day
    records: int
    misleading: int
    table: dict[Message, StatusEvent]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a program has made of a recording: all but the first two ought to be 0.

    `wrong` and `missing` are messages against what happened, `otherwise` against the helper's
    table; `printed_twice` and `not_printed` are events.
    """

    events: int
    messages: int
    wrong: int
    missing: int
    otherwise: int
    printed_twice: int
    not_printed: int

    @property
    def holds(self) -> bool:
        faults = (self.wrong, self.missing, self.otherwise, self.printed_twice, self.not_printed)
        return not any(faults)


@contextmanager
def replicas(kafka: ExternalKafka, topic: str) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways on one topic, one of each content mode."""
    one, other = (
        configuration(kafka.bootstrap_servers, topic, events={"content_mode": mode})
        for mode in MODES
    )
    with Gateway(one) as first, Gateway(other) as second:
        yield first, second


def record(kafka: ExternalKafka, topic: str, states: int, seed: int = 7) -> Recording:
    """Post a day to two gateways; topic and dead-letter topic are there already."""
    made = day(states, seed)
    with replicas(kafka, topic) as gateways:
        post(gateways, made.postings)
    found = read_topic(
        kafka.bootstrap_servers, topic, expect=len(made.postings), timeout=READ_TIMEOUT_SECONDS
    )
    table: dict[Message, StatusEvent] = {}
    newest: dict[Message, StatusEvent] = {}
    for each in found:
        event = read(each.value, each.headers)
        assert isinstance(event, StatusEvent)
        newest[event.message] = event
        table[event.message] = latest(table.get(event.message), event)
    misleading = sum(newest[message].id != event.id for message, event in table.items())
    return Recording(topic, made, len(found), misleading, table)


def judge(recording: Recording, output: Output) -> Verdict:
    """Hold a program's output against what happened, and against the helper."""
    rows = {id_sms: row for (_, id_sms), row in output.table.items()}
    last = recording.day.last
    right = {id_sms for id_sms, row in rows.items() if _is(row, last[id_sms])}
    theirs = {message: row["id"] for message, row in output.table.items()}
    ours = {(each.source, each.id_sms): event.id for each, event in recording.table.items()}
    printed = {(event["source"], event["id"]) for event in output.events}
    return Verdict(
        events=len(output.events),
        messages=len(rows),
        wrong=len(rows.keys() - right),
        missing=len(last.keys() - rows.keys()),
        otherwise=sum(theirs.get(message) != event_id for message, event_id in ours.items()),
        printed_twice=len(output.events) - len(printed),
        not_printed=recording.day.states - len(printed),
    )


def _is(row: Row, state: SentState) -> bool:
    """Whether a row of the table tells the state that happened last; the zone is UTC."""
    changed_at = state.time.replace(" ", "T") + "Z" if state.time else None
    return (row["status"], row["changed_at"]) == (state.status, changed_at)
