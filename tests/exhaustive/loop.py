"""An event loop without sockets: what is ready runs first come first served, as in asyncio.

When it stands still, somebody else says what happens next: a timer rings, or an answer comes. Time
is a number that only `ring` moves.
"""

import asyncio
import contextlib
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from operator import attrgetter
from typing import Any

from bridge.timeouts import Timeouts

EPOCH = 1e6  # a float beyond half of it is a moment; any below is a duration (fingerprint.py)
MAX_CLOSES = 3  # of a coroutine that awaits something in a `finally`
_WHEN = attrgetter("_when")


def _is_idle(handle: asyncio.TimerHandle) -> bool:
    """Whether it is that of Timeouts nobody waits with any more."""
    timeouts = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return type(timeouts) is Timeouts and not timeouts._waits


class Loop(asyncio.AbstractEventLoop):
    """The part of an event loop that tasks, futures and timers need."""

    def __init__(self) -> None:
        self.now = EPOCH
        self.ready: deque[asyncio.Handle] = deque()
        self.deferred: deque[asyncio.Handle] = deque()
        self.timers: list[asyncio.TimerHandle] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.surprises: list[str] = []  # what nobody has caught

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Make it the running loop of this thread, and its time the process's."""
        real = time.monotonic
        asyncio._set_running_loop(self)
        time.monotonic = self.time
        try:
            yield
        finally:
            self._close_tasks()
            time.monotonic = real
            asyncio._set_running_loop(None)

    def run_next(self) -> None:
        """Run the callback that has been ready for longest."""
        handle = self.ready.popleft()
        if not handle._cancelled:
            handle._run()
        if self.deferred and not self.ready:
            self.ready.append(self.deferred.popleft())

    def defer(self) -> None:
        """Have the next callback wait until no other is ready.

        More than asyncio does, which runs them first come first served: what holds then does not
        rest on that, nor on the order of a set's members.
        """
        self.deferred.append(self.ready.popleft())

    def ring(self, number: int) -> None:
        """Move time to the next timers, and make that one of them ready."""
        handle = self.timers.pop(number)
        self.now = max(self.now, handle.when())
        self.ready.append(handle)

    def due_together(self) -> int:
        """How many timers are next: those of one moment may ring in any order."""
        first = self.timers[0].when() if self.timers else 0.0
        return sum(1 for handle in self.timers if handle.when() == first)

    def skip_idle_timers(self) -> None:
        """Let timers ring at once that would find nothing to do: no moment of its own for them."""
        for handle in [h for h in self.timers if _is_idle(h)]:
            self.timers.remove(handle)
            handle._run()

    # --- what asyncio calls --------------------------------------------------------------

    def time(self) -> float:
        """Seconds, of a clock that only `ring` moves."""
        return self.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        # Rounded, so that sums in another order are the same moment, as the search counts them.
        handle = asyncio.TimerHandle(round(when, 6), callback, args, self, context)
        insort(self.timers, handle, key=_WHEN)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        with contextlib.suppress(ValueError):
            self.timers.remove(handle)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        self.tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self.tasks.discard(task)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.surprises.append(f"{context['message']}: {context.get('exception')!r}")

    def _close_tasks(self) -> None:
        """End what is still waiting, without a word."""
        for task in self.tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coro = task.get_coro()
            for _ in range(MAX_CLOSES):
                try:
                    coro.close()
                except RuntimeError:
                    continue
                break
        self.ready.clear()
        self.deferred.clear()
        self.timers.clear()
        self.tasks.clear()


def new_loop() -> Loop:
    """A loop at the beginning of time. What it does not offer, asyncio's base raises on."""
    return Loop()  # type: ignore[abstract]
