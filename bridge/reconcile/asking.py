"""Asks one account for its messages, batch by batch, and publishes what is new.

What an answer does not settle is asked for again. Whatever the provider or Kafka does, a message
is settled by an answer and by the broker's acknowledgement, and by nothing else.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Protocol, TypeVar

from bridge.clip import ID_CHARACTERS, clipped
from bridge.errors import Fault, ProviderError
from bridge.model import InvalidState, Item, Result, Route
from bridge.parse.limits import MAX_ELEMENTS
from bridge.pipeline import Pipeline, Prepared, Publisher, prepare
from bridge.reconcile.report import Settled

T = TypeVar("T")

ATTEMPTS = 7  # in a row that fail: then the provider is away
REFUSALS = 12  # in a row: more than it takes to find one message among 1,000
UNPUBLISHED_BATCHES = 3  # in a row: then Kafka is away
ASKS = 3  # for a message that answers leave out, or that cannot be published
BATCH = 100  # messages; how many the provider takes at once is not stated
REQUESTS_PER_SECOND = 2.0
FIRST_PAUSE_SECONDS = 2.0
NOTHING_YET = "send"  # without a time: no status was received (provider-webhook)
SHOWN = 5  # ids in a line

# A smaller batch may get an answer.
_TOO_MUCH = frozenset({Fault.REFUSED, Fault.TOO_LARGE})
_NO_WORD = frozenset({"missing_status", "invalid_status"})


class Asked(Protocol):
    """The provider's API, as a client of one account has it."""

    async def states(self, ids: Sequence[str]) -> bytes:
        """The latest states, as a webhook's document; raises ProviderError."""
        ...

    async def clock(self) -> str:
        """The account's local time; raises ProviderError."""
        ...


class StoppedError(Exception):
    """The provider is away for good, or Kafka is; the text says why."""

    def __init__(self, why: str, *, by_kafka: bool = False) -> None:
        self.by_kafka = by_kafka
        super().__init__(why)


class InterruptedRunError(Exception):
    """Whoever started the run has ended it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is asked for at once and how often, and how long faults are waited for."""

    batch: int = BATCH
    requests_per_second: float = REQUESTS_PER_SECOND
    first_pause_seconds: float = FIRST_PAUSE_SECONDS

    def pause_seconds(self, failures: int) -> float:
        """Before the attempt that follows so many failures; it ends beyond a minute."""
        return float(self.first_pause_seconds * 2 ** (failures - 1))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every account's run shares.

    `has` says whether the topic has an event (source, id_sms, event id). `settle` keeps what is
    settled, `tell` says one line to people. `clock` tells the time in UTC.
    """

    publisher: Publisher
    publish_timeout_seconds: float
    has: Callable[[str, str, str], bool]
    settle: Callable[[Settled], None]
    tell: Callable[[str], None]
    clock: Callable[[], datetime]
    stopped: asyncio.Event
    pace: Pace


class _Verdict(IntEnum):
    """What became of a message; of two the greater one counts."""

    UNKNOWN = 0
    UNCHANGED = 1
    PUBLISHED = 2
    REJECTED = 3
    FAILED = 4


class _Verdicts:
    """What became of each message of an answer, which may have several states of one."""

    def __init__(self) -> None:
        self._of: dict[str, _Verdict] = {}

    def add(self, id_sms: str, verdict: _Verdict) -> None:
        self._of[id_sms] = max(verdict, self._of.get(id_sms, verdict))

    def settled(self, endpoint: str, foreign: Iterable[str]) -> Settled:
        """All but those that failed."""
        return Settled(
            endpoint,
            published=self._with(_Verdict.PUBLISHED),
            unchanged=self._with(_Verdict.UNCHANGED),
            unknown=self._with(_Verdict.UNKNOWN),
            rejected=self._with(_Verdict.REJECTED),
            foreign=list(foreign),
        )

    def _with(self, verdict: _Verdict) -> list[str]:
        return [id_sms for id_sms, each in self._of.items() if each is verdict]


class Account:
    """The run over one account's messages; `unanswered` and `unpublished` are left at its end."""

    def __init__(
        self, route: Route, client: Asked, ids: Iterable[str], around: Surroundings
    ) -> None:
        self._route = route
        self._client = client
        self._around = around
        self._pipeline = Pipeline(around.publisher)
        self._queue = deque(_batches(list(ids), around.pace.batch))
        self._later: list[str] = []
        self._asks: Counter[str] = Counter()
        self._proven = False  # that the credentials are good
        self._failures = self._refusals = self._unpublished_batches = 0
        self._next_at = 0.0
        self.unanswered: dict[str, None] = {}
        self.unpublished: dict[str, None] = {}

    @property
    def not_asked(self) -> int:
        """How many messages were not asked for."""
        left = {i for batch in self._queue for i in batch} | {*self._later}
        return len(left - self.unanswered.keys() - self.unpublished.keys())

    async def ask_for_all(self) -> None:
        """Ask until nothing is left that another request could settle.

        Raises StoppedError or InterruptedRunError with the rest undone.
        """
        while batch := self._next_batch():
            try:
                await self._turn()
                document = await self._unless_stopped(self._client.states(batch))
            except ProviderError as error:
                await self._bear(error, batch)
                continue
            except InterruptedRunError:
                self._queue.appendleft(batch)
                raise
            self._failures = self._refusals = 0
            self._proven = True
            await self._take(batch, document)

    def _next_batch(self) -> Sequence[str] | None:
        if not self._queue and self._later:
            self._queue.extend(_batches(self._later, self._around.pace.batch))
            self._later = []
        return self._queue.popleft() if self._queue else None

    # --- answers -------------------------------------------------------------------------

    async def _take(self, batch: Sequence[str], document: bytes) -> None:
        """Publish what is new in an answer, and settle what is settled by it."""
        received_at = self._around.clock()
        prepared = prepare(self._route, document, received_at, max_states=MAX_ELEMENTS)
        asked = frozenset(batch)
        verdicts = _Verdicts()
        foreign: dict[str, None] = {}
        news: list[Item] = []
        for item in prepared.items:
            id_sms = item.state.id_sms
            if id_sms not in asked:
                foreign[clipped(id_sms, ID_CHARACTERS)] = None
            elif (verdict := self._without_publishing(item)) is not None:
                verdicts.add(id_sms, verdict)
            else:
                news.append(item)
        failed = await self._publish(news, received_at, verdicts)
        settled = verdicts.settled(self._route.endpoint, foreign)
        self._around.settle(settled)
        if foreign:
            self._tell(f"not asked for, and not published: {_some(settled.foreign)}")
        self._leave(batch, {*settled.ids}, failed)

    def _without_publishing(self, item: Item) -> _Verdict | None:
        """What a state is that is not to be published; None if it is."""
        state, message = item.state, item.message
        if isinstance(state, InvalidState):
            return _Verdict.UNKNOWN if _is_not_known(state) else None
        if state.status == NOTHING_YET and state.raw_time is None:
            return _Verdict.UNCHANGED
        source, has = self._route.source, self._around.has
        known = message is not None and has(source, state.id_sms, message.event_id)
        return _Verdict.UNCHANGED if known else None

    async def _publish(
        self, items: list[Item], received_at: datetime, verdicts: _Verdicts
    ) -> dict[str, str]:
        """Publish states; the reasons of those messages of which one is not in Kafka."""
        failed: dict[str, str] = {}
        if items:
            deadline = asyncio.get_running_loop().time() + self._around.publish_timeout_seconds
            await self._pipeline.accept(self._route, Prepared(items), received_at, deadline)
        for item in items:
            state, outcome = item.state, item.outcome
            if outcome.result in (Result.FAILED, Result.UNKNOWN):
                failed[state.id_sms] = outcome.error or outcome.result.value
                verdicts.add(state.id_sms, _Verdict.FAILED)
            else:
                invalid = isinstance(state, InvalidState)
                verdicts.add(state.id_sms, _Verdict.REJECTED if invalid else _Verdict.PUBLISHED)
        return failed

    def _leave(self, batch: Sequence[str], settled: set[str], failed: dict[str, str]) -> None:
        """Put back what is not settled, for as long as it may be asked for."""
        missing = [i for i in batch if i not in settled and i not in failed]
        for id_sms in settled:
            self.unanswered.pop(id_sms, None)
            self.unpublished.pop(id_sms, None)
        self.unanswered |= dict.fromkeys(missing)
        self.unpublished |= dict.fromkeys(failed)
        self._asks.update([*missing, *failed])
        self._later += [i for i in (*missing, *failed) if self._asks[i] < ASKS]
        if missing:
            self._tell(f"the answer lacks {len(missing)} of {len(batch)}: {_some(missing)}")
        if failed:
            why = next(iter(failed.values()))
            self._tell(f"{len(failed)} events are not in Kafka: {why}")
        self._unpublished_batches = self._unpublished_batches + 1 if failed and not settled else 0
        if self._unpublished_batches == UNPUBLISHED_BATCHES:
            what = f"Kafka accepted none of {UNPUBLISHED_BATCHES} batches in a row"
            raise StoppedError(what, by_kafka=True)

    # --- faults --------------------------------------------------------------------------

    async def _bear(self, error: ProviderError, batch: Sequence[str]) -> None:
        """Put the batch back, whole or in halves, or give up."""
        if error.fault in _TOO_MUCH:
            await self._divide(error, batch)
            return
        self._queue.appendleft(batch)
        self._failures += 1
        if error.futile:
            raise StoppedError(str(error))
        if self._failures == ATTEMPTS:
            raise StoppedError(f"{error}; given up after {ATTEMPTS} attempts")
        pause = max(self._around.pace.pause_seconds(self._failures), error.retry_after)
        self._tell(f"{error}; trying again in {pause:g} s")
        await self._unless_stopped(asyncio.sleep(pause))

    async def _divide(self, error: ProviderError, batch: Sequence[str]) -> None:
        """Ask in halves: one id that the provider does not take must not cost the others."""
        if error.fault is Fault.REFUSED and not self._proven:
            self._queue.appendleft(batch)
            await self._prove(error)
            self._queue.popleft()
        self._refusals += 1
        if self._refusals == REFUSALS:
            self._queue.appendleft(batch)
            raise StoppedError(f"{error}; given up after {REFUSALS} in a row")
        if len(batch) == 1:
            self._tell(f"message {batch[0]}: {error}")
            self.unanswered[batch[0]] = None
            return
        self._tell(f"{error}; asking for the {len(batch)} in halves")
        middle = len(batch) // 2
        self._queue.extendleft([batch[middle:], batch[:middle]])

    async def _prove(self, error: ProviderError) -> None:
        """Find out by another request whether the credentials are good: the texts do not say.

        They are not tried a third time: an account may be locked for it.
        """
        try:
            await self._turn()
            await self._unless_stopped(self._client.clock())
        except ProviderError as second:
            both = second.fault is Fault.REFUSED
            hint = "; it refuses to tell the time, too: are the credentials right?" if both else ""
            raise StoppedError(f"{error}{hint}") from None
        self._proven = True

    # --- time ----------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Wait for the next request's turn."""
        loop = asyncio.get_running_loop()
        await self._unless_stopped(asyncio.sleep(self._next_at - loop.time()))
        self._next_at = loop.time() + 1 / self._around.pace.requests_per_second

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        return await unless_stopped(self._around.stopped, work)

    def _tell(self, what: str) -> None:
        self._around.tell(f"endpoint {self._route.endpoint}: {what}")


async def unless_stopped(stopped: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Wait for something, or raise InterruptedRunError without it."""
    task = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    if stopped.is_set():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise InterruptedRunError
    return await task


def _batches(ids: Sequence[str], size: int) -> list[Sequence[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _is_not_known(state: InvalidState) -> bool:
    """Whether the provider does not know the message: it then has a sentence in place of a word."""
    return state.reason in _NO_WORD and not state.received.attributes.get("time", "").strip()


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + ", …" * (len(ids) > SHOWN)
