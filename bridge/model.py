"""The values that cross a stage. They carry data and no behaviour of their own.

What exists once a state is a named tuple: as immutable as a frozen dataclass, and made in a
third of the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

MAX_LISTED_CHARACTERS = 256  # of an id: a longer one is not listed, whatever becomes of its state
OTHER_STATUS = "other"  # stands for every status word that is not the provider's own
# Every word that says why a body or a state is refused.
REASONS = frozenset(
    {
        *("doctype", "encoding", "misplaced_state", "not_xml", "too_deep", "too_many_elements"),
        *("wrong_root", "attribute_too_long", "child_elements", "invalid_id", "invalid_status"),
        *("missing_id", "missing_status", "text_too_long", "too_large", "too_many_attributes"),
    }
)


class Received(NamedTuple):
    """One `<state>` as it came, untouched: what a dead letter shows."""

    attributes: Mapping[str, str]
    text: str


class State(NamedTuple):
    """One valid `<state>` of a document.

    `channels` is in order of name, as the identity wants it; `raw_time` is None where the
    provider sent none; `element` is what came, `@name` for an attribute, `#text` for the text.
    """

    id_sms: str
    status: str
    channels: tuple[tuple[str, str], ...]
    attributes: Mapping[str, str]
    raw_time: str | None
    element: Mapping[str, str]


class InvalidState(NamedTuple):
    """One `<state>` that cannot become a status event.

    `id_sms` is trimmed, and empty where the element has none.
    """

    id_sms: str
    reason: str
    detail: str
    received: Received


@dataclass(frozen=True, slots=True)
class Document:
    """What a body holds.

    `unprocessed_ids` are the ids of the states past the limit: they must not be acknowledged
    in this answer, so that the provider sends them again.
    """

    states: tuple[State | InvalidState, ...]
    unprocessed_ids: frozenset[str]


class Trace(NamedTuple):
    """The trace context of a request, as W3C writes it; `tracestate` is empty where none came."""

    traceparent: str
    tracestate: str = ""


class Message(NamedTuple):
    """One Kafka record to be, with the event's `id` that makes a retry recognisable.

    `timestamp_ms` counts from the epoch: the time of receipt.
    """

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]  # a list: aiokafka takes nothing else
    timestamp_ms: int
    event_id: str


@dataclass(frozen=True, slots=True)
class Log:
    """A topic as it stands: which one it is, and of its partitions what tells that a record is in.

    `epochs` are the leaders' by partition: a change of leader may have cut records off the end.
    `starts` are the first offsets that are still there, of the partitions that were asked for.
    """

    topic_id: bytes
    epochs: Mapping[int, int]
    starts: Mapping[int, int] = field(default_factory=dict)


class Result(StrEnum):
    """What is known of a record when the answer is due.

    Strings: a plain enum's members hash in Python, once for every state that is counted.
    """

    PUBLISHED = "published"  # the broker has taken it
    FAILED = "failed"  # it is not in Kafka
    UNKNOWN = "unknown"  # it was handed over and may be in Kafka
    DROPPED = "dropped"  # invalid, and no topic takes its dead letter: it was never sent


class Outcome(NamedTuple):
    """The fate of one message; `partition` and `offset` where it was published.

    `too_large` tells the one failure that another message (a dead letter) can mend, `repeated`
    that the record of an earlier request stands for this one, which came `gap_seconds` after it
    had come last.
    """

    result: Result = Result.FAILED
    partition: int | None = None
    offset: int | None = None
    error: str | None = None
    too_large: bool = False
    repeated: bool = False
    gap_seconds: float | None = None
