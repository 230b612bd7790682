"""Posts what is due, reads the answers, and puts back what they do not list."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from itertools import islice
from time import perf_counter

from bridge.simulate.client import FaultError, Pool, Target
from bridge.simulate.documents import SentState, listed_ids, render, states
from bridge.simulate.ledger import Ledger
from bridge.simulate.plan import Plan
from bridge.simulate.report import Report, Tally


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
    return await deliver(plan, Pool(Target.of(plan.url, plan.form), ssl_context), on_progress)


async def deliver(
    plan: Plan, pool: Pool, on_progress: Callable[[Tally], None] | None = None
) -> Report:
    """As `simulate`, over connections that are given; they are closed at the end."""
    ledger = Ledger(plan, perf_counter())
    try:
        await _Run(plan, pool, ledger, on_progress).deliver_all()
    finally:
        await pool.aclose()
    return ledger.report()


class _Run:
    """Takes what is due, posts it, settles it; at most `concurrency` posts at once."""

    def __init__(
        self,
        plan: Plan,
        pool: Pool,
        ledger: Ledger,
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
                answer = await self._pool.post(render(batch, self._plan.form))
        except TimeoutError:
            return self._ledger.fault("timeout", f"no answer in {self._plan.timeout_seconds} s")
        except FaultError as exc:
            return self._ledger.fault(exc.kind, str(exc))
        self._ledger.answered(answer.status, len(batch), started, perf_counter())
        return self._ledger.read(batch, listed_ids(answer.body, self._plan.form))


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
