"""Everything there is at one moment, what can happen next, and what must hold whenever it has."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from aiokafka import errors

from bridge.errors import BridgeError
from bridge.pipeline import Receipt
from tests.exhaustive import checks
from tests.exhaustive.broker import Ask, Client, Cluster, Flight, Record, StandIn, reply_of
from tests.exhaustive.gateway import GRACE_SECONDS, PUBLISH_SECONDS, Gateway
from tests.exhaustive.loop import EPOCH, Loop
from tests.exhaustive.provider import ROUTE, Attempt, Document, prepared, received_at
from tests.exhaustive.scenarios import Scenario
from tests.exhaustive.story import answered, happening, named

THROTTLE_MS = 3000


class BrokenError(Exception):
    """An invariant does not hold: its name, and what was seen."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant


class Event(NamedTuple):
    """Something that can happen: `do` with `what`. `cost` counts against the faults allowed."""

    kind: str
    what: Any = None
    cost: int = 0


class World:
    """The broker, the gateways and the provider of a scenario."""

    def __init__(self, scenario: Scenario, loop: Loop) -> None:
        self.scenario = scenario
        self.loop = loop
        rejects = scenario.rejects
        self.cluster = Cluster(scenario.partitions, rejects, scenario.enforced_bytes)
        self.up = True
        self.flights: list[Flight] = []
        self.asks: list[Ask] = []
        self.producers: dict[Client, StandIn] = {}
        self.documents = [Document.of(states) for states in scenario.documents]
        self.attempts: list[Attempt] = []
        self.faults = 0
        self.overlaps = 0
        self.step = 0
        self.broken: BrokenError | None = None  # the first
        self.tell: Callable[[str], None] | None = None
        # By a record's value, which no two posts share: what it is of, and what became of it in
        # which topic.
        self.of: dict[bytes, tuple[Attempt, str]] = {}
        self.handed: set[bytes] = set()
        self.present: dict[tuple[str, bytes], int] = {}
        self.gone: dict[tuple[str, bytes], int] = {}
        self.partition_of: dict[tuple[str, bytes], int] = {}
        self.drain: tuple[asyncio.Task[None], float] | None = None
        self.gateways = [Gateway(self, "AB"[n]) for n in range(scenario.gateways)]

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self.loop.now - EPOCH

    def break_(self, invariant: str, detail: str) -> None:
        """Note that an invariant does not hold. Not raised: the parts under test would catch it."""
        self.broken = self.broken or BrokenError(invariant, detail)

    # --- what the parts under test call --------------------------------------------------

    async def ask(self, gateway: str, kind: str, *arguments: Any) -> Any:
        """A question to the cluster, answered when the search says so."""
        question = Ask(gateway, kind, arguments, self.loop.create_future())
        self.asks.append(question)
        try:
            return await question.future
        finally:
            if question in self.asks:
                self.asks.remove(question)

    def handed_over(self, value: bytes) -> None:
        """A record was put into a batch."""
        known = self.of.get(value)
        if known is not None and known[0].answered:
            self.break_("I5", f"handed over after its answer: {value.decode()[:80]}")
        self.handed.add(value)

    def sent(self, flight: Flight) -> None:
        """A batch is on its way."""
        self.flights.append(flight)
        if self.tell:
            self.tell(f"{flight.client.gateway} sends {named(self, flight)}")

    # --- what can happen -----------------------------------------------------------------

    def enabled(self, *, ringing: bool = True) -> list[Event]:
        """All that can happen now, the usual first."""
        left = self.scenario.max_faults - self.faults
        usual = [*self.progress(), *self._posts()]
        if ringing:
            usual += self._timers(left)
        if left <= 0:
            return usual
        return [*usual, *self._faults()]

    def tidy(self) -> None:
        """Forget what nobody waits for and the broker has done with."""
        if any(flight.reply is not None and not flight.owed for flight in self.flights):
            self.flights = [f for f in self.flights if f.reply is None or f.owed]

    def progress(self) -> Iterator[Event]:
        """What happens of itself, and needs nobody's time or deed."""
        for ask in self.asks:
            if not ask.future.done():
                yield Event("reply", ask)
        if not self.up:
            yield Event("up")
            return
        for flight in self.flights:
            if flight.reply is not None:
                yield Event("answer", flight)
            elif self._can_append(flight):  # also of a client that is gone, from its socket's rest
                yield Event("serve" if flight.owed else "append", flight)
        for name in self.scenario.partitions:
            if name not in self.cluster.topics:
                yield Event("create", name)

    def _can_append(self, flight: Flight) -> bool:
        producer = self.producers[flight.client]
        if flight.client.stuck:
            return False
        return flight.topic in self.cluster.topics and not producer.pause_seconds(
            flight.topic, flight.partition
        )

    def _posts(self) -> Iterator[Event]:
        if all(gateway.draining for gateway in self.gateways):
            return
        if self.scenario.one_by_one and any(d.waiting for d in self.documents):
            return
        for document in self.documents:
            if self._may_post(document) and not document.waiting:
                yield Event("post", document)
        if self.scenario.drains and self.attempts and self.drain is None:
            yield Event("drain", self.gateways[0])
        if self.scenario.reloads and self.attempts and not self.gateways[0].reloaded:
            yield Event("reload", self.gateways[0])

    def _may_post(self, document: Document) -> bool:
        return bool(document.left) and len(document.attempts) < self.scenario.attempts

    def _timers(self, left: int) -> Iterator[Event]:
        """Time passes while somebody waits, or after a fault; over what the broker owes as one.

        Before any fault, and with nobody waiting, all that time brings is the same knowledge anew.
        """
        if not self.faults and not self.scenario.rests and self._at_rest():
            return
        cost = int(self.up and any(not o.late for o in self._owed()))
        if cost and (not left or "hang" not in self.scenario.faults):
            return
        together = self.loop.due_together()
        if self.overlaps == self.scenario.overlaps:
            together = min(together, 1)
        for number in range(together):
            yield Event("ring", number, cost)

    def _at_rest(self) -> bool:
        return (
            self.drain is None
            and all(attempt.answered for attempt in self.attempts)
            and all(gateway.supervisor.connected for gateway in self.gateways)
        )

    def _owed(self) -> Iterator[Flight | Ask]:
        yield from (ask for ask in self.asks if not ask.future.done())
        for flight in self.flights:
            if flight.owed and not flight.client.stuck and flight.topic in self.cluster.topics:
                yield flight

    def _faults(self) -> Iterator[Event]:
        kinds = self.scenario.faults
        yield from self._flight_faults(kinds)
        for ask in self.asks:
            if not ask.future.done() and ask.kind != "connect":
                if "stale" in kinds and not ask.handled:
                    yield Event("stale", ask, 1)
                if "fail" in kinds:
                    yield Event("fail", ask, 1)
        yield from self._losses(kinds)
        if "down" in kinds and self.up:
            yield Event("down", None, 1)
        yield from self._provider_faults(kinds)

    def _flight_faults(self, kinds: tuple[str, ...]) -> Iterator[Event]:
        for flight in self.flights:
            if not flight.owed:
                continue
            for what in (what for kind in kinds for what in _OF_FLIGHTS.get(kind, ())):
                if what == "deny":  # a broker does so before it appends
                    possible = flight.reply is None
                else:
                    possible = flight.reply is None and self._can_append(flight)
                if possible or what in _BEFORE:
                    yield Event(what, flight, 1)

    def _provider_faults(self, kinds: tuple[str, ...]) -> Iterator[Event]:
        serving = any(not gateway.draining for gateway in self.gateways)
        for document in self.documents:
            if "impatient" in kinds and document.waiting and serving and self._may_post(document):
                yield Event("post", document, 1)
            if "unheard" in kinds and document.attempts and document.attempts[-1].heard:
                yield Event("unheard", document, 1)

    def _losses(self, kinds: tuple[str, ...]) -> Iterator[Event]:
        for name, topic in self.cluster.topics.items():
            if name != ROUTE.topic:
                continue
            for number, partition in enumerate(topic.partitions):
                if partition.log:
                    if "truncate" in kinds:
                        yield Event("truncate", (name, number), 1)
                    if "trim" in kinds:
                        yield Event("trim", (name, number), 1)
            if "delete" in kinds and any(p.end for p in topic.partitions):
                yield Event("delete", name, 1)

    # --- happening -----------------------------------------------------------------------

    def happen(self, event: Event) -> None:
        """Have it happen; what becomes ready by it has yet to run."""
        self.step += 1
        self.faults += event.cost
        self.overlaps += event.kind == "ring" and event.what > 0
        if self.tell:
            self.tell(happening(self, event.kind, event.what, event.cost))
        _DO[event.kind](self, event.what)

    def _reply(self, ask: Ask) -> None:
        if not ask.handled and not self.up:
            if ask.kind == "refresh":
                ask.future.set_result(False)
            else:
                ask.future.set_exception(BridgeError("no broker answers"))
            return
        self._handle(ask)
        ask.future.set_result(ask.said)

    def _handle(self, ask: Ask) -> None:
        if ask.handled:
            return
        ask.handled = True
        if ask.kind == "describe":
            ask.said = self.cluster.describe(*ask.arguments)
        elif ask.kind == "offsets":
            ask.said = self.cluster.offsets(*ask.arguments)
        else:
            ask.said = True

    def _fail(self, ask: Ask) -> None:
        if ask.kind == "refresh":
            ask.future.set_result(False)
        else:
            ask.future.set_exception(errors.KafkaConnectionError())

    def _append(self, flight: Flight) -> None:
        before = self.cluster.topics[flight.topic].partitions[flight.partition].end
        flight.reply = self.cluster.append(flight)
        if flight.reply == before:
            for record in flight.records:
                self._appended(flight, record)
        if not flight.owed:  # nobody hears of it
            self.flights.remove(flight)

    def _appended(self, flight: Flight, record: Record) -> None:
        here = flight.topic, record.value
        self.present[here] = self.present.get(here, 0) + 1
        if flight.topic == ROUTE.topic and record.value not in self.of:
            self.break_("I11", f"a record that was not posted: {record.value.decode()[:80]}")
        place = flight.topic, record.key
        if self.partition_of.setdefault(place, flight.partition) != flight.partition:
            self.break_("I4", f"message {record.key!r} is in two partitions")

    def _lost(self, topic: str, records: tuple[Record, ...]) -> None:
        for record in records:
            here = topic, record.value
            self.present[here] -= 1
            if not self.present[here]:
                self.gone[here] = self.step

    def _answer(self, flight: Flight, throttle_ms: int = 0) -> None:
        self.flights.remove(flight)
        self.producers[flight.client].answered(1, reply_of(flight, throttle_ms))
        reply = flight.reply
        if isinstance(reply, Exception):
            flight.answer.set_exception(reply)
        else:
            flight.answer.set_result(_Metadata(int(reply or 0)))

    def _serve(self, flight: Flight, throttle_ms: int = 0) -> None:
        self._append(flight)
        self._answer(flight, throttle_ms)

    def _keep(self, flight: Flight) -> None:
        self._append(flight)
        flight.late = True

    def _stick(self, flight: Flight) -> None:
        flight.client.stuck = True

    def _take_and_lose(self, flight: Flight) -> None:
        self._append(flight)
        self._lose(flight)

    def _taken(self, flight: Flight, reply: Exception | None) -> None:
        self._append(flight)
        self._end_flight(flight, reply)

    def _lose(self, flight: Flight) -> None:
        """The connection ends; the client sends the batch again."""
        flight.reply = None
        flight.retry_count += 1

    def _end_flight(self, flight: Flight, reply: Exception | None) -> None:
        """The client gives the batch up; unless it had arrived, it may arrive yet."""
        if flight.reply is not None:
            self.flights.remove(flight)
        if reply is None:
            flight.answer.cancel()
        else:
            flight.answer.set_exception(reply)

    def _deny(self, flight: Flight) -> None:
        self.flights.remove(flight)
        flight.answer.set_exception(errors.TopicAuthorizationFailedError(flight.topic))

    def _delete(self, name: str) -> None:
        self._lost(name, self.cluster.delete(name))

    def _truncate(self, place: tuple[str, int]) -> None:
        self._lost(place[0], self.cluster.topics[place[0]].partitions[place[1]].truncate())

    def _trim(self, place: tuple[str, int]) -> None:
        self._lost(place[0], self.cluster.topics[place[0]].partitions[place[1]].trim())

    def _ring(self, number: int) -> None:
        for owed in self._owed():
            owed.late = owed.late or self.up
        self.loop.ring(number)
        late = [a for a in self.attempts if not a.answered and self.loop.now > a.deadline]
        if late:
            self.break_("I8", f"post {late[0].number} has no answer by its deadline")
        if self.drain and not self.drain[0].done() and self.loop.now > self.drain[1]:
            self.break_("I10", "the drain takes longer than its grace")

    def _set_up(self, up: bool) -> None:
        self.up = up

    # --- the provider --------------------------------------------------------------------

    def post(self, document: Document) -> Attempt:
        """The next post of a document, to the next gateway."""
        serving = [gateway for gateway in self.gateways if not gateway.draining]
        turn = self.documents.index(document) + len(document.attempts)
        gateway = serving[turn % len(serving)]
        number = len(self.attempts) + 1
        deadline = self.loop.now + PUBLISH_SECONDS
        attempt = Attempt(number, gateway.name, document.left, deadline, self.step)
        states = tuple(document.states[n] for n in attempt.states)
        made = prepared(states, number, self.scenario.max_states)
        attempt.items = made.items
        for item, state in zip(made.items, states, strict=False):  # some may be past the limit
            if item.message is not None:
                self.of[item.message.value] = attempt, state.xml
        document.attempts.append(attempt)
        self.attempts.append(attempt)
        attempt.undisturbed = not self.faults and gateway.supervisor.connected
        accepting = gateway.pipeline.accept(ROUTE, made, received_at(number), deadline)
        attempt.task = self.loop.create_task(accepting)
        attempt.task.add_done_callback(lambda task: self._answered(document, attempt, task))
        return attempt

    def _answered(
        self, document: Document, attempt: Attempt, task: "asyncio.Task[Receipt]"
    ) -> None:
        attempt.answered = True
        if task.cancelled() or task.exception() is not None:
            fault = "cancelled" if task.cancelled() else repr(task.exception())
            self.break_("I8", f"post {attempt.number} ended without an answer: {fault}")
            return
        receipt = task.result()
        attempt.heard = frozenset(receipt.listed)
        if self.tell:
            self.tell(answered(attempt, receipt))
        checks.answer(self, document, attempt, receipt)
        document.hear(attempt.heard)

    def _unheard(self, document: Document) -> None:
        document.forget(document.attempts[-1])

    def _reload(self, gateway: Gateway) -> None:
        gateway.reloaded = True
        self.loop.create_task(gateway.reload())

    def start_drain(self, gateway: Gateway) -> None:
        """SIGTERM: no more posts; when all are answered, the producer is closed."""
        gateway.draining = True
        due = self.loop.now + PUBLISH_SECONDS + GRACE_SECONDS
        mine = [a.task for a in self.attempts if a.gateway == gateway.name and a.task is not None]
        self.drain = self.loop.create_task(_drained(gateway, mine)), due


class _Metadata(NamedTuple):
    """What aiokafka's future of a batch holds."""

    offset: int


async def _drained(gateway: Gateway, mine: "list[asyncio.Task[Receipt]]") -> None:
    if mine:
        await asyncio.wait(mine)
    await gateway.stop()


# What can happen to a batch, by the fault: before the broker has taken it, and right after.
_OF_FLIGHTS = {
    "lose": ("lose", "take_and_lose"),
    "deny": ("deny",),
    "broken": ("broken", "take_and_break"),
    "expire": ("expire", "take_and_expire"),
    "let_go": ("let_go", "take_and_let_go"),
    "hang": ("keep",),
    "stuck": ("stick",),
    "throttle": ("throttle",),
}
_BEFORE = frozenset({"lose", "broken", "expire", "let_go", "stick"})
_DO: dict[str, Callable[[World, Any], object]] = {
    "reply": World._reply,
    "up": lambda world, _: world._set_up(True),
    "down": lambda world, _: world._set_up(False),
    "append": World._append,
    "answer": World._answer,
    "create": lambda world, name: world.cluster.create(name),
    "post": World.post,
    "drain": World.start_drain,
    "reload": World._reload,
    "ring": World._ring,
    "defer": lambda world, _: world.loop.defer(),
    "lose": World._lose,
    "deny": World._deny,
    "broken": lambda world, flight: world._end_flight(flight, errors.UnknownError()),
    "expire": lambda world, flight: world._end_flight(flight, errors.KafkaTimeoutError()),
    "let_go": lambda world, flight: world._end_flight(flight, None),
    "throttle": lambda world, flight: world._serve(flight, THROTTLE_MS),
    "serve": World._serve,
    "keep": World._keep,
    "stick": World._stick,
    "take_and_lose": World._take_and_lose,
    "take_and_break": lambda world, flight: world._taken(flight, errors.UnknownError()),
    "take_and_expire": lambda world, flight: world._taken(flight, errors.KafkaTimeoutError()),
    "take_and_let_go": lambda world, flight: world._taken(flight, None),
    "stale": World._handle,
    "fail": World._fail,
    "truncate": World._truncate,
    "trim": World._trim,
    "delete": World._delete,
    "unheard": World._unheard,
}
