"""What a broker may say or fail to say, on the real protocol: healthy again within five seconds.

The broker is scripted, all else is the real thing: producer, supervisor, publisher.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from aiokafka.errors import kafka_errors
from aiokafka.partitioner import murmur2

from bridge.config.settings import Kafka
from bridge.kafka import Publisher, Supervisor
from bridge.model import Message, Outcome, Result
from tests.support.fake_kafka import durable, message, until
from tests.support.scripted_broker import (
    LOST,
    SILENT,
    UNMENTIONED,
    ScriptedBroker,
    Verdict,
    refused,
)

HEALTHY_SECONDS = 30.0  # on the slowest machine; on most it takes one or two
TIMEOUT_SECONDS = 0.5
DEADLINE_SECONDS = 3.0

TOPIC = "status"
AFTER_APPEND = 20  # NOT_ENOUGH_REPLICAS_AFTER_APPEND: the one error whose batch is in the log
DUPLICATE = 46  # DUPLICATE_SEQUENCE_NUMBER: not an error, the batch was taken before
# The broker says these before it appends anything: the producer stays.
REFUSALS = (2, 10, 17, 18, 21, 29, 32, 43, 44, 87)
NEWER = (87, 89, 90, 97, 120)  # INVALID_RECORD and other codes that the client has no name for

RETRIABLE = sorted(c for c, error in kafka_errors.items() if error.retriable)
FINAL = sorted(
    {c for c, error in kafka_errors.items() if not error.retriable} - {0, DUPLICATE} | {*NEWER}
)
# Of InitProducerId: those that are asked again on the same connection, and those that end it.
PRODUCER_ID_CODES = [14, 15, 16, 51, -1, 7, 31, 41, 42, 53, 56, 87]


def _keys() -> dict[int, int]:
    """A key for each of two partitions, as Java's partitioner has them."""
    return {(murmur2(b"%d" % key) & 0x7FFFFFFF) % 2: key for key in range(10)}


KEY = _keys()


@dataclass(slots=True)
class Bench:
    """The publisher in front of the broker. Every answer is held against the broker's log."""

    broker: ScriptedBroker
    supervisor: Supervisor
    publisher: Publisher

    async def publish(self, *messages: Message, seconds: float = DEADLINE_SECONDS) -> list[Outcome]:
        deadline = asyncio.get_running_loop().time() + seconds
        outcomes = await self.publisher.publish(messages, deadline)
        for one, outcome in zip(messages, outcomes, strict=True):
            if outcome.result is Result.PUBLISHED:
                assert one.value in self.broker.values(one.topic)
            if outcome.result is Result.FAILED:
                assert one.value not in self.broker.values(one.topic)
        return outcomes

    async def result(
        self, value: bytes, *, on: int = 0, seconds: float = DEADLINE_SECONDS
    ) -> Result:
        (outcome,) = await self.publish(message(value, key=KEY[on]), seconds=seconds)
        if outcome.result is Result.PUBLISHED:
            assert outcome.partition == on
            assert outcome.offset is not None
            assert self.broker.partitions[TOPIC, on].values[outcome.offset] == value
        return outcome.result

    async def assert_healthy(self, *, on: Sequence[int] = (0, 1)) -> None:
        """A provider's posts are acknowledged again, soon after the fault."""
        async with asyncio.timeout(HEALTHY_SECONDS):
            for partition in on:
                value = b"healthy %d" % partition
                while await self.result(value, on=partition, seconds=1) is not Result.PUBLISHED:
                    await asyncio.sleep(0.01)

    def script(self, *verdicts: Verdict, partition: int = 0) -> None:
        self.broker.partitions[TOPIC, partition].verdicts.extend(verdicts)

    def log(self, partition: int = 0) -> list[bytes]:
        return self.broker.partitions[TOPIC, partition].values


@asynccontextmanager
async def bench(
    *, nodes: int = 1, seconds: float = TIMEOUT_SECONDS, opened: bool = True
) -> AsyncIterator[Bench]:
    """A connected publisher that has published to both partitions before, unless not `opened`."""
    tasks = asyncio.all_tasks()
    async with ScriptedBroker(TOPIC, nodes=nodes) as broker:
        settings = Kafka(
            bootstrap_servers=broker.bootstrap_servers,
            topic=TOPIC,
            dead_letter_topic=None,
            publish_timeout_seconds=seconds,
        )
        supervisor = Supervisor(settings, [TOPIC], describe_configs=durable)
        publisher = Publisher(settings, supervisor)
        made = Bench(broker, supervisor, publisher)
        try:
            if opened:
                supervisor.start()
                for partition in (0, 1):
                    assert await made.result(b"before", on=partition) is Result.PUBLISHED
            yield made
        finally:
            await publisher.stop()
            await supervisor.stop(1)
    await until(lambda: asyncio.all_tasks() == tasks)


# --- errors that are final ---------------------------------------------------------------


def test_the_codes_are_those_of_the_client() -> None:
    """The lists are not empty and leave nothing out."""
    assert {*FINAL} | {*RETRIABLE} | {0, DUPLICATE} >= {*kafka_errors}
    assert {2, 10, 18, 29, 31, 45, 47, 59, 87} <= {*FINAL}
    assert not {*FINAL} & {*RETRIABLE}


@pytest.mark.parametrize("code", FINAL)
async def test_after_a_final_error_it_is_healthy_again(code: int) -> None:
    """Whatever the error: a producer that has lost count is replaced, on every partition."""
    async with bench() as b:
        b.script(refused(code))
        await b.result(b"struck")
        await b.assert_healthy()
        assert (b.broker.given_ids == 1) is (code in REFUSALS)
        assert b.log(1) == [b"before", b"healthy 1"]
        assert b.log() in (
            [b"before", b"struck", b"healthy 0"],
            [b"before", b"healthy 0"],
        )


@pytest.mark.parametrize("code", FINAL)
async def test_an_error_that_stays_is_never_acknowledged(code: int) -> None:
    async with bench() as b:
        b.script(*[refused(code)] * 20)
        assert await b.result(b"struck") is not Result.PUBLISHED
        assert b.log() == [b"before"]
        b.broker.partitions[TOPIC, 0].verdicts.clear()
        await b.assert_healthy()


@pytest.mark.parametrize("code", [2, 10, 44, 87, -1])
async def test_of_a_refused_batch_all_that_is_good_is_published(code: int) -> None:
    """The broker refuses what holds the record at fault; all others are taken, in order."""
    values = [b"a", b"bad", b"b", b"c"]
    async with bench() as b:
        b.broker.partitions[TOPIC, 0].refuses[b"bad"] = code
        outcomes = await b.publish(*(message(v, key=KEY[0]) for v in values))
        assert [o.result is Result.PUBLISHED for o in outcomes] == [True, False, True, True]
        assert b.log() == [b"before", b"a", b"b", b"c"]
        assert outcomes[1].too_large is (code == 10)
        assert (b.broker.given_ids == 1) is (code in REFUSALS)
        await b.assert_healthy()


async def test_one_bad_record_among_many_costs_a_few_batches() -> None:
    """By halves: the others of its batch are not sent one by one."""
    values = [b"%d" % n for n in range(256)]
    async with bench() as b:
        b.broker.partitions[TOPIC, 0].refuses[b"77"] = 87
        outcomes = await b.publish(*(message(v, key=KEY[0]) for v in values))
        assert [n for n, o in enumerate(outcomes) if o.result is not Result.PUBLISHED] == [77]
        assert b.broker.partitions[TOPIC, 0].batches < 25


async def test_numbers_that_may_have_been_used_are_not_given_back() -> None:
    """The batch was appended, its answer lost, and its second sending refused.

    With the same numbers the next batch would be taken for it: acknowledged, and in no log.
    """
    async with bench() as b:
        b.script(LOST)
        b.broker.refuses_known = 10
        deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
        (lost,) = await b.publisher.publish([message(b"lost", key=KEY[0])], deadline)
        assert lost.result is not Result.PUBLISHED
        assert b.log() == [b"before", b"lost"]
        b.broker.refuses_known = None
        assert await b.result(b"next") is Result.PUBLISHED
        assert b.broker.given_ids == 2


async def test_refused_times_cost_one_batch_and_say_what_to_do() -> None:
    """All records have them alike: none is better off alone."""
    async with bench() as b:
        b.script(*[refused(32)] * 9)
        outcomes = await b.publish(*(message(b"%d" % n, key=KEY[0]) for n in range(50)))
        assert {o.result for o in outcomes} == {Result.FAILED}
        assert "message.timestamp.before.max.ms" in (outcomes[0].error or "")
        assert b.broker.partitions[TOPIC, 0].batches == 2
        assert b.broker.given_ids == 1


async def test_what_is_asked_for_is_every_replica_s_answer_and_no_repetition() -> None:
    """`acks=all`, and a producer id in every batch: without either the promise is none."""
    async with bench() as b:
        await b.result(b"x")
        assert b.broker.produced
        assert {acks for acks, _ in b.broker.produced} == {-1}
        assert set.union(*(ids for _, ids in b.broker.produced)) == {1}


async def test_a_sequence_that_the_broker_knows_is_published() -> None:
    """DUPLICATE_SEQUENCE_NUMBER means that the batch is in the log."""
    async with bench() as b:
        b.script(Verdict(DUPLICATE))
        (outcome,) = await b.publish(message(b"twice", key=KEY[0]))
        assert outcome.result is Result.PUBLISHED
        assert b.log() == [b"before", b"twice"]
        await b.assert_healthy()


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("code", [2, 10, 29, 45, 87])
async def test_an_error_on_one_of_two_partitions_costs_the_other_nothing(
    code: int, nodes: int
) -> None:
    """Both in flight at once, in one Produce or on two nodes."""
    async with bench(nodes=nodes) as b:
        b.script(refused(code))
        struck, other = await b.publish(message(b"x", key=KEY[0]), message(b"y", key=KEY[1]))
        assert other == Outcome(Result.PUBLISHED, 1, 1)
        assert b.log(1) == [b"before", b"y"]
        assert struck.result in (Result.PUBLISHED, Result.FAILED)
        await b.assert_healthy()


async def test_the_answer_of_another_node_counts_after_the_producer_was_given_up() -> None:
    """It comes late, over the old connection: neither lost nor written twice."""
    async with bench(nodes=2) as b:
        b.broker.answering[1].clear()
        slow = asyncio.create_task(b.publish(message(b"y", key=KEY[1])))
        await until(lambda: b.log(1) == [b"before", b"y"])
        b.script(refused(45))
        assert await b.result(b"x") is Result.PUBLISHED
        assert b.broker.given_ids == 2
        b.broker.answering[1].set()
        assert await slow == [Outcome(Result.PUBLISHED, 1, 1)]
        assert b.log(1) == [b"before", b"y"]


# --- errors that go away -----------------------------------------------------------------


@pytest.mark.parametrize("code", RETRIABLE)
async def test_an_error_that_goes_away_within_the_deadline_costs_nothing(code: int) -> None:
    """The same producer sends again, and the sequence number keeps it at one record."""
    async with bench() as b:
        b.script(*[Verdict(code, taken=code == AFTER_APPEND)] * 2)
        assert await b.result(b"late") is Result.PUBLISHED
        assert b.log() == [b"before", b"late"]
        assert b.broker.given_ids == 1


@pytest.mark.parametrize("code", RETRIABLE)
async def test_an_error_that_outlasts_the_deadline_is_never_acknowledged(code: int) -> None:
    async with bench(seconds=0.15) as b:
        b.script(*[refused(code)] * 1000)
        assert await b.result(b"late", seconds=0.25) is Result.UNKNOWN
        b.broker.partitions[TOPIC, 0].verdicts.clear()
        await b.assert_healthy()


# --- answers that do not come ------------------------------------------------------------


async def test_an_answer_that_is_lost_after_the_append_is_asked_for_again() -> None:
    async with bench() as b:
        b.script(LOST)
        assert await b.result(b"lost") is Result.PUBLISHED
        assert b.log() == [b"before", b"lost"]
        await b.assert_healthy()


@pytest.mark.parametrize("verdict", [SILENT, UNMENTIONED])
async def test_no_answer_is_unknown_and_the_producer_is_replaced(verdict: Verdict) -> None:
    """Silence, or an answer that does not mention the partition, which the client waits for."""
    async with bench() as b:
        b.script(*[verdict] * 1000)
        assert await b.result(b"silent", seconds=0.2) is not Result.PUBLISHED
        await until(lambda: b.broker.given_ids >= 2)
        b.broker.partitions[TOPIC, 0].verdicts.clear()
        await b.assert_healthy()


# --- brokers that ask to be left alone ---------------------------------------------------


async def test_a_broker_that_throttles_is_waited_for_and_not_replaced() -> None:
    """It reads nothing for longer than a batch may take, and answers what is sent after that."""
    async with bench() as b:
        told: list[float] = []
        b.supervisor.on_throttle = told.append
        b.broker.throttle_ms = int(TIMEOUT_SECONDS * 4 * 1000)
        assert await b.result(b"one") is Result.PUBLISHED
        assert await b.result(b"two", seconds=TIMEOUT_SECONDS) is Result.FAILED
        assert await b.result(b"other", on=1, seconds=TIMEOUT_SECONDS) is Result.FAILED
        assert await b.result(b"three", seconds=10) is Result.PUBLISHED
        assert b.log() == [b"before", b"one", b"three"]
        assert b.log(1) == [b"before"]
        assert b.broker.given_ids == 1
        assert told == [TIMEOUT_SECONDS * 4] * 2
        assert b.supervisor.reachable


async def test_a_batch_on_its_way_waits_too_where_a_broker_throttles() -> None:
    """Handed over while the answer to the one before was still to come."""
    async with bench() as b:
        b.broker.answering[0].clear()
        b.broker.throttle_ms = int(TIMEOUT_SECONDS * 3 * 1000)
        first = asyncio.create_task(b.publish(message(b"x", key=KEY[0])))
        await until(lambda: b.log() == [b"before", b"x"])
        second = asyncio.create_task(b.publish(message(b"y", key=KEY[1]), seconds=10))
        await asyncio.sleep(0)
        b.broker.answering[0].set()
        assert [o.result for o in await first] == [Result.PUBLISHED]
        assert [o.result for o in await second] == [Result.PUBLISHED]
        assert b.log(1) == [b"before", b"y"]
        assert b.broker.given_ids == 1


# --- InitProducerId ----------------------------------------------------------------------


async def test_a_producer_id_that_never_comes_with_the_settings_as_shipped() -> None:
    async with bench(opened=False, seconds=Kafka().publish_timeout_seconds) as b:
        b.broker.producer_ids.append(None)
        b.supervisor.start()
        await b.assert_healthy()


@pytest.mark.parametrize("code", [None, *PRODUCER_ID_CODES])
async def test_a_producer_id_that_is_refused_at_the_start(code: int | None) -> None:
    async with bench(opened=False) as b:
        b.broker.producer_ids.extend([code] * 2)
        b.supervisor.start()
        await b.assert_healthy()
        assert b.broker.given_ids == 1


@pytest.mark.parametrize("code", [None, 15, 31])
async def test_a_producer_id_that_is_refused_at_a_replacement(code: int | None) -> None:
    async with bench() as b:
        b.broker.producer_ids.extend([code] * 2)
        b.script(refused(45))
        await b.result(b"struck")
        await b.assert_healthy()
        assert b.broker.given_ids == 2


# --- Metadata ----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [None, 3, 29, 17])
async def test_a_topic_that_metadata_does_not_hold_is_not_ready_and_taken_up_later(
    code: int | None,
) -> None:
    """Said with an error or without a word, it comes to the same."""
    async with bench(opened=False) as b:
        b.broker.topics.clear()
        b.broker.error_of_missing = code
        b.supervisor.start()
        assert await b.result(b"early", seconds=0.3) is Result.FAILED
        assert not b.supervisor.ready
        b.broker.topics.add(TOPIC)
        await b.assert_healthy()
        assert b.supervisor.ready


@pytest.mark.parametrize("code", [None, 3])
async def test_a_topic_that_goes_and_comes_back(code: int | None) -> None:
    async with bench() as b:
        b.broker.error_of_missing = code
        b.broker.topics.clear()
        b.script(*[refused(3)] * 100)
        assert await b.result(b"gone", seconds=1) is not Result.PUBLISHED
        b.broker.topics.add(TOPIC)
        b.broker.partitions[TOPIC, 0].verdicts.clear()
        await b.assert_healthy()


async def test_partitions_without_a_leader() -> None:
    async with bench(seconds=0.5) as b:
        b.broker.leaderless.add(TOPIC)
        b.script(refused(6), refused(6))
        assert await b.result(b"waits", seconds=1) is not Result.PUBLISHED
        b.broker.leaderless.clear()
        await b.assert_healthy()
