"""What an endpoint has read and not acknowledged yet: when each event came first, and when last.

A memory of this process alone, for its metrics: another one may have taken the retry. No promise
rests on it.
"""

import time
from collections.abc import Callable, Mapping

LIMIT = 10_000  # events, some 3 MB
SECONDS = 3600.0  # from an event's last sighting; a provider's pause should be shorter


class Redelivery:
    """At most `limit` events, each for `seconds` after it came last.

    A full memory takes no more: the oldest are what is asked for.
    """

    def __init__(
        self,
        limit: int = LIMIT,
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._sightings: dict[str, tuple[float, float]] = {}  # first and last, in order of the last

    def came(self, events: Mapping[str, bool]) -> dict[str, float]:
        """Take note of a document's events, by id: whether each is acknowledged.

        Returns, of those that had come before and were not, the seconds since they came last.
        """
        now = self._expire()
        gaps: dict[str, float] = {}
        for event_id, is_acknowledged in events.items():
            seen = self._sightings.pop(event_id, None)
            if seen is not None:
                gaps[event_id] = now - seen[1]
            if not is_acknowledged and len(self._sightings) < self._limit:
                self._sightings[event_id] = (now if seen is None else seen[0], now)
        return gaps

    def oldest_seconds(self) -> float:
        """The age of the one that came first; 0 if there is none."""
        now = self._expire()
        return now - min((first for first, _ in self._sightings.values()), default=now)

    def __len__(self) -> int:
        return len(self._sightings)

    def _expire(self) -> float:
        now = self._clock()
        while self._sightings:
            event_id, (_, last) = next(iter(self._sightings.items()))
            if now - last <= self._seconds:
                break
            del self._sightings[event_id]
        return now
