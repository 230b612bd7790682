"""What the topic of dead letters holds, and the way back from it.

A replay takes the stages of `serve`, but publishes no dead letter: one that is still invalid is
in the topic already. It must not print, nor ask for the time.
"""

import asyncio
import hashlib
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    aclosing,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from bridge.config.settings import Endpoint, Settings, route_of
from bridge.errors import BridgeError, DocumentError
from bridge.event import FAR_FUTURE, state_bytes
from bridge.kafka.cloudevent import read
from bridge.kafka.consumer import Record, stored
from bridge.kafka.session import publishing
from bridge.model import InvalidState, Item, Received, Result, Route
from bridge.parse import parse_state
from bridge.parse.limits import MAX_ELEMENTS
from bridge.pipeline import (
    TOO_LARGE,
    DryRun,
    Pipeline,
    Prepared,
    Publisher,
    Receipt,
    message_for,
    prepare,
)

AT_ONCE = 100  # letters on their way together
BYTES_AT_ONCE = 1024 * 1024  # of these letters: what is read before any of it is published
FAILURES_IN_A_ROW = 3  # rounds of letters of which Kafka accepted none; then it stops


@dataclass(frozen=True, slots=True)
class Content:
    """The `data` of a dead letter: one of `state`, `body` and `body_base64` is there."""

    reason: str
    detail: str
    endpoint: str
    received_at: AwareDatetime
    truncated: bool
    size: int
    sha256: str
    state: Received | None = None
    body: str | None = None
    body_base64: str | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """One record of the topic and the dead letter in it; `event` is the whole event."""

    record: Record
    event: Mapping[str, Any]
    content: Content

    @property
    def where(self) -> str:
        """Its place in the topic."""
        return f"{self.record.partition}@{self.record.offset}"

    @property
    def received_at(self) -> datetime:
        """When what it holds was received, in UTC."""
        return self.content.received_at.astimezone(UTC)

    @property
    def id_sms(self) -> str:
        """The id that came with a state; empty for a body."""
        return self.content.state.attributes.get("id_sms", "") if self.content.state else ""

    @property
    def identity(self) -> tuple[str, str]:
        """What letters of the same content share."""
        return str(self.event["source"]), str(self.event["id"])


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record of the topic that is no dead letter of the bridge."""

    record: Record
    why: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant; empty sets and None mean all."""

    reasons: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    since: datetime | None = None
    limit: int | None = None

    def matches(self, letter: Letter) -> bool:
        """Whether reason and endpoint are among those that are meant."""
        return (not self.reasons or letter.content.reason in self.reasons) and (
            not self.endpoints or letter.content.endpoint in self.endpoints
        )

    @property
    def by_content(self) -> bool:
        """Whether letters are chosen by what is in them."""
        return bool(self.reasons or self.endpoints)


# --- reading -----------------------------------------------------------------------------


@asynccontextmanager
async def letters(
    settings: Settings, wanted: Filter
) -> AsyncIterator[AsyncIterator[Letter | Unreadable]]:
    """The letters that are meant, and what is no letter, to the topic's end as it stands now.

    What is no letter is left out if letters are chosen by what is in them. Raises BridgeError
    if Kafka cannot be reached or the topic is missing.
    """
    topic = settings.kafka.dead_letter_topic
    if topic is None:
        raise BridgeError("kafka.dead_letter_topic is null: there are no dead letters")
    async with (
        stored(settings.kafka, [topic], wanted.since) as found,
        aclosing(_picked(found.records, wanted)) as picked,
    ):
        yield picked


async def _picked(
    records: AsyncIterator[Record], wanted: Filter
) -> AsyncGenerator[Letter | Unreadable, None]:
    count = 0
    async for record in records:
        letter = letter_of(record)
        if wanted.matches(letter) if isinstance(letter, Letter) else not wanted.by_content:
            yield letter
            count += isinstance(letter, Letter)
            if count == wanted.limit:
                return


_CONTENT = TypeAdapter(Content)


def letter_of(record: Record) -> Letter | Unreadable:
    """Find the dead letter in a record."""
    event = (seen := read(record)).event
    if event is None:
        return Unreadable(record, seen.unreadable)
    if not str(event.get("type")).endswith(".rejected"):
        return Unreadable(record, f"an event of type {event.get('type')}")
    try:
        content = _CONTENT.validate_python(event.get("data"))
    except ValidationError as exc:
        where = ".".join(str(step) for step in exc.errors()[0]["loc"])
        return Unreadable(record, f"a dead letter that is not whole: {where or 'no data'}")
    if content.state is None and content.body is None and content.body_base64 is None:
        return Unreadable(record, "a dead letter of nothing")
    try:
        content.received_at.astimezone(UTC) + FAR_FUTURE
    except (ValueError, OverflowError):
        return Unreadable(record, "a dead letter of no time")
    return Letter(record, event, content)


# --- replaying ---------------------------------------------------------------------------


class Word(StrEnum):
    """What can become of a letter."""

    REPLAYED = "replayed"
    VALID = "valid"  # it would be replayed: the word of a dry run
    REPEATED = "repeated"
    STILL_INVALID = "still_invalid"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    UNKNOWN_SOURCE = "unknown_source"
    UNREADABLE = "unreadable"
    FAILED = "failed"


FINE = frozenset({Word.REPLAYED, Word.VALID, Word.REPEATED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one letter, and for people why.

    `events` counts those that are in Kafka; in a dry run those that would be sent.
    """

    letter: Letter | Unreadable
    word: Word
    why: str = ""
    events: int = 0

    @property
    def fine(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.word in FINE


@dataclass(slots=True)
class Tally:
    """The closing counts."""

    words: Counter[Word] = field(default_factory=Counter)
    events: int = 0
    left: int = 0  # letters that could not be replayed
    given_up: bool = False

    def count(self, verdict: Verdict) -> None:
        """Add one letter."""
        self.words[verdict.word] += 1
        self.events += verdict.events
        self.left += not verdict.fine

    def __str__(self) -> str:
        each = ", ".join(f"{word} {count}" for word, count in sorted(self.words.items()))
        return f"letters {self.words.total()}{f' ({each})' if each else ''}, events {self.events}"


async def replay(
    settings: Settings,
    wanted: Filter,
    tell: Callable[[Verdict], None],
    *,
    dry_run: bool,
    clock: Callable[[], datetime],
) -> Tally:
    """Take the letters through the stages once more, telling what becomes of each.

    `clock` tells the time in UTC, for the records' timestamps. Raises BridgeError if Kafka cannot
    be reached, or a topic is missing or not ready for statuses.
    """
    done = Word.VALID if dry_run else Word.REPLAYED
    publishers: AbstractAsyncContextManager[Publisher] = (
        nullcontext(DryRun()) if dry_run else publishing(settings.kafka, settings.topics)
    )
    async with letters(settings, wanted) as found, publishers as publisher:
        return await Replayer(settings, publisher, done, clock).run(found, tell)


class Replayer:
    """One run over the letters."""

    def __init__(
        self,
        settings: Settings,
        publisher: Publisher,
        done: Word,
        clock: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._pipeline = Pipeline(publisher)
        self._done = done
        self._clock = clock
        self._known: set[tuple[str, str]] = set()
        self._tally = Tally()
        self._failures_in_a_row = 0

    async def run(
        self, found: AsyncIterator[Letter | Unreadable], tell: Callable[[Verdict], None]
    ) -> Tally:
        """Replay them all, or until Kafka accepts none any more."""
        async with aclosing(_rounds(found)) as rounds:
            async for some in rounds:
                verdicts = await self._replay(some)
                for verdict in verdicts:
                    self._tally.count(verdict)
                    tell(verdict)
                none_taken = {verdict.word for verdict in verdicts} == {Word.FAILED}
                self._failures_in_a_row = self._failures_in_a_row + 1 if none_taken else 0
                if self._failures_in_a_row == FAILURES_IN_A_ROW:
                    self._tally.given_up = True
                    break
        return self._tally

    async def _replay(self, some: Sequence[Letter | Unreadable]) -> list[Verdict]:
        """A round: all are read before the deadline of the first begins."""
        read_again = [self._read(letter) for letter in some]
        return await asyncio.gather(*[self._publish(each) for each in read_again])

    def _read(self, letter: Letter | Unreadable) -> "Verdict | _Again":
        if isinstance(letter, Unreadable):
            return Verdict(letter, Word.UNREADABLE, letter.why)
        if letter.identity in self._known:
            return Verdict(letter, Word.REPEATED, "the same as an earlier letter")
        self._known.add(letter.identity)
        endpoint = endpoint_of(self._settings, letter)
        if endpoint is None:
            return Verdict(letter, Word.UNKNOWN_SOURCE, "no endpoint has its source")
        # Without a topic for them, what is still bad makes no dead letters.
        route = replace(route_of(self._settings, endpoint), dead_letter_topic=None)
        try:
            return _Again(letter, route, prepared_again(route, letter, self._clock()))
        except _Unfit as unfit:
            self._known.discard(letter.identity)  # another letter of it may be whole
            return Verdict(letter, unfit.word, unfit.why)
        except DocumentError as error:
            return Verdict(letter, Word.STILL_INVALID, f"{error.reason}: {error}")

    async def _publish(self, again: "Verdict | _Again") -> Verdict:
        if isinstance(again, Verdict):
            return again
        letter, prepared = again.letter, again.prepared
        deadline = asyncio.get_running_loop().time() + self._settings.kafka.publish_timeout_seconds
        receipt = await self._pipeline.accept(again.route, prepared, letter.received_at, deadline)
        published = receipt.results.get(Result.PUBLISHED, 0)
        if receipt.results.get(Result.FAILED, 0) + receipt.results.get(Result.UNKNOWN, 0):
            return Verdict(letter, Word.FAILED, "; ".join(receipt.errors), published)
        if receipt.rejected:
            return Verdict(letter, Word.STILL_INVALID, _why(receipt), published)
        return Verdict(letter, self._done, "", published)


class _Again(NamedTuple):
    """A letter that could be read, and the events of it."""

    letter: Letter
    route: Route
    prepared: Prepared


async def _rounds(
    found: AsyncIterator[Letter | Unreadable],
) -> AsyncGenerator[list[Letter | Unreadable], None]:
    """Letters in their order, as many at a time as may be on their way together."""
    some: list[Letter | Unreadable] = []
    size = 0
    async for letter in found:
        some.append(letter)
        size += len(letter.record.value or b"")
        if len(some) == AT_ONCE or size >= BYTES_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some


def _why(receipt: Receipt) -> str:
    """The defect of the first state, or else how many there are of each kind."""
    states = [item.state for item in receipt.items]
    state = states[0]
    if len(states) == 1 and isinstance(state, InvalidState):
        return TOO_LARGE if state.reason == TOO_LARGE else f"{state.reason}: {state.detail}"
    each = ", ".join(f"{reason} {count}" for reason, count in receipt.rejected.items())
    return f"of {len(states)} states: {each}"


def endpoint_of(settings: Settings, letter: Letter) -> Endpoint | None:
    """The endpoint that has the letter's source, by its name if several have.

    Another source would make other events of the same states, so the name alone is not enough.
    """
    source = letter.event["source"]
    found = [endpoint for endpoint in settings.endpoints if endpoint.source == source]
    named = [endpoint for endpoint in found if endpoint.name == letter.content.endpoint]
    return next(iter([*named, *found]), None)


class _Unfit(Exception):  # noqa: N818 -- it never leaves this module
    """Why a letter does not hold what was received."""

    def __init__(self, word: Word, why: str) -> None:
        self.word = word
        self.why = why
        super().__init__(word, why)


def prepared_again(route: Route, letter: Letter, now: datetime) -> Prepared:
    """Read what was received anew, and write the events of it.

    An event keeps the time of receipt, so that it is the one that it would have been. The
    record's timestamp is now: else a topic might drop it for its age before anyone has read it.
    """
    content, received_at = letter.content, letter.received_at
    if content.truncated:
        raise _Unfit(Word.TRUNCATED, f"the letter holds a part of the {content.size} bytes")
    if content.state is not None:
        prepared = _prepared_state(route, content, content.state, received_at)
    else:
        body = _body(content)
        _verify(content, body)
        prepared = prepare(route, body, received_at, max_states=MAX_ELEMENTS)
    now_ms = int(now.timestamp() * 1000)
    for item in prepared.items:
        item.message = item.message and item.message._replace(timestamp_ms=now_ms)
    return prepared


def _prepared_state(
    route: Route, content: Content, received: Received, received_at: datetime
) -> Prepared:
    _verify(content, state_bytes(received))
    state = parse_state(received, route.words)
    return Prepared([Item(state, message_for(route, state, received_at))])


def _body(content: Content) -> bytes:
    if content.body is not None:
        return content.body.encode()
    try:
        return b64decode(content.body_base64 or "", validate=True)
    except ValueError:
        raise _Unfit(Word.DAMAGED, "its body is not Base64") from None


def _verify(content: Content, whole: bytes) -> None:
    if hashlib.sha256(whole).hexdigest() != content.sha256:
        raise _Unfit(Word.DAMAGED, "its content is not what its sha256 is of")
