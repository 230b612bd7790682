"""Acknowledges a state that Kafka has already, without writing it again.

A provider whose answer got lost posts the same states once more. The memory is filled by the
broker's answer alone, and believed only while the topic is provably the one that was written to.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from bridge.model import Message, Outcome, Result
from bridge.pipeline import Publisher

REPEATED = Outcome(Result.PUBLISHED, repeated=True)


class Cluster(Protocol):
    """What is known of the cluster. `generation` changes whenever the producer is replaced."""

    generation: int

    def topic_id(self, topic: str) -> bytes | None:
        """The topic's id as last seen, if any."""
        ...

    async def current_topic_ids(
        self, topics: Collection[str], deadline: float
    ) -> Mapping[str, bytes | None]:
        """The ids as the cluster has them now; without those that it does not tell in time."""
        ...


class RecentEvents:
    """The ids of recent events per topic: at most `limit`, each for at most `seconds`.

    Two sets, a young and an old one: when the young one is half the limit, or half the time, it
    becomes the old one. An id costs little more than its text.
    """

    def __init__(
        self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._half_limit = limit // 2
        self._half_life = seconds / 2
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._young: dict[str, set[str]] = {}
        self._old: dict[str, set[str]] = {}
        self._count = 0
        self._young_since = self._old_since = self._clock()

    def forget(self, topic: str) -> None:
        """Forget all events of one topic."""
        self._count -= len(self._young.pop(topic, ()))
        self._old.pop(topic, None)

    def add(self, topic: str, event_id: str) -> None:
        """Remember an event, at the cost of the oldest."""
        if not self._half_limit:
            return
        self._age()
        if self._count >= self._half_limit:
            self._rotate()
        ids = self._young.setdefault(topic, set())
        self._count += event_id not in ids
        ids.add(event_id)

    def holds(self, topic: str, event_id: str) -> bool:
        """Whether the event is remembered."""
        self._age()
        return event_id in self._young.get(topic, ()) or event_id in self._old.get(topic, ())

    def __len__(self) -> int:
        self._age()
        return self._count + sum(map(len, self._old.values()))

    def _age(self) -> None:
        now = self._clock()
        if now - self._young_since > self._half_life:
            self._rotate()
        if now - self._old_since > 2 * self._half_life:
            self._old = {}

    def _rotate(self) -> None:
        self._old, self._old_since = self._young, self._young_since
        self._young, self._young_since = {}, self._clock()
        self._count = 0


class Deduplicator:
    """A publisher that remembers, in front of one that does not."""

    def __init__(self, publisher: Publisher, cluster: Cluster, recent: RecentEvents) -> None:
        self._publisher = publisher
        self._cluster = cluster
        self._recent = recent
        self._generation = cluster.generation
        self._topic_ids: dict[str, bytes] = {}

    async def publish(self, messages: Sequence[Message], deadline: float) -> list[Outcome]:
        """One outcome a message, in order; those that Kafka has already are `repeated`."""
        repeated = await self._repeated(messages, deadline)
        fresh = [message for message, known in zip(messages, repeated, strict=True) if not known]
        before = self._cluster.generation, {m.topic: self._cluster.topic_id(m.topic) for m in fresh}
        outcomes = await self._publisher.publish(fresh, deadline)
        self._remember(fresh, outcomes, *before)
        left = iter(outcomes)
        return [REPEATED if known else next(left) for known in repeated]

    async def _repeated(self, messages: Sequence[Message], deadline: float) -> list[bool]:
        """Which of the events are in Kafka already, beyond doubt."""
        if self._cluster.generation != self._generation:
            self._generation = self._cluster.generation
            self._recent.clear()
        held = [self._recent.holds(m.topic, m.event_id) for m in messages]
        topics = {m.topic for m, known in zip(messages, held, strict=True) if known}
        if not topics:
            return held
        # A topic that was deleted and made again has none of what it had: ask, each time.
        now = await self._cluster.current_topic_ids(topics, deadline)
        same = {topic for topic in topics if self._is_same(topic, now)}
        unchanged = self._cluster.generation == self._generation
        return [
            known and unchanged and m.topic in same for m, known in zip(messages, held, strict=True)
        ]

    def _is_same(self, topic: str, now: Mapping[str, bytes | None]) -> bool:
        if topic in now and now[topic] != self._topic_ids.get(topic):
            self._recent.forget(topic)
        return topic in now and now[topic] == self._topic_ids.get(topic)

    def _remember(
        self,
        messages: Sequence[Message],
        outcomes: Sequence[Outcome],
        generation: int,
        topic_ids: Mapping[str, bytes | None],
    ) -> None:
        """Keep what the broker has taken, under the topic's id from before it was sent.

        If the topic has that id later on, it had it in between, and holds the record.
        """
        if generation != self._cluster.generation or generation != self._generation:
            return
        for message, outcome in zip(messages, outcomes, strict=True):
            topic_id = topic_ids[message.topic]
            if topic_id is None or outcome.result is not Result.PUBLISHED:
                continue
            if self._topic_ids.get(message.topic) != topic_id:
                self._recent.forget(message.topic)
                self._topic_ids[message.topic] = topic_id
            self._recent.add(message.topic, message.event_id)
