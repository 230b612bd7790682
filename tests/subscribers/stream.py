"""A provider's day: messages and their states as they happened, then late, twice and mixed up.

What the last state of each message is follows from how it was made, not from the rule.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from bridge.simulate import SentState, render
from tests.support.gateway import Gateway

SHARE = 0.05  # of the states: so many come twice, and so many late
PER_POST = 100
# What becomes of a message, in order of occurrence. The bridge does not know the word `queued`.
LIVES = (
    ("send", "deliver", "read"),
    ("send", "partly_deliver", "deliver"),
    ("send", "partly_deliver", "read"),
    ("send", "not_deliver"),
    ("send", "deliver"),
    ("partly_deliver", "expired"),
    ("queued", "deliver"),
    ("deliver", "queued"),
    ("send",),
    ("read",),
)
_START = datetime(2026, 1, 1)  # noqa: DTZ001 - the provider's local time; the endpoint's zone is UTC


@dataclass(frozen=True, slots=True)
class Posting:
    """One sending of a state, to one of the gateways."""

    state: SentState
    gateway: int


@dataclass(frozen=True, slots=True)
class Day:
    """All sendings, in the order in which they arrive, and the last state of each message."""

    postings: list[Posting]
    last: dict[str, SentState]
    states: int


def day(states: int, seed: int, gateways: int = 2) -> Day:
    """So many states, each to a gateway of its own choice; the same seed gives the same day."""
    draw = random.Random(seed)
    happened: list[SentState] = []
    last: dict[str, SentState] = {}
    while len(happened) < states:
        life = list(_life(f"{len(last):07}", draw))[: states - len(happened)]
        last[life[-1].id_sms] = life[-1]
        happened += life
    arrivals = sorted(_arrivals(happened, draw, gateways), key=lambda arrival: arrival[0])
    return Day([posting for _, posting in arrivals], last, len(happened))


def _life(id_sms: str, draw: random.Random) -> Iterator[SentState]:
    """The states of one message. Where the words alone tell the order, times may be equal."""
    moment = _START + timedelta(seconds=draw.randrange(86_400))
    for status in draw.choice(LIVES):
        yield SentState(id_sms, status, "" if status == "send" else str(moment), status, None)
        least = 1 if status == "deliver" else 0
        moment += timedelta(seconds=draw.choice((least, 1, 30, 600)))


def _arrivals(
    happened: Sequence[SentState], draw: random.Random, gateways: int
) -> Iterator[tuple[float, Posting]]:
    """When each state arrives, in places of the log; copies go to another gateway."""
    count = len(happened)
    late = set(draw.sample(range(count), int(count * SHARE)))
    twice = set(draw.sample(range(count), int(count * SHARE)))
    for at, state in enumerate(happened):
        arrives = at + (draw.uniform(2, count / 5) if at in late else 0.0)
        gateway = draw.randrange(gateways)
        yield arrives, Posting(state, gateway)
        if at in twice:
            again = Posting(state, (gateway + 1) % gateways)
            yield arrives + draw.uniform(0, count / 5), again


def post(gateways: Sequence[Gateway], postings: Iterable[Posting]) -> None:
    """Post them in order, one document after the other; every id is acknowledged."""
    for gateway, each in groupby(_turns(postings), key=lambda posting: posting.gateway):
        states = [posting.state for posting in each]
        answer = gateways[gateway].post(render(states))
        assert answer.status == 200
        assert set(answer.ids) == {state.id_sms for state in states}


def _turns(postings: Iterable[Posting]) -> Iterator[Posting]:
    """A hundred at a time are put in order of gateway, so that a document holds many states."""
    waiting: list[Posting] = []
    for posting in postings:
        waiting.append(posting)
        if len(waiting) == PER_POST:
            yield from sorted(waiting, key=lambda each: each.gateway)
            waiting.clear()
    yield from sorted(waiting, key=lambda each: each.gateway)
