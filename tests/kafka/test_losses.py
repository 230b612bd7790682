"""What brokers acknowledged and lost: it is seen and said."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from structlog.testing import capture_logs

from bridge.config.settings import Kafka
from bridge.demo.child import wait_until
from bridge.kafka import Publisher, Supervisor
from bridge.kafka.losses import Losses
from bridge.kafka.supervisor import Timing
from bridge.kafka.topic_metadata import Leader, Topic
from bridge.model import Outcome, Result
from tests.support.brokers import KafkaCluster
from tests.support.fake_kafka import message, until
from tests.support.topics import read_topic

TOPIC = Topic("t", b"A", 2, 3, writable=True, leaders={0: Leader(1, 5), 1: Leader(1, 5)})
NEW_LEADER = replace(TOPIC, leaders={0: Leader(2, 6), 1: Leader(1, 5)})


class Ends:
    """The end of every log, as the leaders tell it; None where they do not."""

    def __init__(self, end: int | None = 0) -> None:
        self.end = end
        self.asked: list[Collection[int]] = []

    async def __call__(
        self, topic: Topic, partitions: Collection[int], which: int
    ) -> Mapping[int, int]:
        del topic, which
        self.asked.append(partitions)
        if self.end is None:
            raise TimeoutError
        return dict.fromkeys(partitions, self.end)


async def lost(losses: Losses, topic: Topic, ends: Ends) -> list[tuple[int, int, int]]:
    """Partition, first offset and number of records of what is said to be gone."""
    with capture_logs() as logs:
        await losses.compare({"t": topic}, ends)
    return [
        (log["partition"], log["first_offset"], log["records"])
        for log in logs
        if log["event"] == "the brokers have lost acknowledged records"
    ]


async def seen(losses: Losses, ends: Ends) -> None:
    assert await lost(losses, TOPIC, ends) == []


async def test_a_leader_whose_log_ends_too_early_has_lost_records() -> None:
    losses, ends, counted = Losses(), Ends(7), list[int]()
    losses.on_loss = counted.append
    await seen(losses, ends)
    losses.acknowledged("t", 0, 0, 10)
    losses.acknowledged("t", 1, 0, 10)
    assert ends.asked == []
    assert await lost(losses, NEW_LEADER, ends) == [(0, 7, 3)]
    assert await lost(losses, NEW_LEADER, ends) == []
    assert ends.asked == [{0}]
    assert counted == [3]


async def test_a_leader_that_has_it_all_has_lost_nothing() -> None:
    losses, ends = Losses(), Ends(10)
    await seen(losses, ends)
    losses.acknowledged("t", 0, 0, 10)
    assert await lost(losses, NEW_LEADER, ends) == []
    losses.acknowledged("t", 0, 10, 1)
    assert await lost(losses, NEW_LEADER, ends) == []


async def test_a_leader_that_does_not_tell_is_asked_again() -> None:
    losses, ends = Losses(), Ends(None)
    await seen(losses, ends)
    losses.acknowledged("t", 0, 0, 10)
    assert await lost(losses, NEW_LEADER, ends) == []
    ends.end = 4
    assert await lost(losses, NEW_LEADER, ends) == [(0, 4, 6)]


async def test_an_offset_that_is_given_twice_was_lost_in_between() -> None:
    """With the new records the log may be as long as ever by the time of the look."""
    losses, ends = Losses(), Ends(100)
    await seen(losses, ends)
    losses.acknowledged("t", 0, 0, 10)
    losses.acknowledged("t", 0, 6, 2)
    losses.acknowledged("t", 0, 8, 50)
    assert await lost(losses, NEW_LEADER, ends) == [(0, 6, 4)]


async def test_a_topic_made_again_begins_anew() -> None:
    losses, ends = Losses(), Ends(0)
    await seen(losses, ends)
    losses.acknowledged("t", 0, 0, 10)
    losses.acknowledged("t", 0, 0, 1)
    assert await lost(losses, replace(NEW_LEADER, id=b"B"), ends) == []
    losses.acknowledged("t", 0, 0, 1)
    assert await lost(losses, replace(NEW_LEADER, id=b"B"), ends) == []


# --- three brokers -----------------------------------------------------------------------


async def test_an_unclean_election_on_three_brokers_is_seen_and_said(
    new_kafka: Callable[[KafkaCluster], KafkaCluster],
) -> None:
    """The last replica in sync dies, and one that lags takes over without its records."""
    cluster = await asyncio.to_thread(new_kafka, KafkaCluster(nodes=3))
    config = {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    await asyncio.to_thread(cluster.create_topic, "t", 1, 2, config)
    leader, follower = _replicas(cluster)
    settings = Kafka(
        bootstrap_servers=tuple(cluster.bootstrap_servers.split(",")),
        topic="t",
        dead_letter_topic=None,
    )
    supervisor = Supervisor(settings, ["t"], timing=Timing(probe=0.5))
    publisher = Publisher(settings, supervisor)
    counted: list[int] = []
    supervisor.losses.on_loss = counted.append

    async def publish(value: bytes) -> Outcome:
        deadline = asyncio.get_running_loop().time() + 4
        (outcome,) = await publisher.publish([message(value, topic="t")], deadline)
        return outcome

    async def published(value: bytes) -> Outcome:
        async with asyncio.timeout(60):
            while (outcome := await publish(value)).result is not Result.PUBLISHED:
                pass
        return outcome

    with capture_logs() as logs:
        supervisor.start()
        try:
            await until(lambda: supervisor.ready, seconds=30)
            assert (await published(b"kept")).offset == 0
            await asyncio.to_thread(cluster.kill, follower)
            for n in range(3):  # more often where a broker is slow to answer
                last = (await published(b"lost %d" % n)).offset
            assert last is not None
            assert last >= 3
            await asyncio.to_thread(_wait_for, cluster, lambda p: set(p.isrs) == {leader})
            await asyncio.to_thread(cluster.kill, leader)
            await asyncio.to_thread(cluster.restart, follower)
            end = (await published(b"next")).offset
            await until(lambda: bool(counted), seconds=20)
        finally:
            await publisher.stop()
            await supervisor.stop(1)
    assert counted == [last]
    warned = [log for log in logs if log["event"] == "the topic is not durable"]
    assert "unclean.leader.election.enable true: use false" in warned[0]["because"]
    (said,) = [log for log in logs if "lost acknowledged records" in log["event"]]
    assert (said["partition"], said["first_offset"], said["records"]) == (0, 1, last)
    left = [cluster.addresses("PLAINTEXT").split(",")[follower - 1]]
    values = [r.value for r in read_topic(left[0], "t", foreign=True)]
    assert values == [b"kept"] + [b"next"] * (end or 0)


def _replicas(cluster: KafkaCluster) -> tuple[int, int]:
    """The leader and the follower of the one partition."""
    partition = _partition(cluster)
    (follower,) = {*partition.replicas} - {partition.leader}
    return partition.leader, follower


def _partition(cluster: KafkaCluster) -> Any:
    return cluster.admin().list_topics("t", timeout=5).topics["t"].partitions[0]


def _wait_for(cluster: KafkaCluster, condition: Callable[[Any], bool]) -> None:
    wait_until(lambda: condition(_partition(cluster)), "the replicas in sync")
