"""One schedule, from its beginning to its end: whoever runs it chooses what happens next."""

from collections.abc import Callable, Sequence

from tests.exhaustive.fingerprint import fingerprint
from tests.exhaustive.loop import new_loop
from tests.exhaustive.provider import Document
from tests.exhaustive.scenarios import Scenario
from tests.exhaustive.world import BrokenError, Event, World

SETTLE_SECONDS = 30.0  # by when, after the last fault, everything has been listed
REST_SECONDS = 12.0  # without a post, before a gateway is looked at for what it holds
MAX_STEPS = 500  # of a schedule: an endless one waits for nothing
_OVERLAPPING = frozenset({"reply", "fail", "answer", "serve", "post", "drain"})


class Schedule:
    """One run of a scenario. `choose` gets the events that can happen, and says which does."""

    def __init__(
        self,
        scenario: Scenario,
        choose: Callable[["Schedule", Sequence[Event | None]], int | None],
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.scenario = scenario
        self._choose = choose
        self._tell = tell
        self.callbacks = 0
        self.loop = new_loop()
        self.world: World
        self.settles: Callable[[int], bool] = lambda _: True

    def run(self) -> BrokenError | None:
        """To its end, or to where `choose` sees none in going on."""
        with self.loop.running():
            self.world = World(self.scenario, self.loop)
            if not self.scenario.cold:
                self._go_on(lambda: not all(g.supervisor.ready for g in self.world.gateways))
            self.world.step = 0
            if self._tell is not None:
                self.world.tell = self._told
            try:
                if self._act():
                    self._settle()
            except BrokenError as broken:
                return broken
            return self.world.broken

    def _told(self, what: str) -> None:
        if self._tell is not None:
            self._tell(f"{self.world.seconds:6.2f} s  {what}")

    # --- while the search decides --------------------------------------------------------

    def _act(self) -> bool:
        """Events until nothing is to be decided any more; False if its future is known."""
        self._drain()
        while not self._is_over():
            events = self.world.enabled()
            if not events:
                return True
            number = self._choose(self, events)
            if number is None:
                return False
            self.world.happen(events[number])
            if not self._drain_or_overlap():
                return False
        return True

    def _is_over(self) -> bool:
        world = self.world
        if world.drain is not None:
            return world.drain[0].done()
        if self.scenario.rests:
            return world.seconds > self.scenario.seconds
        idle = all(d.attempts and not d.waiting for d in world.documents)
        attempts = self.scenario.attempts
        may_forget = "unheard" in self.scenario.faults and world.faults < self.scenario.max_faults
        done = all(
            (not d.left and not may_forget) or len(d.attempts) == attempts for d in world.documents
        )
        return (idle and done) or world.seconds > self.scenario.seconds

    def _drain_or_overlap(self) -> bool:
        """Run what is ready; between two callbacks something else may happen, while it may.

        False if its future is known.
        """
        while self.loop.ready:
            if self.world.overlaps < self.scenario.overlaps:
                more: list[Event | None] = [None]
                more += [e for e in self.world.enabled() if self._may_overlap(e)]
                if self.scenario.defers and len(self.loop.ready) > 1:
                    more.append(Event("defer"))
                number = self._choose(self, more) if len(more) > 1 else 0
                if number is None:
                    return False
                if number:
                    event = more[number]
                    assert event is not None
                    self.world.overlaps += 1
                    self.world.happen(event)
            self._run_next()
        self._check()
        return True

    def _may_overlap(self, event: Event) -> bool:
        """Callbacks take no time: only what is due at this moment can come between."""
        if event.kind == "ring":
            return event.what == 0 and self.loop.timers[0].when() <= self.loop.now
        return event.kind in _OVERLAPPING

    def _drain(self) -> None:
        while self.loop.ready:
            self._run_next()
        self._check()

    def _run_next(self) -> None:
        self.callbacks += 1
        self.loop.run_next()

    def _check(self) -> None:
        self.world.tidy()
        self.loop.skip_idle_timers()
        if self.world.broken is not None:
            raise self.world.broken
        if self.world.step > MAX_STEPS:
            raise BrokenError("I8", "it goes on for ever without an answer")
        if self.loop.surprises:
            raise BrokenError("I8", f"an exception that nobody caught: {self.loop.surprises[0]}")

    # --- the end -------------------------------------------------------------------------

    def _settle(self) -> None:
        """No more faults: what is left is listed, and nothing stays behind."""
        world = self.world
        if not self.settles(fingerprint(world)):
            return
        if world.tell:
            world.tell("no more faults")
        if not world.up:
            world.happen(Event("up"))
        ends = self.loop.now + SETTLE_SECONDS
        self._go_on(lambda: any(d.waiting for d in world.documents) and self.loop.now < ends)
        if world.drain is None:
            for document in world.documents:
                self._post_the_rest(document, ends)
            self._wait(REST_SECONDS)
            self._check_leftovers()
            for gateway in world.gateways:
                world.start_drain(gateway)
                self._go_on(self._drains)
        self._go_on(self._drains)
        self._check_drained()
        self._check()

    def _drains(self) -> bool:
        return self.world.drain is not None and not self.world.drain[0].done()

    def _post_the_rest(self, document: Document, ends: float) -> None:
        while left := self._left(document):
            if self.loop.now > ends:
                raise BrokenError("I6", f"{left} cannot be listed any more")
            if self.world.tell:
                self.world.tell(f"the provider posts {', '.join(left)} once more")
            attempt = self.world.post(document)
            self._go_on(lambda attempt=attempt: not attempt.answered)  # type: ignore[misc]
            self._wait(1.0)

    def _check_drained(self) -> None:
        """A gateway that has ended leaves nothing behind."""
        self._wait(0.0)
        stopped = {gateway.name for gateway in self.world.gateways if gateway.draining}
        if len(stopped) == len(self.world.gateways) and self.loop.tasks:
            names = sorted(task.get_name() for task in self.loop.tasks)
            raise BrokenError("I10", f"tasks are left after the drain: {names}")
        if any(not c.closed for c in self.world.producers if c.gateway in stopped):
            raise BrokenError("I10", "a producer is open after the drain")

    @staticmethod
    def _left(document: Document) -> list[str]:
        """The ids that the broker takes, and no answer has listed."""
        never = {state.id_sms for state in document.states if not state.taken}
        return sorted({document.states[n].id_sms for n in document.left} - never)

    def _go_on(self, waiting: Callable[[], bool]) -> None:
        """As it goes without faults: answers first, then time."""
        self._drain()
        while waiting():
            events = list(self.world.progress())
            if not events and not self.loop.timers:
                raise BrokenError("I6", "nothing can happen any more, and somebody waits")
            self.world.happen(events[0] if events else Event("ring", 0))
            self._drain()

    def _wait(self, seconds: float) -> None:
        until = self.loop.now + seconds
        self._go_on(
            lambda: (
                bool(list(self.world.progress()))
                or (bool(self.loop.timers) and self.loop.timers[0].when() <= until)
            )
        )
        self.loop.now = max(self.loop.now, until)

    def _check_leftovers(self) -> None:
        """With nothing to do a gateway holds nothing: no record, no producer but one, no wait."""
        for gateway in self.world.gateways:
            queues = gateway.publisher._queues.values()
            held = {
                "records in line": any(q.small or q.large or q.task for q in queues),
                "waits": bool(gateway.publisher._timeouts._waits),
                "producers that wind down": bool(gateway.supervisor._winding_down),
                "batches in flight": bool(
                    gateway.supervisor.producer and gateway.supervisor.producer.in_flight
                ),
            }
            if left := [name for name, is_held in held.items() if is_held]:
                raise BrokenError("I9", f"{gateway.name} keeps {', '.join(left)}")
            if gateway.supervisor.producer is None:
                raise BrokenError("I6", f"{gateway.name} is not connected")
        closed = [c for c in self.world.producers if not c.closed]
        if len(closed) > len(self.world.gateways):
            raise BrokenError("I9", f"{len(closed)} producers are open")
