"""Records when this machine stood still: a process that wakes every 10 ms and notes the gaps.

What it says excuses late answers, so it must do nothing else.
"""

import select
import sys
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import attrgetter
from pathlib import Path

from bridge.demo.child import Child

WAKE_SECONDS = 0.01
NOTED_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Stall:
    """When the machine did not run what was due, on the monotonic clock that processes share."""

    started: float
    ended: float

    def within(self, started: float, ended: float) -> float:
        """How many seconds of it fall into a time."""
        return max(0.0, min(self.ended, ended) - max(self.started, started))


class Sentinel(Child):
    """The process, for as long as the `with` block lasts; it ends with its parent too."""

    def __init__(self, directory: Path) -> None:
        super().__init__("the sentinel", sys.executable, __file__, log=directory / "stalls")

    def start(self) -> None:
        """Start it and wait until it has noted its first moment."""
        super().start()
        self.wait_until(lambda: bool(self.output), "the sentinel")

    def stalls(self) -> list[Stall]:
        """All that it has noted so far, in order."""
        lines = self.output.split("\n")[:-1]
        noted = [Stall(*map(float, line.split())) for line in lines]
        return [stall for stall in noted if stall.ended > stall.started]


def stalled_seconds(stalls: Sequence[Stall], started: float, ended: float) -> float:
    """How long the machine stood still within a time."""
    return sum(stall.within(started, ended) for stall in stalls)


class Stalled:
    """The same of many times, of stalls in any order."""

    def __init__(self, stalls: Sequence[Stall]) -> None:
        ordered = sorted(stalls, key=attrgetter("ended"))
        self._ended = [stall.ended for stall in ordered]
        self._until = [0.0, *accumulate(stall.ended - stall.started for stall in ordered)]

    def within(self, started: float, ended: float) -> float:
        """How many seconds of stalls ended within a time."""
        first, last = (bisect_right(self._ended, moment) for moment in (started, ended))
        return self._until[last] - self._until[first]


def _watch() -> None:
    parent = sys.stdin.fileno()
    due = time.monotonic()
    _note(due, due)
    while True:
        due = time.monotonic() + WAKE_SECONDS
        time.sleep(WAKE_SECONDS)
        now = time.monotonic()
        if now - due > NOTED_SECONDS:
            _note(due, now)
        if _ended(parent):
            return


def _note(due: float, now: float) -> None:
    sys.stdout.write(f"{due} {now}\n")
    sys.stdout.flush()


def _ended(parent: int) -> bool:
    """Whether nobody holds the other end any more."""
    return bool(select.select([parent], [], [], 0)[0])


if __name__ == "__main__":
    _watch()
