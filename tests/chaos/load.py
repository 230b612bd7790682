"""The providers, and the journal of all that they posted and were told.

It trusts no figure of the gateway's: what counts is what was in an answer's body.
"""

import asyncio
import random
import re
import time
import xml.etree.ElementTree as ET
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from bridge import simulate
from bridge.simulate import Plan, SentState, states
from bridge.simulate.client import Answer, FaultError, Pool, Target
from bridge.simulate.run import deliver
from tests.support import reference

ATTEMPTS = 5
RETRY_SECONDS = 1.5
CAMPAIGN_SECONDS = 4.0
PER_POST = (1, 1, 2, 5, 10, 20, 50, 100)
STATES_PER_SECOND = 100.0  # of one provider
POSTS_PER_SECOND = 10.0  # the same
PATIENCE_SECONDS = 5.0  # beyond the limit: late answers are seen, and then count as late
IMPATIENT = ((0.3, 0.2), (1.0, RETRY_SECONDS))  # timeout and retry, in seconds
PAIRS_EVERY_SECONDS = 0.25
_IDS_PER_CAMPAIGN = 10**4
_CAMPAIGNS = 10**6

_POSTED = re.compile(rb'<state id_sms="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Post:
    """One POST on the monotonic clock; `status` is None where there was no answer."""

    started: float
    ended: float
    status: int | None
    fault: str | None
    states: int
    whole: bool  # every id in it was listed

    @property
    def seconds(self) -> float:
        return self.ended - self.started


@dataclass(slots=True)
class Journal:
    """Every post, and of each listed id when the newest post that lists it began."""

    posts: list[Post] = field(default_factory=list)
    acknowledged: dict[str, float] = field(default_factory=dict)
    posted: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    states_sent: int = 0

    def note(
        self, body: bytes, started: float, status: int | None, answer: bytes, fault: str | None
    ) -> None:
        """Note the end of a post."""
        ids = [found.decode() for found in _POSTED.findall(body)]
        unique = set(ids)
        listed = _listed(answer)
        self.states_sent += len(ids)
        self.posted |= unique
        self.foreign |= listed - unique
        for id_sms in listed:
            self.acknowledged[id_sms] = started
        self.posts.append(
            Post(started, time.monotonic(), status, fault, len(ids), listed == unique)
        )

    def whole_since(self, moment: float) -> Post | None:
        """The first post that ended after the moment and was acknowledged whole."""
        first = bisect_right(self.posts, moment, key=attrgetter("ended"))
        return next((post for post in self.posts[first:] if post.whole), None)


def _listed(answer: bytes) -> set[str]:
    try:
        root = ET.fromstring(answer)
    except (ET.ParseError, ValueError):
        return set()
    if root.tag != "response":
        return set()
    return {(element.text or "").strip() for element in root.iterfind("id_sms")}


class JournalingPool(Pool):
    """The simulated provider's connections, with every exchange noted."""

    def __init__(self, url: str, journal: Journal) -> None:
        super().__init__(Target.of(url), None)
        self._journal = journal

    async def post(self, body: bytes) -> Answer:
        started = time.monotonic()
        try:
            answer = await super().post(body)
        except FaultError as exc:
            self._journal.note(body, started, None, b"", exc.kind)
            raise
        except asyncio.CancelledError:
            self._journal.note(body, started, None, b"", "gave up")
            raise
        self._journal.note(body, started, answer.status, answer.body, None)
        return answer


async def run_plan(plan: Plan, journal: Journal) -> simulate.Report:
    """As `simulate()`, with every exchange noted."""
    return await deliver(plan, JournalingPool(plan.url, journal))


@dataclass(frozen=True, slots=True)
class Pair:
    """An id with two states in one document; one may be invalid, and become a dead letter."""

    id_sms: str
    event_ids: tuple[str, ...]
    letter: bool
    xml: str


@dataclass(slots=True)
class Load:
    """What posts, until it is told to stop, and what it has posted."""

    url: str
    source: str
    seed: int
    providers: int
    limit_seconds: float
    journal: Journal
    plans: list[Plan] = field(default_factory=list)
    reports: list[simulate.Report] = field(default_factory=list)
    pairs: dict[str, Pair] = field(default_factory=dict)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Post until `stopping` is set and all that was begun has ended."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.providers):
                group.create_task(self._provide(number))
            group.create_task(self._post_pairs())

    def plan(
        self, provider: int, campaign: int, *, per_post: int, messages: int, **settings: float
    ) -> Plan:
        """One campaign's plan, with ids of its own; `settings` are the plan's."""
        first = ((self.seed + 1) * 1000 + provider) * _CAMPAIGNS * _IDS_PER_CAMPAIGN
        options = {"attempts": ATTEMPTS, "retry_seconds": RETRY_SECONDS, **settings}
        plan = Plan(
            url=self.url,
            messages=messages,
            per_post=per_post,
            seed=self.seed,
            first_id=first + campaign * _IDS_PER_CAMPAIGN,
            **options,  # type: ignore[arg-type]
        )
        self.plans.append(plan)
        return plan

    @property
    def impatient(self) -> int | None:
        """The number of the provider that waits for no slow answer, if there is one."""
        return self.providers - 1 if self.providers > 1 else None

    def is_impatient(self, id_sms: str) -> bool:
        """Whether the id is of that provider."""
        if not id_sms.isdecimal():
            return False
        return int(id_sms) // (_CAMPAIGNS * _IDS_PER_CAMPAIGN) % 1000 == self.impatient

    async def _provide(self, number: int) -> None:
        """Campaign after campaign."""
        rng = random.Random(f"{self.seed} provider {number}")
        patient = ((self.limit_seconds + PATIENCE_SECONDS, RETRY_SECONDS),)
        manners = IMPATIENT if number == self.impatient else patient
        campaign = 0
        while not self.stopping.is_set():
            per_post = rng.choice(PER_POST)
            timeout_seconds, retry_seconds = manners[campaign % len(manners)]
            rate = min(STATES_PER_SECOND, per_post * POSTS_PER_SECOND)
            plan = self.plan(
                number,
                campaign,
                per_post=per_post,
                messages=int(rate * CAMPAIGN_SECONDS),
                rate=rate,
                timeout_seconds=timeout_seconds,
                retry_seconds=retry_seconds,
            )
            self.reports.append(await run_plan(plan, self.journal))
            campaign += 1

    # --- ids with two states -------------------------------------------------------------

    async def _post_pairs(self) -> None:
        rng = random.Random(f"{self.seed} pairs")
        pool = JournalingPool(self.url, self.journal)
        try:
            async with asyncio.TaskGroup() as group:
                while not self.stopping.is_set():
                    pairs = [self._pair(rng) for _ in range(rng.randint(1, 5))]
                    group.create_task(self._deliver(pool, pairs))
                    await asyncio.sleep(PAIRS_EVERY_SECONDS)
        finally:
            await pool.aclose()

    async def _deliver(self, pool: JournalingPool, pairs: list[Pair]) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(RETRY_SECONDS)
            await post_xml(pool, [p.xml for p in pairs], self.limit_seconds + PATIENCE_SECONDS)
            pairs = [p for p in pairs if p.id_sms not in self.journal.acknowledged]
            if not pairs:
                return

    def _pair(self, rng: random.Random) -> Pair:
        id_sms = f"pair-{self.seed}-{len(self.pairs)}"
        letter = rng.random() < 0.5
        time_ = f"2026-02-{rng.randint(1, 28):02} 12:00:00"
        first = SentState(id_sms, "deliver", time_, "deliver", None)
        status = "what is this?" if letter else "read"
        second = SentState(id_sms, status, time_, None, "read")
        valid = [first] if letter else [first, second]
        pair = Pair(
            id_sms,
            tuple(event_id(self.source, state) for state in valid),
            letter,
            lines(rng.sample([first, second], 2)),
        )
        self.pairs[id_sms] = pair
        return pair

    # --- afterwards ----------------------------------------------------------------------

    def unacknowledged(self) -> Iterator[tuple[str, str]]:
        """Every id that no answer has listed, with its states as they are to be posted again."""
        for plan in self.plans:
            if all(str(id_sms) in self.journal.acknowledged for id_sms in plan.ids):
                continue
            for state in states(plan):
                if state.id_sms not in self.journal.acknowledged:
                    yield state.id_sms, lines([state])
        for pair in self.pairs.values():
            if pair.id_sms not in self.journal.acknowledged:
                yield pair.id_sms, pair.xml

    def expected(self) -> Iterator[Pair]:
        """Of every id what its acknowledgement promises, worked out from the contract's words."""
        for plan in self.plans:
            for state in states(plan):
                yield Pair(state.id_sms, (event_id(self.source, state),), letter=False, xml="")
        yield from self.pairs.values()


def event_id(source: str, state: SentState) -> str:
    """The contract's identity of a state."""
    channels = [(n, v) for n, v in (("sms", state.sms), ("viber", state.viber)) if v is not None]
    return reference.event_id(source, state.id_sms, state.status, state.time, channels)


def lines(of: Iterable[SentState]) -> str:
    """The states as elements, without the document around them."""
    document = simulate.render(of).decode()
    return document.split("<response>\n", 1)[1].removesuffix("</response>\n")


async def post_xml(pool: JournalingPool, elements: Iterable[str], seconds: float) -> None:
    """Post elements as one document; what becomes of it is in the journal."""
    body = f"<response>\n{''.join(elements)}</response>\n".encode()
    try:
        async with asyncio.timeout(seconds):
            await pool.post(body)
    except (TimeoutError, FaultError):
        pass
