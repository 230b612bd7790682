"""What the inspector remembers: recent documents, bounded in number and in bytes. No I/O.

What is large is cut here, before it is kept, so that nothing of a request stays in memory whole.
"""

import hashlib
import itertools
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from bridge.model import Form, InvalidState, Item, Outcome, Result, State
from bridge.observability.requests import Disposition, Request
from bridge.pipeline import Receipt

KEPT_DOCUMENTS = 300  # of those without trouble, and as many of those with
KEPT_BYTES = 8 * 1024 * 1024  # of each of the two
KEPT_BODY_BYTES = 64 * 1024
KEPT_VALUE_BYTES = 8 * 1024
KEPT_STATES = 200  # of one document
KEPT_TEXT = 512  # characters of an id, a reason, an error
OVERHEAD_BYTES = 1500  # of an entry without its states
ROW_OVERHEAD_BYTES = 500  # of a state without its texts, with its place in the index

PUBLISHED, REPEATED, REJECTED, UNREADABLE = "published", "repeated", "rejected", "unreadable"
OUTCOMES = (
    PUBLISHED,
    REPEATED,
    REJECTED,
    Result.FAILED.value,
    Result.UNKNOWN.value,
    Result.DROPPED.value,
    UNREADABLE,
)
"""What can become of a state: the words of the page, each once. `rejected` is a dead letter in
Kafka, `unreadable` a whole body that is answered 400."""
FINE = frozenset({PUBLISHED, REPEATED})


class StateRow(NamedTuple):
    """What became of one state, or of a body that cannot be read (`unreadable`).

    `value` is the record's, cut to KEPT_VALUE_BYTES of `value_size`; empty if nothing was to
    be published. `event_id` is the record's, or made of the body; empty if there is none.
    """

    id_sms: str
    status: str
    outcome: str
    reason: str
    detail: str
    event_id: str
    topic: str
    value: bytes
    value_size: int
    headers: tuple[tuple[str, bytes], ...]
    partition: int | None
    offset: int | None
    error: str

    @property
    def mark(self) -> str:
        """By what a retry is told; empty for a state without an id, which anyone may send."""
        return self.event_id if self.id_sms or self.outcome == UNREADABLE else ""

    @property
    def size(self) -> int:
        """About as much memory as it takes."""
        texts = (self.id_sms, self.status, self.detail, self.event_id, self.error)
        return ROW_OVERHEAD_BYTES + len(self.value) + sum(map(sys.getsizeof, texts))


@dataclass(frozen=True, slots=True)
class Entry:
    """One document, cut to what may be kept of it.

    `rows` are those of the first KEPT_STATES states, those with trouble before the others;
    `counts` are over all of them, by outcome. `line` is where an unreadable body is at fault.
    `retried` counts the rows that were here before, `retry_of` is the newest document with one.
    `doubts` are what it has of states that are events and say less than they might, with how many.
    """

    number: int
    endpoint: str
    request_id: str
    peer: str
    answered_at: datetime
    seconds: float
    status: int
    form: Form
    body: bytes
    body_size: int
    answer: bytes
    answer_size: int
    rows: tuple[StateRow, ...]
    counts: Mapping[str, int]
    listed: int
    unlisted: int
    line: int | None
    retried: int
    retry_of: int | None
    doubts: Mapping[str, int]

    @property
    def states(self) -> int:
        """How many states the document has, those that are not kept too."""
        return 0 if UNREADABLE in self.counts else sum(self.counts.values())

    @property
    def troubled(self) -> bool:
        """Whether something in it is not as it should be."""
        listed = self.status == 200 and not self.unlisted  # noqa: PLR2004
        return not listed or bool(self.doubts) or not FINE.issuperset(self.counts)

    @property
    def size(self) -> int:
        """About as much memory as it takes."""
        rows = sum(row.size for row in self.rows)
        return OVERHEAD_BYTES + len(self.body) + len(self.answer) + rows


class RefusalKind(NamedTuple):
    """Why requests are refused, unread. `status` is None if they left.

    Few of them can exist: endpoints, statuses, and words of the program's own.
    """

    endpoint: str
    status: int | None
    disposition: Disposition
    credentials: str


@dataclass(slots=True)
class RefusalCount:
    """How many requests went away for one reason, and the last of them."""

    count: int = 0
    last_at: datetime | None = None
    last_peer: str = ""


@dataclass(slots=True)
class _Shelf:
    """Entries in order, the oldest to go if there are too many, or too large ones."""

    limit: int
    limit_bytes: int
    entries: deque[Entry] = field(default_factory=deque)
    size: int = 0

    def add(self, entry: Entry) -> Iterable[Entry]:
        """Put an entry in its place; returns those that had to go."""
        self.entries.append(entry)
        self.size += entry.size
        gone = []
        while len(self.entries) > self.limit or self.size > self.limit_bytes:
            gone.append(self.entries.popleft())
            self.size -= gone[-1].size
        return gone


class Store:
    """Recent documents, numbered from 1, and what was refused.

    Those with trouble have a shelf of their own: thousands of good ones must not push out the one
    that somebody is looking for.
    """

    def __init__(self, documents: int = KEPT_DOCUMENTS, limit_bytes: int = KEPT_BYTES) -> None:
        self._calm = _Shelf(documents, limit_bytes)
        self._troubled = _Shelf(documents, limit_bytes)
        # The documents that carry an id, and those that carry an event.
        self._by_id: dict[str, dict[int, None]] = {}
        self._by_event: dict[str, dict[int, None]] = {}
        self._by_number: dict[int, Entry] = {}
        self.number = 0
        self.changes = 0
        self.counts: Counter[str] = Counter()
        self.refusals: dict[RefusalKind, RefusalCount] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    @property
    def size(self) -> int:
        """About as much memory as all entries take."""
        return self._calm.size + self._troubled.size

    def add(self, seen: Request) -> None:
        """Remember a request."""
        self.changes += 1
        if not seen.was_read or seen.body is None or seen.status is None:
            self._refuse(seen)
            return
        self.number += 1
        entry = self._entry(seen, seen.body, seen.status)
        self.counts.update(entry.counts)
        self._by_number[entry.number] = entry
        for index, key in self._places(entry):
            index.setdefault(key, {})[entry.number] = None
        shelf = self._troubled if entry.troubled else self._calm
        for gone in shelf.add(entry):
            self._forget(gone)

    def entries(self) -> list[Entry]:
        """All documents, the newest first."""
        return list(reversed(self._by_number.values()))

    def after(self, number: int) -> list[Entry]:
        """The documents after that one, the newest first."""
        newer = itertools.takewhile(
            lambda each: each.number > number, reversed(self._by_number.values())
        )
        return list(newer)

    def get(self, number: int) -> Entry | None:
        """The document of that number, if it is still here."""
        return self._by_number.get(number)

    def others(self, id_sms: str, number: int, limit: int) -> tuple[list[Entry], int]:
        """The newest other documents that carry an id, or a body's event id; the oldest first.

        At most `limit` of them, and how many more there are.
        """
        numbers = self._by_id.get(id_sms) or self._by_event.get(id_sms, {})
        newest = [n for n in itertools.islice(reversed(numbers), limit + 1) if n != number][:limit]
        more = len(numbers) - (number in numbers) - len(newest)
        return [self._by_number[other] for other in reversed(newest)], more

    def _refuse(self, seen: Request) -> None:
        kind = RefusalKind(seen.endpoint, seen.status, seen.disposition, seen.credentials or "")
        refused = self.refusals.setdefault(kind, RefusalCount())
        refused.count += 1
        refused.last_at, refused.last_peer = seen.answered_at, seen.client or ""

    def _entry(self, seen: Request, body: bytes, status: int) -> Entry:
        rows, counts = _rows(seen, body)
        retried, retry_of = self._retries(rows)
        return Entry(
            number=self.number,
            endpoint=seen.endpoint,
            request_id=seen.request_id,
            peer=seen.client or "",
            answered_at=seen.answered_at,
            seconds=seen.seconds,
            status=status,
            form=seen.form,
            body=body[:KEPT_BODY_BYTES],
            body_size=len(body),
            answer=seen.answer[:KEPT_VALUE_BYTES],
            answer_size=len(seen.answer),
            rows=rows,
            counts=counts,
            listed=len(seen.receipt.listed) if seen.receipt else 0,
            unlisted=len(seen.receipt.unlisted) if seen.receipt else 0,
            line=seen.error.line if seen.error else None,
            retried=retried,
            retry_of=retry_of,
            doubts=_doubts(seen.receipt) if seen.receipt else {},
        )

    def _retries(self, rows: Iterable[StateRow]) -> tuple[int, int | None]:
        """How many of the events were here before, and the newest document with one of them."""
        before = [self._by_event[row.event_id] for row in rows if row.event_id in self._by_event]
        return len(before), max((next(reversed(numbers)) for numbers in before), default=None)

    def _forget(self, entry: Entry) -> None:
        del self._by_number[entry.number]
        for index, key in self._places(entry):
            index.get(key, {}).pop(entry.number, None)
            if not index.get(key):
                index.pop(key, None)

    def _places(self, entry: Entry) -> Iterator[tuple[dict[str, dict[int, None]], str]]:
        """Where the indexes have the entry; a place that its states share comes up more often."""
        for row in entry.rows:
            if row.id_sms:
                yield self._by_id, row.id_sms
            if row.mark:
                yield self._by_event, row.mark


def _doubts(receipt: Receipt) -> Mapping[str, int]:
    found = {
        "unknown word": sum(receipt.unknown_statuses.values()),
        "unreadable time": receipt.unreadable_times,
    }
    return {what: count for what, count in found.items() if count}


def _rows(seen: Request, body: bytes) -> tuple[tuple[StateRow, ...], Mapping[str, int]]:
    """The rows that are kept, in the document's order, and how many there are of each outcome."""
    if seen.error is not None:
        return (_of_body(seen, body),), Counter({UNREADABLE: 1})
    items = seen.receipt.items if seen.receipt else ()
    outcomes = [_outcome(item) for item in items]
    kept = [_of_state(items[n], outcomes[n]) for n in _chosen(outcomes)]
    return tuple(kept), Counter(outcomes)


def _chosen(outcomes: Sequence[str]) -> Iterable[int]:
    """The places of the rows that are kept: if there are too many, trouble first."""
    if len(outcomes) <= KEPT_STATES:
        return range(len(outcomes))
    troubled = [n for n, outcome in enumerate(outcomes) if outcome not in FINE]
    calm = [n for n, outcome in enumerate(outcomes) if outcome in FINE]
    return sorted([*troubled, *calm][:KEPT_STATES])


def _outcome(item: Item) -> str:
    if item.outcome.result is not Result.PUBLISHED:
        return item.outcome.result.value
    if isinstance(item.state, InvalidState):
        return REJECTED
    return REPEATED if item.outcome.repeated else PUBLISHED


def _of_state(item: Item, word: str) -> StateRow:
    state, message, outcome = item.state, item.message, item.outcome
    invalid = state if isinstance(state, InvalidState) else None
    return StateRow(
        id_sms=state.id_sms[:KEPT_TEXT],
        status=state.status if isinstance(state, State) else "",
        outcome=word,
        reason=invalid.reason if invalid else "",
        detail=invalid.detail[:KEPT_TEXT] if invalid else "",
        event_id="" if message is None else message.event_id,
        topic="" if message is None else message.topic,
        # A copy: what orjson has written keeps 4 KB as long as it lives.
        value=b"" if message is None else bytes(memoryview(message.value)[:KEPT_VALUE_BYTES]),
        value_size=0 if message is None else len(message.value),
        headers=() if message is None else tuple(message.headers),
        partition=outcome.partition,
        offset=outcome.offset,
        error=(outcome.error or "")[:KEPT_TEXT],
    )


def _of_body(seen: Request, body: bytes) -> StateRow:
    """A body that cannot be read: what is wrong with it, and where its dead letter is."""
    error, letter = seen.error, seen.dead_letter or Outcome(Result.DROPPED)
    return StateRow(
        id_sms="",
        status="",
        outcome=UNREADABLE,
        reason=error.reason if error else "",
        detail=error.detail[:KEPT_TEXT] if error else "",
        event_id=f"body:{len(body)}:{hashlib.sha256(body[:KEPT_BODY_BYTES]).hexdigest()}",
        topic="",
        value=b"",
        value_size=0,
        headers=(),
        partition=letter.partition,
        offset=letter.offset,
        error=letter.error[:KEPT_TEXT] if letter.error else letter.result.value,
    )
