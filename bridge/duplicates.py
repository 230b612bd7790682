"""Acknowledges a state that Kafka has already, without writing it again.

A provider whose answer got lost posts the same states once more. The memory is filled by the
broker's answer alone, and believed only while the topic is provably the one that was written to.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from bridge.model import Message, Outcome, Result
from bridge.pipeline import Publisher

REPEATED = Outcome(Result.PUBLISHED, repeated=True)
ASKING_SHARE = 0.25  # of a request's time: the rest is for writing what cannot be proved
_NONE: dict[str, float] = {}


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
    """When recent events were last seen, per topic: at most `limit`, each for at most `seconds`.

    Two generations, a young and an old one: when the young one is half the limit, or half the
    time, it becomes the old one. An id costs little more than its text.
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
        self._young: dict[str, dict[str, float]] = {}
        self._old: dict[str, dict[str, float]] = {}
        self._young_since = self._old_since = self._clock()

    def forget(self, topic: str) -> None:
        """Forget all events of one topic."""
        self._young.pop(topic, None)
        self._old.pop(topic, None)

    def add(self, topic: str, event_ids: Sequence[str]) -> None:
        """Remember events, at the cost of the oldest."""
        now = self._age()
        if sum(map(len, self._young.values())) + len(event_ids) > self._half_limit:
            self._rotate(now)
        ids = self._young.setdefault(topic, {})
        ids.update(dict.fromkeys(event_ids[: self._half_limit], now))

    def held(self, topic: str, event_ids: Collection[str]) -> dict[str, float]:
        """Those of the events that are remembered, and when each was seen, on the clock."""
        self._age()
        young, old = self._young.get(topic, _NONE), self._old.get(topic, _NONE)
        if young.keys().isdisjoint(event_ids) and old.keys().isdisjoint(event_ids):
            return {}
        return {i: young[i] if i in young else old[i] for i in event_ids if i in young or i in old}

    def come_again(self, topic: str, event_ids: Collection[str]) -> dict[str, float]:
        """Those of the events that are remembered, and the seconds since each was seen.

        They count as seen now; they are not remembered the longer for it.
        """
        now = self._age()
        gaps: dict[str, float] = {}
        for part in (self._old.get(topic, {}), self._young.get(topic, {})):
            for event_id in part.keys() & event_ids:
                gaps[event_id] = now - part[event_id]
                part[event_id] = now
        return gaps

    def __len__(self) -> int:
        self._age()
        return sum(len(ids) for part in (self._young, self._old) for ids in part.values())

    def _age(self) -> float:
        now = self._clock()
        if now - self._young_since > self._half_life:
            self._rotate(now)
        if now - self._old_since > 2 * self._half_life:
            self._old = {}
        return now

    def _rotate(self, now: float) -> None:
        self._old, self._old_since = self._young, self._young_since
        self._young, self._young_since = {}, now


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
        by_topic = _event_ids(messages)
        held = self._held(by_topic)
        repeated = await self._repeated(held, by_topic, deadline) if held else {}
        fresh = messages
        if repeated:
            fresh = [m for m in messages if m.event_id not in repeated.get(m.topic, _NONE)]
        generation = self._cluster.generation
        topic_ids = {topic: self._cluster.topic_id(topic) for topic in by_topic}
        outcomes = await self._publisher.publish(fresh, deadline)
        if generation == self._cluster.generation == self._generation:
            self._remember(fresh, outcomes, topic_ids)
        if not repeated:
            return outcomes
        left = iter(outcomes)
        return [
            REPEATED._replace(gap_seconds=gap) if gap is not None else next(left)
            for m in messages
            for gap in [repeated.get(m.topic, _NONE).get(m.event_id)]
        ]

    def _held(self, by_topic: Mapping[str, list[str]]) -> list[str]:
        """The topics of which some of the events are remembered."""
        if self._cluster.generation != self._generation:
            self._generation = self._cluster.generation
            self._recent.clear()
        return [topic for topic, ids in by_topic.items() if self._recent.held(topic, ids)]

    async def _repeated(
        self, topics: Collection[str], by_topic: Mapping[str, list[str]], deadline: float
    ) -> dict[str, dict[str, float]]:
        """The events that Kafka has, beyond doubt, and the seconds since they came last."""
        # A topic that was deleted and made again has none of what it had: ask, each time.
        loop_now = asyncio.get_running_loop().time()
        ask_until = loop_now + (deadline - loop_now) * ASKING_SHARE
        now = await self._cluster.current_topic_ids(topics, ask_until)
        if self._cluster.generation != self._generation:
            return {}
        # Read the memory anew: while the cluster was asked, it may have become another topic's.
        return {
            topic: self._recent.come_again(topic, by_topic[topic])
            for topic in topics
            if self._is_same(topic, now)
        }

    def _is_same(self, topic: str, now: Mapping[str, bytes | None]) -> bool:
        if topic not in now:
            return False
        same = now[topic] == self._topic_ids.get(topic)
        if not same:
            self._recent.forget(topic)
        return same

    def _remember(
        self,
        messages: Sequence[Message],
        outcomes: Sequence[Outcome],
        topic_ids: Mapping[str, bytes | None],
    ) -> None:
        """Keep what the broker has taken, under the topic's id from before it was sent.

        If the topic has that id later on, it had it in between, and holds the record.
        """
        taken: dict[str, list[str]] = {}
        for message, outcome in zip(messages, outcomes, strict=True):
            if outcome.result is Result.PUBLISHED:
                taken.setdefault(message.topic, []).append(message.event_id)
        for topic, event_ids in taken.items():
            topic_id = topic_ids[topic]
            if topic_id is None:
                continue
            if self._topic_ids.get(topic) != topic_id:
                self._recent.forget(topic)
                self._topic_ids[topic] = topic_id
            self._recent.add(topic, event_ids)


def _event_ids(messages: Iterable[Message]) -> dict[str, list[str]]:
    by_topic: dict[str, list[str]] = {}
    for message in messages:
        by_topic.setdefault(message.topic, []).append(message.event_id)
    return by_topic
