"""Token buckets: one, and one for each kind of thing that repeats itself."""

import time
from collections.abc import Callable, Hashable


class RateLimit:
    """Lets through `burst` at once, and `per_second` in the long run."""

    def __init__(
        self, *, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()

    def allows(self) -> bool:
        """Whether one more may pass now; it counts as passed."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Repeats:
    """A rate limit for each kind of thing, which counts what it holds back.

    The kinds are a small set of the caller's own: each is kept for good.
    """

    def __init__(
        self, *, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._limits: dict[Hashable, RateLimit] = {}
        self._held_back: dict[Hashable, int] = {}

    def held_back(self, kind: Hashable) -> int | None:
        """How many of the kind were held back before this one; None if it is held back, too."""
        if not self._limit(kind).allows():
            self._held_back[kind] = self._held_back.get(kind, 0) + 1
            return None
        return self._held_back.pop(kind, 0)

    def _limit(self, kind: Hashable) -> RateLimit:
        if kind not in self._limits:
            self._limits[kind] = RateLimit(
                per_second=self._per_second, burst=self._burst, clock=self._clock
            )
        return self._limits[kind]
