"""Acknowledges a state that Kafka has already, without writing it again.

A provider whose answer got lost posts the same states once more. The memory is filled by the
broker's answer alone, and believed only while the record is provably in the topic: it is the topic
that was written to, its partition has the same leader, and its log begins no later.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Protocol

from bridge.model import Log, Message, Outcome, Result
from bridge.pipeline import MANY, OnTooLarge, Publisher

REPEATED = Outcome(Result.PUBLISHED, repeated=True)
_PUBLISHED = Result.PUBLISHED
ASKING_SHARE = 0.25  # of a request's time: the rest is for writing what cannot be proved
Seen = tuple[float, int, int]  # when an event was last seen, its record's partition and offset
_NONE: dict[str, Seen] = {}
_NO_GAPS: dict[str, float] = {}


class Cluster(Protocol):
    """What is known of the cluster. `generation` changes whenever the producer is replaced."""

    generation: int

    def last_seen(self, topic: str) -> Log | None:
        """The topic as it was last seen, if it is one that can be told from others."""
        ...

    async def current_logs(
        self, partitions: Mapping[str, Collection[int]], deadline: float
    ) -> Mapping[str, Log]:
        """The topics as they are now, with the starts of these partitions.

        Without what the cluster does not tell in time.
        """
        ...


class RecentEvents:
    """When recent events were last seen, per topic: at most `limit`, each for at most `seconds`.

    Two generations, a young and an old one: when the young one is half the limit, or half the
    time, it becomes the old one. An id costs some 150 bytes more than its text.
    """

    def __init__(
        self, limit: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self.clear()
        self.limit(limit, seconds)

    def limit(self, limit: int, seconds: float) -> None:
        """Set the limits; more than they allow is forgotten."""
        self._half_limit = limit // 2
        self._half_life = seconds / 2
        if len(self) > limit:
            self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._young: dict[str, dict[str, Seen]] = {}
        self._old: dict[str, dict[str, Seen]] = {}
        self._young_since = self._old_since = self._clock()

    def forget(self, topic: str) -> None:
        """Forget all events of one topic."""
        self._young.pop(topic, None)
        self._old.pop(topic, None)

    def forget_partitions(self, topic: str, partitions: Collection[int]) -> None:
        """Forget those events of one topic that are in these partitions."""
        for part in (self._young, self._old):
            ids = part.get(topic, {})
            for event_id in [i for i, (_, partition, _) in ids.items() if partition in partitions]:
                del ids[event_id]

    def add(self, topic: str, places: Mapping[str, tuple[int, int]]) -> None:
        """Remember events by partition and offset, at the cost of the oldest."""
        now = self._age()
        if sum(map(len, self._young.values())) + len(places) > self._half_limit:
            self._rotate(now)
        ids = self._young.setdefault(topic, {})
        for event_id, (partition, offset) in islice(places.items(), self._half_limit):
            ids[event_id] = now, partition, offset

    def held(self, topic: str, event_ids: Collection[str]) -> dict[str, Seen]:
        """Those of the events that are remembered."""
        self._age()
        young, old = self._young.get(topic, _NONE), self._old.get(topic, _NONE)
        if young.keys().isdisjoint(event_ids) and old.keys().isdisjoint(event_ids):
            return {}
        return {i: young[i] if i in young else old[i] for i in event_ids if i in young or i in old}

    def come_again(
        self, topic: str, event_ids: Collection[str], starts: Mapping[int, int]
    ) -> dict[str, float]:
        """Those of the events whose records are still there, and the seconds since each was seen.

        `starts` are the first offsets of those partitions that can be believed. The events count
        as seen now; they are not remembered the longer for it.
        """
        now = self._age()
        gaps: dict[str, float] = {}
        for part in (self._old.get(topic, {}), self._young.get(topic, {})):
            for event_id in part.keys() & event_ids:
                seen, partition, offset = part[event_id]
                if partition in starts and offset >= starts[partition]:
                    gaps[event_id] = now - seen
                    part[event_id] = now, partition, offset
                else:
                    gaps.pop(event_id, None)
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
        self._logs: dict[str, Log] = {}  # as the topics were when what is remembered was sent

    async def publish(
        self,
        messages: Sequence[Message],
        deadline: float,
        on_too_large: OnTooLarge = lambda _message, _outcome: None,
    ) -> list[Outcome]:
        """One outcome a message, in order; those that Kafka has already are `repeated`."""
        by_topic = _event_ids(messages)
        if len(messages) > MANY:
            await asyncio.sleep(0)
        held = self._held(by_topic)
        repeated = await self._repeated(held, by_topic, deadline) if held else {}
        fresh = messages
        if repeated:
            fresh = [m for m in messages if m.event_id not in repeated.get(m.topic, _NO_GAPS)]
        generation = self._cluster.generation
        logs = {topic: self._cluster.last_seen(topic) for topic in by_topic}
        outcomes = await self._publisher.publish(fresh, deadline, on_too_large)
        for start in range(0, len(fresh), MANY):
            if start:
                await asyncio.sleep(0)
            if generation == self._cluster.generation == self._generation:
                end = start + MANY
                self._remember(fresh[start:end], outcomes[start:end], logs)
        if not repeated:
            return outcomes
        left = iter(outcomes)
        return [
            REPEATED._replace(gap_seconds=gap) if gap is not None else next(left)
            for m in messages
            for gap in [repeated.get(m.topic, _NO_GAPS).get(m.event_id)]
        ]

    def _held(self, by_topic: Mapping[str, list[str]]) -> dict[str, set[int]]:
        """The topics of which some of the events are remembered, and in which partitions."""
        if self._cluster.generation != self._generation:
            self._generation = self._cluster.generation
            self._recent.clear()
        return {
            topic: {partition for _, partition, _ in held.values()}
            for topic, ids in by_topic.items()
            if (held := self._recent.held(topic, ids))
        }

    async def _repeated(
        self, held: Mapping[str, set[int]], by_topic: Mapping[str, list[str]], deadline: float
    ) -> dict[str, dict[str, float]]:
        """The events that Kafka has, beyond doubt, and the seconds since they came last."""
        # A topic may have lost, in many ways, what it had: ask, each time.
        loop_now = asyncio.get_running_loop().time()
        ask_until = loop_now + (deadline - loop_now) * ASKING_SHARE
        now = await self._cluster.current_logs(held, ask_until)
        if self._cluster.generation != self._generation:
            return {}
        # Read the memory anew: while the cluster was asked, it may have become another topic's.
        return {
            topic: self._recent.come_again(topic, by_topic[topic], self._starts(topic, now[topic]))
            for topic in held
            if topic in now
        }

    def _starts(self, topic: str, now: Log) -> Mapping[int, int]:
        """Where those partitions begin whose log has lost nothing but from its beginning."""
        known = self._logs.get(topic)
        if known is None or known.topic_id != now.topic_id:
            self._recent.forget(topic)
            return {}
        return {
            partition: start
            for partition, start in now.starts.items()
            if partition in known.epochs and known.epochs[partition] == now.epochs.get(partition)
        }

    def _remember(
        self,
        messages: Sequence[Message],
        outcomes: Sequence[Outcome],
        logs: Mapping[str, Log | None],
    ) -> None:
        """Keep what the broker has taken, with the topic as it was before it was sent.

        If the topic has that id and that leader later on, it had them in between, and has cut
        nothing off the record's log since.
        """
        taken: dict[str, dict[str, tuple[int, int]]] = {}
        for message, outcome in zip(messages, outcomes, strict=True):
            result, partition, offset = outcome[:3]
            if result is _PUBLISHED and partition is not None and offset is not None:
                taken.setdefault(message.topic, {})[message.event_id] = partition, offset
        for topic, places in taken.items():
            log = logs[topic]
            if log is not None:
                self._forget_changes(topic, log)
                self._recent.add(topic, places)

    def _forget_changes(self, topic: str, log: Log) -> None:
        known, self._logs[topic] = self._logs.get(topic), log
        if known is log:
            return
        if known is None or known.topic_id != log.topic_id:
            self._recent.forget(topic)
        elif changed := {p for p, e in known.epochs.items() if log.epochs.get(p) != e}:
            self._recent.forget_partitions(topic, changed)


def _event_ids(messages: Iterable[Message]) -> dict[str, list[str]]:
    by_topic: dict[str, list[str]] = {}
    for message in messages:
        by_topic.setdefault(message.topic, []).append(message.event_id)
    return by_topic
