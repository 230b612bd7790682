"""Records on their way: batches, outcomes, deadlines, and what a failure costs whom."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import errors

from bridge.config.settings import Kafka
from bridge.kafka import Publisher, Supervisor
from bridge.kafka.internals import InvalidRecordError
from bridge.kafka.partitions import partition_of
from bridge.kafka.producer import RefusedError
from bridge.kafka.publisher import CHUNK
from bridge.kafka.supervisor import Timing
from bridge.model import Message, Outcome, Result
from tests.support.fake_kafka import (
    NODE,
    Answer,
    DescribeConfigs,
    FakeProducer,
    durable,
    idle,
    message,
    taking,
    until,
)

SETTINGS = Kafka(publish_timeout_seconds=5)
TIMING = Timing(watch=0.01, probe=60, missing_topic=60, backoff=(0.001, 0.01))
SOON = 0.2  # a deadline, for what never comes


class Bench:
    """A publisher over scripted producers: the first, then the second, and so on."""

    def __init__(
        self, producers: Sequence[FakeProducer], settings: Kafka, describe_configs: DescribeConfigs
    ) -> None:
        self.producers = list(producers)
        self.opened = 0
        self.rebuilds: list[str] = []
        self.refusals: list[str] = []
        self.supervisor = Supervisor(
            settings,
            ["status"],
            connect=self._connect,
            describe_configs=describe_configs,
            timing=TIMING,
            on_rebuild=self.rebuilds.append,
        )
        self.supervisor.on_refusal = self.refusals.append
        self.publisher = Publisher(settings, self.supervisor)

    async def _connect(self, _: Kafka) -> FakeProducer:
        if self.opened == len(self.producers):
            raise errors.KafkaConnectionError("no more brokers")
        self.opened += 1
        return self.producers[self.opened - 1]

    async def publish(self, *messages: Message, seconds: float = 60.0) -> list[Outcome]:
        deadline = asyncio.get_running_loop().time() + seconds
        return await self.publisher.publish(messages, deadline)


@asynccontextmanager
async def bench(
    *producers: FakeProducer,
    settings: Kafka = SETTINGS,
    describe_configs: DescribeConfigs = durable,
) -> AsyncIterator[Bench]:
    made = Bench(producers, settings, describe_configs)
    made.supervisor.start()
    if producers:
        await made.supervisor.current()  # so that no deadline passes before
    try:
        yield made
    finally:
        await made.publisher.stop()
        await made.supervisor.stop(1)


def results(outcomes: Sequence[Outcome]) -> list[Result]:
    return [outcome.result for outcome in outcomes]


async def publish_behind(b: Bench, *requests: Sequence[Message]) -> list[list[Outcome]]:
    """Publish requests that wait, in this order, for a batch that is in flight."""
    producer = b.producers[0]
    answers, producer.answers = producer.answers, lambda *_: None
    opener = asyncio.create_task(b.publish(message(b"opener")))
    await until(lambda: len(producer.sent) == 1)
    producer.answers = answers
    waiting = []
    for messages in requests:
        waiting.append(asyncio.create_task(b.publish(*messages)))
        await idle()
    producer.settle(producer.pending[0], 7)
    assert results(await opener) == [Result.PUBLISHED]
    return await asyncio.gather(*waiting)


def raising(error: BaseException, when: bytes) -> Callable[[list[bytes], int], Answer]:
    """Refuse whatever batch holds this record, as a broker does."""
    return lambda values, _: error if when in values else 0


async def test_the_broker_answer_gives_partition_and_offset() -> None:
    """Offsets count from the batch's first record, in the order of the messages."""
    async with bench(FakeProducer(lambda *_: 41)) as b:
        outcomes = await b.publish(message(b"a"), message(b"b"))
    assert outcomes == [Outcome(Result.PUBLISHED, 0, 41), Outcome(Result.PUBLISHED, 0, 42)]


async def test_nothing_to_publish_needs_no_kafka() -> None:
    async with bench() as b:
        assert await b.publish() == []


async def test_records_of_one_request_share_a_batch_per_partition() -> None:
    """All states of a request go out together: one batch a partition, in order."""
    producer = FakeProducer(partitions=2)
    async with bench(producer) as b:
        await b.publish(*(message(b"%d" % n, key=n) for n in range(6)))
    places = {b"%d" % n: partition_of(b"%d" % n, 2) for n in range(6)}
    assert sorted(producer.sent) == [
        (partition, [value for value in places if places[value] == partition])
        for partition in (0, 1)
    ]


async def test_requests_that_wait_share_the_next_batch() -> None:
    """While one batch is in flight, the records of all other requests gather for the next."""
    producer = FakeProducer()
    async with bench(producer) as b:
        await publish_behind(b, *([message(value)] for value in (b"b", b"c", b"d")))
    assert producer.sent == [(0, [b"opener"]), (0, [b"b", b"c", b"d"])]


async def test_a_full_batch_is_followed_by_another_in_order() -> None:
    producer = FakeProducer(capacity=2)
    async with bench(producer) as b:
        outcomes = await b.publish(*(message(b"%d" % n) for n in range(5)))
    assert [records for _, records in producer.sent] == [[b"0", b"1"], [b"2", b"3"], [b"4"]]
    assert results(outcomes) == [Result.PUBLISHED] * 5


async def test_no_answer_by_the_deadline_is_unknown() -> None:
    """Handed over and not answered: it may be in Kafka, and must not be acknowledged."""
    async with bench(FakeProducer(lambda *_: None)) as b:
        outcomes = await b.publish(message(b"a"), seconds=SOON)
    assert results(outcomes) == [Result.UNKNOWN]


async def test_an_answer_after_the_deadline_changes_nothing() -> None:
    """What the caller holds is what was known when the answer was due."""
    producer = FakeProducer(lambda *_: None)
    async with bench(producer) as b:
        outcomes = await b.publish(message(b"a"), seconds=SOON)
        producer.settle(producer.pending[0], 7)
        await until(lambda: not producer.in_flight)
        await idle()
    assert results(outcomes) == [Result.UNKNOWN]


async def test_without_kafka_it_has_failed_and_never_gets_there_later() -> None:
    """No buffer: what was not handed over by the deadline is forgotten."""
    producer = FakeProducer()
    async with bench() as b:
        outcomes = await b.publish(message(b"a"), seconds=SOON)
        assert results(outcomes) == [Result.FAILED]
        b.producers.append(producer)
        assert results(await b.publish(message(b"b"))) == [Result.PUBLISHED]
    assert producer.values == [b"b"]


async def test_what_waits_behind_a_batch_in_flight_is_withdrawn_at_its_deadline() -> None:
    producer = FakeProducer(lambda *_: None)
    async with bench(producer) as b:
        first = asyncio.create_task(b.publish(message(b"a"), seconds=SOON * 4))
        await until(lambda: len(producer.sent) == 1)
        behind = await b.publish(message(b"b"), seconds=SOON)
        assert results(behind) == [Result.FAILED]
        producer.answers = lambda *_: 0
        producer.settle(producer.pending[0], 7)
        assert results(await first) == [Result.PUBLISHED]
        await b.publish(message(b"c"))
    assert producer.values == [b"a", b"c"]


async def test_a_cancelled_request_is_withdrawn() -> None:
    producer = FakeProducer(lambda *_: None)
    async with bench(producer) as b:
        first = asyncio.create_task(b.publish(message(b"a")))
        await until(lambda: len(producer.sent) == 1)
        second = asyncio.create_task(b.publish(message(b"b")))
        await idle()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        producer.answers = lambda *_: 0
        producer.settle(producer.pending[0], 7)
        await first
        await b.publish(message(b"c"))
    assert producer.values == [b"a", b"c"]


async def test_a_missing_topic_fails_its_own_records_only() -> None:
    async with bench(FakeProducer(topics=["status"])) as b:
        outcomes = await b.publish(message(b"a", topic="rejected"), message(b"b"))
    assert results(outcomes) == [Result.FAILED, Result.PUBLISHED]
    assert outcomes[0].error == "topic rejected is missing or not authorized"


async def test_a_record_over_the_limit_harms_nobody() -> None:
    producer = FakeProducer()
    async with bench(producer) as b:
        outcomes = await b.publish(message(b"x" * (1024 * 1024 + 1)), message(b"b"))
    assert [o.too_large for o in outcomes] == [True, False]
    assert results(outcomes) == [Result.FAILED, Result.PUBLISHED]
    assert producer.values == [b"b"]


@pytest.mark.parametrize(
    "error",
    [
        errors.OutOfOrderSequenceNumber(),
        errors.ProducerFenced(),
        errors.NotLeaderForPartitionError(),
        errors.KafkaError("the sender died"),
        RuntimeError("not even an error of Kafka's"),
    ],
)
async def test_a_broken_connection_is_replaced_and_the_records_sent_again(
    error: Exception,
) -> None:
    """Any failure uses up sequence numbers: the next producer gets the batch, in order."""
    broken, fresh = FakeProducer(lambda *_: error), FakeProducer()
    async with bench(broken, fresh) as b:
        outcomes = await b.publish(message(b"a"), message(b"b"))
        assert results(outcomes) == [Result.PUBLISHED] * 2
        assert fresh.sent == [(0, [b"a", b"b"])]
        await until(lambda: broken.closed)


async def test_tries_are_bounded() -> None:
    producers = [FakeProducer(lambda *_: errors.OutOfOrderSequenceNumber()) for _ in range(4)]
    async with bench(*producers) as b:
        outcomes = await b.publish(message(b"a"))
    assert results(outcomes) == [Result.UNKNOWN]
    assert sum(len(c.sent) for c in producers) == 3


@pytest.mark.parametrize(
    "error", [errors.TopicAuthorizationFailedError("status"), errors.InvalidTopicError()]
)
async def test_what_no_other_connection_mends_fails_at_once(error: Exception) -> None:
    first, second = FakeProducer(lambda *_: error), FakeProducer()
    async with bench(first, second) as b:
        assert results(await b.publish(message(b"a"), message(b"b"))) == [Result.FAILED] * 2
        assert results(await b.publish(message(b"c"))) == [Result.PUBLISHED]
    assert second.values == [b"c"]


@pytest.mark.parametrize(
    ("error", "too_large"),
    [
        (errors.MessageSizeTooLargeError(), True),
        (errors.RecordListTooLargeError(), True),
        (errors.CorruptRecordException(), False),
        (errors.UnknownError(), False),
    ],
)
async def test_one_bad_record_costs_itself_alone(error: Exception, too_large: bool) -> None:
    """The others of its batch, its own request's and other requests', are published singly."""
    refuse = raising(error, b"bad")
    held: list[Any] = [None]
    first = FakeProducer(lambda *a: held.pop() if held else refuse(*a))
    later = [FakeProducer(refuse) for _ in range(3)]
    async with bench(first, *later) as b:
        opener = asyncio.create_task(b.publish(message(b"opener")))
        await until(lambda: len(first.sent) == 1)
        mixed = asyncio.create_task(b.publish(message(b"a"), message(b"bad"), message(b"b")))
        other = asyncio.create_task(b.publish(message(b"c")))
        await idle()
        first.settle(first.pending[0], 7)
        assert results(await opener) == [Result.PUBLISHED]
        outcomes = await mixed
        assert results(outcomes) == [Result.PUBLISHED, Result.FAILED, Result.PUBLISHED]
        assert outcomes[1].too_large is too_large
        assert results(await other) == [Result.PUBLISHED]


async def test_a_connection_that_is_given_up_leaves_its_records_to_the_next() -> None:
    """A stalled batch is sent again while its request still waits: at least once."""
    stalled, fresh = FakeProducer(lambda *_: None), FakeProducer()
    async with bench(stalled, fresh, settings=Kafka(publish_timeout_seconds=0.1)) as b:
        outcomes = await b.publish(message(b"a"))
    assert results(outcomes) == [Result.PUBLISHED]
    assert stalled.values == fresh.values == [b"a"]


async def test_a_failure_leaves_other_partitions_their_answers() -> None:
    """The old producer is wound down, not cut: what it still answers counts."""
    first = FakeProducer(
        lambda _, partition: errors.OutOfOrderSequenceNumber() if partition else None, partitions=2
    )
    second = FakeProducer(partitions=2)
    async with bench(first, second) as b:
        slow = asyncio.create_task(b.publish(message(b"slow", key=0)))
        await until(lambda: len(first.sent) == 1)
        assert results(await b.publish(message(b"a", key=1))) == [Result.PUBLISHED]
        first.settle(first.pending[0], 7)
        assert await slow == [Outcome(Result.PUBLISHED, 0, 7)]
    assert second.values == [b"a"]


async def test_order_within_a_partition_survives_a_replacement() -> None:
    broken, fresh = FakeProducer(lambda *_: None), FakeProducer()
    async with bench(broken, fresh) as b:
        first = asyncio.create_task(b.publish(message(b"1"), message(b"2")))
        await until(lambda: len(broken.sent) == 1)
        second = asyncio.create_task(b.publish(message(b"3")))
        await idle()
        broken.settle(broken.pending[0], errors.OutOfOrderSequenceNumber())
        await asyncio.gather(first, second)
    assert fresh.values == [b"1", b"2", b"3"]


async def test_stop_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    async with bench(FakeProducer(lambda *_: None)) as b:
        await b.publish(message(b"a"), seconds=SOON)
    await until(lambda: asyncio.all_tasks() == before)


async def test_a_batch_that_was_abandoned_is_not_taken_for_published() -> None:
    """A producer that ends answers nothing more: the record may be in Kafka, or not."""
    settings = Kafka(publish_timeout_seconds=0.1)
    producers = [FakeProducer(lambda *_: None) for _ in range(3)]
    async with bench(*producers, settings=settings) as b:
        outcomes = await b.publish(message(b"a"), seconds=5)
        assert all(producer.closed for producer in producers)
    assert results(outcomes) == [Result.UNKNOWN]


async def test_a_batch_of_which_aiokafka_lets_go_is_not_taken_for_published() -> None:
    producer = FakeProducer(lambda *_: None)
    async with bench(producer) as b:
        publishing = asyncio.create_task(b.publish(message(b"a"), seconds=SOON * 4))
        await until(lambda: len(producer.pending) == 1)
        producer.pending[0].cancel()
        assert results(await publishing) == [Result.UNKNOWN]


# --- what a topic does not take ----------------------------------------------------------


def refusing(too_large: int) -> Callable[[list[bytes], int], Answer]:
    """As a broker refuses every batch of more bytes, and the producer gives its numbers back."""
    error = RefusedError(errors.MessageSizeTooLargeError())
    return lambda values, _: error if sum(map(len, values)) > too_large else 0


async def test_what_is_known_not_to_fit_is_told_at_once_and_not_sent() -> None:
    """While the other records of its request have no answer yet."""
    producer = FakeProducer(lambda *_: None)
    told: list[Message] = []
    async with bench(producer, describe_configs=taking(20_000)) as b:
        large = [message(b"%d" % n + b"x" * 24_000) for n in range(100)]
        deadline = asyncio.get_running_loop().time() + 2
        publishing = asyncio.create_task(
            b.publisher.publish([*large, message(b"a")], deadline, lambda one, _: told.append(one))
        )
        await until(lambda: len(producer.pending) == 1)
        assert told == large
        producer.settle(producer.pending[0], 0)
        outcomes = await publishing
    assert producer.values == [b"a"]
    assert [o.too_large for o in outcomes] == [True] * 100 + [False]
    assert (b.rebuilds, b.refusals) == ([], [])


async def test_where_only_the_broker_can_say_it_costs_a_few_batches() -> None:
    """A hundred records at fault, in two requests and beside others': learnt from the first."""
    producer = FakeProducer(refusing(20_000))
    told: list[Message] = []
    async with bench(producer, describe_configs=taking(None)) as b:
        large = [message(b"%d" % n + b"x" * 24_000) for n in range(100)]
        deadline = asyncio.get_running_loop().time() + 2
        outcomes = await b.publisher.publish(large, deadline, lambda one, _: told.append(one))
        other = await b.publish(message(b"a"), large[0])
    assert all(o.too_large for o in outcomes)
    assert told == large
    assert results(other) == [Result.PUBLISHED, Result.FAILED]
    assert len(b.refusals) < 10
    assert b.rebuilds == []
    assert b.opened == 1


async def test_a_refused_batch_is_halved_and_its_good_records_keep_their_order() -> None:
    error = RefusedError(InvalidRecordError())
    producer = FakeProducer(raising(error, b"5"))
    async with bench(producer) as b:
        outcomes = await b.publish(*(message(b"%d" % n) for n in range(8)))
    assert [n for n, o in enumerate(outcomes) if o.result is not Result.PUBLISHED] == [5]
    assert [records for _, records in producer.sent if b"5" not in records] == [
        [b"0", b"1", b"2", b"3"],
        [b"4"],
        [b"6", b"7"],
    ]
    assert b.refusals == ["invalid_record"] * 4
    assert b.opened == 1


async def test_what_every_record_has_alike_is_not_tried_again() -> None:
    producer = FakeProducer(lambda *_: RefusedError(errors.InvalidTimestampError()))
    async with bench(producer) as b:
        outcomes = await b.publish(*(message(b"%d" % n) for n in range(8)))
    assert results(outcomes) == [Result.FAILED] * 8
    assert "check the clocks" in str(outcomes[0].error)
    assert len(producer.sent) == 1
    assert b.refusals == ["timestamp"]


async def test_what_waits_for_a_broker_that_throttles_is_withdrawn_at_its_deadline() -> None:
    producer = FakeProducer()
    async with bench(producer) as b:
        await b.publish(message(b"before"))
        producer.answered(NODE, SimpleNamespace(topics=[], throttle_time_ms=60_000))
        assert results(await b.publish(message(b"a"), seconds=SOON)) == [Result.FAILED]
        (queue,) = b.publisher._queues.values()
        await until(lambda: not list(queue.chunks))  # or it would be held for as long
    assert producer.values == [b"before"]


async def test_only_a_record_that_was_refused_alone_is_too_large() -> None:
    """Else the innocent ones of its batch would become dead letters at a deadline."""
    refuse = raising(errors.MessageSizeTooLargeError(), b"bad")
    async with bench(FakeProducer(refuse)) as b:
        outcomes = await b.publish(message(b"a"), message(b"bad"), message(b"b"), seconds=SOON)
    assert results(outcomes) == [Result.FAILED] * 3
    assert not any(outcome.too_large for outcome in outcomes)


async def test_nothing_is_sent_after_the_deadline() -> None:
    producer = FakeProducer()
    async with bench(producer) as b:
        await b.supervisor.current()
        assert results(await b.publish(message(b"late"), seconds=-0.1)) == [Result.FAILED]
        await b.publish(message(b"in time"))
    assert producer.values == [b"in time"]


async def test_the_records_of_many_requests_keep_to_what_the_topic_takes() -> None:
    producer = FakeProducer()
    async with bench(producer, describe_configs=taking(1000)) as b:
        await publish_behind(b, *[[message(b"x" * 300)]] * 9)
    assert max(sum(map(len, records)) for _, records in producer.sent) <= 1000


async def test_a_small_request_does_not_wait_for_all_of_a_large_one_nor_the_reverse() -> None:
    """They share the batches that go out meanwhile, and each keeps its order."""
    producer = FakeProducer()
    large = [message(b"L%04d" % n + b"x" * 295) for n in range(CHUNK + 1)]
    small = [message(b"s%04d" % n + b"x" * 295) for n in range(40)]
    async with bench(producer, describe_configs=taking(4000)) as b:
        await publish_behind(b, large, *([each] for each in small))
    batches = [[value[:1] for value in records] for _, records in producer.sent[1:]]
    shared = batches[: batches.index(next(each for each in batches if b"s" not in each))]
    assert all({*each} == {b"L", b"s"} for each in shared)
    assert [value for each in shared for value in each].count(b"s") == len(small)
    for sent in (large, small):
        values = [each.value for each in sent]
        assert [value for value in producer.values if value in values] == values


async def test_records_that_fill_a_batch_each_take_turns() -> None:
    """Those of a large request and of small ones: neither waits for all of the other."""
    producer = FakeProducer(capacity=1)
    async with bench(producer) as b:
        await publish_behind(b, [message(b"L")] * (CHUNK + 1), *[[message(b"s")]] * 20)
    assert producer.values[1:41] in ([b"s", b"L"] * 20, [b"L", b"s"] * 20)


async def test_a_large_request_s_records_are_sent_again_in_their_order() -> None:
    """Before all else of it; the small request beside it is sent, too."""
    failing: list[BaseException] = [errors.KafkaConnectionError("gone")]
    first = FakeProducer(lambda *_: failing.pop() if failing else 0)
    second = FakeProducer()
    async with bench(first, second, describe_configs=taking(4000)) as b:
        large = [message(b"L%04d" % n + b"x" * 295) for n in range(CHUNK + 1)]
        small = message(b"small")
        outcomes = await asyncio.gather(b.publish(*large), b.publish(small))
    assert [o.result for each in outcomes for o in each] == [Result.PUBLISHED] * (CHUNK + 2)
    values = [each.value for each in large]
    assert [value for value in second.values if value in values] == values
    assert small.value in first.values + second.values


async def test_a_batch_holds_no_more_than_any_of_its_records_may_share_it_with() -> None:
    """Records that were refused together are sent in smaller batches, whoever else waits."""
    producer = FakeProducer(raising(RefusedError(InvalidRecordError()), b"bad"))
    small, large = [message(b"bad"), message(b"good")], [message(b"L")] * (CHUNK + 1)
    async with bench(producer) as b:
        outcomes = await publish_behind(b, small, large)
    refused = [len(values) for _, values in producer.sent if b"bad" in values]
    assert refused[-1] == 1
    assert all(after <= max(before // 2, 1) for before, after in pairwise(refused))
    assert results(outcomes[0]) == [Result.FAILED, Result.PUBLISHED]
    assert {o.result for o in outcomes[1]} == {Result.PUBLISHED}
