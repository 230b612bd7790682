"""A day on a real Kafka, written by the bridge itself in both content modes; what is made of it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bridge.subscriber import Message, StatusEvent, latest, read
from tests.subscribers.programs import Output
from tests.subscribers.stream import SOURCE, ZONE, Day, day, post
from tests.support.brokers import ExternalKafka
from tests.support.gateway import Gateway, configuration
from tests.support.topics import read_topic

MODES = ("structured", "binary")
READ_TIMEOUT_SECONDS = 300


def _time_first(event: StatusEvent) -> tuple[Any, ...]:
    rank, has_time, changed_at, event_id = event.precedence
    return has_time, changed_at, rank, event_id


# What one might go by instead of the rule; of equal ones the last to arrive.
TEMPTING: Mapping[str, Callable[[StatusEvent], Any]] = {
    "last record": lambda _: 0,
    "time before rank": _time_first,
    "final before all else": lambda event: (event.final is True, *_time_first(event)),
}


@dataclass(frozen=True, slots=True)
class Recording:
    """A day in a topic, and the table that the Python helper makes of it.

    `misled` counts the messages that each of the tempting ways gets wrong.
    """

    topic: str
    day: Day
    records: int
    misled: dict[str, int]
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
    """Two gateways on one topic, one of each content mode, on the provider's time."""
    endpoint = {"name": "main", "path": "/webhook", "source": SOURCE, "timezone": ZONE}
    one, other = (
        configuration(
            kafka.bootstrap_servers,
            topic,
            events={"content_mode": mode},
            endpoints=[endpoint | {"auth": "none"}],
        )
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
    read_events = (read(each.value, each.headers) for each in found)
    events = [event for event in read_events if isinstance(event, StatusEvent)]
    table: dict[Message, StatusEvent] = {}
    for event in events:
        table[event.message] = latest(table.get(event.message), event)
    misled = {name: _wrong(events, by, made) for name, by in TEMPTING.items()}
    return Recording(topic, made, len(found), misled, table)


def _wrong(events: Sequence[StatusEvent], by: Callable[[StatusEvent], Any], made: Day) -> int:
    """Of how many messages the greatest by this is not the latest state."""
    held: dict[str, StatusEvent] = {}
    for event in events:
        if event.id_sms not in held or by(event) >= by(held[event.id_sms]):
            held[event.id_sms] = event
    return sum(event.id != made.latest[id_sms] for id_sms, event in held.items())


def judge(recording: Recording, output: Output) -> Verdict:
    """Hold a program's output against what happened, and against the helper."""
    expected = {(SOURCE, id_sms): event_id for id_sms, event_id in recording.day.latest.items()}
    theirs = {message: row["id"] for message, row in output.table.items()}
    ours = {(each.source, each.id_sms): event.id for each, event in recording.table.items()}
    printed = {(event["source"], event["id"]) for event in output.events}
    return Verdict(
        events=len(output.events),
        messages=len(theirs),
        wrong=sum(expected.get(message) != event_id for message, event_id in theirs.items()),
        missing=len(expected.keys() - theirs.keys()),
        otherwise=sum(theirs.get(message) != event_id for message, event_id in ours.items()),
        printed_twice=len(output.events) - len(printed),
        not_printed=recording.day.states - len(printed),
    )
