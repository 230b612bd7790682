"""Reads documents beside the event loop, so that small ones need not wait.

Middling documents and large ones have a queue each, with a thread of its own: with one for both, a
middling one waits for as many large ones as others have sent. More threads would only take turns
with these, and hold more documents in memory.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from bridge.gateway.admission import MIDDLING_BYTES, Capacity, Lease

T = TypeVar("T")

# The largest document of a queue lets smaller ones pass that came so many seconds after it, others
# less in proportion: the small ones go first, and the large ones have their turn all the same.
HANDICAP_SECONDS = 2.0


@dataclass(slots=True, eq=False)
class _Document:
    """One that waits, or is read. What it takes up is `held` until whoever asked has it."""

    work: Callable[[], Any]
    due: float
    deadline: float
    weight: int
    lease: Lease
    held: Lease
    answer: asyncio.Future[Any] = field(repr=False)


class _Queue:
    """Documents that wait for one thread; which of them is next depends on itself alone."""

    def __init__(self, name: str, largest: int, capacity: Capacity) -> None:
        self.largest = largest
        self._capacity = capacity
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"reader-{name}")
        self.waiting: dict[_Document, None] = {}
        self._busy = False

    async def read(
        self, work: Callable[[], T], weight: int, lease: Lease, deadline: float, now: float
    ) -> T:
        size = min(lease.bytes, self.largest)
        document = _Document(
            work,
            due=now + HANDICAP_SECONDS * size / self.largest,
            deadline=deadline,
            weight=weight,
            lease=lease,
            held=Lease(self._capacity),
            answer=asyncio.get_running_loop().create_future(),
        )
        self.waiting[document] = None
        self.go_on()
        try:
            answer: T = await document.answer
        finally:
            self.waiting.pop(document, None)
            del document  # an error's traceback would hold it, and it the error
        return answer

    def go_on(self) -> None:
        """Start with the next document, if there is room for it."""
        while self.waiting and not self._busy:
            document = min(self.waiting, key=lambda waiting: waiting.due)
            loop = document.answer.get_loop()
            gone = document.answer.done() or document.deadline <= loop.time()
            if not gone and not document.held.take_turn(document.weight, document.lease.bytes):
                break  # until something is given back
            del self.waiting[document]
            if not gone:
                self._busy = True
                reading = loop.run_in_executor(self._thread, document.work)
                reading.add_done_callback(partial(self._finish, document))

    def _finish(self, document: _Document, reading: asyncio.Future[Any]) -> None:
        self._busy = False
        error = reading.exception()
        if document.answer.done():  # its time is over: what was read is of no use
            document.held.release()
        else:
            document.held.hand_over(document.lease)
            if error is not None:
                document.answer.set_exception(error)
            else:
                document.answer.set_result(reading.result())
        self.go_on()


class Reader:
    """The queues, and the capacity that documents which are read take up."""

    def __init__(self, capacity: Capacity, max_body_bytes: int) -> None:
        self._queues = (
            _Queue("middling", MIDDLING_BYTES, capacity),
            _Queue("large", MIDDLING_BYTES, capacity),
        )
        self.limit(max_body_bytes)
        capacity.freed = self._go_on

    def limit(self, max_body_bytes: int) -> None:
        """Say how large a document can be, for those that come from now on."""
        self._queues[-1].largest = max(max_body_bytes, MIDDLING_BYTES)

    async def read(self, work: Callable[[], T], weight: int, lease: Lease, deadline: float) -> T:
        """What `work` returns or raises; by then the lease has its post and states.

        A document whose caller is cancelled, or whose deadline passes, before its turn is not
        read at all.
        """
        now = asyncio.get_running_loop().time()
        queue = self._queues[lease.bytes > MIDDLING_BYTES]
        return await queue.read(work, weight, lease, deadline, now)

    def _go_on(self) -> None:
        for queue in self._queues:
            if queue.waiting:
                queue.go_on()
