"""What is acknowledged without a second record: only what Kafka holds beyond doubt."""

import asyncio
import tracemalloc
from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from bridge.config.settings import Kafka
from bridge.duplicates import REPEATED, Deduplicator, RecentEvents
from bridge.kafka import Publisher, Supervisor
from bridge.model import Log, Message, Outcome, Result
from bridge.pipeline import MANY
from tests.support.brokers import ExternalKafka
from tests.support.fakes import RecordingPublisher
from tests.support.topics import read_topic

EPOCHS = {0: 5, 1: 5}


class FakeCluster:
    """A cluster whose topics and producer change when the test says so.

    `logs` are the topics as they are, `known` as they were last seen.
    """

    def __init__(self) -> None:
        self.generation = 1
        self.logs = {"t": Log(b"A", EPOCHS, {0: 0, 1: 0}), "u": Log(b"U", EPOCHS, {0: 0, 1: 0})}
        self.known = dict(self.logs)
        self.asked: list[dict[str, set[int]]] = []
        self.silent = False

    def last_seen(self, topic: str) -> Log | None:
        return self.known.get(topic)

    async def current_logs(
        self, partitions: Mapping[str, Collection[int]], deadline: float
    ) -> Mapping[str, Log]:
        del deadline
        self.asked.append({topic: set(asked) for topic, asked in partitions.items()})
        return {} if self.silent else {t: self.logs[t] for t in partitions if t in self.logs}

    def make_again(self, topic: str) -> None:
        """Delete a topic and make it again, unseen."""
        self.logs[topic] = replace(self.logs[topic], topic_id=b"B")


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
    b.cluster.make_again("t")
    assert not (await b.publish("1"))[0].repeated
    assert (await b.publish("1", topic="u"))[0].repeated
    b.cluster.known["t"] = b.cluster.logs["t"]
    await b.publish("1")
    assert (await b.publish("1"))[0].repeated


async def test_a_record_written_around_the_change_is_not_believed() -> None:
    """It may be in the topic that is gone: its id from before it was sent must still stand."""
    b = Bench()
    b.publisher.hold.clear()
    first = asyncio.create_task(b.publish("1"))
    await asyncio.sleep(0)
    b.cluster.make_again("t")
    b.cluster.known["t"] = b.cluster.logs["t"]
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
    del b.cluster.logs["t"]
    assert not (await b.publish("1"))[0].repeated


async def test_a_broker_that_tells_no_topic_ids_is_never_believed() -> None:
    b = Bench()
    del b.cluster.logs["t"], b.cluster.known["t"]
    await b.publish("1")
    assert not (await b.publish("1"))[0].repeated


async def test_a_new_producer_starts_with_no_memory() -> None:
    b = Bench()
    await b.publish("1")
    b.cluster.generation += 1
    assert not (await b.publish("1"))[0].repeated
    assert (await b.publish("1"))[0].repeated


async def test_what_was_sent_before_a_replacement_is_not_remembered_after_it() -> None:
    """Not even where another request has begun to fill the new producer's memory meanwhile."""
    b = Bench()
    b.publisher.hold.clear()
    first = asyncio.create_task(b.publish("1"))
    await asyncio.sleep(0)
    b.cluster.generation += 1
    second = asyncio.create_task(b.publish("2"))
    await asyncio.sleep(0)
    b.publisher.hold.set()
    await asyncio.gather(first, second)
    assert not (await b.publish("1"))[0].repeated
    assert (await b.publish("2"))[0].repeated


async def test_a_replacement_while_the_cluster_is_asked_counts() -> None:
    b = Bench()
    await b.publish("1")
    ask = b.cluster.current_logs

    async def replaced(
        partitions: Mapping[str, Collection[int]], deadline: float
    ) -> Mapping[str, Log]:
        b.cluster.generation += 1
        return await ask(partitions, deadline)

    b.cluster.current_logs = replaced  # type: ignore[method-assign]
    assert not (await b.publish("1"))[0].repeated


async def test_a_topic_made_again_while_the_cluster_is_asked_has_none_of_what_it_had() -> None:
    """Another request may have filled the memory for the new topic in the meantime."""
    b = Bench()
    await b.publish("1")
    ask = b.cluster.current_logs

    async def made_again(
        partitions: Mapping[str, Collection[int]], deadline: float
    ) -> Mapping[str, Log]:
        b.cluster.current_logs = ask  # type: ignore[method-assign]
        b.cluster.make_again("t")
        b.cluster.known["t"] = b.cluster.logs["t"]
        await b.publish("2")
        return await ask(partitions, deadline)

    b.cluster.current_logs = made_again  # type: ignore[method-assign]
    assert not (await b.publish("1"))[0].repeated


# --- what the log has lost ---------------------------------------------------------------


class Placing(RecordingPublisher):
    """Gives each event its place: partition and offset, as `p.o` at the start of its id."""

    def _outcome(self, message: Message) -> Outcome:
        partition, offset, *_ = message.event_id.split(".")
        return Outcome(Result.PUBLISHED, int(partition), int(offset))


async def repeated(b: Bench, *ids: str) -> list[str]:
    outcomes = await b.publish(*ids)
    return [i for i, outcome in zip(ids, outcomes, strict=True) if outcome.repeated]


async def test_what_was_deleted_from_the_beginning_of_a_log_is_written_again() -> None:
    """By retention, or by DeleteRecords: partition by partition, up to an offset."""
    b = Bench(Placing())
    await b.publish("0.6", "0.7", "1.6")
    b.cluster.logs["t"] = replace(b.cluster.logs["t"], starts={0: 7, 1: 6})
    assert await repeated(b, "0.6", "0.7", "1.6", "1.7") == ["0.7", "1.6"]
    assert b.cluster.asked == [{"t": {0, 1}}]


async def test_a_partition_with_another_leader_may_have_lost_its_end() -> None:
    """Its events are written again; with the new leader they are believed like any others."""
    b = Bench(Placing())
    await b.publish("0.1", "1.1")
    b.cluster.logs["t"] = replace(b.cluster.logs["t"], epochs={0: 6, 1: 5})
    assert await repeated(b, "0.1", "1.1") == ["1.1"]
    b.cluster.known["t"] = b.cluster.logs["t"]
    await b.publish("0.2")
    assert await repeated(b, "0.1", "0.2", "1.1") == ["0.2", "1.1"]


async def test_what_was_sent_under_a_leader_before_is_not_believed_under_the_next() -> None:
    b = Bench(Placing())
    await b.publish("0.1")
    b.cluster.logs["t"] = b.cluster.known["t"] = replace(b.cluster.logs["t"], epochs={0: 6, 1: 5})
    await b.publish("0.9")
    assert await repeated(b, "0.1", "0.9") == ["0.9"]


@pytest.mark.parametrize("log", [{"starts": {}}, {"epochs": {}}])
async def test_a_partition_that_is_not_told_of_proves_nothing(log: dict[str, object]) -> None:
    b = Bench(Placing())
    await b.publish("0.1")
    b.cluster.logs["t"] = replace(b.cluster.logs["t"], **log)  # type: ignore[arg-type]
    assert await repeated(b, "0.1") == []


async def test_without_a_place_in_the_log_there_is_nothing_to_believe() -> None:
    """A broker that knows a batch already does not say where it is."""

    class Nowhere(RecordingPublisher):
        def _outcome(self, message: Message) -> Outcome:
            del message
            return Outcome(Result.PUBLISHED, 0, None)

    b = Bench(Nowhere())
    await b.publish("1")
    assert await repeated(b, "1") == []


async def test_the_cluster_is_asked_only_where_it_matters() -> None:
    b = Bench()
    await b.publish("1", "2")
    assert b.cluster.asked == []
    await b.publish("1", "3")
    assert b.cluster.asked == [{"t": {0}}]


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


async def test_on_a_real_kafka_what_was_deleted_is_written_again(
    kafka: ExternalKafka, topic: str
) -> None:
    """DeleteRecords between two posts: what is left is suppressed, what is gone is not."""
    kafka.create_topic(topic, 1)
    settings = Kafka(
        bootstrap_servers=tuple(kafka.bootstrap_servers.split(",")),
        topic=topic,
        dead_letter_topic=None,
    )
    supervisor = Supervisor(settings, [topic])
    publisher = Publisher(settings, supervisor)
    deduplicator = Deduplicator(publisher, supervisor, RecentEvents(100, 600))

    async def post(*ids: str) -> list[bool]:
        deadline = asyncio.get_running_loop().time() + 20
        outcomes = await deduplicator.publish([message(i, topic) for i in ids], deadline)
        assert {o.result for o in outcomes} == {Result.PUBLISHED}
        return [o.repeated for o in outcomes]

    supervisor.start()
    try:
        await supervisor.current()
        assert await post("1", "2") == [False, False]
        assert await post("1", "2") == [True, True]
        await asyncio.to_thread(kafka.delete_records, topic, 0, 1)
        assert await post("1", "2") == [False, True]
        assert await post("1", "2") == [True, True]
    finally:
        await publisher.stop()
        await supervisor.stop(1)
    records = read_topic(kafka.bootstrap_servers, topic, foreign=True)
    assert [(r.offset, r.value) for r in records] == [(1, b"2"), (2, b"1")]


# --- the memory --------------------------------------------------------------------------


def places(*ids: str, partition: int = 0) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(ids, (partition, 0))


def test_the_memory_is_bounded_and_drops_the_oldest() -> None:
    recent = RecentEvents(100, 600, Clock())
    for n in range(1000):
        recent.add("t", places(str(n)))
        assert len(recent) <= 100
    assert recent.held("t", ["999"])
    assert recent.held("t", ["950"])
    assert not recent.held("t", ["0"])


def test_an_event_is_forgotten_after_its_time() -> None:
    clock = Clock()
    recent = RecentEvents(100, 10, clock)
    recent.add("t", places("early"))
    clock.now = 6.0
    recent.add("t", places("late"))
    assert recent.held("t", ["early"])
    clock.now = 10.1
    assert not recent.held("t", ["early"])
    assert recent.held("t", ["late"])
    clock.now = 16.1
    assert not recent.held("t", ["late"])


def test_an_idle_memory_forgets_too() -> None:
    clock = Clock()
    recent = RecentEvents(100, 10, clock)
    recent.add("t", places("1"))
    clock.now = 10.1
    assert not recent.held("t", ["1"])
    assert len(recent) == 0


def test_one_topic_can_be_forgotten() -> None:
    recent = RecentEvents(100, 10, Clock())
    recent.add("t", places("1"))
    recent.add("u", places("1"))
    recent.forget("t")
    assert not recent.held("t", ["1"])
    assert recent.held("u", ["1"])
    assert len(recent) == 1


def test_one_partition_can_be_forgotten() -> None:
    recent = RecentEvents(100, 10, Clock())
    recent.add("t", places("1") | places("2", partition=1))
    recent.add("u", places("1"))
    recent.forget_partitions("t", {0})
    assert [*recent.held("t", ["1", "2"])] == ["2"]
    assert recent.held("u", ["1"])


def test_an_event_costs_little_more_than_its_text() -> None:
    """Its place in the log, and when it was seen: some 150 bytes, with the tables."""
    ids = [f"{n}.{n:032x}" for n in range(50_000)]
    tracemalloc.start()
    recent = RecentEvents(100_000, 600, Clock())
    for n, event_id in enumerate(ids):
        recent.add("t", {event_id: (n % 6, n)})
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / len(ids) < 220


def test_the_memory_tells_when_an_event_was_last_seen() -> None:
    clock = Clock()
    recent = RecentEvents(100, 10, clock)
    recent.add("t", places("1", "2"))
    clock.now = 6.0
    recent.add("t", places("2"))
    assert recent.held("t", ["1", "2", "3"]) == {"1": (0.0, 0, 0), "2": (6.0, 0, 0)}


def test_what_stands_for_a_repeated_event_is_an_acknowledgement() -> None:
    assert REPEATED.result is Result.PUBLISHED
    assert REPEATED.repeated


async def test_a_replacement_within_a_large_document_ends_what_is_remembered_of_it() -> None:
    """It is remembered some at a time, and a topic may lose what it had in between."""
    b = Bench(remember=10 * MANY)
    recent = RecentEvents(10 * MANY, 600, b.clock)
    deduplicator = Deduplicator(b.publisher, b.cluster, recent)
    messages = [message(str(number)) for number in range(4 * MANY)]
    deadline = asyncio.get_running_loop().time() + 60
    publishing = asyncio.create_task(deduplicator.publish(messages, deadline))
    while not len(recent):
        await asyncio.sleep(0)
    b.cluster.generation += 1
    outcomes = await publishing
    assert {outcome.result for outcome in outcomes} == {Result.PUBLISHED}
    assert 0 < len(recent) < len(messages)
