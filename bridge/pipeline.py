"""The stages in order: body, states, events, outcomes, answer. Knows nothing of HTTP."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol

from bridge.ack import acknowledged
from bridge.errors import DocumentError
from bridge.event import (
    arrival_of,
    moment_of,
    rejected_body,
    rejected_state,
    status_event,
    status_message,
)
from bridge.model import (
    OTHER_STATUS,
    Document,
    InvalidState,
    Item,
    Message,
    Outcome,
    Result,
    Route,
    State,
)
from bridge.parse import parse, received

TOO_LARGE = "too_large"
DROPPED = Outcome(Result.DROPPED)
MANY = 500  # states or messages, after which a step on the loop gives way to other requests
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


class DryRun:
    """A publisher that accepts every message and sends none; `note` is called with each."""

    def __init__(self, note: Callable[[Message], None] = lambda _message: None) -> None:
        self._note = note

    async def publish(
        self,
        messages: Sequence[Message],
        deadline: float,
        on_too_large: OnTooLarge = lambda _message, _outcome: None,
    ) -> list[Outcome]:
        """Have each message published at once."""
        del deadline, on_too_large
        for message in messages:
            self._note(message)
        return [Outcome(Result.PUBLISHED)] * len(messages)


class Receipt(NamedTuple):
    """What became of a document.

    `listed` are the ids to acknowledge; `past_max_states` counts those of states that were not
    processed. `counts` are states by status word (OTHER_STATUS where it is not known, or the state
    is invalid) and result; `repeated` counts states that Kafka had from an earlier request,
    `rejected` invalid states by reason, `unknown_statuses` valid ones by a word that is not known.
    `unreadable_times` and `delays` are as Prepared has them. `gaps` are, by the id of an event that
    had come before, the seconds since it came last. `is_foreign` tells that the document holds no
    state, but something else.
    """

    items: Sequence[Item]
    listed: list[str]
    unlisted: list[str]
    past_max_states: int
    counts: Mapping[tuple[str, Result], int]
    repeated: int
    rejected: Mapping[str, int]
    unknown_statuses: Mapping[str, int]
    unreadable_times: int
    delays: Mapping[float, int]
    errors: tuple[str, ...]
    gaps: Mapping[str, float]
    is_foreign: bool

    @property
    def valid(self) -> int:
        """How many states are valid."""
        return len(self.items) - sum(self.rejected.values())

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


class Prepared(NamedTuple):
    """A document's states, each with what is to be published of it.

    `unprocessed_ids` are those of states past the limit. `unreadable_times` counts states whose
    time is not one; `delays` the others that have one, by the seconds from it to the receipt, which
    are below 0 where it is ahead. `attributes` and `characters` say how heavy
    the states are; `is_foreign` is as Receipt has it.
    """

    items: list[Item]
    unprocessed_ids: tuple[str, ...] = ()
    unreadable_times: int = 0
    delays: Mapping[float, int] = MappingProxyType({})
    attributes: int = 0
    characters: int = 0
    is_foreign: bool = False

    @property
    def ids(self) -> list[str]:
        """Every id of the document, each once, in order of first appearance."""
        ids = dict.fromkeys(item.state.id_sms for item in self.items)
        return [id_sms for id_sms in ids | dict.fromkeys(self.unprocessed_ids) if id_sms]


def prepare(route: Route, body: bytes, received_at: datetime, *, max_states: int) -> Prepared:
    """All that can be done of a body without Kafka, on any thread. Raises DocumentError."""
    document = _parsed(body, max_states, route.words)
    items: list[Item] = []
    delays: dict[float, int] = {}
    arrival = arrival_of(received_at)
    unreadable = 0
    for state in document.states:
        if not isinstance(state, State):
            items.append(Item(state, message_for(route, state, received_at)))
            continue
        moment = moment_of(state, route)
        items.append(Item(state, status_event(route, state, moment, arrival)))
        if moment is not None:
            delay = arrival.timestamp - moment.timestamp
            delays[delay] = delays.get(delay, 0) + 1
        elif state.raw_time:
            unreadable += 1
    return Prepared(
        items,
        document.unprocessed_ids,
        unreadable,
        delays,
        document.attributes,
        document.characters,
        document.is_foreign,
    )


def _parsed(body: bytes, max_states: int, statuses: frozenset[str]) -> Document:
    try:
        return parse(body, max_states=max_states, statuses=statuses)
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
        self, route: Route, prepared: Prepared, received_at: datetime, deadline: float
    ) -> Receipt:
        """Publish every state of the document, and say which ids are durably in Kafka."""
        items = prepared.items
        letters = _Letters(route, items, received_at, deadline, self._publish)
        await self._publish(items, deadline, letters.start)
        for item in items:
            if item.outcome.too_large and item.message is not None:
                letters.start(item.message, item.outcome)
        await letters.settle()
        listed, unlisted = acknowledged(items, prepared.unprocessed_ids)
        return await _receipt(prepared, route.words, listed, unlisted)

    async def publish_dead_letter(
        self,
        route: Route,
        error: DocumentError,
        body: bytes,
        received_at: datetime,
        deadline: float,
    ) -> Outcome | None:
        """Publish the dead letter of a body that is refused; None without a topic for it."""
        if route.dead_letter_topic is None:
            return None
        message = rejected_body(route, route.dead_letter_topic, error, body, received_at)
        (outcome,) = await self._publisher.publish([message], deadline)
        return outcome

    async def _publish(
        self,
        items: Sequence[Item],
        deadline: float,
        on_too_large: OnTooLarge = lambda _message, _outcome: None,
    ) -> None:
        """Give each item its outcome; identical events are one record and share it."""
        # An event's id tells its topic, too: that of a status has a stop, a dead letter's has none.
        unique = {item.message.event_id: item.message for item in items if item.message is not None}
        if len(items) > MANY:
            await asyncio.sleep(0)
        outcomes = await self._publisher.publish(list(unique.values()), deadline, on_too_large)
        if len(items) > MANY:
            await asyncio.sleep(0)
        if len(outcomes) == len(items):  # as nearly always
            for item, outcome in zip(items, outcomes, strict=True):
                item.outcome = outcome
            return
        of = dict(zip(unique, outcomes, strict=True))
        for item in items:
            item.outcome = DROPPED if item.message is None else of[item.message.event_id]


class _Letters:
    """The dead letters of those states of a document whose events their topic does not take.

    Each is on its way as soon as that is known: the other events may take all the time there is.
    """

    def __init__(
        self,
        route: Route,
        items: Sequence[Item],
        received_at: datetime,
        deadline: float,
        publish: Callable[[Sequence[Item], float], Awaitable[None]],
    ) -> None:
        self._route = route
        self._items = items
        self._received_at = received_at
        self._deadline = deadline
        self._publish = publish
        self._by_event: dict[str, list[Item]] = {}
        self._letters: list[tuple[Item, Item]] = []  # an item, and its letter as one
        self._waiting: list[Item] = []
        self._publishing: list[asyncio.Task[None]] = []

    def start(self, message: Message, outcome: Outcome) -> None:
        """Publish the dead letters of all states with this event, together with others' of now."""
        for item in self._take(message):
            state = item.state
            if isinstance(state, State):
                detail = outcome.error or TOO_LARGE
                invalid = InvalidState(state.id_sms, TOO_LARGE, detail, received(state.element))
                letter = Item(invalid, message_for(self._route, invalid, self._received_at))
                self._letters.append((item, letter))
                if not self._waiting:
                    self._publishing.append(asyncio.create_task(self._publish_waiting()))
                self._waiting.append(letter)

    async def settle(self) -> None:
        """Wait for the dead letters, and put them in the place of their events."""
        if self._publishing:
            await asyncio.gather(*self._publishing)
        for item, letter in self._letters:
            item.state, item.message, item.outcome = letter.state, letter.message, letter.outcome

    def _take(self, message: Message) -> list[Item]:
        """The items with this event, the first time that they are asked for."""
        if not self._by_event:
            for item in self._items:
                if item.message is not None:
                    self._by_event.setdefault(item.message.event_id, []).append(item)
        items = self._by_event[message.event_id]
        self._by_event[message.event_id] = []
        return items

    async def _publish_waiting(self) -> None:
        letters, self._waiting = self._waiting, []
        await self._publish(letters, self._deadline)


async def _receipt(
    prepared: Prepared, words: frozenset[str], listed: list[str], unlisted: list[str]
) -> Receipt:
    """Count a document's states, in one pass."""
    counts: dict[tuple[str, Result], int] = {}
    rejected: dict[str, int] = {}
    unknown: dict[str, int] = {}
    errors: dict[str, None] = {}
    gaps: dict[str, float] = {}
    repeated = 0
    for number, item in enumerate(prepared.items):
        if not number % MANY and number:
            await asyncio.sleep(0)
        state, outcome = item.state, item.outcome
        if outcome.repeated:
            repeated += 1
            if item.message is not None and outcome.gap_seconds is not None:
                gaps[item.message.event_id] = outcome.gap_seconds
        if outcome.error:
            errors[outcome.error] = None
        word = OTHER_STATUS
        if isinstance(state, InvalidState):
            rejected[state.reason] = rejected.get(state.reason, 0) + 1
        elif state.status in words:
            word = state.status
        else:
            unknown[state.status] = unknown.get(state.status, 0) + 1
        key = word, outcome.result
        counts[key] = counts.get(key, 0) + 1
    return Receipt(
        items=prepared.items,
        listed=listed,
        unlisted=unlisted,
        past_max_states=len(prepared.unprocessed_ids),
        counts=counts,
        repeated=repeated,
        rejected=rejected,
        unknown_statuses=unknown,
        unreadable_times=prepared.unreadable_times,
        delays=prepared.delays,
        errors=tuple(errors),
        gaps=gaps,
        is_foreign=prepared.is_foreign,
    )


def message_for(route: Route, state: State | InvalidState, received_at: datetime) -> Message | None:
    """The event or the dead letter of a state; None where no topic takes its dead letter."""
    if isinstance(state, State):
        return status_message(route, state, received_at)
    if route.dead_letter_topic is None:
        return None
    return rejected_state(route, route.dead_letter_topic, state, received_at)
