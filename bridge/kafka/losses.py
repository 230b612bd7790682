"""Sees what brokers have lost of what they had acknowledged, and says so. It brings nothing back.

With `unclean.leader.election.enable`, and after all replicas have lost their power at once, one may
come to lead that lacks the end of the log. New records then get the offsets of lost ones.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog

from bridge.kafka.topic_metadata import LATEST, Topic

log = structlog.get_logger(__name__)

ASK_SECONDS = 0.5  # of a comparison

Offsets = Callable[[Topic, Collection[int], int], Awaitable[Mapping[int, int]]]


class Losses:
    """Where the log of each partition must reach at least, by what was acknowledged.

    `on_loss` gets the number of records that are gone.
    """

    def __init__(self) -> None:
        self.on_loss: Callable[[int], None] = lambda _: None
        self._ends: dict[tuple[str, int], int] = {}  # after the last record that was acknowledged
        self._gone: dict[tuple[str, int], range] = {}  # offsets given twice; not said yet
        self._topics: Mapping[str, Topic] = {}
        self._doubtful: set[tuple[str, int]] = set()

    def acknowledged(self, topic: str, partition: int, first: int, count: int) -> None:
        """Remember a batch, in the order of the acknowledgements of its partition."""
        place = topic, partition
        end = self._ends.get(place, 0)
        if first < end and place not in self._gone:
            self._gone[place] = range(first, end)
        self._ends[place] = first + count

    async def compare(self, topics: Mapping[str, Topic], offsets: Offsets) -> None:
        """Compare with the topics as they are now; without an answer, again with the next call."""
        former, self._topics = self._topics, topics
        for name, topic in topics.items():
            known = former.get(name)
            if known is not None and known.id == topic.id:
                new = {p for p, e in topic.epochs.items() if known.epochs.get(p, e) != e}
                self._doubtful |= {(name, p) for p in new if (name, p) in self._ends}
            elif known is not None:
                self._forget(name)
        await self._ask(topics, offsets)
        for (name, partition), gone in self._gone.items():
            self._say(name, partition, gone)
        self._gone.clear()

    async def _ask(self, topics: Mapping[str, Topic], offsets: Offsets) -> None:
        """Find out where the logs end whose leaders are new."""
        for name in {name for name, _ in self._doubtful} & topics.keys():
            asked = {partition for topic, partition in self._doubtful if topic == name}
            before = {partition: self._ends[name, partition] for partition in asked}
            try:
                async with asyncio.timeout(ASK_SECONDS):
                    told = await offsets(topics[name], asked, LATEST)
            except Exception as exc:  # noqa: BLE001 -- no answer is none; the next call asks again
                log.info("could not read the end of the log", topic=name, error=str(exc))
                continue
            for partition, end in told.items():
                self._doubtful.discard((name, partition))
                if end < before[partition]:
                    self._gone.setdefault((name, partition), range(end, before[partition]))
                    self._ends[name, partition] = min(end, self._ends[name, partition])

    def _forget(self, topic: str) -> None:
        """Another topic has that name now."""
        for places in (self._ends, self._gone):
            for place in [place for place in places if place[0] == topic]:
                del places[place]
        self._doubtful = {place for place in self._doubtful if place[0] != topic}

    def _say(self, topic: str, partition: int, gone: range) -> None:
        self.on_loss(len(gone))
        log.error(
            "the brokers have lost acknowledged records",
            topic=topic,
            partition=partition,
            first_offset=gone.start,
            records=len(gone),
            fix="ask the provider for the rest; keep unclean.leader.election.enable at false",
        )
