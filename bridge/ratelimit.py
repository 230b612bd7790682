"""Token buckets: one, and one for each kind of thing that repeats itself."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from functools import partial


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
        limit = partial(RateLimit, per_second=per_second, burst=burst, clock=clock)
        self._limits: defaultdict[Hashable, RateLimit] = defaultdict(limit)
        self._held_back: Counter[Hashable] = Counter()

    def held_back(self, kind: Hashable) -> int | None:
        """How many of the kind were held back before this one; None if it is held back, too."""
        if not self._limits[kind].allows():
            self._held_back[kind] += 1
            return None
        return self._held_back.pop(kind, 0)
