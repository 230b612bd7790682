"""What became of messages: their states in order of the rule, repeats, dead letters.

A message is read from the one partition that its key determines. It must not print, nor ask for
the time.
"""

import re
from base64 import b64decode
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from bridge.config.settings import Settings
from bridge.kafka.consumer import Record, stored
from bridge.kafka.partitions import partition_of
from bridge.kafka.topic_metadata import Topic
from bridge.subscriber import Message, RejectedEvent, StatusEvent, UnreadableError, read

SAMPLE = 200  # records of a topic, which tell whether its keys lie where they would go today
MAX_KEPT = 1000  # states of a message, dead letters of an id
MAX_KEPT_BYTES = 16 * 1024 * 1024
PROGRESS_RECORDS = 1000  # between two calls that say how far it is

_PENDING = frozenset({None, "pending"})

E = TypeVar("E", StatusEvent, RejectedEvent)
Show = Callable[[int, int], None]  # how many records were read, and of how many


class Missing(StrEnum):
    """What has not come, as far as was read. None of it needs to be a fault."""

    OUTCOME = "outcome"  # the latest status tells none
    FINAL_STATE = "final_state"  # the latest status may change
    FIRST_STATE = "first_state"  # nothing has rank 0: never received, or no longer in the topic


@dataclass(slots=True)
class Found(Generic[E]):
    """One event, the first of its records (without the value), and how many there are.

    They were received between the two times; `size` is the record's, in bytes.
    """

    event: E
    record: Record
    size: int
    received_at: datetime
    last_received_at: datetime
    records: int = 1


class Kept(Generic[E]):
    """Events, each once, in an order; the lowest are left out if there are far too many.

    `left_out` counts their records.
    """

    def __init__(self, order: Callable[[E], Any]) -> None:
        self.left_out = 0
        self._order: Callable[[E], Any] = order
        self._found: dict[tuple[str, str], Found[E]] = {}
        self._bytes = 0

    def add(self, event: E, record: Record) -> None:
        """Take an event, or one more record of it."""
        known = self._found.get(event.identity)
        at = event.received_at
        if known is not None:
            known.records += 1
            known.received_at = min(known.received_at, at)
            known.last_received_at = max(known.last_received_at, at)
            return
        size = len(record.value or b"") + sum(len(value or b"") for _, value in record.headers)
        first = replace(record, value=None)
        self._found[event.identity] = Found(event, first, size, at, at)
        self._bytes += size
        if len(self._found) > 2 * MAX_KEPT or self._bytes > 2 * MAX_KEPT_BYTES:
            self._leave_out()

    def __iter__(self) -> Iterator[Found[E]]:
        return iter(sorted(self._found.values(), key=lambda found: self._order(found.event)))

    def __bool__(self) -> bool:
        return bool(self._found)

    def _leave_out(self) -> None:
        kept: dict[tuple[str, str], Found[E]] = {}
        size = 0
        for found in reversed([*self]):
            if kept and (len(kept) >= MAX_KEPT or size + found.size > MAX_KEPT_BYTES):
                self.left_out += found.records
                continue
            kept[found.event.identity] = found
            size += found.size
        self._found, self._bytes = kept, size


@dataclass(frozen=True, slots=True)
class Trail:
    """The states of one message that are in the topics, in order of the rule: the latest is last.

    `left_out` counts records of the lowest of far too many states.
    """

    message: Message
    states: Sequence[Found[StatusEvent]]
    left_out: int

    @property
    def latest(self) -> StatusEvent:
        """The state that tells the message's status and outcome."""
        return self.states[-1].event

    @property
    def settled(self) -> bool:
        """Whether the provider says that the latest status will not change."""
        return self.latest.final is True

    @property
    def missing(self) -> tuple[Missing, ...]:
        """What has not come."""
        latest, ranks = self.latest, {found.event.rank for found in self.states}
        absent = {
            Missing.OUTCOME: latest.outcome in _PENDING,
            Missing.FINAL_STATE: not self.settled,
            Missing.FIRST_STATE: bool(latest.rank) and 0 not in ranks and not self.left_out,
        }
        return tuple(what for what, is_absent in absent.items() if is_absent)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record under the key of a message that holds no event of it; its value is left out."""

    record: Record
    why: str


@dataclass(slots=True)
class Findings:
    """What there is of one id.

    Several accounts of the provider (`source`) may have a message of this id. Of a whole body that
    was rejected it is known only that the id is written somewhere in it. `searched` has the offsets
    that were read, by topic and partition.
    """

    id_sms: str
    searched: Mapping[tuple[str, int], range] = field(default_factory=dict)
    dead_letters: Kept[RejectedEvent] = field(
        default_factory=lambda: Kept(lambda letter: (letter.received_at, letter.id))
    )
    unreadable: list[Unreadable] = field(default_factory=list)
    more_unreadable: int = 0
    _messages: dict[Message, Kept[StatusEvent]] = field(default_factory=dict)

    @property
    def trails(self) -> list[Trail]:
        """Its messages, in order of the source."""
        return [
            Trail(message, [*kept], kept.left_out)
            for message, kept in sorted(self._messages.items())
        ]

    @property
    def found(self) -> bool:
        """Whether there is any state or dead letter."""
        return bool(self._messages or self.dead_letters)

    def add(self, record: Record) -> None:
        """Take a record under the key of the id."""
        try:
            event = read(record.value, record.headers)
        except UnreadableError as exc:
            self._add_unreadable(record, str(exc))
            return
        if isinstance(event, RejectedEvent):
            self.dead_letters.add(event, record)
        elif event.id_sms != self.id_sms:
            self._add_unreadable(record, f"a state of another message, {event.id_sms:.100}")
        else:
            of_message = self._messages.setdefault(
                event.message, Kept(lambda state: state.precedence)
            )
            of_message.add(event, record)

    def _add_unreadable(self, record: Record, why: str) -> None:
        if len(self.unreadable) < MAX_KEPT:
            self.unreadable.append(Unreadable(replace(record, value=None), why))
        else:
            self.more_unreadable += 1


class Finder:
    """Takes records, and finds what belongs to some ids."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.findings = {id_sms: Findings(id_sms) for id_sms in ids}
        self._by_key = {id_sms.encode(): found for id_sms, found in self.findings.items()}
        either = "|".join(map(re.escape, self.findings))
        # Not a part of a longer id.
        self._mention = re.compile(f"(?<![A-Za-z0-9._-])(?:{either})(?![A-Za-z0-9._-])")

    @property
    def keys(self) -> Collection[bytes]:
        """The keys of their records."""
        return self._by_key.keys()

    def take(self, record: Record, *, may_be_body: bool) -> None:
        """Look at one record; `may_be_body` if it may be the dead letter of a whole body."""
        found = self._by_key.get(record.key or b"")
        if found is not None:
            found.add(record)
        elif may_be_body:
            self._take_body(record)

    def _take_body(self, record: Record) -> None:
        try:
            event = read(record.value, record.headers)
        except UnreadableError:
            return
        if isinstance(event, RejectedEvent):
            for id_sms in {*self._mention.findall(body_of(event))}:
                self.findings[id_sms].dead_letters.add(event, record)


def body_of(letter: RejectedEvent) -> str:
    """The whole body in a dead letter, as far as it is ASCII; empty for a state's letter."""
    body = letter.data.get("body")
    if isinstance(body, str):
        return body
    try:
        raw = b64decode(letter.data.get("body_base64", ""))
    except (TypeError, ValueError):
        return ""
    # In UTF-16 each ASCII character has a NUL beside it.
    return raw.replace(b"\0", b"").decode("latin-1")


async def find(
    settings: Settings,
    ids: Sequence[str],
    since: datetime | None,
    *,
    all_partitions: bool,
    tell: Callable[[str], None],
    show: Show,
) -> list[Findings]:
    """What the topics hold of each id, as they stand now; with `since`, only what is not older.

    A topic whose keys do not lie where they would go today is read in all partitions, as with
    `all_partitions`. Raises BridgeError if Kafka cannot be reached or a topic is missing.
    """
    finder = Finder(ids)
    letters = settings.kafka.dead_letter_topic
    in_all = set(settings.topics if all_partitions else ())
    if not all_partitions:
        for name in settings.topics:
            if await _is_scattered(settings, name, since):
                elsewhere = "keys lie in other partitions than they would go to today"
                tell(f"{name}: {elsewhere}: reading all of them")
                in_all.add(name)

    def partitions(topic: Topic) -> Iterable[int]:
        return _partitions(topic, finder.keys, whole=topic.name in {letters, *in_all})

    topics = settings.wanted_topics
    async with stored(settings.kafka, topics, since, partitions=partitions) as found:
        for id_sms, findings in finder.findings.items():
            of_id = {
                name: _partitions(topic, [id_sms.encode()], whole=name in {letters, *in_all})
                for name, topic in found.topics.items()
            }
            findings.searched = {
                (name, partition): span
                for (name, partition), span in found.spans.items()
                if partition in of_id[name]
            }
        records = _counted(found.records, found.spans, show)
        async with aclosing(records):
            async for record in records:
                finder.take(record, may_be_body=record.topic == letters)
    return [*finder.findings.values()]


def _partitions(topic: Topic, keys: Iterable[bytes], *, whole: bool) -> Collection[int]:
    if whole:
        return range(topic.partitions)
    return {partition_of(key, topic.partitions) for key in keys}


async def _is_scattered(settings: Settings, topic: str, since: datetime | None) -> bool:
    """Whether the oldest keys are where they would not go today.

    That is so for as long as there are records from before partitions were added, or others
    write to the topic with a partitioner of their own. The first partition tells: it was always
    there, and loses at least every other key to new ones.
    """
    async with stored(settings.kafka, [topic], since, partitions=lambda _: (0,)) as found:
        count = found.topics[topic].partitions
        seen = 0
        async for record in found.records:
            if record.key is not None and partition_of(record.key, count) != record.partition:
                return True
            seen += 1
            if seen == SAMPLE:
                break
    return False


async def _counted(
    records: AsyncIterator[Record], spans: Mapping[tuple[str, int], range], show: Show
) -> AsyncGenerator[Record, None]:
    """The records; it says now and then how many offsets are done, and of how many."""
    total = sum(map(len, spans.values()))
    done = dict.fromkeys(spans, 0)
    count = 0
    async for record in records:
        yield record
        place = record.topic, record.partition
        done[place] = record.offset + 1 - spans[place].start
        count += 1
        if count % PROGRESS_RECORDS == 0:
            show(sum(done.values()), total)
    show(total, total)
