"""The provider: posts documents, reads the answers, and posts again what was not listed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from bridge.model import Item, Route
from bridge.pipeline import Prepared, Receipt, prepare

if TYPE_CHECKING:
    import asyncio

ROUTE = Route(
    endpoint="main",
    source="urn:example:sms:main",
    timezone=UTC,
    topic="status",
    dead_letter_topic="rejected",
    type_prefix="com.example.messaging",
    content_mode="structured",
)
_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class State:
    """One `<state>`. `taken` is false where the scenario's topics take no record of it."""

    id_sms: str
    xml: str
    letter: bool = False  # what has to be in Kafka is its dead letter, and not an event
    taken: bool = True


def state(id_sms: str, status: str = "read", more: str = "", *, taken: bool = True) -> State:
    """A valid one, with further attributes."""
    xml = f'<state id_sms="{id_sms}" time="2026-01-01 00:00:00"{more}>{status}</state>'
    return State(id_sms, xml, taken=taken)


def invalid(id_sms: str, more: str = "", inner: str = "not a word") -> State:
    """One that becomes a dead letter."""
    return State(id_sms, f'<state id_sms="{id_sms}"{more}>{inner}</state>', letter=True)


@dataclass(slots=True, eq=False)
class Attempt:
    """One post. `states` are those in it by their number in the document."""

    number: int
    gateway: str
    states: tuple[int, ...]
    deadline: float
    step: int
    items: Sequence[Item] = ()
    task: "asyncio.Task[Receipt] | None" = None
    answered: bool = False
    heard: frozenset[str] = frozenset()  # the ids that its answer listed
    undisturbed: bool = False  # nothing had gone wrong, and the gateway was connected


@dataclass(slots=True, eq=False)
class Document:
    """What the provider knows of one: `left` are the states that no answer has listed."""

    states: tuple[State, ...]
    left: tuple[int, ...]
    attempts: list[Attempt] = field(default_factory=list)

    @classmethod
    def of(cls, states: tuple[State, ...]) -> "Document":
        return cls(states, tuple(range(len(states))))

    @property
    def waiting(self) -> bool:
        """Whether the last post has no answer yet."""
        return bool(self.attempts) and not self.attempts[-1].answered

    def hear(self, listed: frozenset[str]) -> None:
        """Send no more what the answer lists."""
        self.left = tuple(n for n in self.left if self.states[n].id_sms not in listed)

    def forget(self, attempt: Attempt) -> None:
        """That answer never came."""
        again = {n for n in attempt.states if self.states[n].id_sms in attempt.heard}
        attempt.heard = frozenset()
        self.left = tuple(sorted({*self.left, *again}))


def prepared(states: tuple[State, ...], number: int, max_states: int) -> Prepared:
    """What the gateway makes of a post of these; each has items of its own."""
    made = _prepared(states, number, max_states)
    return made._replace(items=[replace(item) for item in made.items])


@cache
def _prepared(states: tuple[State, ...], number: int, max_states: int) -> Prepared:
    body = f"<response>{''.join(each.xml for each in states)}</response>".encode()
    # Received at another second each: no two posts' records are alike.
    return prepare(ROUTE, body, _BEGAN + timedelta(seconds=number), max_states=max_states)


def received_at(number: int) -> datetime:
    """When the post of this number came, by the wall clock."""
    return _BEGAN + timedelta(seconds=number)
