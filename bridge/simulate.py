"""The provider's side: posts states, reads the answer, sends again what was not listed.

It believes nothing but an answer that it has read whole, and shares no code with the gateway
that it tests. It must not be imported by the gateway.
"""

import asyncio
import math
import random
import secrets
import ssl
import xml.etree.ElementTree as ET
from array import array
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from html import escape
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Self, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_IDS_PER_SEED = 10**9
_MAX_SEED = 2**32 - 1  # so that every id fits a signed 64-bit integer
_MAX_ID = 2**63 - 1
_MAX_ATTEMPTS = 255  # kept in one byte a state
_MAX_ANSWER_BYTES = 16 * 2**20
_SAMPLE = 20  # ids named in a summary

# How often (in a hundred), status, sms, viber: SMS alone, Viber alone, Viber sent again as SMS.
_MIX = tuple(
    row[1:]
    for row in (
        (40, "deliver", "deliver", None),
        (8, "not_deliver", "not_deliver", None),
        (7, "expired", "expired", None),
        (5, "partly_deliver", "partly_deliver", None),
        (6, "send", "send", None),
        (12, "read", None, "read"),
        (8, "deliver", None, "deliver"),
        (2, "send", None, "send"),
        (4, "deliver", "deliver", "expired"),
        (3, "deliver", "deliver", "not_deliver"),
        (3, "not_deliver", "not_deliver", "expired"),
        (2, "expired", "expired", "not_deliver"),
    )
    for _ in range(row[0])
)
# January: no daylight saving begins or ends, so every time is unambiguous in any zone.
_FIRST_TIME = datetime(2026, 1, 1)  # noqa: DTZ001 - the provider sends local time, zone unsaid
_SECONDS = 30 * 86400


@dataclass(frozen=True, slots=True)
class Plan:
    """What a simulated provider is to do.

    `url` is http or https; `user:password@` in it becomes basic authentication. `messages`
    states, each with an id of its own, go out in posts of up to `per_post`, `concurrency` posts
    at once. `rate` counts new states per second over the whole run (retries come on top; after
    a stall it catches up); None is as fast as answers come. A state that is not listed is
    posted again `retry_seconds` after its post has ended, `attempts` times in all. A post ends
    `timeout_seconds` after its start, connecting included.

    A run keeps nine bytes a state, and the states that are in flight or to be sent again.
    `seed` (0 to 2^32-1) fixes the states; None draws one. The ids count up from `first_id`, by
    default seed * 10^9 + 1, so that two seeds never share an id. Raises ValueError, which never
    repeats the URL: it may hold a secret.
    """

    url: str = field(repr=False)
    messages: int
    per_post: int = 50
    rate: float | None = None
    concurrency: int = 4
    attempts: int = 5
    retry_seconds: float = 1.0
    timeout_seconds: float = 5.0
    seed: int | None = None
    first_id: int | None = None
    ids: range = field(init=False, repr=False)

    def __post_init__(self) -> None:
        seed = secrets.randbelow(_MAX_SEED + 1) if self.seed is None else self.seed
        first = seed * _IDS_PER_SEED + 1 if self.first_id is None else self.first_id
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "ids", range(first, first + self.messages))
        _Target.of(self.url)
        if problems := [what for holds, what in self._rules(seed, first) if not holds]:
            raise ValueError("; ".join(problems))

    def _rules(self, seed: int, first: int) -> Iterator[tuple[bool, str]]:
        yield 1 <= self.messages < _IDS_PER_SEED, f"messages is not 1 to {_IDS_PER_SEED - 1}"
        yield self.per_post >= 1, "per_post is not positive"
        yield self.rate is None or 0 < self.rate < math.inf, "rate is not positive"
        yield self.concurrency >= 1, "concurrency is not positive"
        yield 1 <= self.attempts <= _MAX_ATTEMPTS, f"attempts is not 1 to {_MAX_ATTEMPTS}"
        yield 0 <= self.retry_seconds < math.inf, "retry_seconds is negative or endless"
        yield 0 < self.timeout_seconds < math.inf, "timeout_seconds is not positive"
        yield 0 <= seed <= _MAX_SEED, f"seed is not 0 to {_MAX_SEED}"
        yield 0 <= first <= _MAX_ID - self.messages, "first_id is negative or too large"


@dataclass(frozen=True, slots=True)
class SentState:
    """One `<state>` as the provider sends it; `time` is empty for `send` (provider-webhook)."""

    id_sms: str
    status: str
    time: str
    sms: str | None
    viber: str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """How far a run has come, in states, but for `posts`.

    `sent` counts every sending, `posted` each state once; `waiting` are those that were not
    listed and will be sent again, `unacknowledged` those that are out of attempts.
    """

    messages: int
    posts: int
    sent: int
    posted: int
    acknowledged: int
    retried: int
    waiting: int
    unacknowledged: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one state.

    `acknowledged_after` is in seconds from the start of the run, or None.
    """

    id_sms: str
    attempts: int
    acknowledged_after: float | None


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the start of a post to the end of its answer, over all answers."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class SlowestAnswer:
    """The answer that took longest; `after_seconds` is when its post began in the run."""

    milliseconds: float
    status: int
    states: int
    after_seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has come to.

    `answers` counts posts by HTTP status, `faults` posts without an answer by kind (`connect`,
    `tls`, `timeout`, `closed`, `protocol`) and `last_fault` says what the newest one was.
    `unreadable_answers` are those that hold no `<response>`; they acknowledge nothing.
    `foreign_ids` counts ids that were listed in answer to a post without them.
    `attempts` is how many states took how many attempts. `states_per_second` are acknowledged
    ones. `latency` and `slowest` are None where no post was answered.
    """

    plan: Plan
    tally: Tally
    attempts: Mapping[int, int]
    answers: Mapping[int, int]
    faults: Mapping[str, int]
    last_fault: str | None
    unreadable_answers: int
    foreign_ids: int
    foreign_id_sample: tuple[str, ...]
    duration_seconds: float
    latency: Latency | None
    slowest: SlowestAnswer | None
    _attempts: bytes = field(repr=False)
    _acknowledged_after: Sequence[float] = field(repr=False)

    @property
    def acknowledged(self) -> int:
        """The number of states that an answer has listed."""
        return self.tally.acknowledged

    @property
    def unacknowledged(self) -> int:
        """The number of states that no answer has listed."""
        return self.plan.messages - self.tally.acknowledged

    @property
    def ok(self) -> bool:
        """Whether every state was acknowledged, and nothing that was not asked."""
        return self.unacknowledged == 0 and self.foreign_ids == 0

    @property
    def states_per_second(self) -> float:
        """Acknowledged states per second of the run."""
        return self.acknowledged / self.duration_seconds if self.duration_seconds else 0.0

    @property
    def acknowledged_ids(self) -> frozenset[str]:
        """Every id that an answer has listed; built anew at each call."""
        return frozenset(d.id_sms for d in self.deliveries() if d.acknowledged_after is not None)

    @property
    def unacknowledged_ids(self) -> frozenset[str]:
        """Every id that no answer has listed; built anew at each call."""
        return frozenset(d.id_sms for d in self.deliveries() if d.acknowledged_after is None)

    def deliveries(self) -> Iterator[Delivery]:
        """Tell what became of each state, in order of id."""
        for id_sms, attempts, after in zip(
            self.plan.ids, self._attempts, self._acknowledged_after, strict=True
        ):
            yield Delivery(str(id_sms), attempts, None if math.isnan(after) else after)

    def to_dict(self) -> dict[str, object]:
        """Return the figures, fit for JSON, without the URL and with a few ids at most."""
        tally = self.tally
        missing = (d.id_sms for d in self.deliveries() if d.acknowledged_after is None)
        return {
            "ok": self.ok,
            "seed": self.plan.seed,
            "first_id": self.plan.ids.start,
            "messages": tally.messages,
            "posts": tally.posts,
            "sent": tally.sent,
            "posted": tally.posted,
            "acknowledged": tally.acknowledged,
            "unacknowledged": self.unacknowledged,
            "unacknowledged_sample": list(islice(missing, _SAMPLE)),
            "retried": tally.retried,
            "attempts": _by_text(self.attempts),
            "answers": _by_text(self.answers),
            "faults": _by_text(self.faults),
            "last_fault": self.last_fault,
            "unreadable_answers": self.unreadable_answers,
            "foreign_ids": self.foreign_ids,
            "foreign_id_sample": list(self.foreign_id_sample),
            "duration_seconds": self.duration_seconds,
            "states_per_second": self.states_per_second,
            "latency_ms": self.latency and asdict(self.latency),
            "slowest": self.slowest and asdict(self.slowest),
        }


def states(plan: Plan) -> Iterator[SentState]:
    """Yield the plan's states one by one, in order of id; the same seed gives the same ones."""
    rng = random.Random(plan.seed)  # noqa: S311 - to be repeated, not to be secret
    for id_sms in plan.ids:
        status, sms, viber = _MIX[int(rng.random() * len(_MIX))]
        moment = _FIRST_TIME + timedelta(seconds=int(rng.random() * _SECONDS))
        yield SentState(str(id_sms), status, "" if status == "send" else str(moment), sms, viber)


def render(states: Iterable[SentState]) -> bytes:
    """Return the XML document that the provider posts: UTF-8, one line a state."""
    lines = "".join(map(_line, states))
    document = f'<?xml version="1.0" encoding="utf-8" ?>\n<response>\n{lines}</response>\n'
    return document.encode()


async def simulate(
    plan: Plan,
    *,
    on_progress: Callable[[Tally], None] | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Report:
    """Post every state until it is acknowledged or out of attempts.

    Whatever the network or the receiver does becomes a figure of the report, never an
    exception. `on_progress` is called after every post. `ssl_context` is for https; by default
    the system's authorities are trusted. Cancelled, it closes its connections first.
    """
    pool = _Pool(_Target.of(plan.url), ssl_context)
    ledger = _Ledger(plan, perf_counter())
    try:
        await _Run(plan, pool, ledger, on_progress).deliver_all()
    finally:
        await pool.aclose()
    return ledger.report()


def write_report(report: Report, path: Path | str) -> None:
    """Write the figures and every id, acknowledged or not, as JSON; ids in numeric order."""
    ids: dict[bool, list[str]] = {True: [], False: []}
    for delivery in report.deliveries():
        ids[delivery.acknowledged_after is not None].append(delivery.id_sms)
    content = {
        **report.to_dict(),
        "acknowledged_ids": ids[True],
        "unacknowledged_ids": ids[False],
    }
    Path(path).write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def _by_text(counts: Mapping[int, int] | Mapping[str, int]) -> dict[str, int]:
    return {str(key): count for key, count in counts.items()}


def _line(state: SentState) -> str:
    sms = "" if state.sms is None else f' sms="{escape(state.sms)}"'
    viber = "" if state.viber is None else f' viber="{escape(state.viber)}"'
    return (
        f'     <state id_sms="{escape(state.id_sms)}" time="{escape(state.time)}"{sms}{viber}>'
        f"{escape(state.status)}</state>\n"
    )


def _listed_ids(body: bytes) -> frozenset[str] | None:
    """Return the ids that an answer acknowledges, or None if it is no `<response>`."""
    try:
        root = ET.fromstring(body)  # noqa: S314 - expat bounds entity expansion
    except (ET.ParseError, ValueError, LookupError):
        return None
    if root.tag != "response":
        return None
    return frozenset((element.text or "").strip() for element in root.iterfind("id_sms"))


class _Run:
    """Takes what is due, posts it, settles it; at most `concurrency` posts at once."""

    def __init__(
        self,
        plan: Plan,
        pool: "_Pool",
        ledger: "_Ledger",
        on_progress: Callable[[Tally], None] | None,
    ) -> None:
        self._plan = plan
        self._pool = pool
        self._ledger = ledger
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._queue = _Queue(plan, self._loop.time())
        self._in_flight = 0
        self._wake = asyncio.Event()

    async def deliver_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            while batch := await self._next():
                self._in_flight += 1
                group.create_task(self._deliver(batch))

    async def _next(self) -> list[SentState]:
        """Return the next post's states once they are due and a post is free; none at the end."""
        while True:
            due_at = None
            if self._in_flight < self._plan.concurrency:
                if batch := self._queue.take(self._loop.time()):
                    return batch
                due_at = self._queue.due_at()
                if due_at is None and self._in_flight == 0:
                    return []
            await self._wait(due_at)

    async def _wait(self, due_at: float | None) -> None:
        """Wait for a post to end, or for `due_at` on the loop's clock."""
        self._wake.clear()
        timer = None if due_at is None else self._loop.call_at(due_at, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _deliver(self, batch: list[SentState]) -> None:
        listed = await self._post(batch)
        for state in self._ledger.settle(batch, listed, perf_counter()):
            self._queue.put_back(state, self._loop.time() + self._plan.retry_seconds)
        self._in_flight -= 1
        self._wake.set()
        if self._on_progress is not None:
            self._on_progress(self._ledger.tally())

    async def _post(self, batch: list[SentState]) -> frozenset[str]:
        """Post the states once and return the ids that the answer lists."""
        started = perf_counter()  # an event loop's own clock may tick in milliseconds
        try:
            async with asyncio.timeout(self._plan.timeout_seconds):
                answer = await self._pool.post(render(batch))
        except TimeoutError:
            return self._ledger.fault("timeout", f"no answer in {self._plan.timeout_seconds} s")
        except _FaultError as exc:
            return self._ledger.fault(exc.kind, str(exc))
        self._ledger.answered(answer.status, len(batch), started, perf_counter())
        return self._ledger.read(batch, _listed_ids(answer.body))


class _Queue:
    """What is to be posted next: retries that are due, or else new states at the plan's rate."""

    def __init__(self, plan: Plan, start: float) -> None:
        self._plan = plan
        self._start = start
        self._new = states(plan)
        self._issued = 0
        # In order of time, as every state waits equally long.
        self._retries: deque[tuple[float, SentState]] = deque()

    def take(self, now: float) -> list[SentState]:
        """Return the states of one post, none if nothing is due; retries go without new ones."""
        return self._due_retries(now) or self._due_new(now)

    def due_at(self) -> float | None:
        """Return when there will be something to take; None if nothing is left."""
        times = [self._retries[0][0]] if self._retries else []
        if self._issued < self._plan.messages:
            times.append(self._new_at())
        return min(times, default=None)

    def put_back(self, state: SentState, due_at: float) -> None:
        self._retries.append((due_at, state))

    def _due_retries(self, now: float) -> list[SentState]:
        batch: list[SentState] = []
        while self._retries and self._retries[0][0] <= now and len(batch) < self._plan.per_post:
            batch.append(self._retries.popleft()[1])
        return batch

    def _due_new(self, now: float) -> list[SentState]:
        if self._new_at() > now:
            return []
        batch = list(islice(self._new, self._plan.per_post))
        self._issued += len(batch)
        return batch

    def _new_at(self) -> float:
        return self._start + (self._issued / self._plan.rate if self._plan.rate else 0.0)


class _Ledger:
    """What is known of every state and every post: nine bytes a state, eight a post."""

    def __init__(self, plan: Plan, start: float) -> None:
        self._plan = plan
        self._start = start
        self._end = start
        self._attempts = bytearray(plan.messages)
        self._acknowledged_after = array("d", [math.nan]) * plan.messages
        self._latencies_ms = array("d")
        self._slowest: SlowestAnswer | None = None
        self._answers: Counter[int] = Counter()
        self._faults: Counter[str] = Counter()
        self._last_fault: str | None = None
        self._unreadable = 0
        self._foreign = 0
        self._foreign_sample: list[str] = []
        self._counts: Counter[str] = Counter()

    def answered(self, status: int, size: int, started: float, ended: float) -> None:
        """Note that a post of `size` states was answered; times in seconds."""
        self._answers[status] += 1
        took_ms = (ended - started) * 1000
        self._latencies_ms.append(took_ms)
        if self._slowest is None or took_ms > self._slowest.milliseconds:
            self._slowest = SlowestAnswer(took_ms, status, size, started - self._start)

    def fault(self, kind: str, detail: str) -> frozenset[str]:
        """Note that a post had no answer, which lists nothing."""
        self._faults[kind] += 1
        self._last_fault = f"{kind}: {detail}"
        return frozenset()

    def read(self, batch: list[SentState], listed: frozenset[str] | None) -> frozenset[str]:
        """Note what is wrong with an answer, and return the ids that it lists."""
        if listed is None:
            self._unreadable += 1
            return frozenset()
        foreign = listed.difference(state.id_sms for state in batch)
        self._foreign += len(foreign)
        room = _SAMPLE - len(self._foreign_sample)
        self._foreign_sample += sorted(foreign)[:room]
        return listed

    def settle(self, batch: list[SentState], listed: frozenset[str], now: float) -> list[SentState]:
        """Count one sending of each state, and return those to be sent again."""
        self._end = now
        self._counts["posts"] += 1
        self._counts["sent"] += len(batch)
        return [state for state in batch if self._to_be_sent_again(state, listed, now)]

    def _to_be_sent_again(self, state: SentState, listed: frozenset[str], now: float) -> bool:
        index = int(state.id_sms) - self._plan.ids.start
        self._attempts[index] += 1
        attempts = self._attempts[index]
        self._counts["posted"] += attempts == 1
        self._counts["retried"] += attempts == 2  # noqa: PLR2004 - the first retry
        if state.id_sms in listed:
            self._counts["acknowledged"] += 1
            self._acknowledged_after[index] = now - self._start
            return False
        self._counts["unacknowledged"] += attempts == self._plan.attempts
        return attempts < self._plan.attempts

    def tally(self) -> Tally:
        counts = self._counts
        return Tally(
            messages=self._plan.messages,
            posts=counts["posts"],
            sent=counts["sent"],
            posted=counts["posted"],
            acknowledged=counts["acknowledged"],
            retried=counts["retried"],
            waiting=counts["posted"] - counts["acknowledged"] - counts["unacknowledged"],
            unacknowledged=counts["unacknowledged"],
        )

    def report(self) -> Report:
        return Report(
            plan=self._plan,
            tally=self.tally(),
            attempts=dict(sorted(Counter(self._attempts).items())),
            answers=dict(sorted(self._answers.items())),
            faults=dict(sorted(self._faults.items())),
            last_fault=self._last_fault,
            unreadable_answers=self._unreadable,
            foreign_ids=self._foreign,
            foreign_id_sample=tuple(self._foreign_sample),
            duration_seconds=self._end - self._start,
            latency=_latency(self._latencies_ms),
            slowest=self._slowest,
            _attempts=bytes(self._attempts),
            _acknowledged_after=self._acknowledged_after,
        )


def _latency(milliseconds: Sequence[float]) -> Latency | None:
    if not milliseconds:
        return None
    ranked = sorted(milliseconds)
    p50, p99 = (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.99))
    return Latency(p50, p99, ranked[-1])


class _FaultError(Exception):
    """A post that ended without an answer; `kind` is a key of the report's `faults`."""

    def __init__(self, kind: str, detail: object) -> None:
        self.kind = kind
        super().__init__(str(detail) or type(detail).__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class _Target:
    """Where to connect, and the head of every request but for its length."""

    host: str
    port: int
    tls: bool
    head: bytes = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Self:
        """Read an http or https URL; raises ValueError without repeating it."""
        try:
            split = urlsplit(url)
            host = (split.hostname or "").encode("idna").decode()
            port = split.port
        except ValueError:
            raise ValueError("url is not a URL") from None
        if split.scheme not in ("http", "https") or not host:
            raise ValueError("url is not http:// or https:// with a host")
        tls = split.scheme == "https"
        return cls(host, port or (443 if tls else 80), tls, _head(split, host))


def _head(url: SplitResult, host: str) -> bytes:
    path = quote(url.path or "/", safe="/%:@!$&'()*+,;=~")
    query = "?" + quote(url.query, safe="/%:@!$&'()*+,;=~?") if url.query else ""
    authority = f"[{host}]" if ":" in host else host
    lines = [
        f"POST {path}{query} HTTP/1.1",
        f"Host: {authority}" if url.port is None else f"Host: {authority}:{url.port}",
        "User-Agent: sms-bridge-simulate",
        "Content-Type: text/xml; charset=utf-8",
    ]
    if url.username is not None:
        pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
        lines.append(f"Authorization: Basic {b64encode(pair.encode()).decode()}")
    return "\r\n".join([*lines, "Content-Length: "]).encode()


class _Pool:
    """The connections to one target, used again while the receiver keeps them alive."""

    def __init__(self, target: _Target, ssl_context: ssl.SSLContext | None) -> None:
        self._target = target
        self._ssl = (ssl_context or ssl.create_default_context()) if target.tls else None
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()

    async def post(self, body: bytes) -> _Answer:
        """Post the body and return the whole answer; raises _FaultError."""
        connection = self._kept_alive() or await self._connect()
        try:
            return await connection.post(b"%b%d\r\n\r\n%b" % (self._target.head, len(body), body))
        finally:
            if connection.reusable:
                self._idle.append(connection)
            else:
                connection.abort()

    async def aclose(self) -> None:
        """Close every connection and wait until the loop has let go of them."""
        connections = list(self._open)
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.closed.wait()

    def _kept_alive(self) -> "_Connection | None":
        while self._idle:
            if (connection := self._idle.pop()).reusable:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._open),
                self._target.host,
                self._target.port,
                ssl=self._ssl,
            )
        except ssl.SSLError as exc:
            raise _FaultError("tls", exc) from exc
        except OSError as exc:
            raise _FaultError("connect", exc) from exc
        return connection


class _Connection(asyncio.Protocol):
    """One connection: a POST, its answer, the next POST.

    An exchange that ends in any other way than with a whole answer spoils the connection.
    """

    def __init__(self, registry: "set[_Connection]") -> None:
        self.reusable = True
        self.closed = asyncio.Event()
        self._registry = registry
        self._transport: asyncio.Transport
        self._answer: asyncio.Future[_Answer] | None = None
        self._parser: HttpResponseParser
        self._body = bytearray()
        self._sized = False
        self._until_close = False  # the answer has no length: the end of the connection ends it

    async def post(self, request: bytes) -> _Answer:
        """Write the request and return the answer; raises _FaultError."""
        self.reusable = False
        self._body.clear()
        self._until_close = False
        self._parser = HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._answer
        finally:
            self._answer = None

    def abort(self) -> None:
        self.reusable = False
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._registry.add(self)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as exc:
            self.reusable = False
            self._fail("protocol", exc)

    def eof_received(self) -> None:
        self.reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._until_close and exc is None:
            self._finish()
        self._fail("closed", exc or "the connection was closed before the answer was whole")
        self._registry.discard(self)
        self.closed.set()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._sized = False
        self.reusable = False

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._sized |= name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self._until_close = not self._sized

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > _MAX_ANSWER_BYTES:
            self._fail("protocol", f"the answer is over {_MAX_ANSWER_BYTES} bytes")
            self.abort()

    def on_message_complete(self) -> None:
        self._until_close = False
        if self._parser.get_status_code() < 200:  # noqa: PLR2004 - not the answer yet
            return
        sent = self._transport.get_write_buffer_size() == 0
        self.reusable = sent and self._parser.should_keep_alive()
        self._finish()

    def _finish(self) -> None:
        if self._answer is not None and not self._answer.done():
            answer = _Answer(self._parser.get_status_code(), bytes(self._body))
            self._answer.set_result(answer)

    def _fail(self, kind: str, detail: object) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(_FaultError(kind, detail))
