"""What is acknowledged without a second record: only what Kafka holds beyond doubt."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from bridge.duplicates import REPEATED, Deduplicator, RecentEvents
from bridge.model import Message, Outcome, Result
from tests.fakes import RecordingPublisher


class FakeCluster:
    """A cluster whose topics and producer change when the test says so."""

    def __init__(self) -> None:
        self.generation = 1
        self.ids: dict[str, bytes | None] = {"t": b"A", "u": b"U"}
        self.known = dict(self.ids)
        self.asked: list[set[str]] = []
        self.silent = False

    def topic_id(self, topic: str) -> bytes | None:
        return self.known.get(topic)

    async def current_topic_ids(
        self, topics: Collection[str], deadline: float
    ) -> Mapping[str, bytes | None]:
        del deadline
        self.asked.append(set(topics))
        return {} if self.silent else {t: self.ids[t] for t in topics if t in self.ids}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def message(event_id: str, topic: str = "t") -> Message:
    return Message(topic, b"k", event_id.encode(), [], 0, event_id)


class Bench:
    def __init__(self, publisher: RecordingPublisher | None = None, remember: int = 100) -> None:
        self.publisher = publisher or RecordingPublisher()
        self.cluster = FakeCluster()
        self.clock = Clock()
        recent = RecentEvents(remember, 600, self.clock)
        self.deduplicator = Deduplicator(self.publisher, self.cluster, recent)

    async def publish(self, *ids: str, topic: str = "t") -> list[Outcome]:
        deadline = asyncio.get_running_loop().time() + 1
        return await self.deduplicator.publish([message(i, topic) for i in ids], deadline)

    @property
    def sent(self) -> list[str]:
        return [m.event_id for m in self.publisher.messages]


async def test_a_retry_of_what_kafka_has_is_not_written_again() -> None:
    b = Bench()
    first = await b.publish("1", "2")
    second = await b.publish("3", "1", "4", "2")
    assert [o.result for o in first] == [Result.PUBLISHED] * 2
    assert [o.repeated for o in second] == [False, True, False, True]
    assert {o.result for o in second} == {Result.PUBLISHED}
    assert b.sent == ["1", "2", "3", "4"]


@pytest.mark.parametrize("result", [Result.FAILED, Result.UNKNOWN])
async def test_only_the_broker_s_answer_fills_the_memory(result: Result) -> None:
    """What failed, or may be there, is sent again."""
    b = Bench(RecordingPublisher(lambda _: result))
    assert [o.result for o in await b.publish("1")] == [result]
    assert [o.result for o in await b.publish("1")] == [result]
    assert b.sent == ["1", "1"]


async def test_nothing_is_remembered_before_the_answer() -> None:
    """Of two at once, neither knows of the other."""
    b = Bench()
    b.publisher.hold.clear()
    both = [asyncio.create_task(b.publish("1")) for _ in range(2)]
    await asyncio.sleep(0)
    b.publisher.hold.set()
    assert [o.repeated for (o,) in await asyncio.gather(*both)] == [False, False]
    assert b.sent == ["1", "1"]


async def test_an_event_of_another_topic_is_another_one() -> None:
    b = Bench()
    await b.publish("1", topic="t")
    assert not (await b.publish("1", topic="u"))[0].repeated


async def test_a_topic_made_again_has_none_of_what_it_had() -> None:
    """Asked each time: the last look may be older than the change."""
    b = Bench()
    await b.publish("1")
    await b.publish("1", topic="u")
    b.cluster.ids["t"] = b"B"
    assert not (await b.publish("1"))[0].repeated
    assert (await b.publish("1", topic="u"))[0].repeated
    b.cluster.known["t"] = b"B"
    await b.publish("1")
    assert (await b.publish("1"))[0].repeated


async def test_a_record_written_around_the_change_is_not_believed() -> None:
    """It may be in the topic that is gone: its id from before it was sent must still stand."""
    b = Bench()
    b.publisher.hold.clear()
    first = asyncio.create_task(b.publish("1"))
    await asyncio.sleep(0)
    b.cluster.ids["t"] = b.cluster.known["t"] = b"B"
    b.publisher.hold.set()
    await first
    assert not (await b.publish("1"))[0].repeated


async def test_a_deleted_topic_or_a_silent_cluster_proves_nothing() -> None:
    b = Bench()
    await b.publish("1")
    b.cluster.silent = True
    assert not (await b.publish("1"))[0].repeated
    b.cluster.silent = False
    assert (await b.publish("1"))[0].repeated
    del b.cluster.ids["t"]
    assert not (await b.publish("1"))[0].repeated


async def test_a_broker_that_tells_no_topic_ids_is_never_believed() -> None:
    b = Bench()
    b.cluster.ids["t"] = b.cluster.known["t"] = None
    await b.publish("1")
    assert not (await b.publish("1"))[0].repeated


async def test_a_new_producer_starts_with_no_memory() -> None:
    b = Bench()
    await b.publish("1")
    b.cluster.generation += 1
    assert not (await b.publish("1"))[0].repeated
    assert (await b.publish("1"))[0].repeated


async def test_what_was_sent_before_a_replacement_is_not_remembered_after_it() -> None:
    b = Bench()
    b.publisher.hold.clear()
    first = asyncio.create_task(b.publish("1"))
    await asyncio.sleep(0)
    b.cluster.generation += 1
    b.publisher.hold.set()
    await first
    assert not (await b.publish("1"))[0].repeated


async def test_a_replacement_while_the_cluster_is_asked_counts() -> None:
    b = Bench()
    await b.publish("1")
    ask = b.cluster.current_topic_ids

    async def replaced(topics: Collection[str], deadline: float) -> Mapping[str, bytes | None]:
        b.cluster.generation += 1
        return await ask(topics, deadline)

    b.cluster.current_topic_ids = replaced  # type: ignore[method-assign]
    assert not (await b.publish("1"))[0].repeated


async def test_a_topic_made_again_while_the_cluster_is_asked_has_none_of_what_it_had() -> None:
    """Another request may have filled the memory for the new topic in the meantime."""
    b = Bench()
    await b.publish("1")
    ask = b.cluster.current_topic_ids

    async def made_again(topics: Collection[str], deadline: float) -> Mapping[str, bytes | None]:
        b.cluster.current_topic_ids = ask  # type: ignore[method-assign]
        b.cluster.ids["t"] = b.cluster.known["t"] = b"B"
        await b.publish("2")
        return await ask(topics, deadline)

    b.cluster.current_topic_ids = made_again  # type: ignore[method-assign]
    assert not (await b.publish("1"))[0].repeated


async def test_the_cluster_is_asked_only_where_it_matters() -> None:
    b = Bench()
    await b.publish("1", "2")
    assert b.cluster.asked == []
    await b.publish("1", "3")
    assert b.cluster.asked == [{"t"}]


async def test_a_repeated_event_tells_the_time_since_it_came_last() -> None:
    """Each time anew, and without being remembered the longer for it."""
    b = Bench()
    await b.publish("1", "2")
    b.clock.now = 60.0
    (first,) = await b.publish("1")
    b.clock.now = 90.0
    again = await b.publish("1", "2", "3")
    assert first.gap_seconds == 60.0
    assert [o.gap_seconds for o in again] == [30.0, 90.0, None]
    b.clock.now = 601.0
    assert [o.repeated for o in await b.publish("1")] == [False]


async def test_it_can_be_turned_off() -> None:
    b = Bench(remember=0)
    await b.publish("1")
    assert not (await b.publish("1"))[0].repeated
    assert b.sent == ["1", "1"]


# --- the memory --------------------------------------------------------------------------


def test_the_memory_is_bounded_and_drops_the_oldest() -> None:
    recent = RecentEvents(100, 600, Clock())
    for n in range(1000):
        recent.add("t", [str(n)])
        assert len(recent) <= 100
    assert recent.held("t", ["999"])
    assert recent.held("t", ["950"])
    assert not recent.held("t", ["0"])


def test_an_event_is_forgotten_after_its_time() -> None:
    clock = Clock()
    recent = RecentEvents(100, 10, clock)
    recent.add("t", ["early"])
    clock.now = 6.0
    recent.add("t", ["late"])
    assert recent.held("t", ["early"])
    clock.now = 10.1
    assert not recent.held("t", ["early"])
    assert recent.held("t", ["late"])
    clock.now = 16.1
    assert not recent.held("t", ["late"])


def test_an_idle_memory_forgets_too() -> None:
    clock = Clock()
    recent = RecentEvents(100, 10, clock)
    recent.add("t", ["1"])
    clock.now = 10.1
    assert not recent.held("t", ["1"])
    assert len(recent) == 0


def test_one_topic_can_be_forgotten() -> None:
    recent = RecentEvents(100, 10, Clock())
    recent.add("t", ["1"])
    recent.add("u", ["1"])
    recent.forget("t")
    assert not recent.held("t", ["1"])
    assert recent.held("u", ["1"])
    assert len(recent) == 1


def test_the_memory_tells_when_an_event_was_last_seen() -> None:
    clock = Clock()
    recent = RecentEvents(100, 10, clock)
    recent.add("t", ["1", "2"])
    clock.now = 6.0
    recent.add("t", ["2"])
    assert recent.held("t", ["1", "2", "3"]) == {"1": 0.0, "2": 6.0}


def test_what_stands_for_a_repeated_event_is_an_acknowledgement() -> None:
    assert REPEATED.result is Result.PUBLISHED
    assert REPEATED.repeated
