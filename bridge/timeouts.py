"""Time limits for many short waits, with one timer of the loop for all of them.

`asyncio.timeout_at` does the same, and sets and cancels a timer of the loop's each time: that
costs a small request a tenth of its time (docs/reliability.md has the measurement). Here a wait
only enters its name in a table; nearly all of them leave it long before.
"""

import asyncio
import math
from types import TracebackType
from typing import Protocol, Self


class Wait(Protocol):
    """A wait with a deadline, on the loop's clock."""

    deadline: float

    def end(self) -> None:
        """End it: the deadline has passed."""
        ...


class Timeouts:
    """The waits under way on one loop."""

    def __init__(self) -> None:
        self._waits: dict[Wait, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf

    def at(self, deadline: float) -> "Timeout":
        """Limit the block until the deadline, on the loop's clock; TimeoutError past it."""
        return Timeout(self, deadline)

    def enter(self, wait: Wait) -> None:
        """Have the wait ended at its deadline."""
        self._waits[wait] = None
        if wait.deadline < self._rings_at:
            self._ring_at(wait.deadline)

    def leave(self, wait: Wait) -> None:
        """Forget a wait that is over, if it was not ended."""
        self._waits.pop(wait, None)

    def _ring_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        """End what is due, and wait for the next that is not; mostly nothing is due any more."""
        rang_at, self._rings_at, self._timer = self._rings_at, math.inf, None
        due = max(rang_at, asyncio.get_running_loop().time())
        for wait in [wait for wait in self._waits if wait.deadline <= due]:
            # It ends once, though the loop may ring again before its task has run: a task that is
            # cancelled twice and uncancelled once has a cancellation that nobody asked for.
            self.leave(wait)
            wait.end()
        if self._waits:
            self._ring_at(min(wait.deadline for wait in self._waits))


class Timeout:
    """One block with a deadline: what `asyncio.timeout_at` is, entered with a plain `with`."""

    __slots__ = ("_cancellations", "_task", "_timeouts", "deadline", "ended")

    def __init__(self, timeouts: Timeouts, deadline: float) -> None:
        self._timeouts = timeouts
        self.deadline = deadline
        self.ended = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a timeout needs a task to end")
        self._task = task
        self._cancellations = task.cancelling()
        self._timeouts.enter(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timeouts.leave(self)
        # A cancellation from elsewhere, at the same time, is not ours to turn into a timeout.
        ours = self.ended and self._task.uncancel() <= self._cancellations
        if ours and kind is asyncio.CancelledError:
            raise TimeoutError from exc

    def end(self) -> None:
        """Cancel what the block waits for, once."""
        if not self.ended:
            self.ended = True
            self._task.cancel()
