"""A provider's day: messages and their states as they happened, then late, twice and mixed up.

Which state of a message must stand in the end is written beside its life, not found by the rule.
At noon of the day the clocks go back, so that an hour comes twice.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from zoneinfo import ZoneInfo

from bridge.model import Form
from bridge.simulate import SentState, render
from bridge.simulate.documents import listed_ids
from tests.support.gateway import Gateway
from tests.support.reference import event_id

SHARE = 0.05  # of the states: so many come twice, and so many late
PER_POST = 100
FORMS = (Form.XML, Form.JSON)
SOURCE = "urn:example:sms:main"
ZONE = "Europe/Kyiv"  # of the provider's clock


@dataclass(frozen=True, slots=True)
class Life:
    """What becomes of a message, in order of occurrence: channels and words.

    `stands` is the place of the state that must be the latest in the end; `by_time` that nothing
    but the time tells it from another one.
    """

    states: tuple[str, ...]
    stands: int = -1
    by_time: bool = False


LIVES = (
    Life(("sms send", "sms deliver", "sms read")),
    Life(("sms send", "sms partly_deliver", "sms deliver")),
    Life(("viber send", "viber partly_deliver", "viber read")),
    Life(("viber deliver", "viber read")),
    Life(("sms send", "sms not_deliver")),
    Life(("sms send", "sms deliver")),
    Life(("sms partly_deliver", "sms expired")),
    Life(("sms acceptd", "sms enroute", "sms delivrd")),
    Life(("sms enroute", "sms undeliv")),
    Life(("sms send",)),
    Life(("viber read",)),
    # Words that the bridge does not know never replace one that it knows.
    Life(("sms queued", "sms deliver")),
    Life(("sms deliver", "sms queued"), stands=0),
    Life(("sms queued", "sms blocked"), by_time=True),
    # Cascades: what Viber did not deliver is sent again as an SMS.
    Life(("viber not_deliver", "sms deliver"), by_time=True),
    Life(("viber send", "viber not_deliver", "sms send", "sms deliver"), by_time=True),
    Life(("viber expired", "sms partly_deliver", "sms not_deliver"), by_time=True),
    Life(("viber not_deliver", "sms partly_deliver"), stands=0),
)
SEND_WITH_TIME = 0.25  # of those states; the others have none, as the provider's page says
_START = datetime(2026, 10, 24, 13, tzinfo=UTC)
_NOON = _START + timedelta(hours=12)  # when the clocks go back from four to three
_WITHIN_SECONDS = 3600  # of it many a message begins
_LONGEST_SECONDS = 600  # between two states


@dataclass(frozen=True, slots=True)
class Posting:
    """One sending of a state, to one of the gateways."""

    state: SentState
    gateway: int


@dataclass(frozen=True, slots=True)
class Day:
    """All sendings, in the order in which they arrive.

    `latest` has the event's id of the state that must stand in the end, by `id_sms`.
    """

    postings: list[Posting]
    latest: dict[str, str]
    states: int


def day(states: int, seed: int, gateways: int = 2) -> Day:
    """So many states or a few more, each to a gateway of its own choice.

    The same seed gives the same day.
    """
    draw = random.Random(seed)
    happened: list[SentState] = []
    latest: dict[str, str] = {}
    while len(happened) < states:
        life = draw.choice(LIVES)
        lived = list(_lived(life, f"{len(latest):07}", draw))
        latest[lived[0].id_sms] = _event_id(lived[life.stands])
        happened += lived
    arrivals = sorted(_arrivals(happened, draw, gateways), key=lambda arrival: arrival[0])
    return Day([posting for _, posting in arrivals], latest, len(happened))


def _lived(life: Life, id_sms: str, draw: random.Random) -> Iterator[SentState]:
    """The states of one message; each tells of all channels so far.

    If the words tell the order, times may be equal, or go back with the clocks.
    """
    moment = _begin(life, draw)
    channels: dict[str, str] = {}
    for each in life.states:
        channel, status = each.split()
        channels[channel] = status
        timeless = status == "send" and draw.random() >= SEND_WITH_TIME
        yield SentState(
            id_sms,
            status,
            "" if timeless else f"{moment.astimezone(ZoneInfo(ZONE)):%Y-%m-%d %H:%M:%S}",
            channels.get("sms"),
            channels.get("viber"),
        )
        moment += timedelta(seconds=draw.choice((int(life.by_time), 1, 30, _LONGEST_SECONDS)))


def _begin(life: Life, draw: random.Random) -> datetime:
    """A time of the day, for every second message one near noon."""
    if life.by_time:  # and no time of it in the hour that comes twice
        morning = int((_NOON - _START).total_seconds()) - 3600 - 4 * _LONGEST_SECONDS
        return _START + timedelta(seconds=draw.randrange(morning))
    if draw.random() < 1 / 2:
        return _NOON + timedelta(seconds=draw.randint(-_WITHIN_SECONDS, _WITHIN_SECONDS))
    return _START + timedelta(seconds=draw.randrange(86_400))


def _event_id(state: SentState) -> str:
    """Its event's, made as subscribers are told that it is made."""
    channels = [(n, w) for n, w in (("sms", state.sms), ("viber", state.viber)) if w is not None]
    return event_id(SOURCE, state.id_sms, state.status, state.time, channels)


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
    """Post them in order, one document after the other; every id is acknowledged.

    Each gateway has its documents in XML and in JSON by turns.
    """
    documents = groupby(_turns(postings), key=lambda posting: posting.gateway)
    for number, (gateway, each) in enumerate(documents):
        states = [posting.state for posting in each]
        form = FORMS[number // len(gateways) % len(FORMS)]
        answer = gateways[gateway].post(render(states, form))
        assert answer.status == 200
        assert set(listed_ids(answer.body, form) or ()) == {state.id_sms for state in states}


def _turns(postings: Iterable[Posting]) -> Iterator[Posting]:
    """A hundred at a time are put in order of gateway, so that a document holds many states."""
    waiting: list[Posting] = []
    for posting in postings:
        waiting.append(posting)
        if len(waiting) == PER_POST:
            yield from sorted(waiting, key=lambda each: each.gateway)
            waiting.clear()
    yield from sorted(waiting, key=lambda each: each.gateway)
