"""The values that cross a stage. They carry data and no behaviour of their own.

What exists once a state is a named tuple: as immutable as a frozen dataclass, and made in a
third of the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from enum import StrEnum
from typing import Literal, NamedTuple


class Meaning(NamedTuple):
    """What a status word says of its message; all None for a word that is not known.

    `final` is the provider's word on whether the status will change. `rank` says how much is known:
    0 nothing yet, 1 under way, 2 an outcome, 3 read.
    """

    final: bool | None = None
    outcome: Literal["pending", "delivered", "undelivered"] | None = None
    rank: int | None = None


_UNDER_WAY = Meaning(final=False, outcome="pending", rank=1)
_DELIVERED = Meaning(final=False, outcome="delivered", rank=2)
_UNDELIVERED = Meaning(final=True, outcome="undelivered", rank=2)

# The words of the provider's page, and those of SMPP's delivery receipts, which it passes on.
MEANINGS: Mapping[str, Meaning] = {
    "send": Meaning(final=False, outcome="pending", rank=0),
    **dict.fromkeys(("partly_deliver", "enroute", "acceptd"), _UNDER_WAY),
    **dict.fromkeys(("deliver", "delivrd"), _DELIVERED),
    **dict.fromkeys(("not_deliver", "expired", "undeliv", "rejectd", "deleted"), _UNDELIVERED),
    "read": Meaning(final=True, outcome="delivered", rank=3),
}
WORDS = frozenset(MEANINGS)

MAX_LISTED_CHARACTERS = 256  # of an id: a longer one is not listed, whatever becomes of its state
OTHER_STATUS = "other"  # stands for every status word that is not the provider's own
# Why a state is rejected or, from not_xml on, a whole body: each reason, and what it says.
REASONS: Mapping[str, str] = {
    "missing_id": "the state has no id_sms, or a blank one",
    "invalid_id": "id_sms is not 1 to 64 of A-Z a-z 0-9 . _ -",
    "missing_status": "the state has no text, and not just one channel to take its place",
    "invalid_status": "the status is not 1 to 64 of a-z 0-9 _",
    "child_elements": "the state holds elements, or in JSON an array or an object",
    "invalid_field": "in JSON a field is there twice, is NaN or an infinity, or holds a character "
    "that XML does not have",
    "not_an_object": "in JSON an item of the array is not an object",
    "too_many_attributes": "the state, or the body, has far too many attributes or fields",
    "attribute_too_long": "an attribute's name or value is too long",
    "text_too_long": "the state's text is too long",
    "too_large": "the event is over the size limit of the topic",
    "not_xml": "the body is not well-formed XML",
    "not_json": "the body begins as JSON does, and is not well-formed",
    "encoding": "the body's encoding is not accepted, or its bytes do not match it",
    "doctype": "the body has a document type declaration",
    "wrong_root": "the body's root is neither <response> nor <request>",
    "misplaced_state": "a <state> is not right under the root",
    "too_deep": "the body's elements, arrays or objects are nested too deep",
    "too_many_elements": "the body has too many elements, arrays or objects",
}


class Form(StrEnum):
    """How a document is written, and its answer. Strings, as a Result's members are."""

    XML = "xml"
    JSON = "json"


class Received(NamedTuple):
    """One state as it came, untouched: what a dead letter shows.

    `children` is what attributes and text cannot show: in XML everything from the first child
    element to the state's end, in JSON the whole item of the array.
    """

    attributes: Mapping[str, str]
    text: str
    children: str = ""


class State(NamedTuple):
    """One valid state of a document.

    `values` are its attributes, id_sms and time aside, in order of name: trimmed, else as they
    came, and without the empty ones. `channels` are those of them that are a channel's status, in
    lower case. `raw_time` is None if the provider sent none; `element` is what came, `@name` for
    an attribute, `#text` for the text.
    """

    id_sms: str
    status: str
    channels: Mapping[str, str]
    values: Mapping[str, str]
    raw_time: str | None
    element: Mapping[str, str]


class InvalidState(NamedTuple):
    """One state that cannot become a status event.

    `id_sms` is trimmed, and empty if the state has none.
    """

    id_sms: str
    reason: str
    detail: str
    received: Received


class Document(NamedTuple):
    """What a body holds.

    `unprocessed_ids` are the ids of the states past the limit, each once, in their order: they
    must not be acknowledged in this answer, so that the provider sends them again. `is_foreign`
    tells that it holds no state, but something else. `attributes` and `characters` say how heavy
    the states are: they hold no more.
    """

    states: tuple[State | InvalidState, ...]
    unprocessed_ids: tuple[str, ...]
    is_foreign: bool
    attributes: int
    characters: int


class Trace(NamedTuple):
    """The trace context of a request, as W3C writes it; `tracestate` is empty if none came."""

    traceparent: str
    tracestate: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where an endpoint's events come from and go to, and how they are written.

    `dead_letter_topic` is None if invalid states are not to be published; `statuses` are the words
    that are known, with what they mean, and `words` the words alone; `trace` is that of the request
    at hand, if requests are traced.
    """

    endpoint: str
    source: str
    timezone: tzinfo
    topic: str
    dead_letter_topic: str | None
    type_prefix: str
    content_mode: Literal["structured", "binary"]
    statuses: Mapping[str, Meaning] = field(default_factory=lambda: MEANINGS)
    trace: Trace | None = None
    words: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Derive what follows from the rest."""
        object.__setattr__(self, "words", frozenset(self.statuses))


class Message(NamedTuple):
    """One Kafka record to be, with the event's `id` that makes a retry recognisable.

    `timestamp_ms` counts from the epoch: the time of receipt.
    """

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]  # a list: aiokafka accepts nothing else
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

    Strings: a plain enum's members hash in Python, once for every state that is counted. Even to
    look one up takes as long as a call: what does so for each has it in a name of its own.
    """

    PUBLISHED = "published"  # it is in Kafka
    FAILED = "failed"  # it is not in Kafka
    UNKNOWN = "unknown"  # it was handed over and may be in Kafka
    DROPPED = "dropped"  # invalid, without a topic for dead letters: it was never sent


class Outcome(NamedTuple):
    """What became of one message; `partition` and `offset` if it was published.

    `too_large` tells the one failure that another message (a dead letter) can replace, `repeated`
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


NOT_SENT = Outcome()


@dataclass(slots=True)
class Item:
    """A state of a document, what is published of it, and what became of that.

    `message` is None where the state is invalid and no topic takes its dead letter. Where its
    event turns out to be too large, the state becomes an invalid one, with its dead letter.
    """

    state: State | InvalidState
    message: Message | None
    outcome: Outcome = NOT_SENT
