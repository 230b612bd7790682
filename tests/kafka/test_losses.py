"""What brokers acknowledged and lost: it is seen and said."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from structlog.testing import capture_logs

from bridge.kafka.losses import Losses
from bridge.kafka.topic_metadata import Leader, Topic

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
