"""The stages in order: body, states, events, outcomes, answer. Knows nothing of HTTP."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from bridge.ack import acknowledged
from bridge.errors import DocumentError
from bridge.event import (
    MEANINGS,
    Stream,
    rejected_body,
    rejected_state,
    status_message,
    time_defect,
)
from bridge.model import (
    OTHER_STATUS,
    Document,
    InvalidState,
    Message,
    Outcome,
    Result,
    State,
)
from bridge.parse import parse, received

TOO_LARGE = "too_large"
DROPPED = Outcome(Result.DROPPED)
OnTooLarge = Callable[[Message, Outcome], None]


class Publisher(Protocol):
    """What brings messages to Kafka."""

    async def publish(
        self, messages: Sequence[Message], deadline: float, on_too_large: OnTooLarge = ...
    ) -> list[Outcome]:
        """One outcome a message, in order, by the deadline on the loop's clock.

        `on_too_large` may be called with a message and its outcome before all others have theirs.
        """
        ...


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a document.

    `listed` are the ids to acknowledge. `counts` are states by status word (OTHER_STATUS where it
    is not known, or the state is invalid) and result; `repeated` counts states that Kafka had from
    an earlier request, `rejected` invalid states by reason. `states` are the document's, invalid
    where their events were too large, each with its outcome. `gaps` are, by the id of an event that
    had come before, the seconds since it came last.
    """

    listed: list[str]
    unlisted: list[str]
    counts: Mapping[tuple[str, Result], int]
    repeated: int
    rejected: Mapping[str, int]
    unknown_words: int
    errors: tuple[str, ...]
    states: Sequence[State | InvalidState]
    outcomes: Sequence[Outcome]
    gaps: Mapping[str, float] = field(default_factory=dict)

    @property
    def results(self) -> dict[Result, int]:
        """States by result."""
        results: dict[Result, int] = {}
        for (_, result), count in self.counts.items():
            results[result] = results.get(result, 0) + count
        return results

    @property
    def refused(self) -> bool:
        """Nothing was taken, and trying again may help."""
        return not self.listed and any(
            result is Result.FAILED or result is Result.UNKNOWN for _, result in self.counts
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document and what is to be published of it: one message a state.

    A message is None where the state is invalid and no topic takes its dead letter. The dead
    letter of a state whose event turns out to be too large takes that event's place.
    `unreadable_times` and `future_times` count states whose time is not one, or far ahead;
    `attributes` and `characters` say how heavy the states are.
    """

    document: Document
    messages: list[Message | None]
    unreadable_times: int = 0
    future_times: int = 0
    attributes: int = 0
    characters: int = 0


def prepare(stream: Stream, body: bytes, received_at: datetime, *, max_states: int) -> Prepared:
    """All that can be done of a body without Kafka, on any thread. Raises DocumentError."""
    document = _parsed(body, max_states)
    messages: list[Message | None] = []
    unreadable = future = attributes = characters = 0
    for state in document.states:
        messages.append(message_for(stream, state, received_at))
        held = state.element if isinstance(state, State) else state.received.attributes
        attributes += len(held)
        characters += sum(map(len, held)) + sum(map(len, held.values()))
        if isinstance(state, InvalidState):
            characters += len(state.received.text)
        elif state.raw_time:
            defect = time_defect(state.raw_time, stream.timezone, received_at)
            if defect is not None:
                unreadable += defect == "unreadable"
                future += defect == "future"
    return Prepared(document, messages, unreadable, future, attributes, characters)


def _parsed(body: bytes, max_states: int) -> Document:
    try:
        return parse(body, max_states=max_states)
    except DocumentError as error:
        # The error is kept until its dead letter is durable, or longer where somebody watches. Its
        # traceback holds all that had been read by then, many times the body's size.
        refusal = DocumentError(error.reason, error.detail, error.line)
    raise refusal


class Pipeline:
    """Turns prepared documents into receipts, through one publisher."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def accept(
        self, stream: Stream, prepared: Prepared, received_at: datetime, deadline: float
    ) -> Receipt:
        """Publish every state of the document, and say which ids are durably in Kafka."""
        document = prepared.document
        states = list(document.states)
        letters = _Letters(stream, prepared, received_at, deadline, self._publish)
        outcomes = await self._publish(prepared.messages, deadline, letters.start)
        for message, outcome in zip(prepared.messages, outcomes, strict=True):
            if outcome.too_large and message is not None:
                letters.start(message, outcome)
        await letters.settle(states, outcomes)
        durable = [outcome.result is Result.PUBLISHED for outcome in outcomes]
        listed, unlisted = acknowledged(states, durable, document.unprocessed_ids)
        return _receipt(listed, unlisted, states, outcomes, prepared.messages)

    async def bury(
        self,
        stream: Stream,
        error: DocumentError,
        body: bytes,
        received_at: datetime,
        deadline: float,
    ) -> Outcome | None:
        """Publish the dead letter of a body that is refused; None without a topic for it."""
        if stream.dead_letter_topic is None:
            return None
        message = rejected_body(stream, stream.dead_letter_topic, error, body, received_at)
        (outcome,) = await self._publisher.publish([message], deadline)
        return outcome

    async def _publish(
        self,
        messages: Sequence[Message | None],
        deadline: float,
        on_too_large: OnTooLarge = lambda _message, _outcome: None,
    ) -> list[Outcome]:
        """One outcome a message; identical events are one record and share its outcome."""
        unique: dict[tuple[str, str], Message] = {}
        for message in messages:
            if message is not None:
                unique.setdefault((message.topic, message.event_id), message)
        outcomes = await self._publisher.publish(list(unique.values()), deadline, on_too_large)
        if len(unique) == len(messages):
            return outcomes
        of = dict(zip(unique, outcomes, strict=True))
        return [DROPPED if m is None else of[m.topic, m.event_id] for m in messages]


class _Letters:
    """The dead letters of those states of a document whose events their topic does not take.

    Each is on its way as soon as that is known: the other events may take all the time there is.
    """

    def __init__(
        self,
        stream: Stream,
        prepared: Prepared,
        received_at: datetime,
        deadline: float,
        publish: Callable[[Sequence[Message | None], float], Awaitable[list[Outcome]]],
    ) -> None:
        self._stream = stream
        self._prepared = prepared
        self._received_at = received_at
        self._deadline = deadline
        self._publish = publish
        self._places: dict[tuple[str, str], list[int]] = {}
        self._invalid: dict[int, InvalidState] = {}
        self._waiting: list[int] = []
        self._publishing: list[asyncio.Task[None]] = []
        self._settled: dict[int, tuple[Message | None, Outcome]] = {}

    def start(self, message: Message, outcome: Outcome) -> None:
        """Publish the dead letters of all states with this event, together with others' of now."""
        for index in self._indices(message):
            state = self._prepared.document.states[index]
            if index not in self._invalid and isinstance(state, State):
                detail = outcome.error or TOO_LARGE
                self._invalid[index] = InvalidState(
                    state.id_sms, TOO_LARGE, detail, received(state.element)
                )
                if not self._waiting:
                    self._publishing.append(asyncio.create_task(self._publish_waiting()))
                self._waiting.append(index)

    async def settle(self, states: list[State | InvalidState], outcomes: list[Outcome]) -> None:
        """Wait for the dead letters, and put them in the place of their events."""
        await asyncio.gather(*self._publishing)
        for index, (letter, outcome) in self._settled.items():
            self._prepared.messages[index] = letter
            states[index], outcomes[index] = self._invalid[index], outcome

    def _indices(self, message: Message) -> list[int]:
        if not self._places:
            for index, each in enumerate(self._prepared.messages):
                if each is not None:
                    self._places.setdefault((each.topic, each.event_id), []).append(index)
        return self._places[message.topic, message.event_id]

    async def _publish_waiting(self) -> None:
        indices, self._waiting = self._waiting, []
        letters = [message_for(self._stream, self._invalid[i], self._received_at) for i in indices]
        outcomes = await self._publish(letters, self._deadline)
        self._settled.update(zip(indices, zip(letters, outcomes, strict=True), strict=True))


def _receipt(
    listed: list[str],
    unlisted: list[str],
    states: Sequence[State | InvalidState],
    outcomes: Sequence[Outcome],
    messages: Sequence[Message | None],
) -> Receipt:
    """Count a document's states, in one pass."""
    counts: dict[tuple[str, Result], int] = {}
    rejected: dict[str, int] = {}
    errors: dict[str, None] = {}
    repeated = unknown_words = 0
    for state, outcome in zip(states, outcomes, strict=True):
        if outcome.repeated:
            repeated += 1
        if outcome.error:
            errors[outcome.error] = None
        word = OTHER_STATUS
        if isinstance(state, InvalidState):
            rejected[state.reason] = rejected.get(state.reason, 0) + 1
        elif state.status in MEANINGS:
            word = state.status
        else:
            unknown_words += 1
        key = word, outcome.result
        counts[key] = counts.get(key, 0) + 1
    gaps = _gaps(messages, outcomes) if repeated else {}
    return Receipt(
        listed,
        unlisted,
        counts,
        repeated,
        rejected,
        unknown_words,
        tuple(errors),
        states,
        outcomes,
        gaps,
    )


def _gaps(messages: Sequence[Message | None], outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The seconds since each event that Kafka has already came last; each event once."""
    return {
        message.event_id: outcome.gap_seconds
        for message, outcome in zip(messages, outcomes, strict=True)
        if message is not None and outcome.gap_seconds is not None
    }


def message_for(
    stream: Stream, state: State | InvalidState, received_at: datetime
) -> Message | None:
    """The event or the dead letter of a state; None where no topic takes its dead letter."""
    if isinstance(state, State):
        return status_message(stream, state, received_at)
    if stream.dead_letter_topic is None:
        return None
    return rejected_state(stream, stream.dead_letter_topic, state, received_at)
